//! What only the process runtime does.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use roadstead::model::{NetworkMode, ObservedState};
use roadstead::runtime::{ContainerSpec, RuntimeError};
use roadstead::sys::{PidFd, Signal};

use super::fixture::{Behaviour, CONTAINER, Fixture, marked, until};

const LONG: Duration = Duration::from_secs(30);

async fn run(world: &Fixture, spec: &ContainerSpec) -> u32 {
    world.runtime.create(spec).await.unwrap();
    let observed = world.runtime.start(&spec.task, CONTAINER).await.unwrap();
    observed.runtime_id.split_once(':').unwrap().0.parse().unwrap()
}

fn log_of(world: &Fixture, task: &str) -> PathBuf {
    world.directory().join(task).join(format!("{CONTAINER}.log"))
}

async fn log_says(world: &Fixture, task: &str, text: &str) -> String {
    let log = log_of(world, task);
    until(async || fs::read_to_string(&log).ok().filter(|log| log.contains(text))).await
}

async fn no_process_is_left(world: &Fixture) {
    until(async || marked(world.uid()).is_empty().then_some(())).await;
}

#[tokio::test]
async fn whole_process_group_is_killed() {
    let world = Fixture::process();
    let script = "trap '' TERM; sleep 1000 & (trap '' TERM; sleep 1001; sleep 1002) & echo up; \
        while :; do sleep 0.05; done";
    run(&world, &world.script("t1", script)).await;
    log_says(&world, "t1", "up").await;
    until(async || (marked(world.uid()).len() >= 3).then_some(())).await;
    world.stop("t1", Duration::from_millis(200)).await;
    no_process_is_left(&world).await;
    assert_eq!(world.exit_code("t1").await, Some(137));
}

#[tokio::test]
async fn members_of_the_group_keep_their_grace_when_the_leader_stops_first() {
    let world = Fixture::process();
    let script = "(trap 'sleep 0.3; echo done; exit' TERM; echo up; while :; do sleep 0.02; done) \
        & trap 'exit 0' TERM; while :; do sleep 0.02; done";
    run(&world, &world.script("t1", script)).await;
    log_says(&world, "t1", "up").await;
    world.stop("t1", LONG).await;
    assert!(fs::read_to_string(log_of(&world, "t1")).unwrap().contains("done"));
    assert_eq!(marked(world.uid()), [] as [u32; 0]);
}

#[tokio::test]
async fn members_of_the_group_die_with_a_leader_that_nobody_stopped() {
    let world = Fixture::process();
    let pid = run(&world, &world.script("t1", "sleep 1000 & echo up; sleep 1001")).await;
    log_says(&world, "t1", "up").await;
    PidFd::open(pid).unwrap().signal(Signal::Kill).unwrap();
    assert_eq!(world.exit_code("t1").await, Some(137));
    no_process_is_left(&world).await;
}

#[tokio::test]
async fn process_whose_file_was_never_written_is_adopted_by_its_marker() {
    let mut world = Fixture::process();
    let spec = world.spec("t1", Behaviour::Runs);
    world.runtime.create(&spec).await.unwrap();
    let file = world.directory().join("t1").join(format!("{CONTAINER}.json"));
    let before = fs::read(&file).unwrap();
    let started = world.runtime.start(&spec.task, CONTAINER).await.unwrap();
    // As if the start had been cut off between making the process and writing so.
    fs::write(&file, before).unwrap();
    world.reopen();
    assert_eq!(world.observed("t1").await, Some(started.clone()));
    assert_eq!(world.runtime.start(&spec.task, CONTAINER).await.unwrap(), started);
    assert_eq!(marked_leaders(&world), 1);
    // And with no file at all.
    fs::remove_file(&file).unwrap();
    world.reopen();
    assert_eq!(world.observed("t1").await.unwrap().runtime_id, started.runtime_id);
    assert!(file.exists());
    world.stop("t1", LONG).await;
    no_process_is_left(&world).await;
}

