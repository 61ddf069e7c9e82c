//! What a discovery service answers by its record types and routing policy.

use super::*;
use crate::model::{DiscoveryRecord, DiscoveryRecordType, DiscoveryRouting};

/// A service with these record types and routing, and its instances as `ID ATTRIBUTE=VALUE…`.
async fn typed(records: &str, routing: DiscoveryRouting, instances: &[&str]) -> World {
    let mut world = World::new(&["zone demo.internal"]).await;
    let (records, ttl) = (records.to_owned(), Duration::from_secs(9));
    let instances: Vec<String> = instances.iter().map(ToString::to_string).collect();
    let put = move |tx: &mut Tx<'_>| -> Result<(), StoreError> {
        let key = DiscoveryKey { namespace: "demo.internal".into(), name: "web".into() };
        let kind = |word: &str| match word {
            "A" => DiscoveryRecordType::A,
            "AAAA" => DiscoveryRecordType::Aaaa,
            "SRV" => DiscoveryRecordType::Srv,
            "CNAME" => DiscoveryRecordType::Cname,
            _ => panic!("{word}"),
        };
        let records =
            records.split_whitespace().map(|word| DiscoveryRecord { kind: kind(word), ttl });
        let records = Some(records.collect());
        let service = DiscoveryService::new(key.clone(), ttl, Owner::Api);
        tx.put(DiscoveryService { records, routing, ..service });
        for instance in &instances {
            let (id, rest) = instance.split_once(' ').unwrap();
            let mut row =
                DiscoveryInstance::new(InstanceKey { service: key.clone(), id: id.into() });
            for (name, value) in rest.split_whitespace().filter_map(|word| word.split_once('=')) {
                match name {
                    "4" => row.address = Some(value.parse().unwrap()),
                    "6" => row.address6 = Some(value.parse().unwrap()),
                    "port" => row.port = value.parse().ok(),
                    "cname" => row.cname = Some(value.into()),
                    "healthy" => row.healthy = value.parse().ok(),
                    _ => panic!("{name}"),
                }
            }
            tx.put(row);
        }
        Ok(())
    };
    world.store.update(put).await.unwrap();
    world.compile();
    world
}

#[tokio::test]
async fn service_answers_with_its_record_types_alone() {
    let both = ["i 4=10.0.0.1 6=fd00::1 port=80"];
    let world = typed("A", DiscoveryRouting::Multivalue, &both).await;
    assert_eq!(world.ask("web.demo.internal", A), "9 10.0.0.1");
    assert_eq!(world.ask("web.demo.internal", Aaaa), "NODATA demo.internal");
    assert_eq!(world.ask("web.demo.internal", Srv), "NODATA demo.internal");
    assert_eq!(world.ask("i.web.demo.internal", A), "NXDOMAIN demo.internal");
    let world = typed("A AAAA", DiscoveryRouting::Multivalue, &both).await;
    assert_eq!(world.ask("web.demo.internal", Aaaa), "9 fd00::1");
    let world = typed("SRV", DiscoveryRouting::Multivalue, &both).await;
    assert_eq!(world.ask("web.demo.internal", A), "NODATA demo.internal");
    assert_eq!(
        world.ask("web.demo.internal", Srv),
        "+ i.web.demo.internal 9 10.0.0.1, + i.web.demo.internal 9 fd00::1, \
         9 1 1 80 i.web.demo.internal"
    );
    let world = typed("", DiscoveryRouting::Multivalue, &both).await;
    assert_eq!(world.ask("web.demo.internal", A), "NODATA demo.internal");
}

#[tokio::test]
async fn weighted_service_answers_with_one_healthy_instance() {
    let three = ["a 4=10.0.0.1 healthy=false", "b 4=10.0.0.2", "c 4=10.0.0.3 healthy=false"];
    let world = typed("A", DiscoveryRouting::Weighted, &three).await;
    assert_eq!(world.ask("web.demo.internal", A), "9 10.0.0.2");
    let two = ["a 4=10.0.0.1", "b 4=10.0.0.1"];
    let world = typed("A", DiscoveryRouting::Weighted, &two).await;
    assert_eq!(world.ask("web.demo.internal", A), "9 10.0.0.1");
}

#[tokio::test]
async fn cname_of_an_instance_is_followed_inside_our_zones() {
    let mut world = typed("CNAME", DiscoveryRouting::Weighted, &["i cname=db.demo.internal"]).await;
    world.put(&["service db demo.internal", "instance 1 db demo.internal 10.0.0.9 80 free"]).await;
    assert_eq!(
        world.ask("web.demo.internal", A),
        "9 CNAME db.demo.internal, db.demo.internal 5 10.0.0.9"
    );
    assert_eq!(world.ask("web.demo.internal", Cname), "9 CNAME db.demo.internal");
    assert_eq!(
        world.ask("web.demo.internal", Aaaa),
        "9 CNAME db.demo.internal, NODATA demo.internal"
    );
    for (target, expected) in [
        ("gone.demo.internal", "9 CNAME gone.demo.internal, NXDOMAIN demo.internal"),
        ("www.example.com", "9 CNAME www.example.com"),
    ] {
        let instance = format!("i cname={target}");
        let world = typed("CNAME", DiscoveryRouting::Weighted, &[&instance]).await;
        assert_eq!(world.ask("web.demo.internal", A), expected);
    }
    let world = typed("CNAME", DiscoveryRouting::Weighted, &["i cname=web.demo.internal"]).await;
    let looped = world.ask("web.demo.internal", A);
    assert_eq!(looped.matches("CNAME").count(), 8);
}
