//! Docker's shapes, without a Docker.

use super::*;
use crate::model::ContainerDefinition;

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
        address: None,
        environment: [("PORT".to_owned(), "80".to_owned())].into(),
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
