//! The servers of others that `up` manages: Redis and Mosquitto. One that ends is started again where
//! it was, with what it had saved.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use lamplighter_policies::restart::{RestartDecision, RestartHistory, RestartPolicy};
use lamplighter_runtime::broker::mosquitto::{ManagedMosquitto, MosquittoSettings};
use lamplighter_runtime::clock;
use lamplighter_runtime::managed::{ManagedRedis, ManagedRedisSettings};

use super::UpError;

/// The servers that this application has of its own.
pub(super) struct Servers {
    directory: PathBuf,
    mosquitto: Option<ManagedMosquitto>,
    redis: Option<ManagedRedis>,
    history: RestartHistory,
}

/// A server that ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Mosquitto,
    Redis,
}

impl Servers {
    /// None yet; they keep their data below `directory`.
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            mosquitto: None,
            redis: None,
            history: RestartHistory::new(RestartPolicy::default()),
        }
    }

    /// Starts a Redis server and says where it is.
    pub(super) async fn start_redis(&mut self) -> Result<String, UpError> {
        self.redis(None).await
    }

    /// Starts Mosquitto and says where it is.
    pub(super) async fn start_mosquitto(&mut self) -> Result<String, UpError> {
        let settings = MosquittoSettings {
            directory: self.directory.join("mosquitto"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            credentials: None,
        };
        let mosquitto = ManagedMosquitto::start(settings).await?;
        let url = mosquitto.address().url;
        self.mosquitto = Some(mosquitto);
        Ok(url)
    }

    async fn redis(&mut self, port: Option<u16>) -> Result<String, UpError> {
        let directory = self.directory.join("redis");
        let settings = ManagedRedisSettings {
            port,
            ..ManagedRedisSettings::new(&directory)
        };
        let redis = ManagedRedis::start(&settings).await?;
        let url = redis.url();
        self.redis = Some(redis);
        Ok(url)
    }

    /// Waits until one of them ends by itself. Nothing is lost if this is dropped.
    pub(super) async fn ended(&mut self) -> Ended {
        let mosquitto = async {
            match &mut self.mosquitto {
                Some(mosquitto) => mosquitto.ended().await,
                None => std::future::pending().await,
            }
        };
        let redis = async {
            match &mut self.redis {
                Some(redis) => redis.ended().await,
                None => std::future::pending().await,
            }
        };
        let (ended, how) = tokio::select! {
            how = mosquitto => (Ended::Mosquitto, how),
            how = redis => (Ended::Redis, how),
        };
        tracing::warn!(?ended, ?how, "a server ended; it is started again");
        ended
    }

    /// Starts a server that ended again, where its clients look for it.
    pub(super) async fn revive(&mut self, ended: Ended) -> Result<(), UpError> {
        match self.history.failed(clock::monotonic()) {
            RestartDecision::After(wait) => tokio::time::sleep(wait).await,
            RestartDecision::Escalate => {
                let (name, log) = match ended {
                    Ended::Mosquitto => ("Mosquitto", "mosquitto/mosquitto.log"),
                    Ended::Redis => ("Redis", "redis/redis.log"),
                };
                return Err(UpError::Failed {
                    name: name.to_owned(),
                    how: "ended".to_owned(),
                    log: self.directory.join(log),
                });
            }
        }
        match ended {
            Ended::Mosquitto => {
                if let Some(before) = self.mosquitto.take() {
                    let settings = before.settings().clone();
                    drop(before);
                    self.mosquitto = Some(ManagedMosquitto::start(settings).await?);
                }
            }
            Ended::Redis => {
                let port = self.redis.take().map(|before| before.port());
                self.redis(port).await?;
            }
        }
        Ok(())
    }

    /// Stops them in order.
    pub(super) async fn stop(&mut self) {
        if let Some(mosquitto) = self.mosquitto.take()
            && let Err(error) = mosquitto.stop().await
        {
            tracing::warn!(%error, "Mosquitto did not stop in order");
        }
        if let Some(redis) = self.redis.take()
            && let Err(error) = redis.stop().await
        {
            tracing::warn!(%error, "Redis did not stop in order");
        }
    }
}
