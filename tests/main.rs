//! Every integration test of the project, one binary: a module per capability that a user can see.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod support;

/// The AWS APIs, driven by unmodified clients.
mod api;
/// Scaling by our own metrics, and what CloudWatch shows of them.
mod autoscaling;
/// Configurations, good and bad.
mod config;
/// What is covered of the AWS APIs.
mod coverage;
/// Every way in which a task is replaced or stopped, under load.
mod deployments;
/// The journeys on a real Docker Engine.
mod docker;
/// No request reaches a target whose drain has ended.
mod drain;
/// Docker Engines: old and new, silent, restarted; their images.
mod engines;
/// What is told of what happens.
mod events;
/// Commands in containers of running tasks.
mod exec;
/// What would become of a request, and why.
mod explain;
/// Blue/green, linear and canary deployments under load.
mod gradual;
/// gRPC calls by a stock client, through listeners to targets.
mod grpc;
/// Several container instances, each a Docker Engine of its own.
mod instances;
/// What was acknowledged survives kills and full disks.
mod journal;
/// What the AWS APIs acknowledged survives kills.
mod kills;
/// Start, reload, listeners that come and go, the end.
mod lifecycle;
/// Caps on connections.
mod limits;
/// What tasks learn about themselves.
mod metadata;
/// What containers find by name.
mod names;
/// Addresses and ports of tasks on Docker: who gets them, and who does not.
mod ports;
/// Who a connection is of, told by the proxy before us.
mod proxy_protocol;
/// The README's first minutes.
mod quickstart;
/// What dies comes back.
mod recovery;
mod regions;
/// Deployments of every strategy at a constant rate.
mod rollouts;
/// The same battery against processes, Docker Engine and the simulation.
mod runtime;
/// Scaling and rolling out under load.
mod scaling;
/// The control plane under faults, in virtual time.
mod simulation;
/// No request after SIGTERM.
mod stops;
/// A new process takes over from the running one.
mod take_over;
/// Floors, sizes, words.
mod tidy;
/// WebSockets through a rolling replacement.
mod websockets;
