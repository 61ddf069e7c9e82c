//! What a container uses, in the shape of Docker's `GET /containers/ID/stats`: the members that
//! readers of the task metadata endpoint compute with. Pure.

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::model::Usage;

/// What one container used at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub at: Timestamp,
    pub usage: Usage,
    /// CPU time that passed on all cores together, idle time too, in nanoseconds.
    pub system_nanos: u64,
}

/// Two readings, from which rates follow. `limit` is in bytes.
pub(super) fn shaped(id: &str, [before, now]: [Reading; 2], limit: u64, cores: usize) -> Value {
    let cpu = |reading: Reading| {
        json!({
            "cpu_usage": { "total_usage": reading.usage.cpu_micros.saturating_mul(1000) },
            "system_cpu_usage": reading.system_nanos,
            "online_cpus": cores,
        })
    };
    json!({
        "id": id,
        "read": now.at.to_string(),
        "preread": before.at.to_string(),
        "cpu_stats": cpu(now),
        "precpu_stats": cpu(before),
        "memory_stats": { "usage": now.usage.memory_bytes, "limit": limit, "stats": {} },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_take_dockers_shape() {
        let reading = |second: u64, cpu_micros, system_nanos| Reading {
            at: Timestamp::from_millis(second * 1000),
            usage: Usage { cpu_micros, memory_bytes: 4096 },
            system_nanos,
        };
        let shaped = shaped("7:9", [reading(1, 500, 10), reading(2, 750, 2_000_000_010)], 8192, 2);
        let expected = json!({
            "id": "7:9",
            "read": "1970-01-01T00:00:02.000000Z",
            "preread": "1970-01-01T00:00:01.000000Z",
            "cpu_stats": {
                "cpu_usage": { "total_usage": 750_000 },
                "system_cpu_usage": 2_000_000_010_u64,
                "online_cpus": 2,
            },
            "precpu_stats": {
                "cpu_usage": { "total_usage": 500_000 },
                "system_cpu_usage": 10,
                "online_cpus": 2,
            },
            "memory_stats": { "usage": 4096, "limit": 8192, "stats": {} },
        });
        assert_eq!(shaped, expected);
    }
}
