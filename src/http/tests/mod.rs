//! Tests of the carriers on real sockets: what both do alike, and what only one can.

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

mod endings;
mod native;
mod passing;
mod strain;
mod world;
