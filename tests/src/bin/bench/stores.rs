//! Figures of saving, on each stable store beside the limit of its server or disk.

use std::net::{Ipv4Addr, SocketAddr};

use lamplighter_policies::ids::EntityId;
use lamplighter_runtime::managed::{Fsync, ManagedRedis, ManagedRedisSettings};
use lamplighter_runtime::store::embedded::{Embedded, Options};
use lamplighter_runtime::store::redis::{RedisSettings, RedisStore};

use crate::Outcome;
use crate::limits::RedisLimit;
use crate::raw_disk::RawDisk;
use crate::raw_redis::RawRedis;
use crate::report::{Reach, Row, folder};
use crate::saving::{Setting, checkpoint, latency, throughput};

/// Redis that writes to disk every second.
pub(crate) fn redis(rows: &mut Vec<Row>) -> Outcome<()> {
    on_redis(Fsync::EverySecond, "Redis everysec", [1.5, 2.0], rows)
}

/// Redis that writes to disk before each reply.
pub(crate) fn redis_always(rows: &mut Vec<Row>) -> Outcome<()> {
    on_redis(Fsync::Always, "Redis always", [1.3, 2.0], rows)
}

fn on_redis(fsync: Fsync, name: &'static str, reach: [f64; 2], rows: &mut Vec<Row>) -> Outcome<()> {
    runtime()?.block_on(async {
        let folder = tempfile::tempdir_in(folder()?)?;
        let mut settings = ManagedRedisSettings::new(folder.path());
        settings.fsync = fsync;
        // A rewrite in the middle of a round would count for whoever happens to be measured.
        settings
            .more
            .push(("auto-aof-rewrite-percentage".into(), "0".into()));
        let server = ManagedRedis::start(&settings).await?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()));
        let store = RedisStore::connect(RedisSettings::new(&server.url(), application())).await?;
        let limit = RedisLimit {
            raw: RawRedis::connect(address)?,
            fsync,
        };
        let reach = reach.map(|factor| Some(Reach::RatioAtLeast(factor)));
        let mut setting = Setting {
            store,
            name,
            limit,
            reach,
        };
        throughput(&mut setting, rows).await?;
        latency(&mut setting, rows).await?;
        checkpoint(&setting, rows).await?;
        server.stop().await?;
        Ok(())
    })
}

/// The embedded store, in this process, on the disk that holds the build.
pub(crate) fn embedded(rows: &mut Vec<Row>) -> Outcome<()> {
    runtime()?.block_on(async {
        let folder = tempfile::tempdir_in(folder()?)?;
        let store = Embedded::open(&folder.path().join("store"), Options::default())?;
        let mut setting = Setting {
            store,
            name: "embedded",
            limit: RawDisk::create(folder.path())?,
            reach: [None, None],
        };
        throughput(&mut setting, rows).await?;
        latency(&mut setting, rows).await?;
        checkpoint(&setting, rows).await?;
        setting.store.close().await;
        Ok(())
    })
}

/// What a host has: one thread, so that the server has the other core.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn application() -> EntityId {
    EntityId::new("bench").expect("it is an id")
}
