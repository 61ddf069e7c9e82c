//! HTTP/1.1 through an application load balancer: small requests on connections that are kept, and
//! one connection per request.
//!
//! **Invariant:** every program forwards to the same two targets with the same headers, on one
//! core.

use crate::harness::{Connections, Kind, LoadCore, Options, Site, proxies, wrk_tables};

/// Client connections at once.
const CLIENTS: usize = 64;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let site = Site::new()?;
    let _core = LoadCore::enter(&site.cores);
    let contestants = proxies(Kind::Http, &site, options);
    let cases = [
        ("Keep-alive, 64 connections.", Connections::KeptAlive(CLIENTS)),
        ("A fresh connection for every request, 64 at once.", Connections::Fresh(CLIENTS)),
    ];
    wrk_tables(&cases, "request", &site, &contestants, options);
    Ok(())
}
