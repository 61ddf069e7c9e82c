//! HTTP/2 by prior knowledge through an application load balancer: small requests, many at once on
//! each connection.
//!
//! **Invariant:** as for HTTP/1.1: the same two targets, the same headers, one core. nginx stands
//! aside: where it takes HTTP/2 in the clear, it takes nothing else.

use crate::harness::{Kind, LoadCore, Options, Site, h2load_table, proxies};

/// Client connections at once.
const CLIENTS: usize = 16;
/// Requests at once on each.
const STREAMS: usize = 32;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let site = Site::new()?;
    let _core = LoadCore::enter(&site.cores);
    let mut contestants = proxies(Kind::Http, &site, options);
    contestants.retain(|contestant| contestant.name != "nginx");
    let title = "HTTP/2 in the clear, 16 connections with 32 streams each.";
    h2load_table(title, (CLIENTS, STREAMS), &site, &contestants, options);
    Ok(())
}
