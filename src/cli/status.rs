//! `roadstead status`: asks a running `serve` over the socket in its data directory, prints tables
//! or JSON.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::Place;
use crate::api::status::{InstanceRow, ListenerRow, ServiceStatus, Status, TargetRow, TaskRow};
use crate::app::STATUS_SOCKET;

/// For `serve` to answer (ours; it answers from memory).
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    // Nothing is asked: that is the question for everything.
    let text = ask(&options.place, "")?;
    if options.json {
        super::print(&text);
        return Ok(());
    }
    let status: Status = serde_json::from_str(&text).context("an answer of another version")?;
    super::print(&render(&status));
    Ok(())
}

/// What a running `serve` answers.
pub(super) fn ask(place: &Place, question: &str) -> anyhow::Result<String> {
    let socket = place.data_dir()?.join(STATUS_SOCKET);
    let mut stream = UnixStream::connect(&socket)
        .with_context(|| format!("no roadstead answers at {}", socket.display()))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(question.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("serve fell silent")?;
    Ok(answer)
}

/// Everything as aligned tables.
fn render(status: &Status) -> String {
    let mut text = format!(
        "roadstead {}, generation {} (acknowledged {}), clusters: {}\n",
        status.version,
        status.generation,
        status.acknowledged,
        status.clusters.join(", ")
    );
    let instances = status.instances.iter().map(instance_cells);
    let headings = ["INSTANCE", "RUNTIME", "ZONE", "CONTACT", "TASKS", "CPU", "MEMORY", "DRAINING"];
    text += &table(&headings, instances);
    let listeners = status.listeners.iter().map(listener_cells);
    let headings = ["LISTENER", "PROTOCOL", "LOAD BALANCER", "DNS NAME", "RULES", "DEFAULT"];
    text += &table(&headings, listeners);
    let services = status.services.iter().map(service_cells);
    text += &table(
        &["SERVICE", "TASK DEFINITION", "DESIRED", "RUNNING", "PENDING", "BACK-OFF"],
        services,
    );
    let tasks = status.tasks.iter().map(task_cells);
    text += &table(&["TASK", "INSTANCE", "SERVICE", "LAST", "DESIRED", "ADDRESS", "REASON"], tasks);
    let targets = status.targets.iter().map(target_cells);
    let headings = ["TARGET GROUP", "TARGET", "HEALTH", "IN FLIGHT", "REASON", "DESCRIPTION"];
    text += &table(&headings, targets);
    for service in status.services.iter().filter(|service| !service.events.is_empty()) {
        text += &format!("\nEVENTS OF {}\n", service.service);
        for event in &service.events {
            text += &format!("{event}\n");
        }
    }
    text
}

fn instance_cells(row: &InstanceRow) -> Vec<String> {
    let of = |left: u64, all: Option<u32>| all.map_or_else(dash, |all| format!("{left} of {all}"));
    vec![
        row.name.clone(),
        row.runtime.clone(),
        row.zone.clone(),
        row.contact.clone(),
        row.tasks.to_string(),
        of(row.cpu_left, row.cpu),
        of(row.memory_left, row.memory),
        if row.draining.is_empty() { dash() } else { row.draining.join(", ") },
    ]
}

fn listener_cells(row: &ListenerRow) -> Vec<String> {
    vec![
        row.address.clone(),
        row.protocol.clone(),
        row.load_balancer.clone(),
        row.dns_name.clone(),
        row.rules.to_string(),
        row.default_action.clone(),
    ]
}

fn service_cells(row: &ServiceStatus) -> Vec<String> {
    let backoff = match (&row.next_start, &row.failure) {
        (Some(until), Some(failure)) => {
            format!("{} failures, next start {until}: {failure}", row.failures)
        }
        (None, Some(failure)) if row.failures > 0 => {
            format!("{} failures: {failure}", row.failures)
        }
        _ => "-".to_owned(),
    };
    vec![
        row.service.clone(),
        row.task_definition.clone(),
        row.desired.to_string(),
        row.running.to_string(),
        row.pending.to_string(),
        backoff,
    ]
}

fn task_cells(row: &TaskRow) -> Vec<String> {
    let of_container = || row.containers.iter().find_map(|container| container.reason.clone());
    let reason = match (&row.stopped_reason, of_container()) {
        (Some(reason), Some(detail)) => format!("{reason}: {detail}"),
        (Some(reason), None) => reason.clone(),
        (None, detail) => detail.unwrap_or_else(dash),
    };
    vec![
        row.task.clone(),
        row.instance.clone(),
        row.service.clone().unwrap_or_else(dash),
        row.last_status.clone(),
        row.desired_status.clone(),
        row.address.clone().unwrap_or_else(dash),
        reason,
    ]
}

fn target_cells(row: &TargetRow) -> Vec<String> {
    let state = match &row.ejected_until {
        Some(until) => format!("{}, ejected until {until}", row.state),
        None => row.state.clone(),
    };
    let description = if row.description.is_empty() { dash() } else { row.description.clone() };
    vec![
        row.target_group.clone(),
        row.target.clone(),
        state,
        row.in_flight.to_string(),
        row.reason.clone().unwrap_or_else(dash),
        description,
    ]
}

fn dash() -> String {
    "-".to_owned()
}

/// A table with a blank line before it; only its headings when it has no rows.
pub(super) fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines = vec![headings.iter().map(ToString::to_string).collect::<Vec<_>>()];
    lines.extend(rows);
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    let mut text = String::from("\n");
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows =
            [vec!["a".to_owned(), "b".to_owned()], vec!["long one".to_owned(), "c".to_owned()]];
        let expected = "\nONE       TWO\na         b\nlong one  c\n";
        assert_eq!(table(&["ONE", "TWO"], rows.into_iter()), expected);
    }
}
