//! The benches: one question per file, Roadstead and its peers in the same run.
//!
//! `cargo bench -- NAME`; without a name it lists them. Figures are printed and never judged: a
//! slow machine fails nothing. **Invariant:** everything a bench starts ends with it, and it
//! touches only loopback addresses and folders of its own.

mod api;
mod convergence;
mod deploy;
mod dns;
mod harness;
mod http1;
mod http2;
mod memory;
mod reconcile;
mod rules;
mod tcp;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use harness::{Options, alone, is_alone, progress, show};

/// Roadstead's benches.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which benches to run; "all" runs every one. Without a name they are listed.
    names: Vec<String>,
    /// Runs per program; they take turns.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds per run.
    #[arg(long)]
    seconds: Option<u64>,
    /// One short round: whether everything works, not how fast.
    #[arg(long)]
    quick: bool,
    /// HTTP access logs to a file, for every program.
    #[arg(long)]
    access_log: bool,
    /// Cargo's own.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The program's own, so that what is measured in this process allocates as the program does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Run = fn(&Options) -> anyhow::Result<()>;

const BENCHES: &[(&str, &str, Run)] = &[
    ("http1", "HTTP/1.1: keep-alive, fresh, with rules, large, at a rate", http1::run),
    ("http2", "HTTP/2 requests over TLS and in the clear, many at once", http2::run),
    ("tcp", "TCP: small exchanges, fresh connections, bulk", tcp::run),
    ("dns", "A and SRV queries of a zone of 100 services", dns::run),
    ("convergence", "from a commit to the decision that obeys it; compile times", convergence::run),
    ("reconcile", "a pass of the orchestrator over 10,000 tasks", reconcile::run),
    ("deploy", "first requests, deployments, containers that die", deploy::run),
    ("rules", "matching a request against 10 to 10,000 rules", rules::run),
    ("api", "the AWS APIs: first answer, calls per second", api::run),
    ("memory", "resident memory: quickstart, idle connections", memory::run),
];

/// Those that compare what packets cost.
const ALONE: [&str; 4] = ["http1", "http2", "tcp", "dns"];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match chosen(&arguments) {
        Ok(chosen) if chosen.is_empty() => {
            list();
            ExitCode::SUCCESS
        }
        Ok(chosen) => run(&chosen, &arguments),
        Err(error) => {
            progress(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

fn chosen(
    arguments: &Arguments,
) -> anyhow::Result<Vec<&'static (&'static str, &'static str, Run)>> {
    let everything = arguments.names.iter().any(|name| name == "all");
    if everything || (arguments.names.is_empty() && arguments.quick) {
        return Ok(BENCHES.iter().collect());
    }
    let find = |name: &String| {
        let found = BENCHES.iter().find(|(known, ..)| known == name);
        found.with_context(|| format!("there is no bench {name:?}; without a name they are listed"))
    };
    arguments.names.iter().map(find).collect()
}

fn list() {
    show("cargo bench -- NAME... [--rounds N] [--seconds S] [--quick] [--access-log]\n");
    for (name, question, _) in BENCHES {
        show(&format!("  {name:12} {question}"));
    }
    show(&format!("  {:12} every one of them", "all"));
}

fn run(chosen: &[&(&str, &str, Run)], arguments: &Arguments) -> ExitCode {
    let options = Options {
        rounds: arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 5 }).max(1),
        seconds: arguments.seconds.unwrap_or(if arguments.quick { 1 } else { 3 }).max(1),
        quick: arguments.quick,
        access_log: arguments.access_log,
        rules: 0,
    };
    if !is_alone() {
        harness::show_machine();
    }
    let mut code = ExitCode::SUCCESS;
    for (name, question, bench) in chosen {
        let succeeded = ALONE.contains(name).then(|| alone(&again(name, &options))).flatten();
        if let Some(succeeded) = succeeded {
            code = if succeeded { code } else { ExitCode::FAILURE };
            continue;
        }
        let network = if is_alone() { "a network of its own" } else { "the host's network" };
        show(&format!("\n## {name}: {question} ({network})"));
        if let Err(error) = bench(&options) {
            progress(&format!("{name}: {error:#}"));
            show(&format!("could not be run: {error:#}"));
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// What runs one bench as it was asked for.
fn again(name: &str, options: &Options) -> Vec<String> {
    let (rounds, seconds) = (options.rounds.to_string(), options.seconds.to_string());
    let mut arguments =
        [name, "--rounds", &rounds, "--seconds", &seconds].map(str::to_owned).to_vec();
    let flags = [("--quick", options.quick), ("--access-log", options.access_log)];
    arguments.extend(flags.iter().filter(|(_, is)| *is).map(|(flag, _)| (*flag).to_owned()));
    arguments
}
