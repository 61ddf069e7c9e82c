//! What a plan does beside services: standalone tasks, forced deployments, what was deleted.

use super::*;
use crate::model::{DefinitionStatus, EndedService, Run, ServiceOptions};

/// `ID AGE [ADDRESS]`: standalone tasks that were just asked for.
fn standalone(text: &str) -> State {
    let mut state = situation("");
    for line in lines(text) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let created_at = at(NOW - words[1].parse::<u64>().unwrap());
        let task = Task {
            address: words.get(2).map(|address| address.parse().unwrap()),
            run: Some(Run::default()),
            ..Task::new(words[0].into(), "c".into(), revision(1), created_at)
        };
        put(&mut state, Row::from(task));
    }
    state
}

fn moves(state: &State, pool: Option<&str>, leaving: bool) -> Vec<String> {
    let addresses = pool.map(|pool| pool.parse().unwrap());
    let settings = Settings { addresses, ..Settings::default() };
    let avoid = BTreeSet::from(["127.64.0.2".parse().unwrap()]);
    let view = View { state, settings: &settings, leaving, avoid: &avoid, heard: &BTreeMap::new() };
    let plan = plan(view, at(NOW), &mut fastrand::Rng::with_seed(1));
    plan.moves.iter().map(ToString::to_string).collect()
}

#[test]
fn standalone_tasks_get_addresses_in_the_order_they_were_asked_for() {
    let state = standalone("a 1\n b 3\n c 2\n d 9 127.64.0.1");
    let pool = Some("127.64.0.0/29");
    assert_eq!(
        moves(&state, pool, false),
        ["place b 127.64.0.3", "place c 127.64.0.4", "place a 127.64.0.5"]
    );
    // Of four left after the avoided one and the taken one, the last gets none and waits.
    let state = standalone("a 1\n b 3\n c 2\n d 4\n e 5 127.64.0.1");
    let placed = moves(&state, Some("127.64.0.0/29"), false);
    assert_eq!(placed.len(), 4);
    let state = standalone("a 1\n b 3\n c 2\n d 4\n e 5");
    assert_eq!(moves(&state, Some("127.64.0.0/30"), false), ["place e 127.64.0.1"]);
}

#[test]
fn standalone_tasks_are_neither_placed_nor_stopped_where_the_runtime_has_its_own_addresses() {
    assert_eq!(moves(&standalone("a 1"), None, false), [""; 0]);
    assert_eq!(moves(&standalone("a 1"), None, true), ["stop a: leaving"]);
}

#[test]
fn forced_service_opens_a_deployment_of_the_same_definition() {
    let rest = "lb steady\n deployment 1 1 done\n task a 1 RUNNING healthy";
    check(&format!("service web 1 100/200 forced=0 {rest}"), "");
    check(&format!("service web 1 100/200 forced=1 {rest}"), "open web web:1\nstart web:1");
}

#[test]
fn what_was_deleted_goes_after_its_time_or_its_last_use() {
    let mut state = situation("service web 0 100/200 steady\n deployment 1 1 done");
    for (number, status) in [
        (1, DefinitionStatus::DeleteInProgress),
        (2, DefinitionStatus::DeleteInProgress),
        (3, DefinitionStatus::Inactive),
    ] {
        let definition =
            TaskDefinition { status, ..TaskDefinition::new("web".into(), number, Vec::new()) };
        Arc::make_mut(&mut state.definitions).insert(definition.key(), Arc::new(definition));
    }
    let service = state.services[&web()].as_ref().clone();
    for (name, age) in [("old", 3600), ("new", 3599)] {
        let key = ServiceKey { cluster: "c".into(), name: name.into() };
        let options = ServiceOptions::default();
        let ended = EndedService {
            service: Service { key: key.clone(), options, ..service.clone() },
            ended_at: at(NOW - age),
        };
        Arc::make_mut(&mut state.ended_services).insert(key, Arc::new(ended));
    }
    assert_eq!(moves(&state, None, false), ["forget ended service old", "forget definition web:2"]);
}
