//! What an application under measurement runs on: a broker of ours and one of the stores.

use std::path::Path;

use lamplighter_policies::ids::EntityId;
use lamplighter_runtime::broker::mosquitto::ManagedMosquitto;
use lamplighter_runtime::managed::{ManagedRedis, ManagedRedisSettings};
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::redis::{RedisSettings, RedisStore};
use lamplighter_runtime::store::served::{Served, Token};
use lamplighter_runtime::transport::tls::Security;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::brokers::mosquitto;
use crate::report::folder;
use crate::stores::runtime;
use crate::system::System;

/// Broker, store and application, and what is measured with them.
pub(crate) struct Servers {
    /// Which store, for names of figures.
    pub(crate) name: &'static str,
    /// Where the broker is.
    pub(crate) broker: String,
    /// The application.
    pub(crate) system: System,
    runtime: Runtime,
    redis: Option<String>,
}

impl Servers {
    /// A connection to the store of the application, as a host has it.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub(crate) fn store(&self) -> Outcome<AnyStore> {
        self.runtime.block_on(async {
            if let Some(url) = &self.redis {
                let settings = RedisSettings::new(url, EntityId::new("bench")?);
                return Outcome::Ok(AnyStore::Redis(RedisStore::connect(settings).await?));
            }
            let read = |name| std::fs::read_to_string(self.system.directory.join(name));
            let address = read("store.address")?.trim().parse()?;
            let token = Token::new(read("store.token")?.trim());
            Ok(AnyStore::Served(
                Served::connect(address, token, Security::LoopbackOnly).await?,
            ))
        })
    }

    /// What drives connections to the store.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

/// Runs an application of these elements on Redis, then on the embedded store, and measures each.
///
/// # Errors
/// What could not be started, and those of `measure`.
pub(crate) fn on_each_store(
    elements: &str,
    mut measure: impl FnMut(&mut Servers) -> Outcome<()>,
) -> Outcome<()> {
    for name in ["Redis everysec", "embedded"] {
        let runtime = runtime()?;
        let folder = tempfile::tempdir_in(folder()?)?;
        let broker: ManagedMosquitto = runtime.block_on(mosquitto(folder.path()))?;
        let redis = match name {
            "embedded" => None,
            _ => Some(runtime.block_on(redis(folder.path()))?),
        };
        let url = redis.as_ref().map(ManagedRedis::url);
        let store = url.as_ref().map_or_else(
            || "kind = \"embedded\"".to_owned(),
            |url| format!("kind = \"redis\"\nurl = \"{url}\""),
        );
        let address = broker.address().url;
        let system = System::start(folder.path(), &address, &store, elements)?;
        let mut servers = Servers {
            name,
            broker: address,
            system,
            runtime,
            redis: url,
        };
        measure(&mut servers).map_err(|fault| format!("{name}: {fault}"))?;
        let Servers {
            system, runtime, ..
        } = servers;
        drop(system);
        runtime.block_on(broker.stop())?;
        if let Some(redis) = redis {
            runtime.block_on(redis.stop())?;
        }
    }
    Ok(())
}

async fn redis(folder: &Path) -> Outcome<ManagedRedis> {
    let mut settings = ManagedRedisSettings::new(&folder.join("redis"));
    // A rewrite in the middle of a round would count for whoever happens to be measured.
    settings
        .more
        .push(("auto-aof-rewrite-percentage".into(), "0".into()));
    Ok(ManagedRedis::start(&settings).await?)
}
