//! How a host reaches the stable store.

use std::time::Duration;

use lamplighter_runtime::store::StoreError;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::transport::tls::Security;

use crate::spec::ElementSpec;

/// The first wait before a store that is out of reach is tried again; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Connects, however long the store is out of reach.
///
/// # Errors
/// For people: why trying again would not help.
pub(super) async fn connect_patiently(
    spec: &ElementSpec,
    security: &Security,
) -> Result<AnyStore, String> {
    let mut wait = RETRY_MIN;
    loop {
        match spec.store.connect(&spec.application, security).await {
            Ok(store) => return Ok(store),
            Err(error @ StoreError::Unavailable { .. }) => {
                tracing::warn!(element = %spec.id, %error, ?wait, "waits for the store");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
