//! The runtimes of all container instances, by name.
//!
//! **Invariant:** a task belongs to one instance for good, so to one runtime.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::{Reach, Runtime, RuntimeError};
use crate::model::{InstanceName, NetworkMode, Task};

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Fleet(Arc<BTreeMap<InstanceName, Arc<dyn Runtime>>>);

impl FromIterator<(InstanceName, Arc<dyn Runtime>)> for Fleet {
    fn from_iter<T: IntoIterator<Item = (InstanceName, Arc<dyn Runtime>)>>(all: T) -> Self {
        Self(Arc::new(all.into_iter().collect()))
    }
}

impl Fleet {
    /// One instance, of the default name.
    #[must_use]
    pub fn one(runtime: Arc<dyn Runtime>) -> Self {
        [(InstanceName::default(), runtime)].into_iter().collect()
    }

    #[must_use]
    pub fn get(&self, instance: &InstanceName) -> Option<&Arc<dyn Runtime>> {
        self.0.get(instance)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&InstanceName, &Arc<dyn Runtime>)> {
        self.0.iter()
    }

    /// How containers of each instance's bridge network reach us; nothing where its runtime cannot
    /// tell now.
    pub async fn bridges(&self) -> Vec<Option<Reach>> {
        let asking = self.0.values().map(|runtime| runtime.reach(Some(NetworkMode::Bridge)));
        join_all(asking).await.into_iter().map(Result::ok).collect()
    }

    /// The runtime of a task.
    ///
    /// # Errors
    /// Its instance is no longer in the file.
    pub fn of(&self, task: &Task) -> Result<&Arc<dyn Runtime>, RuntimeError> {
        self.at(&task.instance)
    }

    /// The runtime of an instance.
    ///
    /// # Errors
    /// It is not in the file.
    pub fn at(&self, instance: &InstanceName) -> Result<&Arc<dyn Runtime>, RuntimeError> {
        let missing = || format!("there is no container instance {instance}");
        self.get(instance).ok_or_else(|| RuntimeError::Unavailable(missing()))
    }
}
