//! Volumes of tasks: made before the first container that mounts them, gone with the last.
//!
//! A task's own are Docker volumes with our labels and a name that follows from the task's; a
//! shared one has the name that the definition gives it, and stays. **Invariant:** a volume without
//! this cluster's label and a task's is never removed.

use std::collections::{BTreeSet, HashMap};

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};

use super::Docker;
use super::engine::{Failure, VOLUME};
use super::shape::{LABEL_CLUSTER, LABEL_TASK};
use crate::model::{MountPoint, TaskId, Volume, VolumeKind, VolumeScope};
use crate::runtime::{ContainerSpec, RuntimeError};

/// What Docker calls a volume of the task.
fn name(uid: &str, task: &TaskId, volume: &Volume) -> String {
    let shared = matches!(&volume.kind, VolumeKind::Docker(d) if d.scope == VolumeScope::Shared);
    if shared { volume.name.clone() } else { format!("roadstead-{uid}-{task}-{}", volume.name) }
}

/// Docker's `SOURCE:TARGET[:ro]` of every mount point.
pub(super) fn binds(spec: &ContainerSpec, uid: &str) -> Vec<String> {
    let bind = |mount: &MountPoint| {
        let volume = spec.volumes.iter().find(|volume| volume.name == mount.source_volume)?;
        let source = match &volume.kind {
            VolumeKind::Host { source_path: Some(path) } => path.clone(),
            _ => name(uid, &spec.task, volume),
        };
        let access = if mount.read_only == Some(true) { ":ro" } else { "" };
        Some(format!("{source}:{}{access}", mount.container_path))
    };
    spec.definition.mount_points.iter().filter_map(bind).collect()
}

/// What is to be made before a container mounts `volume`. None: a folder of the host, or a shared
/// volume that somebody else makes.
fn request(uid: &str, task: &TaskId, volume: &Volume) -> Option<VolumeCreateRequest> {
    let mut request = VolumeCreateRequest {
        name: Some(name(uid, task, volume)),
        ..VolumeCreateRequest::default()
    };
    let mut labels: HashMap<String, String> = HashMap::new();
    let mut is_shared = false;
    match &volume.kind {
        VolumeKind::Host { source_path: Some(_) } => return None,
        VolumeKind::Host { source_path: None } => {}
        VolumeKind::Docker(docker) => {
            is_shared = docker.scope == VolumeScope::Shared;
            if is_shared && !docker.autoprovision {
                return None;
            }
            request.driver.clone_from(&docker.driver);
            let options: HashMap<_, _> = docker.driver_options.clone().into_iter().collect();
            request.driver_opts = (!options.is_empty()).then_some(options);
            labels.extend(docker.labels.clone());
        }
    }
    labels.insert(LABEL_CLUSTER.to_owned(), uid.to_owned());
    if !is_shared {
        labels.insert(LABEL_TASK.to_owned(), task.to_string());
    }
    request.labels = Some(labels);
    Some(request)
}

impl Docker {
    /// Makes what the container mounts, where it is not there.
    pub(super) async fn make_volumes(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let failed = |failure: Failure| match failure {
            Failure::Gone(text) => RuntimeError::CannotCreate(text),
            other => other.into_error(RuntimeError::CannotCreate),
        };
        let mounts = &spec.definition.mount_points;
        let used = |volume: &&Volume| mounts.iter().any(|m| m.source_volume == volume.name);
        for volume in spec.volumes.iter().filter(used) {
            match request(&self.cluster_uid, &spec.task, volume) {
                Some(request) => {
                    let made = self.engine.retry(VOLUME, |client| {
                        let request = request.clone();
                        async move { client.create_volume(request).await }
                    });
                    made.await.map_err(failed)?;
                }
                None if matches!(volume.kind, VolumeKind::Docker(_)) => {
                    let found = self.engine.retry(VOLUME, |client| async move {
                        client.inspect_volume(&volume.name).await
                    });
                    found.await.map_err(failed)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Removes the volumes of a task whose last container is gone; one that is still mounted stays.
    pub(super) async fn remove_volumes(&self, task: &TaskId) -> Result<(), Failure> {
        let label = format!("{LABEL_TASK}={task}");
        for (name, _) in self.own_volumes(vec![label]).await? {
            self.remove_volume(&name).await?;
        }
        Ok(())
    }

    /// Volumes of tasks of which nothing else is left.
    pub(super) async fn sweep_volumes(&self, live: &BTreeSet<TaskId>) -> Result<(), Failure> {
        for (name, task) in self.own_volumes(Vec::new()).await? {
            let Some(task) = task else { continue };
            if !live.contains(&task) {
                self.remove_volume(&name).await?;
            }
        }
        Ok(())
    }

    /// Whether there is a volume of a task that is not among these.
    pub(super) async fn has_volumes_beside(
        &self,
        live: &BTreeSet<TaskId>,
    ) -> Result<bool, Failure> {
        let all = self.own_volumes(Vec::new()).await?;
        Ok(all.iter().filter_map(|(_, task)| task.as_ref()).any(|task| !live.contains(task)))
    }

    async fn own_volumes(
        &self,
        further: Vec<String>,
    ) -> Result<Vec<(String, Option<TaskId>)>, Failure> {
        let mut labels = vec![format!("{LABEL_CLUSTER}={}", self.cluster_uid)];
        labels.extend(further);
        let filters = HashMap::from([("label", labels)]);
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let listed = self.engine.retry(VOLUME, |client| {
            let options = options.clone();
            async move { client.list_volumes(Some(options)).await }
        });
        let volumes = listed.await?.volumes.unwrap_or_default();
        let task = |labels: &HashMap<String, String>| Some(labels.get(LABEL_TASK)?.as_str().into());
        Ok(volumes.into_iter().map(|v| (v.name, task(&v.labels))).collect())
    }

    async fn remove_volume(&self, name: &str) -> Result<(), Failure> {
        let removed = self.engine.retry(VOLUME, |client| async move {
            client.remove_volume(name, None::<RemoveVolumeOptions>).await
        });
        match removed.await {
            Ok(()) | Err(Failure::Gone(_) | Failure::Conflict(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}
