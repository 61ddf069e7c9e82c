//! What a simulation asks for beside its services: tasks, protection, fixed targets, draining.

use std::collections::BTreeMap;
use std::time::Duration;

use roadstead::model::{
    Contact, Container, ContainerInstance, Desired, InstanceName, Membership, Registration, Stop,
    StopCode, Target, Task, TaskId,
};
use roadstead::state::{StoreError, Tx};

use super::Run;
use super::furniture::GROUPS;
use super::world::INSTANCES;

impl Run {
    pub(super) async fn stop_task(&mut self) {
        let Some(id) = self.random_task() else { return };
        self.note(format!("stop task {id}"));
        let change = move |tx: &mut Tx<'_>| {
            let task = Task::clone(&tx.state().tasks[&id]);
            let reason = "Task stopped by user".to_owned();
            let stop = Some(Stop::new(StopCode::UserInitiated, reason));
            tx.put(Task { desired: Desired::Stopped, stop, ..task });
            Ok::<_, StoreError>(())
        };
        let _ = self.boot().store.update(change).await;
    }

    /// Protects a task for a while, and never for less than before.
    pub(super) async fn protect(&mut self) {
        let Some(id) = self.random_task() else { return };
        let until = self.house.clock.now() + Duration::from_secs(self.rng.u64(1..40));
        self.note(format!("protect {id} until {until}"));
        let change = move |tx: &mut Tx<'_>| {
            let task = Task::clone(&tx.state().tasks[&id]);
            if task.is_live() {
                let protected_until = task.protected_until.max(Some(until));
                tx.put(Task { protected_until, ..task });
            }
            Ok::<_, StoreError>(())
        };
        let _ = self.boot().store.update(change).await;
    }

    /// Asks for a task without a service.
    pub(super) async fn run_task(&mut self) {
        let id = TaskId::new(format!("{:032x}", self.rng.u128(..)));
        let (definition, now) = (self.random_definition(), self.house.clock.now());
        self.note(format!("run task {id} of {definition}"));
        let change = move |tx: &mut Tx<'_>| {
            let written = tx.state().definitions[&definition].containers.iter();
            let containers = written.map(|c| Container::new(&c.name)).collect();
            let run = Some(roadstead::model::Run::default());
            // The API asks the same board.
            let state = tx.state().clone();
            let taking = state
                .instances
                .values()
                .find(|row| row.contact == Contact::Connected && !row.is_draining(&"c".into()));
            let Some(instance) = taking.map(|row| row.name.clone()) else { return Ok(()) };
            let task = Task::new(id, "c".into(), definition, now);
            tx.put(Task { containers, run, instance, ..task });
            Ok::<_, StoreError>(())
        };
        let _ = self.boot().store.update(change).await;
    }

    /// Registers a fixed target, or deregisters one.
    pub(super) async fn fixed_target(&mut self) {
        let (add, now) = (self.rng.bool(), self.house.clock.now());
        let change = move |tx: &mut Tx<'_>| {
            let fixed = tx.state().targets.values().find(|t| t.task.is_none() && t.is_active());
            let registration = Registration::Draining { since: now };
            match fixed.cloned() {
                Some(target) if !add => tx.put(Target { registration, ..Target::clone(&target) }),
                _ => {
                    let id = tx.next_registration();
                    tx.put(Target {
                        id,
                        group: GROUPS[0].into(),
                        address: "127.9.0.1".parse().unwrap(),
                        port: 80,
                        task: None,
                        registration: Registration::Active,
                        registered_at: now,
                    });
                }
            }
            Ok::<_, StoreError>(())
        };
        let _ = self.boot().store.update(change).await;
    }

    /// Drains an instance, or takes it back.
    pub(super) async fn drain(&mut self) {
        let (name, _) = *self.rng.choice(&INSTANCES).unwrap();
        let draining = self.rng.bool();
        self.note(format!("drain {name}: {draining}"));
        self.set_draining(name, draining).await;
    }

    pub(super) async fn set_draining(&self, name: &'static str, draining: bool) {
        let change = move |tx: &mut Tx<'_>| {
            let row = ContainerInstance::clone(&tx.state().instances[&InstanceName::new(name)]);
            let own = Membership { draining, ..Membership::default() };
            let memberships = BTreeMap::from([("c".into(), own)]);
            tx.put(ContainerInstance { memberships, ..row });
            Ok::<_, StoreError>(())
        };
        let _ = self.boot().store.update(change).await;
    }
}
