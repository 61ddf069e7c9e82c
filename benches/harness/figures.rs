//! Samples, medians, percentiles, tables.

use std::time::Duration;

use super::{Contestant, progress, show};

/// What one run of one program gave.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Requests, queries or GiB per second.
    pub(crate) rate: f64,
    /// CPU seconds of the program for one of them.
    pub(crate) cpu: f64,
    /// CPU seconds per second: at 1 its core is the limit, below that the load generator is.
    pub(crate) busy: f64,
    /// Seconds; zero where it is not measured.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Errors that the load generator saw.
    pub(crate) errors: u64,
}

pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

pub(crate) fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Times of one kind of event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The smallest time that `percent` of all do not exceed.
    pub(crate) fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or_default()
    }
}

/// How many times theirs ours is: the median of the rounds' own ratios. What else a machine does
/// changes from round to round, and meets those alike that run one behind the other.
pub(crate) fn ratio(ours: &[Sample], theirs: &[Sample], value: fn(&Sample) -> f64) -> f64 {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| value(ours) / value(theirs)))
}

/// Runs every contestant once per round, in turns, so that whatever else the machine does meets all
/// of them alike. Who fails a round is left out: its rounds would not be the others'.
pub(crate) fn alternate(
    what: &str,
    rounds: usize,
    contestants: &[Contestant],
    mut measure: impl FnMut(&Contestant) -> anyhow::Result<Sample>,
) -> Vec<(&'static str, Vec<Sample>)> {
    let mut results: Vec<_> = contestants.iter().map(|c| (c.name, Vec::new())).collect();
    for round in 1..=rounds {
        for (contestant, (name, samples)) in contestants.iter().zip(&mut results) {
            if samples.len() + 1 < round {
                continue;
            }
            match measure(contestant) {
                Ok(sample) => {
                    progress(&format!(
                        "{what}: round {round} of {rounds}: {name}: {:.1}/s, {:.2} µs, {} errors",
                        sample.rate,
                        sample.cpu * 1e6,
                        sample.errors
                    ));
                    samples.push(sample);
                }
                Err(error) => progress(&format!("{what}: {name} is left out: {error:#}")),
            }
        }
    }
    results.retain(|(_, samples)| samples.len() == rounds);
    results
}

/// CPU per request of Roadstead and of each other program while both are asked at once and share
/// their core: whatever else the machine does meets both in the same moment. Who fails a round is
/// left out.
pub(crate) fn beside(
    what: &str,
    rounds: usize,
    contestants: &[Contestant],
    measure: impl Fn(&Contestant) -> anyhow::Result<Sample> + Sync,
) {
    let Some(own) = contestants.iter().find(|one| one.name == "roadstead") else { return };
    let others = contestants.iter().filter(|other| !other.name.starts_with("roadstead"));
    show(&format!("\n{what} Both at once on one core.\n"));
    show(
        "| program | CPU µs/request | Roadstead's beside it | busy, both | Roadstead: CPU | errors |",
    );
    show("|---|---:|---:|---:|---:|---:|");
    for other in others {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            let (our, their) = std::thread::scope(|scope| {
                let our = scope.spawn(|| measure(own));
                let their = measure(other);
                (our.join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))), their)
            });
            match our.and_then(|our| Ok((our, their?))) {
                Ok((our, their)) => {
                    let times = our.cpu / their.cpu;
                    let beside = format!("beside {}, round {round} of {rounds}", other.name);
                    progress(&format!("{what}: {beside}: CPU × {times:.3}"));
                    ours.push(our);
                    theirs.push(their);
                }
                Err(error) => {
                    progress(&format!("{what}: {} is left out: {error:#}", other.name));
                    break;
                }
            }
        }
        if ours.len() < rounds {
            continue;
        }
        let of = |samples: &[Sample]| median(samples.iter().map(|sample| sample.cpu)) * 1e6;
        let both = ours.iter().zip(&theirs).map(|(our, their)| our.busy + their.busy);
        let busy = median(both) * 100.0;
        let times = ratio(&ours, &theirs, |sample| sample.cpu);
        let errors: u64 = ours.iter().chain(&theirs).map(|sample| sample.errors).sum();
        let (own, name) = (of(&ours), other.name);
        let cpu = format!("{:.2} | {own:.2} | {busy:.0} % | × {times:.3}", of(&theirs));
        show(&format!("| {name} | {cpu} | {errors} |"));
    }
}

/// How a table names and scales what it shows.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    pub(crate) title: &'a str,
    /// `requests/s`
    pub(crate) rate: &'a str,
    /// `CPU µs/request`
    pub(crate) cpu: &'a str,
    /// What a CPU second is multiplied with: 1e6 for µs.
    pub(crate) scale: f64,
    pub(crate) latencies: bool,
}

impl Table<'_> {
    /// Medians, and how many times each other row Roadstead's is (see [`ratio`]).
    pub(crate) fn show(&self, results: &[(&str, Vec<Sample>)]) {
        let of = |samples: &[Sample], value: fn(&Sample) -> f64| median(samples.iter().map(value));
        show(&format!("\n{}\n", self.title));
        let mut head = format!("| program | {} | {} | busy |", self.rate, self.cpu);
        let mut line = "|---|---:|---:|---:|".to_owned();
        if self.latencies {
            head += " p50 | p99 |";
            line += "---:|---:|";
        }
        show(&(head + " Roadstead: rate | CPU | errors |"));
        show(&(line + "---:|---:|---:|"));
        let ours = results.iter().find(|(name, _)| *name == "roadstead");
        for (name, samples) in results {
            let (rate, cpu) = (of(samples, |s| s.rate), of(samples, |s| s.cpu));
            let busy = of(samples, |s| s.busy) * 100.0;
            let digits = if rate < 100.0 { 2 } else { 0 };
            let mut row =
                format!("| {name} | {rate:.digits$} | {:.2} | {busy:.0} % |", cpu * self.scale);
            if self.latencies {
                let millis = |seconds: f64| format!(" {:.2} ms |", seconds * 1e3);
                row += &millis(of(samples, |s| s.p50));
                row += &millis(of(samples, |s| s.p99));
            }
            row += &match ours {
                Some((own, ours)) if own != name => {
                    let times = |value| ratio(ours, samples, value);
                    format!(" × {:.2} | × {:.2} |", times(|s| s.rate), times(|s| s.cpu))
                }
                _ => " | |".to_owned(),
            };
            show(&format!("{row} {} |", samples.iter().map(|s| s.errors).sum::<u64>()));
        }
    }
}
