//! HTTP/1.1 through an application load balancer, plain and over TLS: small requests on connections
//! that are kept, and one connection per request.
//!
//! **Invariant:** every program forwards to the same two targets with the same headers, on one
//! core.

use crate::harness::{Connections, Kind, LoadCore, Options, Site, proxies, wrk_tables};

/// Client connections at once.
const CLIENTS: usize = 64;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let site = Site::new()?;
    let _core = LoadCore::enter(&site.cores);
    let plain = [
        ("Keep-alive, 64 connections.", Connections::KeptAlive(CLIENTS)),
        ("A fresh connection for every request, 64 at once.", Connections::Fresh(CLIENTS)),
    ];
    let secure = [
        ("TLS, keep-alive, 64 connections.", Connections::KeptAlive(CLIENTS)),
        ("TLS, a handshake for every request, 64 at once.", Connections::Fresh(CLIENTS)),
    ];
    for (kind, cases) in [(Kind::Http, plain), (Kind::Https, secure)] {
        // The last ones leave their ports when they are dropped.
        let contestants = proxies(kind, &site, options);
        wrk_tables(&cases, "request", &site, &contestants, options);
    }
    Ok(())
}