#[tokio::test]
async fn process_that_is_nobodys_child_of_ours_is_adopted_stopped_and_seen_to_end() {
    let mut world = Fixture::process();
    world.close();
    for (task, script) in [("t1", "exec sleep 1000"), ("t2", "trap '' TERM; exec sleep 1000")] {
        let marker = format!("ROADSTEAD_CONTAINER={}/{task}/{CONTAINER}", world.uid());
        // The shell between us ends at once, and init inherits.
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", "setsid env ADDRESS=127.0.0.9 $1 sh -c \"$2\" & exit 0", "sh"])
            .args([&marker, script])
            .status();
        assert!(status.unwrap().success());
    }
    until(async || (marked_leaders(&world) == 2).then_some(())).await;
    world.reopen();
    for (task, expected) in [("t1", 143), ("t2", 137)] {
        let observed = world.observed(task).await.unwrap();
        assert_eq!(observed.state, ObservedState::Running);
        assert_eq!(observed.address, Some("127.0.0.9".parse().unwrap()));
        world.stop(task, Duration::from_millis(300)).await;
        let code = world.exit_code(task).await;
        assert!(code == Some(expected) || code.is_none(), "{code:?}");
    }
    assert_eq!(marked(world.uid()), [] as [u32; 0]);
}

/// Sessions among the marked processes.
fn marked_leaders(world: &Fixture) -> usize {
    marked(world.uid()).iter().filter(|pid| session(**pid) == Some(**pid)).count()
}

fn session(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}

#[tokio::test]
async fn process_that_ended_unseen_is_exited_after_a_restart_and_leaves_nobody() {
    let mut world = Fixture::process();
    let pid = run(&world, &world.script("t1", "sleep 1000 & echo up; sleep 1001")).await;
    log_says(&world, "t1", "up").await;
    world.close();
    let leader = PidFd::open(pid).unwrap();
    leader.signal(Signal::Kill).unwrap();
    leader.reap_dying().unwrap();
    world.reopen();
    let state = world.observed("t1").await.unwrap().state;
    assert_eq!(state, ObservedState::Exited { code: None, out_of_memory: false });
    no_process_is_left(&world).await;
}

#[tokio::test]
async fn number_that_another_process_has_got_since_is_not_adopted() {
    let mut world = Fixture::process();
    let pid = run(&world, &world.spec("t1", Behaviour::Runs)).await;
    world.stop("t1", LONG).await;
    world.close();
    let file = world.directory().join("t1").join(format!("{CONTAINER}.json"));
    // The file says that it runs, under a number that is ours.
    let text = fs::read_to_string(&file).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["process"]["pid"], pid);
    record["process"]["pid"] = std::process::id().into();
    record["exit"] = serde_json::Value::Null;
    fs::write(&file, record.to_string()).unwrap();
    world.reopen();
    let state = world.observed("t1").await.unwrap().state;
    assert_eq!(state, ObservedState::Exited { code: None, out_of_memory: false });
}

#[tokio::test]
async fn output_goes_to_the_log_and_the_environment_is_small() {
    let world = Fixture::process();
    let mut spec = world.script("t1", "pwd; echo error >&2; env | sort");
    spec.environment.insert("GREETING".to_owned(), "hello".to_owned());
    spec.definition.working_directory = Some("/usr".to_owned());
    run(&world, &spec).await;
    assert_eq!(world.exit_code("t1").await, Some(0));
    let log = fs::read_to_string(log_of(&world, "t1")).unwrap();
    assert!(log.starts_with("/usr\nerror\n"), "{log}");
    let names = log.lines().filter_map(|line| Some(line.split_once('=')?.0));
    let allowed =
        ["GREETING", "HOME", "LANG", "OLDPWD", "PATH", "PWD", "ROADSTEAD_CONTAINER", "TZ"];
    let extra: Vec<_> = names.filter(|name| !allowed.contains(name) && *name != "_").collect();
    assert_eq!(extra, [] as [&str; 0]);
    assert!(log.contains("GREETING=hello\n"));
    assert!(log.contains(&format!("ROADSTEAD_CONTAINER={}/t1/{CONTAINER}\n", world.uid())));
}

#[tokio::test]
async fn process_writes_on_into_its_log_after_a_restart() {
    let mut world = Fixture::process();
    run(&world, &world.script("t1", "while :; do echo tick; sleep 0.02; done")).await;
    log_says(&world, "t1", "tick").await;
    world.reopen();
    let log = log_of(&world, "t1");
    let length = fs::metadata(&log).unwrap().size();
    until(async || (fs::metadata(&log).unwrap().size() > length).then_some(())).await;
    world.stop("t1", LONG).await;
}

