//! What matching costs as rules grow: in this process, with the library alone.
//!
//! Half of the rules have a host and a path of their own, half a path under a host that all share.
//! **Invariant:** every request is checked to have met the rule that was made for it.

use roadstead::clock;
use roadstead::model::{Action, Condition, Rule};
use roadstead::rules::{Facts, Matcher};

use crate::harness::{Options, show};

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
const REQUESTS: usize = 1_000_000;
const QUICK_REQUESTS: usize = 10_000;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let requests = if options.quick { QUICK_REQUESTS } else { REQUESTS };
    show("\nMatching, one request; compiling, all rules.\n");
    show("| rules | match | no match | compile |");
    show("|---:|---:|---:|---:|");
    for size in SIZES {
        measure(size, requests)?;
    }
    Ok(())
}

fn rule(number: usize) -> anyhow::Result<Rule> {
    let (host, path) = names(number);
    let conditions = vec![
        Condition::HostHeader(vec![host]),
        Condition::PathPattern(vec![format!("{path}*"), format!("{path}index.html")]),
    ];
    let priority = u32::try_from(number + 1)?;
    Ok(Rule::new(String::new(), priority, conditions, Action::Forward(Vec::new())))
}

fn names(number: usize) -> (String, String) {
    match number % 2 {
        0 => (format!("s{number}.example.com"), format!("/api/v{number}/")),
        _ => ("www.example.com".to_owned(), format!("/team/service-{number}/")),
    }
}

fn measure(size: usize, requests: usize) -> anyhow::Result<()> {
    let rules = (0..size).map(rule).collect::<anyhow::Result<Vec<_>>>()?;
    let begun = clock::instant();
    let matcher =
        Matcher::compile(&rules).map_err(|(text, bad)| anyhow::anyhow!("{text}: {bad}"))?;
    let compiled = begun.elapsed();
    let urls: Vec<_> = (0..size).map(names).map(|(h, p)| (h, format!("{p}index.html"))).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut wrong = 0;
    let begun = clock::instant();
    for _ in 0..requests {
        let wanted = rng.usize(0..size);
        let (host, path) = &urls[wanted];
        let facts = Facts { host, path, ..Facts::default() };
        wrong += usize::from(matcher.find(&facts).is_none_or(|found| found.index != wanted));
    }
    let found = begun.elapsed();
    let begun = clock::instant();
    for _ in 0..requests {
        let path = &urls[rng.usize(0..size)].1;
        let facts = Facts { host: "other.example.org", path, ..Facts::default() };
        wrong += usize::from(matcher.find(&facts).is_some());
    }
    let missed = begun.elapsed();
    anyhow::ensure!(wrong == 0, "{wrong} requests met a wrong rule");
    let each = |time: std::time::Duration| time.as_secs_f64() * 1e9 / requests as f64;
    show(&format!(
        "| {size} | {:.0} ns | {:.0} ns | {:.1} ms |",
        each(found),
        each(missed),
        compiled.as_secs_f64() * 1e3
    ));
    Ok(())
}
