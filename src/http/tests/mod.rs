//! Tests of the carriers on real sockets: what both do alike, and what only one can.

/// Whether the long tests run at their full size: `ROADSTEAD_FULL=1`.
pub(super) fn is_full() -> bool {
    std::env::var_os("ROADSTEAD_FULL").is_some_and(|value| value == "1")
}

#[allow(clippy::print_stderr, reason = "figures are for whoever reads the test's output")]
/// A figure for whoever reads the test's output.
fn note(line: &str) {
    eprintln!("note: {line}");
}

/// Runs each of these functions as a test of either carrier.
macro_rules! on_both_carriers {
    ($($name:ident),* $(,)?) => {
        mod native {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::model::Carrier::Native).await;
            })*
        }

        mod pingora {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::model::Carrier::Pingora).await;
            })*
        }
    };
}

mod anomalies;
mod client;
mod compression;
mod desync;
mod desync_peers;
mod endings;
mod far;
mod floods;
mod grpc;
mod h2;
mod h2_desync;
mod h2_rules;
mod h2_targets;
mod headers;
mod limits;
mod logins;
mod mirror;
mod native;
mod outliers;
mod passing;
mod rules;
mod slow;
mod sticky;
mod strain;
mod target;
mod tls;
mod tokens;
mod waiting;
mod world;
