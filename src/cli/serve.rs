//! `roadstead serve`: the process around an [`App`]: logs, signals, exit codes.

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::api::file;
use crate::app::{App, StartError};
use crate::config::{LogFormat, Settings};
use crate::sys;

/// Threads of the control plane: API, reconcilers, probes, publisher.
const CONTROL_THREADS: usize = 2;

/// What pingora says of single requests stands in the access log.
const QUIET: &str = "pingora_core=off,pingora_proxy=off";

/// Runs until SIGTERM or SIGINT; a second one exits at once.
pub(super) fn run(config: &Path, take_over: bool) -> ExitCode {
    let file = match file::load(config) {
        Ok(file) => file,
        Err(problem) => {
            super::complain(&problem);
            return ExitCode::from(2);
        }
    };
    init_logs(&file.settings);
    raise_open_files(&file.settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(serve(config, file, take_over)),
        Err(error) => Err(StartError::Io { what: "the control runtime".to_owned(), source: error }),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            super::complain(&error);
            if error.is_configuration() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// A proxied connection takes two descriptors; the soft limit of most systems is for 500 of them.
fn raise_open_files(settings: &Settings) {
    let wanted =
        u64::try_from(settings.limits.max_connections).unwrap_or(u64::MAX).saturating_mul(2);
    match sys::raise_open_files() {
        Ok(limit) if limit < wanted => tracing::warn!(
            limit,
            wanted,
            "the limit of open files is below what one listener's max_connections may need"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it was"),
    }
}

fn init_logs(settings: &Settings) {
    let filter = EnvFilter::new(format!("{},{QUIET}", settings.log.level.as_str()));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log.format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
}

async fn serve(config: &Path, file: file::File, take_over: bool) -> Result<ExitCode, StartError> {
    let io = |source| StartError::Io { what: "signals".to_owned(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(io)?;
    let mut app = match take_over {
        true => App::take_over(config, file).await?,
        false => App::start(config, file).await?,
    };
    tracing::info!(metrics = %app.metrics_address(), dns = ?app.dns_addresses(), "serving");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => app.hangup(),
            successor = app.successor() => {
                let mut handing = std::pin::pin!(app.hand_over(successor));
                let mut asked = false;
                let handed = loop {
                    tokio::select! {
                        handed = &mut handing => break handed?,
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    if asked {
                        return Ok(ExitCode::FAILURE);
                    }
                    asked = true;
                    tracing::info!("finishing what is under way; a second signal exits at once");
                };
                match handed {
                    Some(same) => app = same,
                    None => return Ok(ExitCode::SUCCESS),
                }
                if asked {
                    break;
                }
            }
        }
    }
    tracing::info!("stopping; a second signal exits at once");
    tokio::select! {
        () = app.shutdown() => Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}
