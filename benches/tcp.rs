//! TCP through a network load balancer: small exchanges, fresh connections, and bulk.
//!
//! Small exchanges are HTTP requests that nobody in between reads. **Invariant:** every program
//! relays to the same two targets on one core.

use crate::harness::{
    Connections, Kind, LoadCore, Options, Site, Table, alternate, bulk, proxies, target_of_bulk,
    wrk_tables,
};

/// Client connections at once.
const CLIENTS: usize = 64;
/// One stream's bytes.
const BULK: u64 = 2 << 30;
const QUICK_BULK: u64 = 256 << 20;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let site = Site::new()?;
    let _core = LoadCore::enter(&site.cores);
    for address in site.targets_of_bulk() {
        target_of_bulk(address)?;
    }
    let contestants = proxies(Kind::Tcp, &site, options);
    let cases = [
        ("Small exchanges on 64 connections.", Connections::KeptAlive(CLIENTS)),
        ("One exchange on each connection, 64 at once.", Connections::Fresh(CLIENTS)),
    ];
    wrk_tables(&cases, "exchange", &site, &contestants, options);
    let bytes = if options.quick { QUICK_BULK } else { BULK };
    let results = alternate("Bulk", options.rounds, &contestants, |contestant| {
        bulk(contestant, Site::bulk_address(contestant), bytes)
    });
    let table = Table {
        title: "Bulk: one stream from target to client.",
        rate: "GiB/s",
        cpu: "CPU s/GiB",
        scale: 1.0,
        latencies: false,
    };
    table.show(&results);
    Ok(())
}
