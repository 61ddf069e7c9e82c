//! Addresses: which one the next task or load balancer gets.
//!
//! Pure: everything taken is read from the State, so nothing is remembered twice and nothing leaks.
//! **Invariant:** an address in quarantine, of a load balancer, or of a task that is not STOPPED is
//! never handed out.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::clock::Timestamp;
use crate::model::{Pool, TaskStatus};

use super::{QuarantineKey, State};

/// The first free address of `pool`, lowest first; none when all are taken.
#[must_use]
pub fn free_address(state: &State, pool: Pool, now: Timestamp) -> Option<IpAddr> {
    free_addresses(state, pool, now).next()
}

/// Every free address of `pool`, lowest first.
pub fn free_addresses(
    state: &State,
    pool: Pool,
    now: Timestamp,
) -> impl Iterator<Item = IpAddr> + '_ {
    let quarantined = move |address: IpAddr| {
        state.quarantine.get(&QuarantineKey(address)).is_some_and(|row| row.until > now)
    };
    // Most who might need one need none.
    let taken = LazyCell::new(|| taken(state));
    pool.addresses().filter(move |address| !taken.contains(address) && !quarantined(*address))
}

fn taken(state: &State) -> BTreeSet<IpAddr> {
    let tasks = state.tasks.values().filter(|task| task.known < TaskStatus::Stopped);
    tasks
        .filter_map(|task| task.address)
        .chain(state.load_balancers.values().map(|lb| lb.address))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::state::{Quarantine, Row};

    #[test]
    fn an_address_in_quarantine_is_passed_over_until_its_time() {
        let pool: Pool = "127.64.0.0/29".parse().unwrap();
        let mut state = State::default();
        let first = free_address(&state, pool, Timestamp(0)).unwrap();
        let until = Timestamp::from_millis(1000);
        state.put(Row::Quarantine(Arc::new(Quarantine { address: QuarantineKey(first), until })));
        assert_ne!(free_address(&state, pool, Timestamp(0)), Some(first));
        assert_eq!(free_address(&state, pool, until), Some(first));
    }

    #[test]
    fn a_full_pool_gives_nothing() {
        let pool: Pool = "127.64.0.0/32".parse().unwrap();
        assert_eq!(free_address(&State::default(), pool, Timestamp(0)), None);
    }
}
