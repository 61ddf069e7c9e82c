//! What the record sets of a hosted zone answer.

use super::*;
use crate::model::{
    AliasTarget, HostedZone, NameCheck, NameStatus, NameSubject, RecordKind, RecordRouting,
    RecordSet, RecordSetKey,
};

/// Sets as `NAME TYPE VALUE`, in `example`; a value `->NAME` is an alias, a type `A*3` weighs 3.
async fn hosted(sets: &[&str]) -> World {
    let mut world = World::new(&["lb front 10.9.0.1"]).await;
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    let put = move |tx: &mut Tx<'_>| -> Result<(), StoreError> {
        tx.put(HostedZone {
            id: "Z1".into(),
            name: "example".into(),
            caller_reference: String::new(),
            comment: None,
            vpcs: Vec::new(),
            created_at: NEVER,
        });
        for (index, set) in sets.iter().enumerate() {
            let mut words = set.splitn(3, ' ');
            let mut word = || words.next().unwrap();
            let (name, kind, value) = (word().to_owned(), word(), word());
            let (kind, weight) = kind.split_once('*').map_or((kind, None), |(k, w)| (k, Some(w)));
            let kind: RecordKind = kind.parse().unwrap();
            let routing = weight.map_or(RecordRouting::Simple, |w| match w.parse() {
                Ok(weight) => RecordRouting::Weighted(weight),
                Err(_) => RecordRouting::Multivalue,
            });
            let alias = value.strip_prefix("->").map(|name| AliasTarget {
                zone: String::new(),
                name: name.into(),
                evaluate_target_health: false,
            });
            let values = alias.is_none().then(|| value.to_owned()).into_iter().collect();
            let set = weight.map(|_| index.to_string());
            let key = RecordSetKey { zone: "Z1".into(), name, kind, set };
            tx.put(RecordSet {
                key,
                ttl: Some(Duration::from_secs(9)),
                values,
                routing,
                alias,
                health_check: None,
            });
        }
        Ok(())
    };
    world.store.update(put).await.unwrap();
    world.compile();
    world
}

/// RFC 4592 section 2.2.1's zone, without what it delegates.
#[tokio::test]
async fn wildcards_stand_for_names_that_do_not_exist() {
    let world = hosted(&[
        "*.example TXT \"wild\"",
        "*.example MX 10 host1.example.",
        "sub.*.example TXT \"sub\"",
        "host1.example A 192.0.2.1",
        "_ssh._tcp.host1.example SRV 0 0 22 host1.example",
    ])
    .await;
    let txt = "9 Txt([[119, 105, 108, 100]])";
    let mx = "9 Mx { preference: 10, name: \"host1.example\" }";
    assert_eq!(world.ask("host3.example", RecordType::Mx), mx);
    assert_eq!(world.ask("host3.example", A), "NODATA example");
    assert_eq!(world.ask("foo.bar.example", RecordType::Txt), txt);
    assert_eq!(world.ask("host1.example", RecordType::Mx), "NODATA example");
    assert_eq!(world.ask("sub.*.example", RecordType::Mx), "NODATA example");
    assert_eq!(world.ask("_telnet._tcp.host1.example", Srv), "NXDOMAIN example");
    assert_eq!(world.ask("ghost.*.example", RecordType::Mx), "NXDOMAIN example");
    assert_eq!(world.ask("_tcp.host1.example", A), "NODATA example");
    assert_eq!(world.ask("*.example", RecordType::Txt), txt);
}

#[tokio::test]
async fn aliases_answer_under_the_name_that_was_asked_for() {
    let world = hosted(&[
        "example A ->front-0123456789abcdef.local-1.elb.roadstead.test",
        "www.example A ->dualstack.front-0123456789abcdef.local-1.elb.roadstead.test",
        "api.example A ->host.example",
        "host.example A 10.0.0.7",
        "loop.example A ->pool.example",
        "pool.example A ->loop.example",
        "old.example CNAME api.example",
    ])
    .await;
    assert_eq!(world.ask("example", A), "60 10.9.0.1");
    assert_eq!(world.ask("www.example", A), "60 10.9.0.1");
    assert_eq!(world.ask("www.example", Aaaa), "NODATA example");
    assert_eq!(world.ask("api.example", A), "9 10.0.0.7");
    assert_eq!(world.ask("loop.example", A), "NODATA example");
    assert_eq!(world.ask("old.example", A), "9 CNAME api.example, api.example 9 10.0.0.7");
    assert_eq!(world.ask("example", Ns), "3600 ns.dns.example");
    assert_eq!(world.ask("example", RecordType::Txt), "NODATA example");
}

#[tokio::test]
async fn weights_decide_which_record_set_answers() {
    let world = hosted(&[
        "w.example A*3 10.0.0.3",
        "w.example A*1 10.0.0.1",
        "w.example A*0 10.0.0.9",
        "z.example A*0 10.0.0.1",
        "z.example A*0 10.0.0.2",
        "m.example A*m 10.0.0.1",
        "m.example A*m 10.0.0.2",
    ])
    .await;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut count = |name: &str, wanted: &str| {
        let name = DnsName::parse(name).unwrap();
        let mut ask = || match world.zones.lookup(name.wire(), A, &mut rng) {
            Answer::Records { answers, .. } => text(&answers[0]),
            other => panic!("{other:?}"),
        };
        (0..1000).filter(|_| ask() == format!("9 {wanted}")).count()
    };
    assert!((650..850).contains(&count("w.example", "10.0.0.3")));
    assert_eq!(count("w.example", "10.0.0.9"), 0);
    assert!((350..650).contains(&count("z.example", "10.0.0.2")));
    assert_eq!(world.ask("m.example", A), "9 10.0.0.1, 9 10.0.0.2");
}

