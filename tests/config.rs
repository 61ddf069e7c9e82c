//! The configuration file: samples load, bad files say what is wrong in one line.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bad;

use std::path::Path;

use proptest::prelude::*;
use roadstead::api::file;
use roadstead::config::{OnExit, RuntimeKind, Settings};

const QUICKSTART: &str = include_str!("../config/quickstart.toml");

fn sample(name: &str) -> file::File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    file::load(&path).unwrap()
}

#[test]
fn every_sample_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            file::load(&path).unwrap();
            count += 1;
        }
    }
    assert!(count >= 3);
}

#[test]
fn quickstart_is_what_the_readme_tells() {
    let file = sample("quickstart.toml");
    assert_eq!(file.settings.on_exit, OnExit::Stop);
    assert_eq!(file.settings.runtime.kind, RuntimeKind::Process);
    let services = file.resources.services.iter();
    let counts: Vec<_> = services.map(|s| (s.key.to_string(), s.desired_count)).collect();
    assert_eq!(counts, [("default/web".to_owned(), 3), ("default/echo".to_owned(), 2)]);
    let listeners = file.resources.listeners.iter().map(|listener| listener.key.port);
    assert_eq!(listeners.collect::<Vec<_>>(), [8080, 8081]);
    assert_eq!(sample("docker.toml").settings.runtime.kind, RuntimeKind::Docker);
}

#[test]
fn reference_shows_the_defaults() {
    let mut settings = sample("reference.toml").settings;
    let default = Settings::default();
    // Options that are off by default have to show something.
    assert!(settings.access_log.path.take().is_some());
    assert!(settings.health_log.path.take().is_some());
    assert!(settings.elb.cookie_key_file.take().is_some());
    assert!(settings.elb.trust_store_folder.take().is_some());
    assert!(settings.api.audit_log.take().is_some());
    assert!(settings.events.webhook.take().is_some());
    assert!(settings.runtime.docker_network.take().is_some());
    assert!(settings.runtime.images.credentials_file.take().is_some());
    assert_eq!(settings, default);
}

#[test]
fn empty_file_means_the_defaults() {
    let file = file::parse(Path::new("empty.toml"), "").unwrap();
    assert_eq!(file.settings, Settings::default());
    assert_eq!(file.resources.clusters.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_quickstart_never_panics(
        edits in prop::collection::vec((0usize..4000, any::<u8>(), 0u8..3), 1..6),
    ) {
        let mut bytes = QUICKSTART.as_bytes().to_vec();
        for (at, byte, how) in edits {
            let at = at % bytes.len();
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(problem) = file::parse(Path::new("q.toml"), &text) {
            prop_assert!(problem.line <= text.split('\n').count(), "{}", problem);
            prop_assert!(!problem.to_string().contains('\n'), "{}", problem);
        }
    }
}

/// As `describe-task-definition` prints it, members of answers and empty ones included.
const DESCRIBED: &str = r#"{
  "taskDefinition": {
    "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7",
    "containerDefinitions": [
      {
        "name": "web", "image": "web:1", "cpu": 0, "essential": true, "memory": 128,
        "portMappings": [{ "containerPort": 80, "hostPort": 80, "protocol": "tcp" }],
        "environment": [{ "name": "A", "value": "b" }], "mountPoints": [], "volumesFrom": [],
        "systemControls": [], "privileged": false, "linuxParameters": null
      }
    ],
    "family": "web", "revision": 7, "volumes": [], "status": "ACTIVE",
    "requiresAttributes": [{ "name": "com.amazonaws.ecs.capability.docker-remote-api.1.18" }],
    "placementConstraints": [], "compatibilities": ["EC2"], "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "0.5GB",
    "registeredAt": "2024-05-01T10:00:00+02:00", "registeredBy": "arn:aws:iam::1:user/x"
  },
  "tags": []
}"#;

fn with_json(json: &str) -> (tempfile::TempDir, Result<file::File, file::Problem>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("web.json"), json).unwrap();
    let path = folder.path().join("roadstead.toml");
    let parsed = file::parse(&path, "[[task_definition]]\nfile = \"web.json\"\n");
    (folder, parsed)
}

