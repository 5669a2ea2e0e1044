//! Messages over MQTT 5 (paper, 3.1: bindings), by Paho, set up in the one way that keeps our promises.
//!
//! What Paho does, and what follows from it:
//!
//! - It has **one receive thread for all clients of a process**, and runs callbacks in it while it
//!   holds the lock that publishing needs. So a [`Handler`] that waits for the log stalls every client
//!   of the process, and a thread that publishes stalls with it. Every call into Paho is therefore made
//!   by a thread of our own, one per [`Mqtt`]; `publish` and the rest never block. A host has one client,
//!   and nothing that the log waits for may itself wait for MQTT.
//! - It sends **PUBACK as soon as the callback returns**, whatever the callback returns. So a QoS 1
//!   message is logged *inside* the callback: it waits for the [`Receipt`]. When that is not signed in
//!   time, the socket is shut down before the callback returns, so that the PUBACK cannot leave and the
//!   broker sends the message again. If the system does not allow that, the callback is held
//!   until the broker has closed the connection for want of a keep-alive.
//! - Its own reconnection counts in whole seconds, and a client that was reconnected can acknowledge
//!   messages before it delivers them. So each connection is **a new Paho client** with the same client
//!   id: the session lives in the broker, and what was not acknowledged lives here.
//! - A QoS 1 publication that it fails to write is freed twice when its client is destroyed, so such a
//!   client is leaked instead.
//! - A panic in a callback would end the process, so it is caught and counts as a refusal.

mod connection;
mod courier;
mod cut;
mod reception;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::broker::{AddressError, BrokerAddress, Endpoint};
pub use reception::{Handler, Incoming, Receipt, Reception, Signature, receipt};

/// How a client connects.
#[derive(Clone, Debug)]
pub struct MqttOptions {
    /// Which broker.
    pub address: BrokerAddress,
    /// Names the session in the broker: stable over restarts, and used by one process at a time,
    /// because the broker closes the older connection of the same name.
    pub client_id: String,
    /// Whether the first connection discards what the broker has kept for this client id. Later
    /// connections always take the session up again.
    pub clean_start: bool,
    /// How long the broker keeps the session and its queue while we are away.
    pub session_expiry: Duration,
    /// How soon a silent connection is noticed; rounded up to whole seconds, at least 1 s.
    pub keep_alive: Duration,
    /// How long connecting may take before it is tried again.
    pub connect_within: Duration,
    /// How long a message may wait to be logged before it is refused.
    pub log_within: Duration,
    /// How many publications of each quality of service may be unfinished, 1..=60 000.
    pub in_flight_max: u16,
}

impl MqttOptions {
    /// What an element's host uses: a session that outlives it by a day, and a second of keep-alive.
    pub fn new(address: BrokerAddress, client_id: impl Into<String>) -> Self {
        Self {
            address,
            client_id: client_id.into(),
            clean_start: false,
            session_expiry: Duration::from_secs(86_400),
            keep_alive: Duration::from_secs(2),
            connect_within: Duration::from_secs(3),
            log_within: Duration::from_secs(2),
            in_flight_max: 1_024,
        }
    }

    fn check(&self) -> Result<Endpoint, MqttError> {
        let endpoint = self.address.parse()?;
        if endpoint.tls && !cfg!(feature = "mqtt-tls") {
            return Err(MqttError::TlsNotBuilt {
                url: self.address.url.clone(),
            });
        }
        let refused = |reason: &str| {
            Err(MqttError::Refused {
                reason: reason.to_owned(),
            })
        };
        if self.client_id.is_empty() || self.client_id.len() > 256 {
            return refused("a client id has 1 to 256 bytes, because it names the session");
        }
        if self
            .client_id
            .chars()
            .any(|c| c.is_control() || "+#$/".contains(c))
        {
            return refused("a client id has no control characters and none of + # $ /");
        }
        if !(1..=60_000).contains(&self.in_flight_max) {
            return refused("1 to 60000 publications may be unfinished");
        }
        Ok(endpoint)
    }
}

