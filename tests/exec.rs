//! Commands in containers of running tasks, by `roadstead exec`.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use roadstead::model::TaskStatus;
use roadstead::sys;

use crate::support::world::{PROGRAM, Running, Service, World, kill, tasks_of};
use crate::support::{self};

/// `roadstead exec` with further options; nothing is on its standard input.
pub(crate) fn exec(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["exec", "--data-dir"]).arg(data_dir).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

pub(crate) fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn world(more: &'static str) -> (Running, String) {
    let service = Service { more, ..Service::http("web", 1) };
    let running = World::new().service(service).start().await;
    running.settled("web", 1).await;
    // The one that runs: a slow machine may have replaced another.
    let state = running.state();
    let task = tasks_of(&state, "web").find(|task| task.is_live()).unwrap().id.to_string();
    (running, task)
}

/// The number of a process that a command has written there.
fn written(file: &Path) -> Option<i32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

const ALLOWED: &str = "enable_execute_command = true";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_has_the_tasks_environment_and_its_code_is_passed_on() {
    let (running, task) = world(ALLOWED).await;
    let data_dir = running.world.data_dir();
    let script = "echo $TASK_ID; echo bad >&2; exit 7";
    let said = output(exec(&data_dir, &[&task, "--", "/bin/sh", "-c", script])).await;
    assert_eq!(texts(&said), (Some(7), format!("{task}\n"), "bad\n".to_owned()));

    // What is fed in comes out, all of it; the beginning of an id is enough.
    let input: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let mut command = exec(&data_dir, &[&task[..8], "--container", "web", "--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let fed = input.clone();
    let feeding = std::thread::spawn(move || stdin.write_all(&fed).unwrap());
    let said = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let said = said.await.unwrap();
    feeding.join().unwrap();
    assert!(said.status.success() && said.stdout == input, "{} bytes", said.stdout.len());

    let (code, _, why) = texts(&output(exec(&data_dir, &[&task, "--", "/no/program"])).await);
    assert_eq!(code, Some(1));
    assert!(why.contains("/no/program: No such file"), "{why}");
    let (code, _, why) = texts(&output(exec(&data_dir, &["none", "--", "id"])).await);
    assert_eq!((code, why.as_str()), (Some(1), "roadstead: The referenced task was not found.\n"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_is_refused_where_nobody_allowed_it() {
    let (mut running, task) = world("").await;
    let data_dir = running.world.data_dir();
    let (code, _, why) = texts(&output(exec(&data_dir, &[&task, "--", "id"])).await);
    assert_eq!(code, Some(1));
    assert!(why.contains("execute command was not enabled when the task was run"), "{why}");
    // Tasks that are started from now on.
    running.edit(|services| (services[0].more, services[0].desired) = (ALLOWED, 2));
    running.settled("web", 2).await;
    let state = running.state();
    let allowed: Vec<_> = tasks_of(&state, "web").filter(|task| task.exec).collect();
    let [other] = allowed.as_slice() else { panic!("{allowed:?}") };
    assert_ne!(other.id.as_str(), task);
    let said = output(exec(&data_dir, &[other.id.as_str(), "--", "true"])).await;
    assert_eq!(texts(&said), (Some(0), String::new(), String::new()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_ends_with_its_client_and_with_its_container() {
    let (mut running, task) = world(ALLOWED).await;
    let (data_dir, file) = (running.world.data_dir(), running.world.dir.path().join("pid"));
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let pid = || written(&file);
    let arguments = [&*task, "--", "/bin/sh", "-c", &script];
    let mut client = exec(&data_dir, &arguments).spawn().unwrap();
    support::until("the command to run", || pid().is_some_and(alive)).await;
    let first = pid().unwrap();
    kill(i32::try_from(client.id()).unwrap(), "KILL");
    client.wait().unwrap();
    support::until("it to end with its client", || !alive(first)).await;

    std::fs::remove_file(&file).unwrap();
    let mut client = exec(&data_dir, &arguments).spawn().unwrap();
    support::until("the command to run again", || pid().is_some_and(alive)).await;
    running.edit(|services| services[0].desired = 0);
    let mut code = None;
    support::until("the client to end", || {
        code = client.try_wait().unwrap();
        code.is_some()
    })
    .await;
    assert_eq!(code.unwrap().code(), Some(137));
    support::until("it to end with its container", || !alive(pid().unwrap())).await;
    let over = || {
        let state = running.state();
        tasks_of(&state, "web").all(|task| task.known == TaskStatus::Stopped)
    };
    support::until("the task to stop", over).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_command_said_last_is_told_however_slowly_it_is_read() {
    const ALL: usize = 2_000_000;
    let (running, task) = world(ALLOWED).await;
    let file = running.world.dir.path().join("pid");
    let script = format!("echo $$ > {}; exec head -c {ALL} /dev/zero", file.display());
    let arguments = [&*task, "--", "/bin/sh", "-c", &script];
    let mut client = exec(&running.world.data_dir(), &arguments);
    let mut client = client.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = client.stdout.take().unwrap();
    let mut read = vec![0; ALL - 300_000];
    said.read_exact(&mut read).unwrap();
    // Buffers take the rest, so that it ends; who reads is late.
    let pid = written(&file).unwrap();
    support::until("the command to end", || !alive(pid)).await;
    read.clear();
    said.read_to_end(&mut read).unwrap();
    assert_eq!((read.len(), client.wait().unwrap().code()), (300_000, Some(0)));
    running.stop().await;
}

/// What a client on a terminal shows, until it has shown `wanted`.
pub(crate) fn shown_until(terminal: &mut std::fs::File, wanted: &str) -> String {
    let mut shown = String::new();
    let mut piece = [0; 1024];
    let last = roadstead::clock::instant() + support::DEADLINE;
    while !shown.contains(wanted) {
        assert!(roadstead::clock::instant() < last, "{wanted:?} is not shown: {shown:?}");
        match terminal.read(&mut piece) {
            Ok(count @ 1..) => shown.push_str(&String::from_utf8_lossy(&piece[..count])),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            ended => panic!("it ended ({ended:?}) after {shown:?}"),
        }
    }
    shown
}

/// Runs a shell on a terminal: sizes, what is typed, Ctrl-C. `tool` stands before each program.
pub(crate) fn on_a_terminal(data_dir: &Path, task: &str, shell: &[&str], tool: &str) {
    let (own, theirs) = sys::terminal().unwrap();
    let mut terminal = std::fs::File::from(own);
    let resize = |terminal: &std::fs::File, size| {
        use std::os::fd::AsFd as _;
        sys::set_terminal_size(terminal.as_fd(), size).unwrap();
    };
    resize(&terminal, (30, 111));
    let script = format!(
        "read word; echo \"got $word\"; \
         while :; do {tool}stty size; {tool}sleep 0.2; done"
    );
    let mut command = exec(data_dir, &[&[task, "--"], shell, &["-c", &script]].concat());
    let copy = || theirs.try_clone().unwrap();
    command.stdin(copy()).stdout(copy()).stderr(copy());
    sys::new_terminal_session(&mut command);
    let mut client = command.spawn().unwrap();
    drop((command, theirs));
    terminal.write_all(b"hello\r").unwrap();
    shown_until(&mut terminal, "got hello");
    shown_until(&mut terminal, "30 111");
    resize(&terminal, (31, 112));
    shown_until(&mut terminal, "31 112");
    // It is the command's, not the client's.
    terminal.write_all(&[3]).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(130));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_on_a_terminal_has_one() {
    let (running, task) = world(ALLOWED).await;
    let data_dir = running.world.data_dir();
    let done = tokio::task::spawn_blocking(move || {
        on_a_terminal(&data_dir, &task, &["/bin/sh"], "");
    });
    done.await.unwrap();
    running.stop().await;
}
