//! Definitions as text: what is wrong with them, and that what is shown gives them again.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clock::Timestamp;
use crate::model::{Account, ContainerDefinition, Owner, TaskDefinition};

fn account() -> Account {
    Account::new("us-east-1", "000000000000")
}

fn read(text: &str) -> Definition {
    Definition::lenient(serde_json::from_str(text).unwrap()).unwrap()
}

/// `DEFINITION => PATH: reason`, one a line; `@ MEMBERS` stands for a definition of the container
/// `c` with these members, `# MEMBERS` for one whose task has them as well.
fn check(line: &str) {
    let (text, expected) = line.split_once(" => ").unwrap();
    let text = match (text.strip_prefix("@ "), text.strip_prefix("# ")) {
        (Some(members), _) => {
            format!(r#"{{"family":"d","containerDefinitions":[{{"name":"c",{members}}}]}}"#)
        }
        (_, Some(members)) => {
            format!(r#"{{"family":"d","containerDefinitions":[{{"name":"c"}}],{members}}}"#)
        }
        _ => text.to_owned(),
    };
    let told = read(&text).converted().map_or_else(|bad| bad.to_string(), |_| "good".to_owned());
    assert_eq!(told, expected, "{text}");
}

#[test]
fn each_mistake_is_told_with_its_path() {
    let table = include_str!("../../../tests/data/bad_definitions.txt");
    let lines: Vec<&str> =
        table.lines().filter(|l| !l.is_empty() && !l.starts_with("##")).collect();
    assert!(lines.len() > 60);
    lines.into_iter().for_each(check);
}

#[test]
fn every_refused_member_is_refused_by_name_and_taken_when_empty() {
    for (member, why) in REFUSED {
        let (inside, name) = match member.rsplit_once('.') {
            None => ("", *member),
            Some((inside, name)) => (inside, name),
        };
        let definition = |value: Value| {
            let mut container = json!({ "name": "c" });
            let mut task = json!({ "family": "d" });
            match inside {
                "" => task[name] = value,
                "containerDefinitions[]" => container[name] = value,
                _ => {
                    container["portMappings"] = match value {
                        Value::Null => json!([{ "containerPort": 1 }]),
                        value => json!([{ name: value }]),
                    };
                }
            }
            task["containerDefinitions"] = json!([container]);
            task
        };
        // The first that has the member's type.
        let values = [
            json!([{}]),
            json!(["x"]),
            json!(true),
            json!(64),
            json!("1-2"),
            json!("host"),
            json!({ "x": 1 }),
            json!({ "command": ["CMD", "x"] }),
            json!({ "enabled": true }),
            json!({ "logDriver": "x" }),
            json!([{ "value": "x" }]),
            json!([{ "name": "x", "valueFrom": "y" }]),
            json!([{ "containerName": "x", "condition": "START" }]),
            json!([{ "name": "x", "softLimit": 1, "hardLimit": 1 }]),
            json!([{ "namespace": "x", "value": "y" }]),
            json!([{ "hostname": "x", "ipAddress": "::1" }]),
        ];
        let told: Vec<String> = values
            .into_iter()
            .filter_map(|value| Definition::lenient(definition(value)).ok())
            .filter_map(|definition| Some(definition.meaning().err()?.to_string()))
            .collect();
        let name = member.replace("[]", "[0]");
        let expected =
            format!("{name}: is a member of ECS that is not supported here ({why}); leave it out");
        assert!(told.contains(&expected), "{member}: {told:?}");
        let empty = Definition::lenient(definition(Value::Null)).unwrap().meaning();
        assert!(empty.is_ok(), "{member}: {empty:?}");
    }
}

#[test]
fn unknown_members_are_passed_over_or_refused_as_the_front_wants() {
    let text = json!({
        "family": "d", "colour": 1,
        "containerDefinitions": [{ "name": "c", "shape": {}, "portMappings": [
            { "containerPort": 80, "smell": "x" }
        ], "cpu": 7 }],
    });
    assert!(serde_json::from_value::<Definition>(text.clone()).is_err());
    let definition = Definition::lenient(text).unwrap().meaning().unwrap();
    let container = &definition.containers[0];
    assert_eq!((container.cpu, container.port_mappings[0].container_port), (Some(7), 80));
    let wrong = json!({ "family": "d", "containerDefinitions": [{ "name": 7 }] });
    assert!(Definition::lenient(wrong).is_err());
}

/// What AWS's documentation registers as a sample for Fargate, and what describing it returns.
#[test]
fn fargate_sample_is_described_as_aws_describes_it() {
    let text = json!({
        "family": "sample-fargate",
        "networkMode": "awsvpc",
        "containerDefinitions": [{
            "name": "fargate-app",
            "image": "public.ecr.aws/docker/library/httpd:latest",
            "portMappings": [{ "containerPort": 80, "hostPort": 80, "protocol": "tcp" }],
            "essential": true,
            "entryPoint": ["sh", "-c"],
            "command": ["/bin/sh -c \"echo hello\""],
        }],
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
    });
    let definition = TaskDefinition {
        revision: 2,
        registered_at: Some(Timestamp(1_700_000_000_123_000)),
        registered_by: Some("arn:aws:iam::000000000000:root".to_owned()),
        owner: Owner::Api,
        ..Definition::lenient(text).unwrap().meaning().unwrap()
    };
    let expected = json!({
        "taskDefinitionArn":
            "arn:aws:ecs:us-east-1:000000000000:task-definition/sample-fargate:2",
        "containerDefinitions": [{
            "name": "fargate-app",
            "image": "public.ecr.aws/docker/library/httpd:latest",
            "cpu": 0,
            "portMappings": [{ "containerPort": 80, "hostPort": 80, "protocol": "tcp" }],
            "essential": true,
            "entryPoint": ["sh", "-c"],
            "command": ["/bin/sh -c \"echo hello\""],
            "environment": [],
            "mountPoints": [],
            "volumesFrom": [],
            "systemControls": [],
        }],
        "family": "sample-fargate",
        "networkMode": "awsvpc",
        "revision": 2,
        "volumes": [],
        "status": "ACTIVE",
        "requiresAttributes": [
            { "name": "ecs.capability.task-cpu-mem-limit" },
            { "name": "ecs.capability.task-eni" },
        ],
        "placementConstraints": [],
        "compatibilities": ["EC2", "FARGATE", "MANAGED_INSTANCES"],
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "registeredAt": 1_700_000_000.123,
        "registeredBy": "arn:aws:iam::000000000000:root",
    });
    assert_eq!(shown(&definition, &account()), expected);
}

fn comes_back(definition: &TaskDefinition) {
    let described = shown(definition, &account());
    // As the file reads it: nothing that is shown is unknown.
    let written: Definition = serde_json::from_value(described.clone()).unwrap();
    let again = written.converted().unwrap_or_else(|bad| panic!("{bad}: {described:#}"));
    // ECS tells them beside the description.
    let again = TaskDefinition { tags: definition.tags.clone(), ..again };
    assert!(again.is_same_content(definition), "{again:#?}\n{definition:#?}");
    let again = TaskDefinition { revision: definition.revision, ..again };
    assert_eq!(shown(&again, &account()), described);
}

#[test]
fn registering_what_was_described_gives_the_same_definition() {
    let table = include_str!("../../../tests/data/good_definitions.txt");
    let mut count = 0;
    for text in table.split("\n\n").filter(|text| !text.trim().is_empty()) {
        let definition = read(text).converted().unwrap_or_else(|bad| panic!("{bad}: {text}"));
        comes_back(&definition);
        count += 1;
    }
    assert!(count >= 5);
}

fn container(index: usize) -> impl Strategy<Value = Value> {
    let words = prop::collection::vec("[a-z /]{0,8}", 0..3);
    let flag = prop::option::of(any::<bool>());
    let port = (1_u16..400, any::<bool>(), prop::option::of("[a-z][a-z0-9_-]{0,8}"));
    (words.clone(), words, flag.clone(), flag, prop::option::of(1_u32..3600), 0_u32..99, port)
        .prop_map(move |(command, entry, privileged, tty, stop, cpu, port)| {
            let number = port.0 + u16::try_from(index).unwrap() * 1000;
            json!({
                "name": format!("c{index}"), "command": command, "entryPoint": entry,
                "privileged": privileged, "pseudoTerminal": tty, "stopTimeout": stop, "cpu": cpu,
                "portMappings": [{
                    "containerPort": number, "hostPort": if port.1 { 0 } else { number },
                    "name": port.2,
                }],
            })
        })
}

proptest! {
    #[test]
    fn any_definition_comes_back(
        one in container(0), other in container(1), mode in 0..4_usize, cpu in 1_u32..9999,
    ) {
        let mode = [None, Some("bridge"), Some("awsvpc"), Some("host")][mode];
        let text = json!({
            "family": "d", "containerDefinitions": [one, other], "networkMode": mode, "cpu": cpu,
        });
        comes_back(&Definition::lenient(text).unwrap().converted().unwrap());
    }

    #[test]
    fn no_json_makes_reading_panic(text in r#"[\[\]{}",:0-9a-z ]{0,60}"#) {
        if let Ok(value) = serde_json::from_str::<Value>(&text)
            && let Ok(definition) = Definition::lenient(value)
        {
            let _ = definition.meaning();
        }
    }
}

#[test]
fn tables_of_members_stand_in_the_readme() {
    let readme = include_str!("../../../README.md");
    let mut missing = Vec::new();
    for (member, why) in NOT_ACTED_UPON.iter().chain(REFUSED) {
        let row = format!("| `{member}` | {why} |");
        if !readme.contains(&row) {
            missing.push(row);
        }
    }
    assert!(missing.is_empty(), "not in the README:\n{}", missing.join("\n"));
}

#[test]
fn nothing_given_is_ecs_s_defaults() {
    let text = r#"{"family":"d","containerDefinitions":[{"name":"c"}]}"#;
    let expected = TaskDefinition::new("d".into(), 0, vec![ContainerDefinition::new("c")]);
    assert_eq!(read(text).meaning().unwrap(), expected);
}
