//! The container instances of the file: their runtimes, and their rows in the State.
//!
//! **Invariant:** a row outlives a restart with what was asked of it and what was heard of it; one
//! that left the file is marked and goes with its last task.

use std::sync::Arc;
use std::time::Duration;

use super::{DataDir, LOGS, StartError};
use crate::api::file::ApplyError;
use crate::clock::{self, Timestamp};
use crate::config::{ImageSettings, InstanceSettings, RuntimeKind, Settings};
use crate::metrics::Metrics;
use crate::model::{Capacity, Contact, ContainerInstance, InstanceKind, InstanceName};
use crate::runtime::docker::Docker;
use crate::runtime::process::Process;
use crate::runtime::{Fleet, Runtime};
use crate::state::{Store, StoreError, Tx};

/// For an engine to tell what its machine has, at the start (ours: later it is asked again).
const TELL: Duration = Duration::from_secs(3);

/// Opens every instance's runtime.
pub(super) fn open(
    settings: &Settings,
    data_dir: &DataDir,
    metrics: &Metrics,
) -> Result<Fleet, StartError> {
    let one = |instance: InstanceSettings| {
        let runtime = runtime(&instance, &settings.runtime.images, data_dir, metrics)?;
        Ok((InstanceName::new(instance.name), runtime))
    };
    settings.instances().into_iter().map(one).collect()
}

fn runtime(
    instance: &InstanceSettings,
    images: &ImageSettings,
    data_dir: &DataDir,
    metrics: &Metrics,
) -> Result<Arc<dyn Runtime>, StartError> {
    let (folder, uid) = (data_dir.path(), data_dir.uid());
    let name = InstanceName::new(instance.name.as_str());
    Ok(match (instance.kind(), &instance.docker) {
        (RuntimeKind::Docker, Some(endpoint)) => {
            let docker = Docker::connect(endpoint, uid, instance.network.clone())?;
            let pulled = folder.join("images").join(format!("{name}.json"));
            let docker = docker.keep_images(images, &pulled).map_err(|source| {
                let what = "runtime.images.credentials_file".to_owned();
                StartError::Io { what, source }
            })?;
            Arc::new(docker.keep_logs(&folder.join(LOGS)).count(metrics))
        }
        _ if name == InstanceName::default() => {
            Arc::new(Process::open(&folder.join("process"), uid)?)
        }
        // Processes tell by their mark whose they are.
        _ => {
            let folder = folder.join(format!("process-{name}"));
            Arc::new(Process::open(&folder, &format!("{uid}-{name}"))?)
        }
    })
}

/// Writes the rows of all instances.
///
/// # Errors
/// The journal cannot be written.
pub(super) async fn register(
    store: &Store,
    settings: &Settings,
    fleet: &Fleet,
) -> Result<(), StartError> {
    let now = clock::now();
    let asking = settings.instances().into_iter().filter_map(|instance| {
        let runtime = fleet.get(&InstanceName::new(instance.name.as_str()))?;
        Some(async move {
            let told = tokio::time::timeout(TELL, runtime.capacity()).await;
            (instance, told.ok().and_then(Result::ok))
        })
    });
    let rows = futures_util::future::join_all(asking).await;
    let write = move |tx: &mut Tx<'_>| {
        let old = Arc::clone(&tx.state().instances);
        for row in
            old.values().filter(|row| rows.iter().all(|(new, _)| new.name != row.name.as_str()))
        {
            let contact = Contact::Removed;
            tx.put(ContainerInstance { contact, ..ContainerInstance::clone(row) });
        }
        for (instance, told) in &rows {
            let name = InstanceName::new(instance.name.as_str());
            let before = old.get(&name).map(AsRef::as_ref);
            tx.put(row(instance, before, *told, now));
        }
        Ok::<_, StoreError>(())
    };
    store.update(write).await.map_err(ApplyError::Store)?;
    Ok(())
}

/// What the file says, with what is known from before and what was told just now.
fn row(
    written: &InstanceSettings,
    before: Option<&ContainerInstance>,
    told: Option<Capacity>,
    now: Timestamp,
) -> ContainerInstance {
    let kind = match written.kind() {
        RuntimeKind::Process => InstanceKind::Process,
        RuntimeKind::Docker => InstanceKind::Docker,
    };
    let new = || ContainerInstance::new(written.name.as_str().into(), kind, now);
    let mut row = before.cloned().unwrap_or_else(new);
    row.kind = kind;
    row.zone.clone_from(&written.zone);
    row.attributes.clone_from(&written.attributes);
    row.limits = (written.cpu, written.memory);
    row.reserved = Capacity { cpu: written.reserve.cpu, memory_mib: written.reserve.memory };
    row.reserved_ports.clone_from(&written.reserve.ports);
    (row.host_ports, row.address) = (written.host_ports, written.address);
    row.capacity = told.or(row.capacity);
    row.contact = match (told, row.contact) {
        (Some(_), _) => Contact::Connected,
        // It was taken out of the file and is back.
        (None, Contact::Removed) => Contact::Silent,
        (None, before) => before,
    };
    if before.is_some_and(|before| *before != row) {
        row.version += 1;
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Membership;

    fn written(text: &str) -> InstanceSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_row_keeps_what_was_asked_of_it_and_takes_what_the_file_says() {
        let told = Capacity { cpu: 2048, memory_mib: 4096 };
        let first = row(&written("name = \"a\""), None, Some(told), Timestamp(1));
        assert_eq!((first.contact, first.registered(), first.version), {
            (Contact::Connected, Some(told), 1)
        });
        let mut drained = first;
        let membership = Membership { draining: true, ..Membership::default() };
        drained.memberships.insert("c".into(), membership);
        let file =
            written("name = \"a\"\nzone = \"b\"\ncpu = 1024\nreserve = { cpu = 24, ports = [] }");
        let again = row(&file, Some(&drained), None, Timestamp(2));
        assert!(again.is_draining(&"c".into()));
        assert_eq!((again.zone.as_str(), again.registered_at, again.version), {
            ("b", Timestamp(1), 2)
        });
        assert_eq!(again.registered(), Some(Capacity { cpu: 1000, memory_mib: 4096 }));
        assert_eq!(row(&file, Some(&again), None, Timestamp(3)), again);
    }

    #[test]
    fn one_that_never_answered_is_silent_and_one_that_is_back_in_the_file_too() {
        let file = written("name = \"a\"\ndocker = \"unix:///nowhere\"");
        let first = row(&file, None, None, Timestamp(1));
        assert_eq!((first.contact, first.kind, first.capacity), {
            (Contact::Silent, InstanceKind::Docker, None)
        });
        let removed = ContainerInstance { contact: Contact::Removed, ..first };
        assert_eq!(row(&file, Some(&removed), None, Timestamp(2)).contact, Contact::Silent);
    }
}
