//! The configuration file: read, checked, merged into the State.
//!
//! [`parse`] goes in two stages: what was written (`written`, `definition`), then what it means
//! (`meaning`); [`apply`] makes rows of it. Not here: what the State's rows cause. **Invariant:**
//! a file is taken whole or not at all, and what is wrong with it is said with its file, line and
//! key.

mod apply;
mod check;
mod definition;
mod kind;
mod meaning;
mod merge;
pub(super) mod names;
mod place;
mod references;
mod source;
mod sweep;
mod watch;
mod written;

use std::path::{Path, PathBuf};

use place::Place;
use source::{Bad, Format, Source};
use written::Written;

use crate::config::Settings;

pub(super) use apply::wrote_target;
pub use apply::{ApplyError, Summary, apply};
pub use check::check;
#[cfg(test)]
pub(in crate::api) use check::condition_words;
pub(super) use meaning::id_of;
pub use meaning::{Balancer, FixedTarget, Resources};
pub use source::Problem;
pub use sweep::sweep_store;
pub use watch::Watch;

/// A configuration file that makes sense.
#[derive(Clone, Debug)]
pub struct File {
    pub settings: Settings,
    pub resources: Resources,
    source: Source,
}

impl File {
    /// Every path that it was read from: itself, and the files that it names.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.source.path).chain(&self.resources.includes)
    }
}

/// Reads `text`, the content of the file at `path`. Task definitions in files of their own are
/// read along; their paths are relative to the folder of `path`.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(path: &Path, text: &str) -> Result<File, Problem> {
    let source = Source::new(path, text, Format::Toml);
    let written: Written = source.read()?;
    let settings = written.settings();
    let problem = |key: &str, reason| {
        let place = key.split('.').fold(Place::default(), |place, key| place.key(key));
        source.problem(Bad::new(&place, reason))
    };
    settings.check().map_err(|bad| problem(bad.key, bad.reason))?;
    super::secure::server(&settings.api).map_err(|(key, reason)| problem(key, reason))?;
    if let Some(path) = &settings.elb.identity_ca_file {
        crate::auth::Fetcher::trusting(Some(path))
            .map_err(|reason| problem("elb.identity_ca_file", reason))?;
    }
    super::Users::read(&settings.api).map_err(|(key, reason)| problem(key, reason))?;
    let resources = meaning::resources(&source, &written)?;
    Ok(File { settings, resources, source })
}

/// Reads the file at `path`.
///
/// # Errors
/// The file cannot be read, or what [`parse`] says.
pub fn load(path: &Path) -> Result<File, Problem> {
    let text = std::fs::read_to_string(path).map_err(|error| Problem {
        file: path.to_owned(),
        line: 1,
        column: 1,
        key: "(file)".to_owned(),
        reason: error.to_string().to_ascii_lowercase(),
    })?;
    parse(path, &text)
}
