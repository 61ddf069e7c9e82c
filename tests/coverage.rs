//! What is covered of the AWS APIs, in the README as in the code, and where the models come from.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use roadstead::api::{coverage, resources};

use crate::support::aws::python;

const README: &str = "README.md";
const BEGIN: &str = "<!-- coverage, made by `UPDATE_README=1 cargo test coverage` -->\n";
const END: &str = "<!-- end of coverage -->\n";

fn root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const DECIDED: &str = "<!-- resources, made as the coverage is -->\n";
const DECIDED_END: &str = "<!-- end of resources -->\n";

/// Names in the patterns of the `match` from operation to function.
fn served(folder: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root(&format!("src/api/{folder}"))).unwrap();
    let arms = text.lines().map(str::trim).filter(|line| line.starts_with(['"', '|']));
    let names = arms.flat_map(|line| line.split("=>").next().unwrap_or_default().split('"'));
    names
        .filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(Into::into)
        .collect()
}

/// The README's two tables.
fn tables() -> String {
    let mut text = "| API | served | operations |\n|---|---|---|\n".to_owned();
    let (mut accepted, mut refused) = (String::new(), String::new());
    for service in coverage() {
        let mut served = served(service.source);
        served.retain(|name| service.refused.iter().all(|(operation, _)| operation != name));
        let strange: Vec<_> =
            served.iter().filter(|name| !service.operations.contains(name)).collect();
        assert!(strange.is_empty(), "{}: {strange:?} are not in its model", service.name);
        let (count, all) = (served.len(), service.operations.len());
        let names: Vec<_> = served.iter().map(String::as_str).collect();
        let _ = writeln!(text, "| {} | {count} of {all} | {} |", service.name, names.join(", "));
        for (member, why) in service.accepted {
            let _ = writeln!(accepted, "| {} | `{member}` | {why} |", service.name);
        }
        for (operation, why) in service.refused {
            let _ = writeln!(refused, "| {} | `{operation}` | {why} |", service.name);
        }
    }
    if !accepted.is_empty() {
        text.push_str("\nTaken and not acted upon:\n\n| API | member | what becomes of it |\n");
        text.push_str("|---|---|---|\n");
        text.push_str(&accepted);
    }
    if !refused.is_empty() {
        text.push_str("\nRefused by name:\n\n| API | operation | why |\n|---|---|---|\n");
        text.push_str(&refused);
    }
    text
}

/// The README's table of resources that policies are decided on.
fn decided() -> String {
    let mut text = "| service | resource | operations |\n|---|---|---|\n".to_owned();
    for (service, resource, operations) in resources() {
        // What follows @ and | is for the code.
        let parts: Vec<_> = resource
            .split('}')
            .map(|part| {
                let (before, name) = part.rsplit_once('{').unwrap_or((part, ""));
                let name = name.split(['@', '|']).next().unwrap_or_default();
                if name.is_empty() { before.to_owned() } else { format!("{before}{{{name}}}") }
            })
            .collect();
        let _ = writeln!(text, "| {service} | `{}` | {} |", parts.concat(), operations.join(", "));
    }
    text
}

#[test]
fn readme_tells_what_is_served() {
    let readme = std::fs::read_to_string(root(README)).unwrap();
    let (before, rest) = readme.split_once(DECIDED).expect("the README has the mark of resources");
    let (found, after) = rest.split_once(DECIDED_END).expect("the README ends the resources");
    let table = decided();
    if std::env::var_os("UPDATE_README").is_some() {
        let text = format!("{before}{DECIDED}{table}{DECIDED_END}{after}");
        std::fs::write(root(README), text).unwrap();
    } else {
        assert!(found == table, "the README's resources are old: UPDATE_README=1 makes them anew");
    }

    let readme = std::fs::read_to_string(root(README)).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the README has the coverage's mark");
    let (found, after) = rest.split_once(END).expect("the README ends the coverage");
    let tables = tables();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(root(README), format!("{before}{BEGIN}{tables}{END}{after}")).unwrap();
    } else {
        assert!(found == tables, "the README's coverage is old: UPDATE_README=1 makes it anew");
    }
}

#[test]
fn models_are_what_their_generator_makes_of_the_public_ones() {
    let Some(python) = python() else { return };
    let fresh = tempfile::tempdir().unwrap();
    let script = root("src/api/models/trim.py");
    let status = std::process::Command::new(python).arg(script).arg(fresh.path()).status().unwrap();
    assert!(status.success());
    let mut count = 0;
    for entry in std::fs::read_dir(fresh.path()).unwrap().flatten() {
        let ours = root("src/api/models").join(entry.file_name());
        let made = std::fs::read_to_string(entry.path()).unwrap();
        assert!(std::fs::read_to_string(&ours).unwrap() == made, "{} differs", ours.display());
        count += 1;
    }
    assert!(count == 11, "{count} models");
}
