//! What Lamplighter relies on in a broker, tried on each kind: every check runs against the embedded
//! broker and against Mosquitto.

#![allow(
    clippy::unwrap_used,
    reason = "checks are shared by tests, so they are not test functions"
)]

mod delivery;
mod harness;
mod refusal;

/// Makes a test per kind of broker out of each check.
macro_rules! on_each_broker {
    ($($check:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$check($crate::harness::Kind::Embedded).await;
            })*
        }
        mod mosquitto {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$check($crate::harness::Kind::Mosquitto).await;
            })*
        }
    };
}
pub(crate) use on_each_broker;
