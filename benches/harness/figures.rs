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

/// Runs every contestant once per round, in turns, so that whatever else the machine does meets all
/// of them alike.
pub(crate) fn alternate(
    what: &str,
    rounds: usize,
    contestants: &[Contestant],
    mut measure: impl FnMut(&Contestant) -> anyhow::Result<Sample>,
) -> Vec<(&'static str, Vec<Sample>)> {
    let mut results: Vec<_> = contestants.iter().map(|c| (c.name, Vec::new())).collect();
    for round in 1..=rounds {
        for (contestant, (name, samples)) in contestants.iter().zip(&mut results) {
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
                Err(error) => progress(&format!("{what}: {name}: {error:#}")),
            }
        }
    }
    results.retain(|(_, samples)| !samples.is_empty());
    results
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
    /// Medians, and what the first row, Roadstead's, is of each other one.
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
                    let (our_rate, our_cpu) = (of(ours, |s| s.rate), of(ours, |s| s.cpu));
                    format!(" × {:.2} | × {:.2} |", our_rate / rate, our_cpu / cpu)
                }
                _ => " | |".to_owned(),
            };
            show(&format!("{row} {} |", samples.iter().map(|s| s.errors).sum::<u64>()));
        }
    }
}
