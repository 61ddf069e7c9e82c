//! Docker's shapes, without a Docker.

use bollard::models::RestartPolicyNameEnum;

use super::*;
use crate::model::{ContainerDefinition, HostPorts, NetworkMode, PortMapping, Sharing, Transport};

fn spec(cpu: Option<u32>) -> ContainerSpec {
    ContainerSpec {
        task: "t1".into(),
        cluster: "default".to_owned(),
        family: "web".to_owned(),
        revision: 3,
        definition: ContainerDefinition {
            image: Some("busybox".to_owned()),
            command: vec!["httpd".to_owned()],
            cpu,
            memory_mib: Some(64),
            docker_labels: [(LABEL_TASK, "forged"), ("team", "a")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..ContainerDefinition::new("app")
        },
        network_mode: None,
        pid_mode: None,
        ipc_mode: None,
        volumes: Vec::new(),
        address: None,
        environment: [("PORT".to_owned(), "80".to_owned())].into(),
        host_ports: Vec::new(),
        name_server: None,
        secrets: BTreeMap::new(),
    }
}

#[test]
fn cpu_units_become_shares_as_in_ecs() {
    for (units, shares) in [(None, 2), (Some(0), 2), (Some(1), 2), (Some(2), 2), (Some(256), 256)] {
        let host = request(&spec(units), "u", None).unwrap().host_config.unwrap();
        assert_eq!(host.cpu_shares, Some(shares), "{units:?}");
        assert_eq!(host.memory, Some(64 << 20));
        assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::NO));
    }
}

#[test]
fn request_says_what_the_definition_says_and_no_more() {
    let body = request(&spec(None), "u", Some("lab")).unwrap();
    assert_eq!(body.cmd, Some(vec!["httpd".to_owned()]));
    assert_eq!(body.entrypoint, None, "the image's own");
    assert_eq!(body.env, Some(vec!["PORT=80".to_owned()]));
    assert_eq!(body.healthcheck.unwrap().test, Some(vec!["NONE".to_owned()]));
    assert_eq!(body.host_config.unwrap().network_mode, Some("lab".to_owned()));
    let labels = body.labels.unwrap();
    assert_eq!(labels[LABEL_TASK], "t1", "ours win");
    assert_eq!(labels["team"], "a");
    assert_eq!(labels["com.amazonaws.ecs.task-definition-version"], "3");
}

#[test]
fn container_without_an_image_is_refused() {
    let mut spec = spec(None);
    spec.definition.image = None;
    let refused = request(&spec, "u", None).unwrap_err();
    assert_eq!(refused, RuntimeError::CannotCreate("container app: image is missing".to_owned()));
}

#[test]
fn only_references_without_a_tag_get_one() {
    let check = |image, expected| assert_eq!(with_tag(image), expected);
    check("web", "web:latest");
    check("web:1", "web:1");
    check("localhost:5000/web", "localhost:5000/web:latest");
    check("localhost:5000/web:1", "localhost:5000/web:1");
    check("web@sha256:00", "web@sha256:00");
}

