//! What checks of names come to, pure and against a real endpoint.

use std::net::IpAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::model::{
    Alarm, AlarmName, AlarmRule, Comparison, MetricId, Missing, NameProtocol, Statistic,
};
use crate::state::MemoryJournal;
use crate::state::Tx;

fn named(id: &str, subject: NameSubject) -> NameCheck {
    NameCheck::new(id.into(), id, subject)
}

fn alarm(name: &str, state: AlarmState) -> Alarm {
    Alarm {
        name: name.into(),
        description: None,
        rule: AlarmRule {
            metric: MetricId::new("n", "m", &[]),
            statistic: Statistic::Sum,
            period: 60,
            periods: 1,
            breaching: 1,
            comparison: Comparison::Greater,
            threshold: 1.0,
            missing: Missing::Missing,
        },
        given: Default::default(),
        queries: Vec::new(),
        actions_enabled: true,
        actions: Vec::new(),
        configured_at: Timestamp(0),
        state,
        reason: String::new(),
        changed_at: Timestamp(0),
    }
}

fn endpoint(port: u16) -> NameEndpoint {
    NameEndpoint {
        protocol: NameProtocol::Http,
        address: Some(IpAddr::from([127, 0, 0, 1])),
        port,
        domain: None,
        path: "/".to_owned(),
        search: None,
        interval: Duration::from_millis(20),
        threshold: 2,
        server_name: false,
    }
}

fn store() -> Store {
    Store::memory(&MemoryJournal::default()).unwrap()
}

#[test]
fn results_have_to_come_in_a_row() {
    let check = |start: bool, results: &str, threshold: u32, expected: &str| {
        let mut streak = Streak { passes: start, against: 0 };
        let after =
            results.chars().map(|c| if streak.observe(c == '+', threshold) { '+' } else { '-' });
        assert_eq!(after.collect::<String>(), expected, "{results}");
    };
    check(true, "+---+", 3, "+++--");
    check(true, "--+--+", 3, "++++++");
    check(false, "+++-", 3, "--++");
    check(true, "-+", 1, "-+");
}

#[tokio::test]
async fn calculated_checks_count_their_children() {
    let store = store();
    let put = |tx: &mut Tx<'_>| {
        for (id, passes) in [("a", Some(true)), ("b", Some(false)), ("c", None)] {
            tx.put(named(id, NameSubject::Endpoint(endpoint(1))));
            if let Some(passes) = passes {
                let (check, text) = (id.into(), String::new());
                tx.put(NameStatus { check, passes, text, at: Timestamp(0), failure: None });
            }
        }
        tx.put(alarm("high", AlarmState::Alarm));
        tx.put(alarm("none", AlarmState::InsufficientData));
        tx.put(alarm("fine", AlarmState::Ok));
        Ok::<_, crate::state::StoreError>(())
    };
    store.update(put).await.unwrap();
    let state = store.read();
    let check = |children: &[&str], threshold: u32, expected: &str| {
        let children = children.iter().map(|id| (*id).into()).collect();
        let found = derived(&state, &named("x", NameSubject::Calculated { children, threshold }));
        let found = found.unwrap();
        assert_eq!((found.text.as_str(), found.passes), (expected, expected.starts_with('S')));
    };
    let words = "health checks are healthy, at least";
    check(&["a", "b", "c"], 2, &format!("Success: 2 of 3 {words} 2 have to be"));
    check(&["a", "b", "c"], 3, &format!("Failure: 2 of 3 {words} 3 have to be"));
    check(&["b"], 0, &format!("Success: 0 of 1 {words} 0 have to be"));
    check(&["gone"], 1, &format!("Success: 1 of 1 {words} 1 have to be"));
    let check = |name: &str, without_data: WithoutData, expected: &str| {
        let (name, region): (AlarmName, _) = (name.into(), String::new());
        let found = derived(&state, &named("b", NameSubject::Alarm { name, region, without_data }));
        assert_eq!(found.unwrap().text, expected);
    };
    check("fine", WithoutData::Unhealthy, "Success: the alarm fine is OK");
    check("high", WithoutData::Healthy, "Failure: the alarm high is ALARM");
    check("none", WithoutData::Healthy, "Success: the alarm none is INSUFFICIENT_DATA");
    check("none", WithoutData::Unhealthy, "Failure: the alarm none is INSUFFICIENT_DATA");
    check("none", WithoutData::LastKnown, "Failure: the alarm none is INSUFFICIENT_DATA");
    check("gone", WithoutData::Healthy, "Success: the alarm gone is gone");
}

#[tokio::test]
async fn an_endpoint_that_goes_turns_its_check_and_those_that_follow() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        }
    });
    let store = store();
    let put = move |tx: &mut Tx<'_>| {
        tx.put(named("a", NameSubject::Endpoint(endpoint(port))));
        let children = vec!["a".into()];
        tx.put(named("all", NameSubject::Calculated { children, threshold: 1 }));
        Ok::<_, crate::state::StoreError>(())
    };
    store.update(put).await.unwrap();
    let stop = CancellationToken::new();
    let checker = NameChecker::new(store.clone(), Clock::System, fastrand::Rng::with_seed(1));
    let running = tokio::spawn(checker.run(stop.clone()));
    let until = async |wanted: Option<bool>| {
        let mut changes = store.watch();
        let reached = async {
            loop {
                let state = store.read();
                let of = |id: &str| state.name_statuses.get(&id.into()).map(|row| row.passes);
                if (of("a"), of("all")) == (wanted, wanted) {
                    return state;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reached).await.expect("the status comes")
    };
    let state = until(Some(true)).await;
    let row = &state.name_statuses[&"a".into()];
    assert_eq!((row.text.as_str(), &row.failure), ("Success: HTTP Status Code 200, OK", &None));
    server.abort();
    let state = until(Some(false)).await;
    assert!(state.name_statuses[&"a".into()].failure.is_some());
    let gone = |tx: &mut Tx<'_>| {
        for id in ["a", "all"] {
            tx.remove(Key::NameCheck(id.into()));
        }
        Ok::<_, crate::state::StoreError>(())
    };
    store.update(gone).await.unwrap();
    until(None).await;
    stop.cancel();
    running.await.unwrap();
}
