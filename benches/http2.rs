//! HTTP/2 through an application load balancer, over TLS and by prior knowledge: small requests,
//! many at once on each connection.
//!
//! **Invariant:** as for HTTP/1.1: the same two targets, the same headers, one core. nginx stands
//! aside in the clear: where it takes HTTP/2 so, it takes nothing else.

use crate::harness::{Kind, LoadCore, Options, Site, h2load_table, proxies};

/// Client connections at once.
const CLIENTS: usize = 16;
/// Requests at once on each.
const STREAMS: usize = 32;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let site = Site::new()?;
    let _core = LoadCore::enter(&site.cores);
    let titles = [
        (Kind::Https, "HTTP/2 over TLS, 16 connections with 32 streams each."),
        (Kind::Http, "HTTP/2 in the clear, 16 connections with 32 streams each."),
    ];
    for (kind, title) in titles {
        let mut contestants = proxies(kind, &site, options);
        contestants.retain(|contestant| kind == Kind::Https || contestant.name != "nginx");
        h2load_table(title, (CLIENTS, STREAMS), &site, &contestants, options);
    }
    Ok(())
}
