//! A value that wakes whoever waits for a newer one, in the order in which they began to wait.
//!
//! The same calls as tokio's `watch`, which wakes its waiters in a random order: with that, two
//! runs of one seed of a simulation would differ. **Invariant:** a change made after a receiver
//! last looked always ends its wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The side that changes the value.
#[derive(Debug)]
pub struct Bell<T>(Arc<Ringing<T>>);

/// The side that waits.
#[derive(Debug)]
pub struct Listener<T> {
    ringing: Arc<Ringing<T>>,
    seen: u64,
}

#[derive(Debug)]
struct Ringing<T> {
    current: Mutex<Current<T>>,
    wake: Notify,
}

#[derive(Debug)]
struct Current<T> {
    value: T,
    version: u64,
    is_closed: bool,
}

/// The value will not change any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value will not change any more")]
pub struct Closed;

impl<T> Ringing<T> {
    fn current(&self) -> MutexGuard<'_, Current<T>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Bell<T> {
    #[must_use]
    pub fn new(value: T) -> Self {
        let current = Mutex::new(Current { value, version: 0, is_closed: false });
        Self(Arc::new(Ringing { current, wake: Notify::new() }))
    }

    /// Changes the value and wakes everybody.
    pub fn send_replace(&self, value: T) {
        let mut current = self.0.current();
        current.value = value;
        current.version += 1;
        drop(current);
        self.0.wake.notify_waiters();
    }

    /// What changes from now on wakes the listener.
    #[must_use]
    pub fn subscribe(&self) -> Listener<T> {
        let seen = self.0.current().version;
        Listener { ringing: Arc::clone(&self.0), seen }
    }
}

impl<T> Drop for Bell<T> {
    fn drop(&mut self) {
        self.0.current().is_closed = true;
        self.0.wake.notify_waiters();
    }
}

impl<T> Clone for Listener<T> {
    fn clone(&self) -> Self {
        Self { ringing: Arc::clone(&self.ringing), seen: self.seen }
    }
}

impl<T: Clone> Listener<T> {
    /// The value now, seen or not.
    #[must_use]
    pub fn borrow(&self) -> T {
        self.ringing.current().value.clone()
    }

    /// The value now; only newer ones wake.
    pub fn borrow_and_update(&mut self) -> T {
        let current = self.ringing.current();
        self.seen = current.version;
        current.value.clone()
    }

    /// Waits for a change since this listener last looked.
    ///
    /// # Errors
    /// There will be none.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // Made before looking: what rings in between is not missed.
            let woken = self.ringing.wake.notified();
            let mut woken = std::pin::pin!(woken);
            woken.as_mut().enable();
            {
                let current = self.ringing.current();
                if current.version != self.seen {
                    self.seen = current.version;
                    return Ok(());
                }
                if current.is_closed {
                    return Err(Closed);
                }
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn change_after_the_last_look_is_never_missed() {
        let bell = Bell::new(1);
        let mut listener = bell.subscribe();
        bell.send_replace(2);
        assert_eq!(listener.changed().await, Ok(()));
        assert_eq!(listener.borrow(), 2);
        let mut other = listener.clone();
        let waiting = tokio::spawn(async move { other.changed().await });
        tokio::task::yield_now().await;
        drop(bell);
        assert_eq!(waiting.await.unwrap(), Err(Closed));
        assert_eq!(listener.changed().await, Err(Closed));
    }

    #[tokio::test]
    async fn waiters_wake_in_the_order_they_came() {
        let bell = Bell::new(());
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..20 {
            let (mut listener, sender) = (bell.subscribe(), sender.clone());
            tokio::spawn(async move {
                listener.changed().await.unwrap();
                sender.send(number).unwrap();
            });
        }
        tokio::task::yield_now().await;
        bell.send_replace(());
        for number in 0..20 {
            assert_eq!(order.recv().await, Some(number));
        }
    }
}