#[tokio::test]
async fn long_log_is_turned_over_while_its_process_writes() {
    let world = Fixture::process();
    let script = "head -c 17000000 /dev/zero; echo filled; while :; do echo more; sleep 0.1; done";
    run(&world, &world.script("t1", script)).await;
    let log = log_of(&world, "t1");
    let first = log.with_extension("log.1");
    until(async || fs::metadata(&first).ok()).await;
    assert!(fs::metadata(&first).unwrap().size() >= 16 << 20);
    let cut = log_says(&world, "t1", "more").await;
    assert!(cut.len() < 1 << 20, "{}", cut.len());
    world.stop("t1", LONG).await;
}

#[tokio::test]
async fn process_over_its_memory_limit_is_killed_for_it() {
    let world = Fixture::process();
    // The shell holds what it has read in a variable.
    let mut spec = world.script("t1", "x=$(head -c 30000000 /dev/zero | tr '\\0' x); sleep 1000");
    spec.definition.memory_mib = Some(16);
    run(&world, &spec).await;
    assert_eq!(world.exit_code("t1").await, Some(137));
    let state = world.observed("t1").await.unwrap().state;
    assert_eq!(state, ObservedState::Exited { code: Some(137), out_of_memory: true });
    no_process_is_left(&world).await;
}

#[tokio::test]
async fn program_that_cannot_run_is_named_with_the_reason() {
    let world = Fixture::process();
    let check = async |task: &str, change: &dyn Fn(&mut ContainerSpec), expected: &str| {
        let mut spec = world.script(task, "true");
        // A directory that may not be searched would give another reason.
        spec.environment.insert("PATH".to_owned(), "/bin:/usr/bin".to_owned());
        change(&mut spec);
        world.runtime.create(&spec).await.unwrap();
        let error = world.runtime.start(&spec.task, CONTAINER).await.unwrap_err();
        assert_eq!(error, RuntimeError::CannotStart(expected.to_owned()));
        assert_eq!(world.observed(task).await.unwrap().state, ObservedState::Created);
    };
    let program = |name: &'static str| {
        move |spec: &mut ContainerSpec| spec.definition.entry_point = vec![name.to_owned()]
    };
    let none = "No such file or directory (os error 2)";
    check("t1", &program("/none/such"), &format!("cannot run /none/such: {none}")).await;
    check("t2", &program("no-such-program"), &format!("cannot run no-such-program: {none}")).await;
    let denied = "cannot run /etc/passwd: Permission denied (os error 13)";
    check("t3", &program("/etc/passwd"), denied).await;
    let nowhere = |spec: &mut ContainerSpec| {
        spec.definition.working_directory = Some("/nowhere".to_owned());
    };
    check("t4", &nowhere, &format!("working directory /nowhere: {none}")).await;
    let stranger =
        |spec: &mut ContainerSpec| spec.definition.user = Some("no-such-user".to_owned());
    check("t5", &stranger, "user no-such-user: not in /etc/passwd").await;
}

#[tokio::test]
async fn specification_that_is_no_process_is_refused() {
    let world = Fixture::process();
    let mut spec = world.script("t1", "true");
    spec.definition.entry_point.clear();
    spec.definition.command.clear();
    let refused = world.runtime.create(&spec).await;
    assert!(matches!(refused, Err(RuntimeError::CannotCreate(_))), "{refused:?}");
    let refused = world.runtime.create(&world.script("../t1", "true")).await;
    assert!(matches!(refused, Err(RuntimeError::CannotCreate(_))), "{refused:?}");
    let mut spec = world.script("t1", "true");
    spec.definition.readonly_root = Some(true);
    let refused = world.runtime.create(&spec).await.unwrap_err();
    assert!(refused.to_string().contains("readonlyRootFilesystem: only on Docker"), "{refused}");
    let mut spec = world.script("t1", "true");
    spec.network_mode = Some(NetworkMode::None);
    let refused = world.runtime.create(&spec).await.unwrap_err();
    assert!(refused.to_string().contains("networkMode none: only on Docker"), "{refused}");
    assert_eq!(world.runtime.list().await.unwrap(), []);
}
