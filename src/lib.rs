//! Roadstead: an open ALB, NLB, Route 53 private zone and Cloud Map for containers on machines of
//! your own, with the ECS-like orchestrator that feeds them.
//!
//! # The picture
//!
//! ```text
//!     the file, status, the AWS APIs          Docker Engine, child processes
//!                 │ api                             ▲ runtime
//!                 ▼                                 │
//!   ┌───────── one State, one writer, one journal ──┴── orchestrator ┐     control threads
//!   │ state                  ▲ verdicts                              │
//!   │                        └── health ──▶ probes                   │
//!   └──▶ routing: compiled, swapped, acknowledged per data thread ◀──┘ waits before it stops
//!            │                      │                      │
//!            ▼                      ▼                      ▼
//!   http, l4, dns            http, l4, dns          http, l4, dns           data threads
//! ```
//!
//! The State ([`state`]) says what is wanted and known. Every change is one commit, durable before
//! it is acknowledged. The publisher compiles each State into an immutable [`routing::Routing`] and
//! swaps one pointer; every data thread acknowledges what it has seen. The orchestrator turns
//! services into tasks and tasks into containers, level by level, and stops a container only after
//! every data thread has acknowledged that nothing picks it, its last exchange has ended and no DNS
//! cache may still name it.
//!
//! # The floors
//!
//! A file imports from its own folder and from lower floors; folders on one floor do not see each
//! other. `tests/tidy.rs` keeps it so.
//!
//! | floor | modules | what stands there |
//! |---|---|---|
//! | 7 | [`cli`], [`app`] | the wiring; `app` is the only one that knows everything |
//! | 6 | [`api`] | the outside world's words: the file, `status`, the AWS APIs |
//! | 5 | [`orchestrator`] | desired → tasks → containers |
//! | 4 | [`http`], [`l4`], [`dns`]; [`runtime`] | planes; containers (sees floor 0 alone) |
//! | 3 | [`routing`] | State → snapshot, the pointer, the acknowledgements, the decision |
//! | 2 | [`rules`], [`balance`], [`health`], [`zone`], [`auth`] | mechanisms |
//! | 1 | [`state`], [`tls`], [`net`], [`logs`], [`secrets`] | the world; TLS; leaves |
//! | 0 | [`model`], [`clock`], [`config`], [`metrics`], [`series`], [`sys`] | nouns and leaves |
//!
//! # Where to look
//!
//! | question | place |
//! |---|---|
//! | what becomes of a request | [`http`], then [`routing::decide`] |
//! | why a request goes where it goes | `routing/explain.rs`, pure |
//! | how many requests may come, wait, be retried | `rules/limit.rs`, `balance/{gate,budget}.rs` |
//! | which target is left alone, or preferred | `balance/{outlier,ewma}.rs` |
//! | how bytes of an exchange move | `http/native`, or `http/pingora` where asked for |
//! | which bodies do not come into this process | `http/native/through.rs` |
//! | what becomes of a TCP connection | `l4/tcp.rs` |
//! | how a handshake goes, and which certificate it shows | `tls/accept.rs`, `tls/server.rs` |
//! | what is asked of clients' certificates | `tls/mutual.rs` |
//! | what becomes of a query | [`dns`], then [`zone`] |
//! | whom tasks ask for names | `app/names.rs`; names of others: `dns/forward.rs` |
//! | which task starts or stops, and why | `orchestrator/plan.rs`, pure |
//! | how traffic goes from one deployment to the next | `orchestrator/plan/gradual.rs`, pure |
//! | which container instance a task goes to | `orchestrator/placement`, pure |
//! | which ports of the host a task gets | `state/ports.rs`, pure |
//! | how long its address rests on Docker | `runtime/docker/rest.rs` |
//! | how one task gets from record to container and back | `orchestrator/step.rs`, pure |
//! | when and why a desired count moves | `orchestrator/autoscaling/decide.rs`, pure |
//! | what of us is measured over time | `orchestrator/sampler`, kept in `series` |
//! | whether a client's token lets it in | `auth/jwt.rs`, pure |
//! | when a target is healthy | `health/verdict.rs`, pure |
//! | when a name is healthy, and what that does to answers | `health/names.rs`, `zone/health.rs` |
//! | what becomes of an API call | `api/entry.rs`, then `api/SERVICE/mod.rs` |
//! | which region a call is in, and what it sees | `api/scope.rs`, then `state/region.rs` |
//! | what a key may do | `api/access`, decided purely in its `decide.rs` |
//! | what an option of the file means | `api/file/meaning` |
//! | what a member of a task definition means | `api/definition` |
//! | what is told of a change, and to whom | `api/ecs/events.rs`, then `api/events` |
//! | what a task learns about itself | `api/ecs/metadata.rs`; ids: `orchestrator/metadata.rs` |
//! | how a command gets into a container | `api/exec.rs`, `api/session`, `runtime/*/exec.rs` |
//! | what may refer to what | `state/refer.rs` |
//! | when a data thread opens or closes a socket | `app/sockets.rs`, `app/data_thread.rs` |
//! | how a new process takes over | `app/take_over.rs`, then `App::hand_over` |
//!
//! # Glossary
//!
//! AWS's nouns mean what AWS means. Beside them: a **target** is configured, an **endpoint** is the
//! same target in a snapshot with its counters; a **registration** is active or draining, written
//! by whoever registers; a **verdict** is what health checks came to, written by [`health`] alone;
//! **desired** was asked for, **known** is recorded, **observed** is what a runtime just said; a
//! **generation** is the number of a State; a **plan** is what one pass of the orchestrator wants,
//! a **step** the next thing to do for one task; a **carrier** moves the bytes of a decided
//! exchange.
//!
//! # Invariants
//!
//! - No request waits for a lock of another thread or sees half a commit: planes hold a
//!   [`routing::Reader`], no store.
//! - A decision is one synchronous call on one snapshot, made again after every await.
//! - Deciding is pure: clocks and randomness are passed in.
//! - Everything that runs by itself is level-triggered: an event only wakes it.
//! - Nothing is stopped because somebody does not answer.

pub mod api;
pub mod app;
pub mod auth;
pub mod balance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dns;
pub mod health;
pub mod http;
pub mod l4;
pub mod logs;
pub mod metrics;
pub mod model;
pub mod net;
pub mod orchestrator;
pub mod routing;
pub mod rules;
pub mod runtime;
pub mod secrets;
pub mod series;
pub mod state;
pub mod sys;
pub mod tls;
pub mod zone;
