//! The variables of a container that have to be looked up: files of them, and secrets.
//!
//! Read when a container is made, as ECS does; nothing is kept. **Invariant:** what `environment`
//! says wins over every file, and a later file over an earlier.

use std::collections::BTreeMap;
use std::path::Path;

use crate::model::{ContainerDefinition, SecretText};
use crate::runtime::{ContainerSpec, RuntimeError};
use crate::secrets::{self, Secrets};

#[derive(Debug, Default)]
struct Found {
    plain: BTreeMap<String, String>,
    secret: BTreeMap<String, SecretText>,
}

/// The specification with everything that its definition names.
pub(super) async fn fill(
    mut spec: ContainerSpec,
    store: &Secrets,
) -> Result<ContainerSpec, RuntimeError> {
    let definition = &spec.definition;
    if definition.environment_files.is_empty() && definition.secrets.is_empty() {
        return Ok(spec);
    }
    let (definition, store) = (definition.clone(), store.clone());
    let read = tokio::task::spawn_blocking(move || look_up(&definition, &store)).await;
    let found = match read {
        Ok(found) => found.map_err(RuntimeError::CannotInitialize)?,
        Err(error) => return Err(RuntimeError::Unavailable(format!("secrets: {error}"))),
    };
    for (name, value) in found.plain {
        spec.environment.entry(name).or_insert(value);
    }
    for name in found.secret.keys() {
        spec.environment.remove(name);
    }
    spec.secrets = found.secret;
    Ok(spec)
}

fn look_up(definition: &ContainerDefinition, store: &Secrets) -> Result<Found, String> {
    let mut found = Found::default();
    for path in &definition.environment_files {
        found.plain.extend(secrets::environment_file(Path::new(path))?);
    }
    for secret in &definition.secrets {
        let value = store.value(&secret.value_from);
        let value = value.map_err(|error| format!("secret {}: {error}", secret.name))?;
        found.secret.insert(secret.name.clone(), value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::{ContainerSecret, TaskDefinition};

    fn spec(container: ContainerDefinition) -> ContainerSpec {
        let definition = TaskDefinition::new("d".into(), 1, vec![container]);
        ContainerSpec::new(&"t".into(), "c", &definition, "app", None).unwrap()
    }

    #[tokio::test]
    async fn variables_come_from_files_then_the_definition_and_secrets_are_never_printed() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let files = vec![file("a.env", "A=1\nB=1\nC=1\nTASK_ID=no\n"), file("b.env", "B=2\n")];
        file("ssm/key", "sesame\n");
        let secret =
            |from: &str| vec![ContainerSecret { name: "KEY".into(), value_from: from.into() }];
        let container = ContainerDefinition {
            environment: [("C".to_owned(), "3".to_owned())].into(),
            environment_files: files.clone(),
            secrets: secret("key"),
            ..ContainerDefinition::new("app")
        };
        let store = Secrets::new(directory.path());
        let filled = fill(spec(container.clone()), &store).await.unwrap();
        let all: Vec<_> = filled.variables().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(all.join(" "), "A=1 ADDRESS=0.0.0.0 B=2 C=3 TASK_ID=t KEY=sesame");
        assert!(!format!("{filled:?}").contains("sesame"));
        let check = async |container: ContainerDefinition, expected: &str| {
            let told = fill(spec(container), &store).await.unwrap_err().to_string();
            assert!(told.starts_with("ResourceInitializationError: "), "{told}");
            assert!(told.contains(expected), "{told}");
        };
        let missing = ContainerDefinition { secrets: secret("none"), ..container.clone() };
        check(missing, "secret KEY: there is no parameter none").await;
        let missing = ContainerDefinition { environment_files: vec!["/none".into()], ..container };
        check(missing, "environment file /none: No such file").await;
    }
}
