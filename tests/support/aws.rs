//! Real clients against the endpoint: scripts of `tests/clients` in a Python of their own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use super::skip;
use super::world::{Running, World};

/// A script that runs longer hangs.
const SCRIPT: Duration = Duration::from_secs(240);

/// Python with the clients of `tests/data/requirements.txt`, made once under `target/`; none where
/// it cannot be had.
pub(crate) fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON
        .get_or_init(|| make().map_err(|why| skip(&format!("no Python clients: {why}"))).ok())
        .as_deref()
}

fn make() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let requirements = root.join("tests/data/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).map_err(|error| error.to_string())?;
    let venv = root.join("target/clients");
    let mark = venv.join("installed.txt");
    let python = venv.join("bin/python");
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let run = |program: &Path, arguments: &[&str]| {
        let output = std::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(text)
    };
    run(Path::new("python3"), &["-m", "venv", "--clear", &venv.to_string_lossy()])?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(&python, &[&install[..], &[&*requirements.to_string_lossy()]].concat())?;
    std::fs::write(&mark, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

/// What a client needs to reach the Roadstead of this world.
pub(crate) fn environment(world: &World) -> Vec<(&'static str, String)> {
    let home = world.dir.path().to_string_lossy().into_owned();
    let credentials = world.data_dir().join("credentials");
    let own = world.address(1);
    vec![
        ("PATH", std::env::var("PATH").unwrap_or_default()),
        ("HOME", home),
        ("AWS_ENDPOINT_URL", format!("http://{own}:4566")),
        ("AWS_REGION", "local".to_owned()),
        ("AWS_DEFAULT_REGION", "local".to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_string_lossy().into_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("DNS_ADDRESS", format!("{own}:5533")),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ]
}

/// Runs `tests/clients/NAME` against it; panics with its output when it fails. False: there are no
/// clients here.
pub(crate) async fn client(running: &Running, name: &str, arguments: &[&str]) -> bool {
    client_of(&running.world, name, arguments).await
}

/// As [`client`], whatever process serves.
pub(crate) async fn client_of(world: &World, name: &str, arguments: &[&str]) -> bool {
    let Some(python) = tokio::task::spawn_blocking(python).await.unwrap() else { return false };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
    let child = tokio::process::Command::new(python)
        .arg(&script)
        .args(arguments)
        .env_clear()
        .envs(environment(world))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = tokio::time::timeout(SCRIPT, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("{name} hangs")).unwrap();
    assert!(
        output.status.success(),
        "{name}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    true
}