/// How hard a message is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QualityOfService {
    /// QoS 0: between elements, which acknowledge end to end.
    AtMostOnce,
    /// QoS 1: from and to appliances. May arrive more than once.
    AtLeastOnce,
}

impl QualityOfService {
    fn to_paho(self) -> paho_mqtt::QoS {
        match self {
            Self::AtMostOnce => paho_mqtt::QoS::AtMostOnce,
            Self::AtLeastOnce => paho_mqtt::QoS::AtLeastOnce,
        }
    }

    fn from_paho(quality: paho_mqtt::QoS) -> Self {
        match quality {
            paho_mqtt::QoS::AtMostOnce => Self::AtMostOnce,
            // QoS 2 is never subscribed to; if a broker sends it, it is at least once.
            paho_mqtt::QoS::AtLeastOnce | paho_mqtt::QoS::ExactlyOnce => Self::AtLeastOnce,
        }
    }
}

/// What to receive, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// A topic, possibly with wildcards.
    pub filter: String,
    /// The most that is asked of the broker.
    pub quality: QualityOfService,
}

/// How to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// How hard it is tried.
    pub quality: QualityOfService,
    /// How long it is of use: the broker drops it afterwards (counted in whole seconds, rounded up),
    /// and so do we while there is no connection.
    pub expiry: Option<Duration>,
    /// How long it may wait for a connection that takes it; then it is given back with
    /// [`PublishError::Disconnected`]. For what is allowed to leave for a while only.
    pub leaves_within: Option<Duration>,
    /// What is attached to it.
    pub user_properties: Vec<(String, String)>,
    /// Whether it goes over one connection only, also where that breaks before the broker's answer.
    /// Of QoS 1; for what must not be done twice.
    pub once: bool,
}

impl Publish {
    /// QoS 0, without expiry.
    pub fn at_most_once() -> Self {
        let quality = QualityOfService::AtMostOnce;
        Self {
            quality,
            expiry: None,
            leaves_within: None,
            user_properties: Vec::new(),
            once: false,
        }
    }

    /// QoS 1, without expiry.
    pub fn at_least_once() -> Self {
        let quality = QualityOfService::AtLeastOnce;
        Self {
            quality,
            expiry: None,
            leaves_within: None,
            user_properties: Vec::new(),
            once: false,
        }
    }
}

/// How it stands between us and the broker. Only the latest state is kept: `count` tells whether
/// there was another connection in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not connected; being tried until it works.
    Connecting {
        /// How often it failed since the last connection.
        attempts: u32,
        /// Why it is not connected, if it was tried.
        reason: Option<String>,
    },
    /// Connected and subscribed.
    Connected {
        /// Whether the broker still had our session, with what it queued.
        session_present: bool,
        /// How many connections there have been, this one included.
        count: u64,
    },
    /// The broker said that another client connected with our client id. We stay away, or the two
    /// would throw each other out for ever. Neither the embedded broker nor Mosquitto 2.0 is heard
    /// to say so: there the two take turns, at most once a second, until the store fences the older one off.
    TakenOver,
    /// Ended, because it was asked to.
    Stopped,
}

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MqttError {
    /// The broker's URL cannot be used.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// TLS was asked for, and this program was built without it.
    #[error(
        "{url} asks for TLS, which this program was built without; build lamplighter-runtime with \
         --features mqtt-tls (it needs libssl-dev and pkg-config), or use mqtt://"
    )]
    TlsNotBuilt {
        /// As it was given.
        url: String,
    },
    /// An option cannot be used.
    #[error("the MQTT client is not started: {reason}")]
    Refused {
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// There is no connection yet; it is still being tried.
    #[error(
        "the broker at {url} cannot be reached: {reason}; start it, or correct [broker] in the \
         topology"
    )]
    Unreachable {
        /// Which broker.
        url: String,
        /// Why the last attempt failed.
        reason: String,
    },
    /// The client is over.
    #[error("the MQTT client {client_id} is over: {reason}")]
    Over {
        /// Which client.
        client_id: String,
        /// Stopped, or taken over.
        reason: String,
    },
}

