//! The journal under real kills and a really full disk: a child process writes, this one judges
//! what is left.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use roadstead::metrics::Metrics;
use roadstead::model::{Cluster, Owner};
use roadstead::state::{Journal, Store, StoreError, Tx};

use crate::support;

/// Tells a child which journal to write to; without it the child's entry below does nothing.
const PATH: &str = "ROADSTEAD_TEST_JOURNAL";
/// Writers of one child.
const WRITERS: usize = 4;

fn child(test: &str, journal: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(PATH, journal);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn put(name: String) -> impl FnOnce(&mut Tx<'_>) -> Result<(), StoreError> {
    move |tx| {
        tx.put(Cluster::new(name.as_str().into(), Owner::Api));
        tx.put(Cluster::new(format!("{name}-twin").as_str().into(), Owner::Api));
        Ok(())
    }
}

/// What a child does: writes two rows a commit and prints each name once it is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let store = Store::open(Journal::open(Path::new(&path)).unwrap(), &Metrics::new(1)).unwrap();
    let start = store.read().generation.0;
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..1_000_000 {
                let name = format!("ack-{start}-{writer}-{n}");
                store.update(put(name.clone())).await.unwrap();
                println!("\n{name}");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// Reads acknowledgements until some have come, kills, and reads the rest of what was printed.
fn acknowledged_until_killed(
    child: &mut Child,
    wanted: usize,
    pause: Duration,
) -> BTreeSet<String> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = BTreeSet::new();
    let mut take = |line: std::io::Result<String>| match line {
        Ok(line) if line.starts_with("ack-") => seen.insert(line),
        _ => false,
    };
    let mut count = 0;
    while count < wanted {
        count += usize::from(take(lines.next().expect("the child ended by itself")));
    }
    std::thread::sleep(pause);
    child.kill().unwrap();
    child.wait().unwrap();
    // A line may be cut by the kill; an acknowledged one that was cut is only not counted.
    let mut rest: Vec<_> = lines.collect();
    rest.pop();
    for line in rest {
        take(line);
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_commits_survive_kills_whole() {
    let kills = support::full_or(200, 10);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let mut acknowledged = BTreeSet::new();
    let mut generation = 0;
    for kill in 0..kills {
        let mut child = child("journal::child_that_writes", &path).spawn().unwrap();
        let pause = Duration::from_micros(fastrand::u64(0..20_000));
        acknowledged.extend(acknowledged_until_killed(&mut child, 8, pause));
        let store = Store::open(Journal::open(&path).unwrap(), &Metrics::new(1)).unwrap();
        let state = store.read();
        assert!(state.generation.0 > generation, "the generation fell at kill {kill}");
        generation = state.generation.0;
        for name in &acknowledged {
            assert!(
                state.clusters.contains_key(&name.as_str().into()),
                "{name} lost at kill {kill}"
            );
        }
        let halves = state.clusters.keys().filter(|name| {
            let twin = match name.as_str().strip_suffix("-twin") {
                Some(first) => first.to_owned(),
                None => format!("{name}-twin"),
            };
            !state.clusters.contains_key(&twin.as_str().into())
        });
        assert_eq!(halves.count(), 0, "a commit is there by half at kill {kill}");
        drop((state, store));
        support::until("the journal to be let go", || Journal::open(&path).is_ok()).await;
    }
    support::note(&format!(
        "{} commits acknowledged over {kills} kills, none lost",
        acknowledged.len()
    ));
}

/// What a child does on a disk of 2 MiB: fills it, sees writes fail, makes room, writes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_on_a_full_disk() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let path = Path::new(&path);
    let store = Store::open(Journal::open(path).unwrap(), &Metrics::new(1)).unwrap();
    store.update(put("ack-before".to_owned())).await.unwrap();
    let ballast = path.with_file_name("ballast");
    fill(&ballast);
    let mut failed = None;
    for n in 0..10_000 {
        match store.update(put(format!("ack-full-{n}-{}", "x".repeat(4000)))).await {
            Ok(_) => {}
            Err(error) => {
                failed = Some((n, error.to_string()));
                break;
            }
        }
    }
    let (n, message) = failed.expect("the disk never filled");
    assert!(message.starts_with("not written: journal "), "{message}");
    let state = store.read();
    let lost = format!("ack-full-{n}-{}", "x".repeat(4000));
    assert!(!state.clusters.contains_key(&lost.as_str().into()), "a failed commit is visible");
    assert!(state.clusters.contains_key(&"ack-before".into()));
    std::fs::remove_file(&ballast).unwrap();
    store.update(put("ack-after".to_owned())).await.unwrap();
    println!("\nack-recovered {message}");
}

/// Takes what the disk has left, but for a little.
fn fill(ballast: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(ballast).unwrap();
    while file.write_all(&[0; 16 * 1024]).is_ok() {}
    let size = file.metadata().unwrap().len();
    file.set_len(size.saturating_sub(64 * 1024)).unwrap();
}

#[test]
fn full_disk_fails_writes_and_recovers_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk/state.redb");
    std::fs::create_dir(dir.path().join("disk")).unwrap();
    let inner = child("journal::child_on_a_full_disk", &path);
    let mount = format!(
        "mount -t tmpfs -o size=4m none {} && exec \"$0\" \"$@\"",
        dir.path().join("disk").display()
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &mount]);
    command.arg(inner.get_program()).args(inner.get_args()).env(PATH, &path);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() && !support::may_mount() {
        support::skip("a mount namespace of its own needs root");
        return;
    }
    assert!(
        text.contains("\nack-recovered "),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn journal_without_its_end_is_read_whole_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store = Store::open(Journal::open(&path).unwrap(), &Metrics::new(1)).unwrap();
    for n in 0..50 {
        store.update(put(format!("ack-{n}"))).await.unwrap();
    }
    drop(store);
    support::until("the journal to be let go", || Journal::open(&path).is_ok()).await;
    let whole = std::fs::read(&path).unwrap();
    let mut read = 0;
    for left in [whole.len() - 1, whole.len() - 512, whole.len() - 4096, whole.len() / 2, 64, 0] {
        let cut = dir.path().join(format!("cut-{left}.redb"));
        std::fs::write(&cut, &whole[..left]).unwrap();
        let opened = Journal::open(&cut).and_then(|journal| Store::open(journal, &Metrics::new(1)));
        match opened {
            // An empty file is a new one.
            Ok(store) if left == 0 => assert!(store.read().clusters.is_empty()),
            Ok(store) => {
                read += 1;
                let state = store.read();
                let missing = (0..50).filter(|n| {
                    !state.clusters.contains_key(&format!("ack-{n}-twin").as_str().into())
                });
                assert_eq!(missing.count(), 0, "of {left} bytes some were read");
            }
            Err(error) => support::note(&format!("{left} of {} bytes: {error}", whole.len())),
        }
    }
    support::note(&format!("{read} journals without their ends were whole"));
}