/// Sets as `NAME POLICY CHECK VALUE`: a policy is a weight, `m`, `primary` or `secondary`; a check
/// is `+` healthy, `-` unhealthy, `?` not known yet, `.` none.
async fn checked(sets: &[&str]) -> World {
    let mut world = hosted(&[]).await;
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    let put = move |tx: &mut Tx<'_>| -> Result<(), StoreError> {
        for id in ["+", "-", "?"] {
            let subject = NameSubject::Calculated { children: Vec::new(), threshold: 0 };
            tx.put(NameCheck::new(id.into(), id, subject));
        }
        for (id, passes) in [("+", true), ("-", false)] {
            let (check, text) = (id.into(), String::new());
            tx.put(NameStatus { check, passes, text, at: NEVER, failure: None });
        }
        for (index, set) in sets.iter().enumerate() {
            let words: Vec<&str> = set.split(' ').collect();
            let routing = match words[1] {
                "m" => RecordRouting::Multivalue,
                "primary" => RecordRouting::Failover { primary: true },
                "secondary" => RecordRouting::Failover { primary: false },
                weight => RecordRouting::Weighted(weight.parse().unwrap()),
            };
            let alias = words[3].strip_prefix("->").map(|name| AliasTarget {
                zone: "Z1".to_owned(),
                name: name.into(),
                evaluate_target_health: true,
            });
            let values = alias.is_none().then(|| words[3].to_owned()).into_iter().collect();
            let (name, set) = (words[0].to_owned(), Some(index.to_string()));
            let key = RecordSetKey { zone: "Z1".into(), name, kind: RecordKind::A, set };
            let ttl = Some(Duration::from_secs(9));
            let health_check = (words[2] != ".").then(|| words[2].into());
            tx.put(RecordSet { key, ttl, values, routing, alias, health_check });
        }
        Ok(())
    };
    world.store.update(put).await.unwrap();
    world.compile();
    world
}

#[tokio::test]
async fn unhealthy_records_are_not_answered_while_others_are_healthy() {
    let world = checked(&[
        "w.example 9 - 10.0.0.1",
        "w.example 1 + 10.0.0.2",
        "w.example 0 . 10.0.0.3",
        "zero.example 9 - 10.0.0.1",
        "zero.example 0 + 10.0.0.2",
        "all.example 9 - 10.0.0.1",
        "all.example 0 - 10.0.0.2",
        "new.example 1 ? 10.0.0.1",
        "new.example 9 - 10.0.0.2",
        "m.example m - 10.0.0.1",
        "m.example m . 10.0.0.2",
        "m.example m + 10.0.0.3",
        "gone.example m - 10.0.0.1",
        "gone.example m - 10.0.0.2",
    ])
    .await;
    for _ in 0..20 {
        assert_eq!(world.ask("w.example", A), "9 10.0.0.2");
        assert_eq!(world.ask("zero.example", A), "9 10.0.0.2");
        assert_eq!(world.ask("all.example", A), "9 10.0.0.1");
        assert_eq!(world.ask("new.example", A), "9 10.0.0.1");
        assert_eq!(world.ask("m.example", A), "9 10.0.0.2, 9 10.0.0.3");
        assert_eq!(world.ask("gone.example", A), "9 10.0.0.1, 9 10.0.0.2");
    }
}

#[tokio::test]
async fn a_secondary_answers_while_the_primary_is_unhealthy() {
    let check = async |primary: &str, secondary: &str, expected: &str| {
        let sets = [
            format!("f.example primary {primary} 10.0.0.1"),
            format!("f.example secondary {secondary} 10.0.0.2"),
        ];
        let world = checked(&sets.each_ref().map(String::as_str)).await;
        let found = world.ask("f.example", A);
        assert_eq!(found, format!("9 10.0.0.{expected}"), "{primary} {secondary}");
    };
    check("+", "+", "1").await;
    check("?", "+", "1").await;
    check("-", "+", "2").await;
    check("-", ".", "2").await;
    check("-", "-", "1").await;
    check("+", "-", "1").await;
}

#[tokio::test]
async fn aliases_are_as_healthy_as_what_they_name() {
    let world = checked(&[
        "sick.example m - 10.0.0.1",
        "sick.example m - 10.0.0.2",
        "half.example m - 10.0.0.3",
        "half.example m + 10.0.0.4",
        "a.example primary . ->sick.example",
        "a.example secondary . ->half.example",
        "b.example primary . ->a.example",
        "b.example secondary . 10.0.0.9",
        "c.example primary - ->half.example",
        "c.example secondary . 10.0.0.9",
        "d.example primary . ->front-0123456789abcdef.local-1.elb.roadstead.test",
        "d.example secondary . 10.0.0.9",
        "loop.example primary . ->loop.example",
        "loop.example secondary . 10.0.0.9",
    ])
    .await;
    assert_eq!(world.ask("a.example", A), "9 10.0.0.4");
    assert_eq!(world.ask("b.example", A), "9 10.0.0.4");
    assert_eq!(world.ask("c.example", A), "9 10.0.0.9");
    // It has no target yet.
    assert_eq!(world.ask("d.example", A), "9 10.0.0.9");
    assert_eq!(world.ask("loop.example", A), "NODATA example");
}
