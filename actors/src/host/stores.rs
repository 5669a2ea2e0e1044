//! How a host reaches the stable store.

use lamplighter_policies::state_saving::wait_for_store;
use lamplighter_runtime::store::StoreError;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::transport::tls::Security;

use crate::spec::ElementSpec;

/// Connects, however long the store is out of reach.
///
/// # Errors
/// For people: why trying again would not help.
pub(super) async fn connect_patiently(
    spec: &ElementSpec,
    security: &Security,
) -> Result<AnyStore, String> {
    let mut failures = 0;
    loop {
        match spec.store.connect(&spec.application, security).await {
            Ok(store) => return Ok(store),
            Err(error @ StoreError::Unavailable { .. }) => {
                let wait = wait_for_store(failures);
                tracing::warn!(element = %spec.id, %error, ?wait, "waits for the store");
                tokio::time::sleep(wait).await;
                failures += 1;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
