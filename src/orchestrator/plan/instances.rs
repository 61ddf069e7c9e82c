//! What a plan does about container instances: which of them answer, and which are gone.
//!
//! **Invariant:** an instance is lost only after this process itself has heard nothing of it for
//! the whole time; what an earlier one found stays until it answers.

use super::{Draft, Move};
use crate::model::{Contact, ContainerInstance, TaskStatus};

/// Writes down what was heard, and forgets what the file forgot.
pub(super) fn plan(draft: &mut Draft<'_, '_>) {
    let state = draft.view.state;
    for row in state.instances.values() {
        if row.contact == Contact::Removed {
            leave(draft, row);
        } else {
            hear(draft, row);
        }
    }
}

fn hear(draft: &mut Draft<'_, '_>, row: &ContainerInstance) {
    let (view, settings) = (&draft.view, draft.view.settings);
    let Some(heard) = view.heard.get(&row.name) else { return };
    let limits = [settings.silent_after, settings.lost_after.max(settings.silent_after)];
    let contact = match heard.silent_for {
        None => Contact::Connected,
        Some(time) if time >= limits[1] => Contact::Lost,
        Some(time) if time >= limits[0] => row.contact.max(Contact::Silent),
        Some(_) => row.contact,
    };
    if let Some(time) = heard.silent_for
        && let Some(next) = limits.into_iter().find(|limit| *limit > time)
    {
        draft.plan.revisit_at(draft.now + (next - time));
    }
    let capacity = heard.capacity.or(row.capacity);
    if contact != row.contact || capacity != row.capacity {
        let instance = row.name.clone();
        draft.plan.moves.push(Move::Hear { instance, contact, capacity });
    }
}

/// Of an instance that the file names no more: its standalone tasks are stopped as ECS does when
/// somebody forces it, and when none is left, it goes.
fn leave(draft: &mut Draft<'_, '_>, row: &ContainerInstance) {
    let tasks = draft.view.state.tasks.values().filter(|task| task.instance == row.name);
    let mut left = 0;
    for task in tasks.filter(|task| task.known != TaskStatus::Stopped) {
        left += 1;
        if task.service.is_none() && task.is_live() {
            draft.plan.moves.push(Move::Stop { task: task.id.clone(), why: super::Why::Removed });
        }
    }
    if left == 0 {
        draft.plan.moves.push(Move::ForgetInstance(row.name.clone()));
    }
}