/// Why a publication did not reach the broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Too many are unfinished. It was not accepted: try again when others have finished.
    #[error("{in_flight_max} publications are unfinished; wait until some have been acknowledged")]
    Full {
        /// The limit.
        in_flight_max: u16,
    },
    /// It cannot be published at all.
    #[error("it cannot be published to {topic:?}: {reason}")]
    Refused {
        /// Where to.
        topic: String,
        /// Why not.
        reason: String,
    },
    /// A QoS 0 publication met no connection, or a connection that broke; or one that was to leave
    /// within a while did not. It may have arrived.
    #[error("the broker is not connected")]
    Disconnected,
    /// Its expiry passed before it was acknowledged. It may have arrived.
    #[error("it expired before the broker took it")]
    Expired,
    /// It was to go over one connection only, and that broke. Nobody knows whether it arrived.
    #[error("the connection broke before the broker answered, and it must not be sent again")]
    Unknown,
    /// The client is over. It may have arrived.
    #[error("the MQTT client has ended")]
    Over,
}

/// A client of one broker. Clones are the same client, which disconnects when the last is dropped.
#[derive(Clone, Debug)]
pub struct Mqtt {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    url: String,
    client_id: String,
    in_flight_max: u16,
    at_most_once: Arc<Semaphore>,
    at_least_once: Arc<Semaphore>,
    commands: mpsc::UnboundedSender<courier::Command>,
    state: watch::Receiver<ConnectionState>,
}

impl Mqtt {
    /// Starts a client that connects, subscribes, and does so again whenever the connection is lost.
    /// It returns at once; [`Mqtt::connected`] waits.
    pub fn start(
        options: MqttOptions,
        subscriptions: Vec<Subscription>,
        handler: Handler,
    ) -> Result<Self, MqttError> {
        let endpoint = options.check()?;
        for subscription in &subscriptions {
            if let Err(reason) = check_topic(&subscription.filter, true) {
                let reason = format!(
                    "{:?} cannot be subscribed to: {reason}",
                    subscription.filter
                );
                return Err(MqttError::Refused { reason });
            }
        }
        let permits = usize::from(options.in_flight_max);
        let (commands, inbox) = mpsc::unbounded_channel();
        let (state, watched) = watch::channel(ConnectionState::Connecting {
            attempts: 0,
            reason: None,
        });
        let shared = Shared {
            url: options.address.url.clone(),
            client_id: options.client_id.clone(),
            in_flight_max: options.in_flight_max,
            at_most_once: Arc::new(Semaphore::new(permits)),
            at_least_once: Arc::new(Semaphore::new(permits)),
            commands,
            state: watched,
        };
        courier::spawn(options, endpoint, subscriptions, handler, inbox, state)?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Gives a message to the broker without waiting; the result is the broker's acknowledgement
    /// (QoS 1) or that it was written to the socket (QoS 0).
    ///
    /// QoS 1 publications survive lost connections: they are sent again, in order, on the next one, and may
    /// arrive twice. QoS 0 needs a connection. Nothing is ever retained.
    pub fn publish(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        publish: Publish,
    ) -> Result<Publication, PublishError> {
        let payload = payload.into();
        check_publication(topic, &payload, &publish).map_err(|reason| PublishError::Refused {
            topic: topic.to_owned(),
            reason,
        })?;
        let semaphore = match publish.quality {
            QualityOfService::AtMostOnce => &self.shared.at_most_once,
            QualityOfService::AtLeastOnce => &self.shared.at_least_once,
        };
        let permit = Arc::clone(semaphore)
            .try_acquire_owned()
            .map_err(|_| PublishError::Full {
                in_flight_max: self.shared.in_flight_max,
            })?;
        let (reply, acknowledged) = oneshot::channel();
        let outgoing = courier::Outgoing::new(topic, payload, publish, reply, permit);
        self.shared
            .commands
            .send(courier::Command::Publish(outgoing))
            .map_err(|_| PublishError::Over)?;
        Ok(Publication(acknowledged))
    }

    /// Replaces what is subscribed to, at once if connected, else with the next connection.
    pub fn subscribe(&self, subscriptions: Vec<Subscription>) -> Result<(), MqttError> {
        for subscription in &subscriptions {
            if let Err(reason) = check_topic(&subscription.filter, true) {
                let reason = format!(
                    "{:?} cannot be subscribed to: {reason}",
                    subscription.filter
                );
                return Err(MqttError::Refused { reason });
            }
        }
        let command = courier::Command::Subscribe(subscriptions);
        self.shared
            .commands
            .send(command)
            .map_err(|_| self.over("it was stopped"))
    }

    /// How it stands between us and the broker, and every change of it.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.shared.state.clone()
    }

