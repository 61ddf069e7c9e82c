//! HTTP/1.1 through an application load balancer, plain and over TLS: small requests on connections
//! that are kept, at full speed and at a constant rate, and one connection per request; with many
//! rules and the access log; large responses.
//!
//! **Invariant:** every program forwards to the same two targets with the same headers, on one
//! core.

use crate::harness::{
    Connections, Contestant, Kind, LoadCore, Options, Rate, Sample, Site, median, progress,
    proxies, rate_table, ratio, show, with_rules, wrk_beside, wrk_table, wrk_tables,
};

/// Client connections at once.
const CLIENTS: usize = 64;
/// Client connections at once for large responses.
const LARGE_CLIENTS: usize = 16;
/// Rules of a listener, where it has some.
const RULES: usize = 100;
/// Of HAProxy's peak, in percent.
const PART: f64 = 70.0;
/// At least, where a percentile far out is what is asked for.
const ROUNDS: usize = 7;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let site = Site::new()?;
    let _core = LoadCore::enter(&site.cores);
    plain(&site, options)?;
    let secure = [
        ("TLS, keep-alive, 64 connections.", Connections::KeptAlive(CLIENTS)),
        ("TLS, a handshake for every request, 64 at once.", Connections::Fresh(CLIENTS)),
    ];
    let contestants = proxies(Kind::Https, &site, options);
    wrk_tables(&secure, "request", &site, &contestants, options);
    wrk_beside(secure[0], &site, &contestants, options);
    Ok(())
}

fn plain(site: &Site, options: &Options) -> anyhow::Result<()> {
    let mut contestants = proxies(Kind::Http, site, options);
    let kept = ("Keep-alive, 64 connections.", Connections::KeptAlive(CLIENTS));
    let peaks = wrk_table(kept, "request", site, &contestants, options);
    let fresh = ("A fresh connection for every request, 64 at once.", Connections::Fresh(CLIENTS));
    wrk_table(fresh, "request", site, &contestants, options);
    wrk_beside(kept, site, &contestants, options);
    wrk_beside(fresh, site, &contestants, options);
    contestants.retain(|contestant| contestant.name != "roadstead, pingora");
    at_a_rate(&peaks, site, &contestants, options)?;
    contestants.iter_mut().for_each(Contestant::ask_for_large);
    let large = ("1 MiB responses, 16 connections.", Connections::KeptAlive(LARGE_CLIENTS));
    let results = wrk_table(large, "request", site, &contestants, options);
    for (name, samples) in &results {
        show(&format!("{name}: {:.0} requests per CPU-second", 1.0 / of(samples, |s| s.cpu)));
    }
    drop(contestants);
    ruled(site, options);
    Ok(())
}

fn of(samples: &[Sample], value: fn(&Sample) -> f64) -> f64 {
    median(samples.iter().map(value))
}

/// How long requests take where nobody is at an end.
fn at_a_rate(
    peaks: &[(&str, Vec<Sample>)],
    site: &Site,
    contestants: &[Contestant],
    options: &Options,
) -> anyhow::Result<()> {
    let Some((_, peak)) = peaks.iter().find(|(name, _)| *name == "haproxy") else {
        progress("a constant rate is left out: it is a part of HAProxy's");
        return Ok(());
    };
    let rate = Rate::part(of(peak, |sample| sample.rate), PART)?;
    let title = format!(
        "{} requests/s, {PART} % of HAProxy's peak, 70 on each connection.",
        rate.per_second()
    );
    let rounds = if options.quick { options.rounds } else { options.rounds.max(ROUNDS) };
    rate_table(&title, rate, rounds, site, contestants, options);
    Ok(())
}

/// With rules and the access log and without, in turns.
fn ruled(site: &Site, options: &Options) {
    let mut contestants =
        proxies(Kind::Http, site, &Options { access_log: false, ..options.clone() });
    contestants.retain(|contestant| contestant.name != "roadstead, pingora");
    contestants.extend(with_rules(RULES, site, options));
    // Each beside itself.
    contestants.sort_by_key(|one| (!one.name.starts_with("roadstead"), one.name.split(',').next()));
    let title = "100 rules and the access log, and neither; keep-alive, 64 connections.";
    let case = (title, Connections::KeptAlive(CLIENTS));
    let results = wrk_table(case, "request", site, &contestants, options);
    let find = |name: &str| results.iter().find(|(own, _)| *own == name);
    for program in ["roadstead", "haproxy", "nginx"] {
        let ruled = format!("{program}, rules and log");
        let (Some((_, without)), Some((_, with))) = (find(program), find(&ruled)) else { continue };
        let (rate, cpu) = (ratio(with, without, |s| s.rate), ratio(with, without, |s| s.cpu));
        let mut line = format!("{program}, with to without: rate × {rate:.2}, CPU × {cpu:.2}");
        if let (Some((_, ours)), false) = (find("roadstead, rules and log"), program == "roadstead")
        {
            let ours = ratio(ours, with, |s| s.cpu);
            line += &format!("; with both, Roadstead's CPU × {ours:.2}");
        }
        show(&line);
    }
}
