//! How a host reaches the stable store.

use std::cell::RefCell;
use std::rc::Rc;

use lamplighter_policies::state_saving::wait_for_store;
use lamplighter_runtime::clock::Clock;
use lamplighter_runtime::store::StoreError;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::transport::tls::Security;

use crate::spec::{ElementSpec, StoreAccess};

/// The stores that this process is connected to, each once, with what is known of their clocks.
pub(super) type Stores = Rc<RefCell<Vec<(StoreAccess, AnyStore, Clock)>>>;

pub(super) fn known(stores: &Stores, access: &StoreAccess) -> Option<(AnyStore, Clock)> {
    let stores = stores.borrow();
    let found = stores.iter().find(|(known, ..)| known == access);
    found.map(|(_, store, clock)| (store.clone(), clock.clone()))
}

/// Keeps a store, unless one of the same access was kept meanwhile, which it returns.
pub(super) fn keep(stores: &Stores, spec: &ElementSpec, store: AnyStore) -> (AnyStore, Clock) {
    known(stores, &spec.store).unwrap_or_else(|| {
        let clock = Clock::of_store(spec.skew_max);
        let kept = (spec.store.clone(), store.clone(), clock.clone());
        stores.borrow_mut().push(kept);
        (store, clock)
    })
}

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
