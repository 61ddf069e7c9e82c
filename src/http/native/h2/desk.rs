//! Where a client's HTTP/2 connection and those who run its exchanges meet.
//!
//! The connection puts requests down, runners take one after the other and tell how each ended.
//! **Invariant:** who is listed as waiting does wait: a request for which somebody was woken waits
//! for nobody's exchange.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::super::exchange::After;
use super::section::Section;
use super::wire::Lease;

/// A request that has come.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) lease: Lease,
    pub(super) section: Section,
    /// No body follows.
    pub(super) ends: bool,
}

/// Never waited for: all who come to it run in one task.
#[derive(Debug)]
pub(super) struct Desk<T>(Mutex<Papers<T>>);

#[derive(Debug)]
struct Papers<T> {
    jobs: VecDeque<T>,
    /// Runners without an exchange, by their numbers.
    idle: Vec<(usize, Waker)>,
    /// Whether the runner of this number is among them.
    listed: Vec<bool>,
    ended: Ended,
}

/// Exchanges that are over since it was asked last.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) count: usize,
    /// The connection is to end behind the others: see [`After::Leave`].
    pub(super) leaves: bool,
}

impl<T> Default for Desk<T> {
    fn default() -> Self {
        let (jobs, idle) = (VecDeque::new(), Vec::new());
        Self(Mutex::new(Papers { jobs, idle, listed: Vec::new(), ended: Ended::default() }))
    }
}

impl<T> Desk<T> {
    fn papers(&self) -> MutexGuard<'_, Papers<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody takes it who waited for one.
    pub(super) fn put(&self, job: T) -> bool {
        let mut papers = self.papers();
        papers.jobs.push_back(job);
        let Some((runner, waker)) = papers.idle.pop() else { return false };
        papers.listed[runner] = false;
        drop(papers);
        waker.wake();
        true
    }

    /// The next request, as soon as there is one. Runners are numbered from 0.
    pub(super) fn poll_job(&self, runner: usize, cx: &Context<'_>) -> Poll<T> {
        let mut papers = self.papers();
        let papers = &mut *papers;
        if papers.listed.len() <= runner {
            papers.listed.resize(runner + 1, false);
        }
        let listed = &mut papers.listed[runner];
        if let Some(job) = papers.jobs.pop_front() {
            // Woken for something else, it came before the one who was woken for this.
            if std::mem::take(listed) {
                papers.idle.retain(|(own, _)| *own != runner);
            }
            return Poll::Ready(job);
        }
        if !std::mem::replace(listed, true) {
            papers.idle.push((runner, cx.waker().clone()));
        }
        Poll::Pending
    }

    /// An exchange is over.
    pub(super) fn end(&self, after: After) {
        let ended = &mut self.papers().ended;
        ended.count += 1;
        ended.leaves |= after == After::Leave;
    }

    /// Runners are no more; the next ones are numbered from 0 again.
    pub(super) fn forget_runners(&self) {
        let mut papers = self.papers();
        (papers.idle, papers.listed) = (Vec::new(), Vec::new());
    }

    pub(super) fn take_ended(&self) -> Ended {
        std::mem::take(&mut self.papers().ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_woken_for_a_request_who_does_not_wait() {
        let (desk, cx) = (Desk::default(), Context::from_waker(Waker::noop()));
        assert!(!desk.put(1), "nobody is there");
        assert_eq!(desk.poll_job(0, &cx), Poll::Ready(1));
        // It waits, and is polled for another reason.
        assert_eq!(desk.poll_job(0, &cx), Poll::Pending);
        assert_eq!(desk.poll_job(0, &cx), Poll::Pending);
        assert!(desk.put(2));
        assert!(!desk.put(3), "it has enough to do");
        assert_eq!(desk.poll_job(0, &cx), Poll::Ready(2));
        assert_eq!(desk.poll_job(1, &cx), Poll::Ready(3));
        // The second is woken, the first takes it.
        assert_eq!(desk.poll_job(0, &cx), Poll::Pending);
        assert_eq!(desk.poll_job(1, &cx), Poll::Pending);
        assert!(desk.put(4));
        assert_eq!(desk.poll_job(0, &cx), Poll::Ready(4));
        assert!(!desk.put(5), "one is busy, the other was woken");
        assert_eq!(desk.poll_job(1, &cx), Poll::Ready(5));
        assert_eq!(desk.poll_job(1, &cx), Poll::Pending);
        assert!(desk.put(6));
    }

    #[test]
    fn exchanges_that_are_over_are_counted_once() {
        let desk = Desk::<()>::default();
        desk.end(After::Close);
        desk.end(After::Leave);
        let Ended { count, leaves } = desk.take_ended();
        assert_eq!((count, leaves), (2, true));
        let Ended { count, leaves } = desk.take_ended();
        assert_eq!((count, leaves), (0, false));
    }
}
