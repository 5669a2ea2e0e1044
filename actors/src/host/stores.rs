//! How a host reaches the stable store.

use std::time::Duration;

use lamplighter_runtime::store::StoreError;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::redis::{RedisSettings, RedisStore};
use lamplighter_runtime::store::served::{Address, Served, Token};

use crate::spec::{ElementSpec, StoreAccess};

/// The first wait before a store that is out of reach is tried again; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Connects, however long the store is out of reach.
///
/// # Errors
/// For people: why trying again would not help.
pub(super) async fn connect_patiently(spec: &ElementSpec) -> Result<AnyStore, String> {
    let mut wait = RETRY_MIN;
    loop {
        match connect(spec).await {
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

async fn connect(spec: &ElementSpec) -> Result<AnyStore, StoreError> {
    match &spec.store {
        StoreAccess::Served { address, token } => {
            let address: Address = address.parse().map_err(|fault| StoreError::Refused {
                attempted: "reading the store's address".to_owned(),
                reason: format!("{fault}"),
                cure: "start agent and manager of the same version".to_owned(),
            })?;
            Ok(AnyStore::Served(
                Served::connect(address, Token::new(token)).await?,
            ))
        }
        StoreAccess::Redis {
            url,
            user,
            password,
        } => {
            let url = with_credentials(url, user.as_deref(), password.as_deref());
            let settings = RedisSettings::new(&url, spec.application.clone());
            Ok(AnyStore::Redis(RedisStore::connect(settings).await?))
        }
    }
}

/// Puts credentials where a Redis URL has them.
fn with_credentials(url: &str, user: Option<&str>, password: Option<&str>) -> String {
    match (url.split_once("://"), password) {
        (Some((scheme, rest)), Some(password)) => {
            format!("{scheme}://{}:{password}@{rest}", user.unwrap_or_default())
        }
        (Some(_) | None, _) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_where_a_redis_url_has_them() {
        let url = "redis://127.0.0.1:6379";
        assert_eq!(with_credentials(url, None, None), url);
        assert_eq!(
            with_credentials(url, None, Some("s")),
            "redis://:s@127.0.0.1:6379"
        );
        assert_eq!(
            with_credentials(url, Some("u"), Some("s")),
            "redis://u:s@127.0.0.1:6379"
        );
    }
}
