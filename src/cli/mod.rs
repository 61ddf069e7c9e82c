//! The command line: what each subcommand takes, and its exit codes (0 done, 1 failed, 2 bad usage
//! or configuration).

mod env;
mod exec;
mod explain;
mod serve;
mod status;
mod whoami;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::api::file;

#[derive(Debug, Parser)]
#[command(name = "roadstead", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the load balancers, the DNS server and the orchestrator.
    Serve {
        /// The configuration file; it is watched and applied again when it changes.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Take over from the process that serves the same data directory: its sockets are handed
        /// over, it finishes what it has, and no client and no task notices.
        #[arg(long)]
        take_over: bool,
    },
    /// Validate a configuration file and print what it would run.
    Check {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show clusters, services, tasks, target health and listeners of a running `serve`.
    Status(status::Options),
    /// Say which rule, target group and target a request would take, and why each other one not.
    Explain(explain::Options),
    /// Execute a command in a container of a running task: `roadstead exec TASK -- COMMAND`.
    Exec(exec::Options),
    /// Print shell lines that point AWS clients here: `eval "$(roadstead env --config FILE)"`.
    Env(env::Options),
    /// The sample task: an HTTP server (or a TCP or UDP echo) that tells who answered.
    Whoami(whoami::Options),
    /// Print the version.
    Version,
}

/// Which running `serve` is meant.
#[derive(Debug, Args)]
struct Place {
    /// The configuration file of the running `serve`: it names the data directory.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "data_dir",
        required_unless_present = "data_dir"
    )]
    config: Option<PathBuf>,
    /// The data directory of the running `serve`.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Place {
    fn data_dir(&self) -> anyhow::Result<PathBuf> {
        match (&self.data_dir, &self.config) {
            (Some(dir), _) => Ok(dir.clone()),
            (None, Some(config)) => Ok(file::load(config)?.settings.data_dir),
            (None, None) => anyhow::bail!("--config or --data-dir is needed"),
        }
    }
}

/// Runs the command line; returns the process's exit code.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve { config, take_over } => serve::run(&config, take_over),
        Command::Check { file } => check(&file),
        Command::Status(options) => finish(status::run(&options)),
        Command::Explain(options) => finish(explain::run(&options)),
        Command::Exec(options) => exec::run(&options).unwrap_or_else(|error| {
            complain(&format_args!("{error:#}"));
            ExitCode::FAILURE
        }),
        Command::Env(options) => finish(env::run(&options)),
        Command::Whoami(options) => finish(whoami::run(&options)),
        Command::Version => {
            print(&format!("roadstead {}\n", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
    }
}

fn check(path: &std::path::Path) -> ExitCode {
    match file::load(path) {
        Ok(file) => {
            print(&file::check(&file));
            ExitCode::SUCCESS
        }
        Err(problem) => {
            complain(&problem);
            ExitCode::from(2)
        }
    }
}

fn finish(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; a reader that has gone away is no error.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(problem: &dyn std::fmt::Display) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "roadstead: {problem}");
}
