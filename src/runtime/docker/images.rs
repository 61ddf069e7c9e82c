//! Images: when they are pulled, which of them we pulled, and when those go again.
//!
//! What we pulled stands in a file, for Docker cannot be told. **Invariant:** an image is removed
//! only if a pull of ours brought it, its name still stands for it, and no container of anybody
//! has used it for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveImageOptions};
use serde::{Deserialize, Serialize};

use super::engine::{Engine, Failure, LIST, REMOVE_IMAGE};
use super::{Docker, credentials, pull, shape};
use crate::clock::{self, Timestamp};
use crate::config::{ImageSettings, PullBehaviour};
use crate::runtime::RuntimeError;

/// Images that go at a time (the ECS agent's `ECS_NUM_IMAGES_DELETE_PER_CYCLE`).
const AT_A_TIME: usize = 5;

/// By the name that was pulled; one whose name stands for another image now, by its id.
type All = BTreeMap<String, Pulled>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pulled {
    id: String,
    /// It was not here before.
    ours: bool,
    /// When we last needed it, or saw it in use.
    used: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Images {
    pub settings: ImageSettings,
    /// None: what was pulled is forgotten with this process.
    record: Option<PathBuf>,
    all: Mutex<All>,
}

/// Whether a container's image is pulled before anything is tried.
fn pulls_first(behaviour: PullBehaviour, was_pulled: bool) -> bool {
    match behaviour {
        PullBehaviour::Default | PullBehaviour::Always => true,
        PullBehaviour::Once => !was_pulled,
        PullBehaviour::PreferCached => false,
    }
}

/// What a pull of `name` changes: it stood for `before`, and stands for `after` now.
fn note(all: &mut All, name: &str, before: Option<&str>, after: &str, now: Timestamp) {
    let old = all.get(name).cloned();
    let is_same = |pulled: &Pulled| pulled.id == after;
    let ours = before != Some(after) || old.as_ref().is_some_and(|old| is_same(old) && old.ours);
    if let Some(old) = old.filter(|old| old.ours && !is_same(old)) {
        all.insert(old.id.clone(), Pulled { used: now, ..old });
    }
    // What had lost its name has one again.
    all.remove(after);
    all.insert(name.to_owned(), Pulled { id: after.to_owned(), ours, used: now });
}

/// What may go, the one that was not used for longest first; notes what is in use, by name or id.
fn ripe(
    all: &mut All,
    in_use: &BTreeSet<String>,
    now: Timestamp,
    age: Duration,
) -> Vec<(String, Pulled)> {
    let mut ripe = Vec::new();
    for (name, pulled) in all {
        if in_use.contains(name) || in_use.contains(&pulled.id) {
            pulled.used = now;
        } else if pulled.ours && now.since(pulled.used) >= age {
            ripe.push((name.clone(), pulled.clone()));
        }
    }
    ripe.sort_by_key(|(_, pulled)| pulled.used);
    ripe.truncate(AT_A_TIME);
    ripe
}

impl Images {
    /// What was pulled before stands in `record`; without a readable one nothing was.
    pub(super) fn open(settings: ImageSettings, record: PathBuf) -> Self {
        let read = fs::read(&record).ok();
        let all = read.map(|text| {
            serde_json::from_slice(&text).unwrap_or_else(|error| {
                let record = record.display();
                tracing::warn!(%record, %error, "which images were pulled is not known any more");
                All::new()
            })
        });
        Self { settings, record: Some(record), all: Mutex::new(all.unwrap_or_default()) }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container of it is about to be made.
    fn need(&self, name: &str) {
        if let Some(pulled) = self.lock().get_mut(name) {
            pulled.used = clock::now();
        }
    }

    fn pulls_first(&self, name: &str) -> bool {
        pulls_first(self.settings.pull, self.lock().contains_key(name))
    }

    /// Keeps what was pulled, for the next process. Blocks.
    fn save(&self) {
        let Some(record) = &self.record else { return };
        // Held while it is written: the younger text must not be replaced by an older one.
        let all = self.lock();
        let written = serde_json::to_vec(&*all).map_err(std::io::Error::from).and_then(|text| {
            let new = record.with_extension("new");
            record.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&new, text)?;
            fs::rename(&new, record)
        });
        if let Err(error) = written {
            let record = record.display();
            tracing::warn!(%record, %error, "which images were pulled cannot be written");
        }
    }

    async fn saved(self: &Arc<Self>) {
        let images = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || images.save()).await;
    }

    /// Removes what is not needed, again and again. Never ends; the runtime aborts it when it goes.
    pub(super) async fn clean_always(self: Arc<Self>, engine: Arc<Engine>) {
        loop {
            tokio::time::sleep(self.settings.cleanup_interval).await;
            if let Err(failure) = self.clean(&engine).await {
                tracing::warn!(?failure, "images that nobody uses stay for now");
            }
        }
    }

    async fn clean(self: &Arc<Self>, engine: &Engine) -> Result<(), Failure> {
        let (used, age) = (in_use(engine).await?, self.settings.cleanup_age);
        let all = ripe(&mut self.lock(), &used, clock::now(), age);
        let mut cleaned = Ok(());
        for (name, pulled) in all {
            cleaned = self.remove(engine, &name, &pulled).await;
            if cleaned.is_err() {
                break;
            }
        }
        self.saved().await;
        cleaned
    }

    /// Removes one, if it is still what we pulled and nobody needs it meanwhile.
    async fn remove(&self, engine: &Engine, name: &str, known: &Pulled) -> Result<(), Failure> {
        let found = engine.image(name).await?;
        let is_other = found.is_none_or(|image| {
            // Without a name of its own it is known by its id; a name is somebody's.
            let is_named = image.repo_tags.is_some_and(|tags| !tags.is_empty());
            image.id.as_ref() != Some(&known.id) || (name == known.id && is_named)
        });
        if is_other {
            self.lock().remove(name);
            return Ok(());
        }
        if self.lock().get(name) != Some(known) {
            return Ok(());
        }
        let removed = engine.call(REMOVE_IMAGE, |client| async move {
            client.remove_image(name, None::<RemoveImageOptions>, None).await
        });
        match removed.await {
            Ok(_) => {
                tracing::info!(image = name, "an image that nobody uses is removed");
                self.lock().remove(name);
            }
            Err(Failure::Gone(_)) => drop(self.lock().remove(name)),
            // Somebody uses it: looked at again after its age.
            Err(Failure::Conflict(_)) => self.need(name),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

/// Ids and names of the images of all containers there are, whoever's they are.
async fn in_use(engine: &Engine) -> Result<BTreeSet<String>, Failure> {
    let options = ListContainersOptionsBuilder::default().all(true).build();
    let all = engine.retry(LIST, |client| {
        let options = options.clone();
        async move { client.list_containers(Some(options)).await }
    });
    let all = all.await?.into_iter();
    let names = |name: String| [shape::with_tag(&name), name];
    Ok(all
        .flat_map(|c| c.image_id.into_iter().chain(c.image.into_iter().flat_map(names)))
        .collect())
}

impl Docker {
    /// Pulls an image before `container` is made of it, if it is to be. Why that failed, where one
    /// that is here will do as well.
    ///
    /// # Errors
    /// It failed, and nothing else will do.
    pub(super) async fn pull_first(
        &self,
        image: &str,
        container: &str,
    ) -> Result<Option<RuntimeError>, RuntimeError> {
        let name = shape::with_tag(image);
        self.images.need(&name);
        if !self.images.pulls_first(&name) {
            return Ok(None);
        }
        let found = self.find(container).await;
        if found.map_err(|failure| failure.into_error(RuntimeError::CannotCreate))?.is_some() {
            return Ok(None);
        }
        match (self.pull(image).await, self.images.settings.pull) {
            (Ok(()), _) => Ok(None),
            (Err(error), PullBehaviour::Default) => {
                tracing::warn!(image, %error, "not pulled: the one that is here is taken");
                Ok(Some(error))
            }
            (Err(error), _) => Err(error),
        }
    }

    pub(super) async fn pull(&self, image: &str) -> Result<(), RuntimeError> {
        let failed = |failure: Failure| match failure {
            Failure::Gone(text) => RuntimeError::CannotPull(text),
            other => other.into_error(RuntimeError::CannotPull),
        };
        let name = shape::with_tag(image);
        let login = match self.images.settings.credentials_file.clone() {
            Some(file) => {
                let name = name.clone();
                let read = tokio::task::spawn_blocking(move || credentials::login(&file, &name));
                let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
                read.map_err(RuntimeError::CannotPull)?
            }
            None => None,
        };
        let id = |image: Option<bollard::models::ImageInspect>| image.and_then(|image| image.id);
        let before = id(self.engine.image(&name).await.map_err(failed)?);
        pull::pull(&self.engine, &name, login.as_ref()).await.map_err(failed)?;
        if let Some(after) = id(self.engine.image(&name).await.map_err(failed)?) {
            let now = clock::now();
            note(&mut self.images.lock(), &name, before.as_deref(), &after, now);
            self.images.saved().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_pulled_as_often_as_is_said() {
        use PullBehaviour::{Always, Default, Once, PreferCached};
        let cases = [(Default, [true; 2]), (Always, [true; 2]), (Once, [true, false])];
        for (behaviour, expected) in cases.into_iter().chain([(PreferCached, [false; 2])]) {
            assert_eq!([false, true].map(|was| pulls_first(behaviour, was)), expected);
        }
    }

    /// What is known after pulls, each `NAME BEFORE AFTER`, a second apart from 1 on.
    fn check(pulls: &str, expected: &str) {
        let mut all = All::new();
        for (at, pull) in (1..).zip(pulls.split(", ")) {
            let words: Vec<_> = pull.split(' ').collect();
            let [name, before, after] = words[..] else { panic!("{pull}") };
            let before = Some(before).filter(|before| *before != "-");
            note(&mut all, name, before, after, Timestamp(at));
        }
        let shown = |(name, pulled): (&String, &Pulled)| {
            let whose = if pulled.ours { "ours" } else { "theirs" };
            format!("{name} {} {whose} {}", pulled.id, pulled.used.0)
        };
        assert_eq!(all.iter().map(shown).collect::<Vec<_>>().join(", "), expected, "{pulls}");
    }

    #[test]
    fn only_what_a_pull_brought_is_ours() {
        check("a:1 - x", "a:1 x ours 1");
        check("a:1 x x", "a:1 x theirs 1");
        check("a:1 - x, a:1 x x", "a:1 x ours 2");
        check("a:1 x x, a:1 - x", "a:1 x ours 2");
        // The name moves on; what it stood for before is known by its id.
        check("a:1 - x, a:1 x y", "a:1 y ours 2, x x ours 2");
        check("a:1 x x, a:1 x y", "a:1 y ours 2");
        check("a:1 - x, a:1 x y, a:1 y x", "a:1 x ours 3, y y ours 3");
    }

    #[test]
    fn those_that_nobody_used_for_longest_go_first_and_five_at_a_time() {
        let mut all = All::new();
        for (name, used) in [("a", 70), ("b", 10), ("c", 60), ("d", 20), ("e", 50), ("f", 30)] {
            let id = format!("sha256:{name}");
            all.insert(name.into(), Pulled { id, ours: true, used: Timestamp(used) });
        }
        all.insert("g".into(), Pulled { id: "g".into(), ours: true, used: Timestamp(71) });
        all.insert("h".into(), Pulled { id: "h".into(), ours: false, used: Timestamp(1) });
        let check = |all: &mut All, now, in_use: &[&str], expected: &str| {
            let in_use = in_use.iter().map(|name| (*name).to_owned()).collect();
            let ripe = ripe(all, &in_use, Timestamp(now), Duration::from_micros(30));
            let names: String = ripe.into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, expected, "at {now}");
        };
        check(&mut all, 39, &[], "");
        check(&mut all, 60, &[], "bdf");
        check(&mut all, 100, &[], "bdfec");
        check(&mut all, 100, &["d", "sha256:e"], "bfca");
        // Those were used when they were last seen so.
        for name in ["b", "f", "c", "a", "g"] {
            all.remove(name);
        }
        check(&mut all, 129, &[], "");
        check(&mut all, 130, &[], "de");
    }
}
