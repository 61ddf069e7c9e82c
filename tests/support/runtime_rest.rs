//! What a task on Docker has of its own, and what becomes of it: addresses, ports, namespaces.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use bollard::query_parameters::ListContainersOptionsBuilder;
use roadstead::metrics::{Metrics, names};
use roadstead::model::{HostPorts, NetworkMode, ObservedState, PortMapping, Sharing, Transport};
use roadstead::runtime::docker::Docker;
use roadstead::runtime::{ContainerSpec, Runtime, RuntimeError};

use super::docker::{SOCKET, beside, client, greeter, greeting, pause_of, remove, remove_all};
use super::fixture::{Behaviour, CONTAINER, Fixture, until};

/// A container that does nothing, in mode awsvpc; its address.
async fn addressed(world: &Fixture, runtime: &dyn Runtime, task: &str) -> IpAddr {
    let mut spec = world.script(task, "sleep 1000");
    spec.network_mode = Some(NetworkMode::Awsvpc);
    runtime.create(&spec).await.unwrap();
    runtime.start(&spec.task, CONTAINER).await.unwrap().address.unwrap()
}

/// Ends it, and keeps its address.
async fn kept(runtime: &dyn Runtime, task: &str, rest: Duration) {
    let task = task.into();
    runtime.stop(&task, CONTAINER, Duration::ZERO).await.unwrap();
    for _ in 0..2 {
        runtime.keep_address(&task, rest).await.unwrap();
    }
    runtime.remove(&task, CONTAINER).await.unwrap();
}

/// Names of the cluster's pauses that rest.
async fn resting(world: &Fixture) -> Vec<String> {
    let labels = vec![format!("roadstead.cluster-uid={}", world.uid()), "roadstead.pause".into()];
    let filters = HashMap::from([("label", labels)]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let all = client().list_containers(Some(options)).await.unwrap();
    let names = all.into_iter().flat_map(|pause| pause.names.unwrap_or_default());
    names.filter(|name| name.contains(".rest.")).collect()
}

#[tokio::test]
async fn address_of_a_task_rests_after_it_also_over_a_restart() {
    let Some(mut world) = Fixture::docker().await else { return };
    let first = addressed(&world, world.runtime.as_ref(), "t1").await;
    kept(world.runtime.as_ref(), "t1", Duration::from_secs(3600)).await;
    world.reopen();
    assert_eq!(world.runtime.list().await.unwrap(), []);
    // Docker would give the lowest free one to whoever comes next.
    let second = addressed(&world, world.runtime.as_ref(), "t2").await;
    let plain = world.run("t3", Behaviour::Runs).await.address.unwrap();
    assert!(second != first && plain != first, "{first} {second} {plain}");
    assert_eq!(resting(&world).await.len(), 1);
    kept(world.runtime.as_ref(), "t2", Duration::ZERO).await;
    until(async || {
        // What is over goes when a process first looks, and every minute.
        world.reopen();
        world.runtime.list().await.unwrap();
        (resting(&world).await.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn where_no_address_is_left_the_one_that_rested_longest_is_given() {
    let Some(world) = Fixture::docker().await else { return };
    // Five addresses beside the machine's.
    let octet = std::process::id() % 256;
    let network = format!("roadstead-{}", world.uid());
    let subnet = format!("10.247.{octet}.{}/29", fastrand::u8(..32) * 8);
    let docker = |arguments: &[&str]| {
        Command::new("docker").args(arguments).output().unwrap().status.success()
    };
    assert!(docker(&["network", "create", "--subnet", &subnet, &network]));
    let metrics = Metrics::new(1);
    let runtime = Docker::connect(&format!("unix://{SOCKET}"), world.uid(), Some(network.clone()));
    let runtime = runtime.unwrap().count(&metrics);
    let mut addresses = Vec::new();
    for task in ["t1", "t2", "t3", "t4", "t5"] {
        addresses.push(addressed(&world, &runtime, task).await);
    }
    for (task, rest) in [("t3", 100), ("t1", 200), ("t2", 300)] {
        kept(&runtime, task, Duration::from_secs(rest)).await;
    }
    let given = addressed(&world, &runtime, "t6").await;
    let left = resting(&world).await.len();
    let cut = metrics.counter(&names::RESTS_CUT, &["address"]).total();
    remove_all(world.uid());
    assert!(docker(&["network", "rm", &network]));
    assert_eq!((given, left, cut), (addresses[2], 2, 1));
}

#[tokio::test]
async fn containers_of_a_task_share_processes_and_ipc_where_it_says_so() {
    let Some(world) = Fixture::docker().await else { return };
    let shares = |spec: ContainerSpec| ContainerSpec {
        pid_mode: Some(Sharing::Task),
        ipc_mode: Some(Sharing::Task),
        ..spec
    };
    // It leaves a child behind, which ends.
    let script = "(sleep 0.1 &); echo up; exec sleep 987654";
    let runs = shares(world.script("t1", script));
    world.run_spec(&runs, Behaviour::Runs).await;
    let script = "while ps | grep -v grep | grep -q ' sleep 0.1'; do :; done; \
        ps | grep -v grep | grep -q 'sleep 987654' || exit 2; \
        ps | grep -q '\\[sleep\\]' && exit 3; \
        [ $(readlink /proc/1/ns/ipc) = $(readlink /proc/self/ns/ipc) ] || exit 4; \
        read name < /proc/1/comm; [ $name = pause ] || exit 5; exit 7";
    let mut looks = shares(world.script("t1", script));
    looks.definition.name = "looks".to_owned();
    assert_eq!(beside(&world, &looks).await, Some(7));
    // What one of them leaves is not what the others stand on.
    world.runtime.remove(&"t1".into(), "looks").await.unwrap();
    assert!(pause_of(&world, "t1").await.is_some());
    assert_eq!(world.observed("t1").await.unwrap().state, ObservedState::Running);
    remove(&pause_of(&world, "t1").await.unwrap()).await;
    assert_eq!(world.exit_code("t1").await, Some(137), "the kernel ends them with their first");
    world.runtime.remove(&"t1".into(), CONTAINER).await.unwrap();
}

#[tokio::test]
async fn range_of_ports_is_reached_at_ports_in_a_row() {
    let Some(world) = Fixture::docker().await else { return };
    let mut spec = greeter(&world, 8001, Some(NetworkMode::Bridge));
    let range = PortMapping { range_end: Some(8002), ..PortMapping::tcp(8000) };
    spec.definition.port_mappings = vec![range];
    for _ in 0..5 {
        let first = fastrand::u16(20_000..31_000);
        let ports = HostPorts {
            container: CONTAINER.to_owned(),
            protocol: Transport::Tcp,
            container_port: 8000,
            host_port: first,
            count: 3,
        };
        spec.host_ports = vec![ports];
        world.runtime.create(&spec).await.unwrap();
        match world.runtime.start(&spec.task, CONTAINER).await {
            Ok(running) => {
                let bound: Vec<_> =
                    running.bindings.iter().map(|b| (b.container_port, b.host_port)).collect();
                assert_eq!(bound, [(8000, first), (8001, first + 1), (8002, first + 2)]);
                let host = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), first + 1);
                assert_eq!(&greeting(host).await, b"hello");
                return;
            }
            // Somebody of this machine has one of them.
            Err(RuntimeError::PortTaken(_)) => {
                world.runtime.remove(&spec.task, CONTAINER).await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no ports in a row");
}
