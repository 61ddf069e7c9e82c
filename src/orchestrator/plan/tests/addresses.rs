//! Addresses of new tasks, and those that rest.

use super::*;

#[test]
fn rested_addresses_are_released() {
    check("quarantine 127.64.0.1 10000\n quarantine 127.64.0.2 10001", "release 127.64.0.1");
}

#[test]
fn tasks_get_the_lowest_free_addresses_and_the_service_says_when_there_are_none() {
    let state = situation("service web 3 100/200\n quarantine 127.64.0.1 10001");
    let settings =
        Settings { addresses: Some("127.64.0.0/29".parse().unwrap()), ..Settings::default() };
    let avoid =
        BTreeSet::from(["127.64.0.2", "127.64.0.3", "127.64.0.4"].map(|a| a.parse().unwrap()));
    let view = View {
        state: &state,
        settings: &settings,
        leaving: false,
        avoid: &avoid,
        heard: &BTreeMap::new(),
    };
    let plan = plan(view, at(NOW), &mut fastrand::Rng::with_seed(1));
    let given: Vec<_> = plan
        .moves
        .iter()
        .filter_map(|step| match step {
            Move::Start(task) => task.address,
            _ => None,
        })
        .map(|address| address.to_string())
        .collect();
    assert_eq!(given, ["127.64.0.5", "127.64.0.6"]);
    assert!(plan.events[0].message.contains("was unable to place a task"), "{plan:?}");
}