#[test]
fn task_definitions_are_read_as_aws_prints_and_takes_them() {
    let (_folder, parsed) = with_json(DESCRIBED);
    let parsed = parsed.unwrap();
    assert_eq!(parsed.paths().count(), 2);
    let [definition] = parsed.resources.definitions.as_slice() else { panic!("one definition") };
    assert_eq!((definition.cpu, definition.memory_mib), (Some(256), Some(512)));
    assert_eq!(definition.first_port(), Some(80));
    let value: serde_json::Value = serde_json::from_str(DESCRIBED).unwrap();
    let (_folder, parsed) = with_json(&value["taskDefinition"].to_string());
    assert_eq!(&parsed.unwrap().resources.definitions[0], definition);
}

#[test]
fn mistakes_in_a_json_file_are_told_with_its_line() {
    let check = |from: &str, to: &str, expected: &str| {
        assert!(DESCRIBED.contains(from), "{from}");
        let (_folder, parsed) = with_json(&DESCRIBED.replace(from, to));
        let told = parsed.unwrap_err().to_string();
        let (_, told) = told.split_once("web.json:").unwrap();
        assert_eq!(told, expected);
    };
    check(
        "\"linuxParameters\": null",
        "\"resourceRequirements\": [{ \"type\": \"GPU\", \"value\": \"1\" }]",
        "9: taskDefinition.containerDefinitions.resourceRequirements: is a member of ECS that is \
         not supported here (there are no GPUs and no accelerators); leave it out",
    );
    check(
        "\"networkMode\": \"awsvpc\"",
        "\"networkMode\": \"own\"",
        "14: taskDefinition.networkMode: unknown variant `own`, expected one of `bridge`, `host`, \
         `awsvpc`, `none`",
    );
    check(
        "\"hostPort\": 80",
        "\"hostPort\": 8080",
        "7: taskDefinition.containerDefinitions.portMappings.hostPort: When networkMode=awsvpc, \
         the host ports and container ports in port mappings must match",
    );
    check("\"family\"", "\"famly\"", {
        "12: taskDefinition.famly: unknown key, did you mean family?"
    });
    check("\"tags\": []\n}", "\"tags\": []\n", "19: (file): EOF while parsing an object");
}

#[test]
fn a_logins_secret_is_read_from_its_file_and_never_told() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("shop.secret");
    std::fs::write(&secret, "hush\n").unwrap();
    let text = r#"
[[load_balancer]]
name = "a"
type = "application"
[[load_balancer.listener]]
port = 443
protocol = "HTTPS"
certificates = ["arn:x"]
fixed_response = { status = 404 }
[[load_balancer.listener.rule]]
priority = 1
path_pattern = ["/"]
authenticate_oidc = { issuer = "https://id.test", client_id = "me", client_secret_file = "shop.secret", authorization_endpoint = "https://id.test/a", token_endpoint = "https://id.test/t", user_info_endpoint = "https://id.test/u", on_unauthenticated_request = "deny" }
fixed_response = { status = 200 }
"#;
    let path = folder.path().join("r.toml");
    let mode = |mode| std::fs::set_permissions(&secret, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    let told = file::parse(&path, text).unwrap_err().to_string();
    assert!(told.contains("mode 644 lets others than its owner in"), "{told}");
    mode(0o600);
    let parsed = file::parse(&path, text).unwrap();
    assert!(parsed.paths().any(|path| *path == secret), "it is watched");
    let rule = &parsed.resources.listeners[0].rules[0];
    let check = &rule.authentication.as_ref().unwrap().check;
    let roadstead::model::ClientCheck::Oidc(login) = check else { panic!("{check:?}") };
    assert_eq!((login.client_secret.reveal(), login.session_timeout.as_secs()), ("hush", 604_800));
    let told = file::check(&parsed);
    assert!(told.contains("rule 1: path /: authenticate-oidc, then answer 200"), "{told}");
    assert!(!format!("{told}{parsed:?}").contains("hush\""), "{told}");
}

#[test]
fn missing_file_is_told() {
    let problem = file::load(Path::new("/nonexistent/r.toml")).unwrap_err().to_string();
    assert!(problem.starts_with("/nonexistent/r.toml:1: (file): no such file"), "{problem}");
}
