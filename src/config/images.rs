//! `[runtime.images]`: how images come to a Docker Engine, and when they go.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::time::text;

/// `[runtime.images]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSettings {
    pub pull: PullBehaviour,
    /// Docker's `config.json` with the logins of registries. None: nobody logs in.
    pub credentials_file: Option<PathBuf>,
    /// How often images are removed that were pulled for tasks and that nobody uses. Zero: never.
    #[serde(with = "text")]
    pub cleanup_interval: Duration,
    /// For how long nobody used them.
    #[serde(with = "text")]
    pub cleanup_age: Duration,
}

impl Default for ImageSettings {
    /// The ECS agent's times.
    fn default() -> Self {
        Self {
            pull: PullBehaviour::default(),
            credentials_file: None,
            cleanup_interval: Duration::from_secs(30 * 60),
            cleanup_age: Duration::from_secs(3600),
        }
    }
}

/// When an image is pulled (the ECS agent's `ECS_IMAGE_PULL_BEHAVIOR`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullBehaviour {
    /// For every container; one that is here is taken when that fails.
    Default,
    /// For every container.
    Always,
    /// For the first container, and after it was removed.
    Once,
    /// When it is not here.
    #[default]
    PreferCached,
}
