//! ECS task definitions in Amazon's shape: read, given a meaning, and shown again.
//!
//! A room for every front that speaks of task definitions: the configuration file takes the shape
//! in TOML and JSON, `RegisterTaskDefinition` and `DescribeTaskDefinition` are it. [`Definition`]
//! is what was written, [`Definition::meaning`] makes the model of it or says what is wrong and
//! where, [`shown`] prints the model as ECS describes it. Not here: revisions, families, who may
//! register (the fronts). **Invariant:** nothing that would change how a task runs is dropped
//! silently: a member is honoured, or in [`NOT_ACTED_UPON`], or refused; and registering what was
//! shown gives the same definition.
//!
//! Source: ECS's API reference, `RegisterTaskDefinition` and the data types it names.

mod attributes;
mod container;
mod danger;
mod lenient;
mod meaning;
mod shown;
mod size;
mod together;
mod written;

#[cfg(test)]
mod tests;

use std::fmt;

pub use danger::dangers;
pub use shown::shown;
pub(super) use size::Size;
pub use written::{Definition, Tag};

/// Members that are taken and shown again, and change nothing here: member, and why.
pub const NOT_ACTED_UPON: &[(&str, &str)] = &[
    ("taskRoleArn", "there are no roles; a task is given no credentials"),
    ("executionRoleArn", "there are no roles; images and secrets are read by roadstead itself"),
    ("requiresCompatibilities", "checked against the definition as ECS does; everything runs here"),
    ("runtimePlatform", "an image runs if this machine can run it"),
    ("ephemeralStorage", "no quota is put on what a task writes"),
    ("tags", "they are kept and shown"),
    (
        "containerDefinitions[].logConfiguration.options.awslogs-region",
        "logs are kept on this machine, in the region of the task; awslogs-create-group, mode and \
         max-buffer-size say nothing either",
    ),
    ("containerDefinitions[].versionConsistency", "a tag is not pinned to a digest"),
    ("containerDefinitions[].portMappings[].appProtocol", "used by Service Connect alone"),
];

/// Members that are refused unless they are empty: member, and why.
pub const REFUSED: &[(&str, &str)] = &[
    ("proxyConfiguration", "App Mesh has ended"),
    ("inferenceAccelerators", "Elastic Inference has ended"),
    ("enableFaultInjection", "there is no fault injection"),
    (
        "containerDefinitions[].repositoryCredentials",
        "logins of registries are in the file that runtime.images.credentials_file names",
    ),
    ("containerDefinitions[].resourceRequirements", "there are no GPUs and no accelerators"),
    ("containerDefinitions[].firelensConfiguration", "there is no log router"),
    ("containerDefinitions[].credentialSpecs", "Windows and Active Directory only"),
    ("containerDefinitions[].disableNetworking", "networkMode none says it for the whole task"),
];

/// One step into a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(&'static str),
    Index(usize),
}

/// The path of a member: `containerDefinitions[1].dependsOn[0].condition`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Step>);

impl Path {
    #[must_use]
    pub fn key(&self, name: &'static str) -> Self {
        self.and(Step::Key(name))
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.and(Step::Index(index))
    }

    fn and(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.0.iter()
    }

    /// As the tables write it, without numbers.
    fn pattern(&self) -> String {
        let mut text = String::new();
        for step in &self.0 {
            match step {
                Step::Key(name) if text.is_empty() => text.push_str(name),
                Step::Key(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Step::Index(_) => text.push_str("[]"),
            }
        }
        text
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(name) if place == 0 => f.write_str(name)?,
                Step::Key(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// What is wrong with a definition, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Bad {
    pub path: Path,
    pub reason: String,
}

impl Bad {
    fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.clone(), reason: reason.into() }
    }
}

/// Refuses a member of [`REFUSED`] that says something.
fn refuse(says_something: bool, at: &Path) -> Result<(), Bad> {
    if !says_something {
        return Ok(());
    }
    let pattern = at.pattern();
    let why = REFUSED.iter().find(|(member, _)| *member == pattern).map(|(_, why)| *why);
    match why {
        None => Ok(()),
        Some(why) => {
            let reason =
                format!("is a member of ECS that is not supported here ({why}); leave it out");
            Err(Bad::new(at, reason))
        }
    }
}
