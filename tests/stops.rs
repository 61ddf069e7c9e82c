//! No request reaches a task after its SIGTERM: the tasks' own logs say so.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::client::Load;
use crate::support::world::{Service, World};
use crate::support::{self, full_or};

/// Requests that a task's log shows behind its SIGTERM, and whether it had one.
fn after_sigterm(log: &Path) -> (usize, bool) {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut lines = text.lines().skip_while(|line| !line.ends_with(" SIGTERM"));
    let stopped = lines.next().is_some();
    (lines.filter(|line| line.ends_with(" GET /")).count(), stopped)
}

fn logs(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            logs(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_reaches_a_task_after_its_sigterm() {
    let stops = full_or(200, 10);
    // A task that ignores its SIGTERM would go on answering: it sees whatever comes late.
    let service = Service { stop_timeout: 2, ..Service::http("web", 4) };
    let service = service.arguments(&["--log", "--ignore-sigterm"]);
    let mut running = World::new().service(service).start().await;
    running.settled("web", 4).await;
    let load = Load::start(running.world.listener(8080), "/", 12);
    let folder = running.world.data_dir().join("process");
    // Logs of stopped tasks are kept for a while only, so they are read as they come.
    let mut seen = BTreeMap::new();
    for _ in 0..stops.div_ceil(2) {
        for desired in [2, 4] {
            load.more(50).await;
            running.edit(|services| services[0].desired = desired);
            running.settled("web", desired as usize).await;
        }
        let mut files = Vec::new();
        logs(&folder, &mut files);
        for file in files {
            let found = after_sigterm(&file);
            seen.insert(file, found);
        }
    }
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    let stopped = seen.values().filter(|(_, stopped)| *stopped).count() as u64;
    let late: usize = seen.values().map(|(late, _)| late).sum();
    support::note(&format!("{stopped} stops under {} requests, {late} late", tally.succeeded()));
    assert!(stopped >= stops, "only {stopped} of {stops} tasks logged their SIGTERM");
    assert_eq!(late, 0, "requests after SIGTERM");
    running.stop().await;
}