fn inspected(state: &str, networks: &str) -> ContainerInspectResponse {
    let labels =
        format!(r#"{{"{LABEL_CLUSTER}":"u","{LABEL_TASK}":"t1","{LABEL_CONTAINER}":"app"}}"#);
    let text = format!(
        r#"{{"Id":"i1","Config":{{"Labels":{labels}}},"State":{state},
            "NetworkSettings":{{"Networks":{networks}}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

#[test]
fn states_are_read_from_an_inspection() {
    let check = |state: &str, expected: Option<ObservedState>| {
        let observed = observed(&inspected(state, "{}"), "u", None);
        assert_eq!(observed.map(|observed| observed.state), expected, "{state}");
    };
    let exited = |code, out_of_memory| Some(ObservedState::Exited { code, out_of_memory });
    check(r#"{"Status":"created","Running":false,"ExitCode":0}"#, Some(ObservedState::Created));
    check(r#"{"Status":"running","Running":true}"#, Some(ObservedState::Running));
    check(r#"{"Status":"paused","Running":true}"#, Some(ObservedState::Running));
    check(r#"{"Status":"exited","Running":false,"ExitCode":3}"#, exited(Some(3), false));
    let killed = r#"{"Status":"exited","Running":false,"ExitCode":137,"OOMKilled":true}"#;
    check(killed, exited(Some(137), true));
    check(r#"{"Status":"dead","Running":false}"#, exited(None, false));
    assert_eq!(observed(&inspected(r#"{"Running":true}"#, "{}"), "other", None), None);
}

#[test]
fn address_is_that_of_the_network_asked_for() {
    let networks = r#"{"b":{"IPAddress":"10.0.0.2"},"a":{"IPAddress":"10.0.0.1"},
        "six":{"IPAddress":"","GlobalIPv6Address":"fd00::9"}}"#;
    let check = |network, expected: &str| {
        let container = inspected(r#"{"Running":true}"#, networks);
        let observed = observed(&container, "u", network).unwrap();
        assert_eq!(observed.address, Some(expected.parse().unwrap()), "{network:?}");
    };
    check(Some("b"), "10.0.0.2");
    check(Some("six"), "fd00::9");
    check(None, "10.0.0.1");
}

#[test]
fn memory_leaves_the_file_cache_out() {
    let text = r#"{"cpu_stats":{"cpu_usage":{"total_usage":5000000}},
        "memory_stats":{"usage":1000,"stats":{"inactive_file":300}}}"#;
    let usage = usage(&serde_json::from_str(text).unwrap());
    assert_eq!(usage, Usage { cpu_micros: 5000, memory_bytes: 700 });
}

/// Members of a container definition in the model's JSON, and what Docker is asked for.
fn check(members: &str, expected: &str) {
    let mut written = serde_json::to_value(spec(None).definition).unwrap();
    let given: serde_json::Value = serde_json::from_str(members).unwrap();
    written.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
    let definition = serde_json::from_value(written).unwrap();
    let volume = |name: &str, kind| crate::model::Volume { name: name.to_owned(), kind };
    let shared = crate::model::DockerVolume {
        scope: crate::model::VolumeScope::Shared,
        autoprovision: true,
        driver: None,
        driver_options: BTreeMap::new(),
        labels: BTreeMap::new(),
    };
    let folder = Some("/srv".to_owned());
    let volumes = vec![
        volume("own", crate::model::VolumeKind::Host { source_path: None }),
        volume("folder", crate::model::VolumeKind::Host { source_path: folder }),
        volume("shared", crate::model::VolumeKind::Docker(shared)),
    ];
    let plain = serde_json::to_value(request(&spec(None), "u", None).unwrap()).unwrap();
    let asked = request(&ContainerSpec { definition, volumes, ..spec(None) }, "u", None).unwrap();
    let asked = serde_json::to_value(asked).unwrap();
    let mut told = serde_json::Map::new();
    for (asked, plain) in [(&asked, &plain), (&asked["HostConfig"], &plain["HostConfig"])] {
        for (name, value) in asked.as_object().unwrap() {
            if name != "HostConfig" && Some(value) != plain.get(name) {
                told.insert(name.clone(), value.clone());
            }
        }
    }
    let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
    assert_eq!(serde_json::Value::Object(told), expected, "{members}");
}

#[test]
fn members_become_what_docker_calls_them() {
    check(r#"{"memory_reservation_mib": 32}"#, r#"{"MemoryReservation": 33554432}"#);
    check(r#"{"hostname": "h"}"#, r#"{"Hostname": "h"}"#);
    check(
        r#"{"interactive": true, "pseudo_terminal": true}"#,
        r#"{"OpenStdin": true, "Tty": true}"#,
    );
    check(
        r#"{"privileged": true, "readonly_root": true, "security_options": ["no-new-privileges"]}"#,
        r#"{"Privileged": true, "ReadonlyRootfs": true, "SecurityOpt": ["no-new-privileges"]}"#,
    );
    check(
        r#"{"links": ["db", "db:store"],
            "volumes_from": [{"source_container": "db", "read_only": true}]}"#,
        r#"{"Links": ["roadstead-u-t1-db:db", "roadstead-u-t1-db:store"],
            "VolumesFrom": ["roadstead-u-t1-db:ro"]}"#,
    );
    check(
        r#"{"dns_servers": ["10.0.0.2"], "dns_search_domains": ["demo.internal"],
            "extra_hosts": [{"hostname": "h", "address": "10.0.0.3"}]}"#,
        r#"{"Dns": ["10.0.0.2"], "DnsSearch": ["demo.internal"], "ExtraHosts": ["h:10.0.0.3"]}"#,
    );
    check(
        r#"{"ulimits": [{"name": "nofile", "soft": 1, "hard": -1}],
            "system_controls": {"net.core.somaxconn": "9"}}"#,
        r#"{"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": -1}],
            "Sysctls": {"net.core.somaxconn": "9"}}"#,
    );
    check(
        r#"{"mount_points": [
            {"source_volume": "own", "container_path": "/a", "read_only": null},
            {"source_volume": "folder", "container_path": "/b", "read_only": true},
            {"source_volume": "shared", "container_path": "/c", "read_only": false}]}"#,
        r#"{"Binds": ["roadstead-u-t1-own:/a", "/srv:/b:ro", "shared:/c"]}"#,
    );
}

#[test]
fn log_drivers_are_docker_s_and_files_have_a_bound() {
    let check = |members: &str, expected: &str| {
        let log = format!(r#"{{"log": {{{members}}}}}"#);
        check(&log, &format!(r#"{{"LogConfig": {expected}}}"#));
    };
    check(
        r#""driver": "local", "options": {"max-size": "1m"}"#,
        r#"{"Type": "local", "Config": {"max-size": "1m", "max-file": "4"}}"#,
    );
    check(
        r#""driver": "json-file", "options": {"labels": "a"}"#,
        r#"{"Type": "json-file", "Config": {"labels": "a", "max-size": "16m", "max-file": "4"}}"#,
    );
    check(
        r#""driver": "syslog", "options": {"tag": "a"}"#,
        r#"{"Type": "syslog", "Config": {"tag": "a"}}"#,
    );
}

#[test]
fn chosen_ports_of_the_host_lead_to_those_of_the_container() {
    let mut spec = spec(None);
    spec.network_mode = Some(NetworkMode::Bridge);
    let range = PortMapping { range_end: Some(8001), ..PortMapping::tcp(8000) };
    spec.definition.port_mappings = vec![range, PortMapping::tcp(80)];
    let chosen = |container_port, host_port, count| HostPorts {
        container: "app".to_owned(),
        protocol: Transport::Tcp,
        container_port,
        host_port,
        count,
    };
    spec.host_ports = vec![chosen(8000, 20_005, 2), chosen(80, 20_000, 1)];
    let asked = request(&spec, "u", None).unwrap();
    let bound = asked.host_config.unwrap().port_bindings.unwrap();
    let bound: BTreeMap<_, _> = bound
        .into_iter()
        .map(|(name, all)| (name, all.unwrap().remove(0).host_port.unwrap()))
        .collect();
    let expected = [("80/tcp", "20000"), ("8000/tcp", "20005"), ("8001/tcp", "20006")];
    let expected: BTreeMap<_, _> =
        expected.map(|(name, port)| (name.to_owned(), port.to_owned())).into();
    assert_eq!(bound, expected);
    assert_eq!(asked.exposed_ports.unwrap().len(), 3);
}

#[test]
fn namespaces_of_a_task_are_its_pauses() {
    let mut spec = spec(None);
    (spec.pid_mode, spec.ipc_mode) = (Some(Sharing::Task), Some(Sharing::Task));
    let host = request(&spec, "u", None).unwrap().host_config.unwrap();
    let pause = Some("container:roadstead-u-t1.pause".to_owned());
    assert_eq!((host.pid_mode, host.ipc_mode, host.network_mode), (pause.clone(), pause, None));
}

/// The network mode, port mappings as `PORT[:HOST_PORT][/udp] …`, and Docker's network, ports
/// bound and ports exposed.
fn network(mode: Option<NetworkMode>, ports: &str, expected: &str) {
    let mapping = |text: &str| {
        let (ports, transport) = text.split_once('/').unwrap_or((text, "tcp"));
        let (port, host) = ports.split_once(':').unwrap_or((ports, ""));
        PortMapping {
            host_port: host.parse().ok(),
            protocol: if transport == "udp" { Transport::Udp } else { Transport::Tcp },
            ..PortMapping::tcp(port.parse().unwrap())
        }
    };
    let mut spec = spec(None);
    spec.network_mode = mode;
    spec.definition.port_mappings = ports.split_whitespace().map(mapping).collect();
    let asked = request(&spec, "u", Some("net")).unwrap();
    let host = asked.host_config.unwrap();
    let bound: BTreeMap<_, _> = host.port_bindings.unwrap_or_default().into_iter().collect();
    let bound = bound.into_iter().map(|(name, all)| {
        let port = all.unwrap().remove(0).host_port.unwrap();
        format!("{name}={}", if port.is_empty() { "any" } else { &port })
    });
    let bound: Vec<_> = bound.collect();
    let exposed = asked.exposed_ports.unwrap_or_default();
    let told = [host.network_mode.unwrap(), bound.join(","), exposed.join(",")].join(" ");
    assert_eq!(told, expected, "{mode:?} {ports}");
}

#[test]
fn ports_of_the_host_are_given_where_the_mode_has_them() {
    use NetworkMode::{Awsvpc, Bridge, Host, None as Nothing};
    network(None, "80 53/udp", "net  ");
    network(None, "80:8080 53/udp", "net 80/tcp=8080 80/tcp");
    network(Some(Bridge), "80 53:53/udp", "net 53/udp=53,80/tcp=any 80/tcp,53/udp");
    network(Some(Awsvpc), "80", "container:roadstead-u-t1.pause  ");
    network(Some(Host), "80", "host  ");
    network(Some(Nothing), "", "none  ");
}

#[test]
fn namespaces_of_the_host_are_shared_when_asked() {
    let mut spec = spec(None);
    spec.pid_mode = Some(Sharing::Host);
    spec.ipc_mode = Some(Sharing::None);
    let host = request(&spec, "u", None).unwrap().host_config.unwrap();
    let told = (host.pid_mode.as_deref(), host.ipc_mode.as_deref());
    assert_eq!(told, (Some("host"), Some("none")));
}

#[test]
fn linux_parameters_become_what_docker_calls_them() {
    let linux = |members: &str, expected: &str| {
        check(&format!(r#"{{"linux": {{{members}}}}}"#), expected);
    };
    linux("", "{}");
    linux(
        r#""added_capabilities": ["NET_ADMIN"], "dropped_capabilities": ["ALL"], "init": true"#,
        r#"{"CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"], "Init": true}"#,
    );
    linux(
        r#""shared_memory_mib": 2, "tmpfs": [
            {"container_path": "/t", "size_mib": 8, "mount_options": ["noexec"]}]"#,
        r#"{"ShmSize": 2097152, "Tmpfs": {"/t": "size=8m,noexec"}}"#,
    );
    linux(
        r#""devices": [{"host_path": "/dev/a", "container_path": null, "permissions": []},
            {"host_path": "/dev/b", "container_path": "/dev/c", "permissions": ["read"]}]"#,
        r#"{"Devices": [
            {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rwm"},
            {"PathOnHost": "/dev/b", "PathInContainer": "/dev/c", "CgroupPermissions": "r"}]}"#,
    );
    let (none, some) = (r#""max_swap_mib": 0, "swappiness": 9"#, r#""max_swap_mib": 1"#);
    linux(none, r#"{"MemorySwap": 67108864, "MemorySwappiness": 9}"#);
    linux(some, r#"{"MemorySwap": 68157440}"#);
    linux(r#""swappiness": 9"#, "{}");
}