    /// Waits until it is connected and subscribed, at most `within`; afterwards it goes on trying.
    pub async fn connected(&self, within: Duration) -> Result<(), MqttError> {
        let mut state = self.shared.state.clone();
        let over = |state: &ConnectionState| !matches!(state, ConnectionState::Connecting { .. });
        let waited = tokio::time::timeout(within, state.wait_for(over)).await;
        let latest = match waited {
            Ok(Ok(latest)) => latest.clone(),
            Ok(Err(_)) => ConnectionState::Stopped,
            Err(_) => self.shared.state.borrow().clone(),
        };
        match latest {
            ConnectionState::Connected { .. } => Ok(()),
            ConnectionState::Connecting { reason, .. } => Err(MqttError::Unreachable {
                url: self.shared.url.clone(),
                reason: reason.unwrap_or_else(|| format!("it did not answer within {within:?}")),
            }),
            ConnectionState::TakenOver => Err(self.over("another client took its client id")),
            ConnectionState::Stopped => Err(self.over("it was stopped")),
        }
    }

    /// Lets unfinished publications finish, at most `within`, and disconnects. The broker keeps the
    /// session.
    pub async fn disconnect(&self, within: Duration) {
        let (reply, done) = oneshot::channel();
        let command = courier::Command::Disconnect { within, reply };
        if self.shared.commands.send(command).is_ok() {
            // An error means that it ended before it could answer, which is what was asked for.
            done.await.ok();
        }
    }

    fn over(&self, reason: &str) -> MqttError {
        MqttError::Over {
            client_id: self.shared.client_id.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// The outcome of a publication, some time.
#[derive(Debug)]
pub struct Publication(oneshot::Receiver<Result<(), PublishError>>);

impl Future for Publication {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|reply| reply.unwrap_or(Err(PublishError::Over)))
    }
}

fn check_publication(topic: &str, payload: &[u8], publish: &Publish) -> Result<(), String> {
    check_topic(topic, false)?;
    let limit = crate::broker::PAYLOAD_BYTES_MAX;
    if payload.len() > limit {
        return Err(format!(
            "its payload has {} bytes, {limit} are allowed",
            payload.len()
        ));
    }
    let properties = &publish.user_properties;
    let fits = |text: &String| text.len() <= 1_024 && !text.contains('\0');
    if properties.len() > 16
        || !properties
            .iter()
            .all(|(key, value)| fits(key) && fits(value))
    {
        return Err("16 user properties of up to 1024 bytes are allowed".to_owned());
    }
    Ok(())
}

/// Topics reach Paho as C strings, and brokers limit them.
fn check_topic(topic: &str, wildcards: bool) -> Result<(), String> {
    if topic.is_empty() || topic.len() > 1_024 {
        return Err("a topic has 1 to 1024 bytes".to_owned());
    }
    if topic.contains(char::is_control) {
        return Err("a topic has no control characters".to_owned());
    }
    if !wildcards && topic.contains(['+', '#']) {
        return Err("a topic to publish to has no wildcards".to_owned());
    }
    Ok(())
}
