//! One connection: one Paho client, from connecting to its end.

use std::mem::ManuallyDrop;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use paho_mqtt::{
    AsyncClient, ConnectOptions, ConnectOptionsBuilder, ConnectToken, CreateOptionsBuilder,
    DeliveryToken, DisconnectOptionsBuilder, Error, Message, MessageBuilder, MqttVersion,
    PersistenceType, Properties, PropertyCode, ReasonCode, RetainHandling, SubscribeOptions,
};
use tokio::sync::mpsc;

use super::cut::{SocketId, cut, sockets_to};
use super::reception::{Handler, NotTaken, receive};
use super::{MqttOptions, QualityOfService, Subscription};
use crate::broker::{Endpoint, PAYLOAD_BYTES_MAX};
use crate::clock;

/// How many QoS 1 messages the broker may send before it has to wait for our acknowledgements.
const RECEIVE_MAX: u16 = 100;
/// Room for topic and properties beside the largest payload.
const PACKET_OVERHEAD_BYTES: usize = 64 << 10;
/// Mosquitto looks for silent clients every 5 s, beyond the 1.5 keep-alives that the standard grants.
const BROKER_NOTICES_WITHIN: Duration = Duration::from_secs(6);

/// Paho has a time-out of its own for connecting, and looks every 3 s whether it is over. Nobody tries
/// again before it is: two that connect under one name would throw each other out.
const LIBRARY_NOTICES_WITHIN: Duration = Duration::from_secs(4);

/// Far longer than a callback of the library takes to return.
const CALLBACK_LASTS: Duration = Duration::from_secs(1);

/// Numbers the connections of this process.
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

static CONNECTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What is cut to keep an acknowledgement from leaving.
struct Cutting {
    peers: Vec<SocketAddr>,
    /// Our socket, once it is known.
    socket: Arc<OnceLock<SocketId>>,
}

/// What ends a connection, as Paho's callbacks tell it.
#[derive(Debug)]
pub(super) enum Ended {
    /// The connection broke.
    Lost(String),
    /// The broker gave our client id to another client.
    TakenOver,
}

/// An open connection, subscribed.
pub(super) struct Connection {
    client: AsyncClient,
    pub(super) session_present: bool,
    pub(super) ended: mpsc::UnboundedReceiver<Ended>,
    /// How many QoS 1 publications were given to this client and not acknowledged.
    pub(super) unacknowledged_count: usize,
    /// Whether it ended in order, so that the library has nothing more to say of it.
    is_closed: bool,
}

impl Drop for Connection {
    /// A client that was not closed in order is disconnected and leaked, a few kilobytes for each
    /// connection that broke, for two reasons. When writing a QoS 1 publication fails, Paho C 1.3.16
    /// frees its topic and payload (`MQTTAsync_processCommand`) and keeps it in the session, so that
    /// destroying the client frees them again. And each operation that is under way holds the client:
    /// where it is the last to do so, the library would destroy the client within its own callback, and
    /// wait for itself for ever.
    fn drop(&mut self) {
        if !self.is_closed {
            drop(self.client.disconnect(None));
            std::mem::forget(self.client.clone());
        }
    }
}

/// Lets go of a client that could not connect, once the library has nothing more to say of it: until
/// then it holds the client too, and must not be the last to do so (see [`Connection`]). If this
/// process ends first, the client is leaked.
fn retire(client: ManuallyDrop<AsyncClient>, connecting: Option<ConnectToken>) {
    tokio::spawn(async move {
        if let Some(connecting) = connecting {
            let outcome = connecting.await;
            tracing::debug!(is_connected = outcome.is_ok(), "a broker's late answer");
        }
        // The library is at the end of its callback, which lasts microseconds.
        tokio::time::sleep(CALLBACK_LASTS).await;
        drop(ManuallyDrop::into_inner(client));
    });
}

/// Connects and subscribes. The error is a sentence part for people.
pub(super) async fn open(
    options: &MqttOptions,
    endpoint: &Endpoint,
    clean_start: bool,
    subscriptions: &[Subscription],
    handler: &Handler,
) -> Result<Connection, String> {
    keep_the_library_running();
    let peers = resolve(endpoint)?;
    let client = create(options, endpoint).map_err(|error| error.to_string())?;
    let (tell, ended) = mpsc::unbounded_channel();
    let socket = Arc::new(OnceLock::new());
    listen(
        &client,
        options,
        Cutting {
            peers: peers.clone(),
            socket: Arc::clone(&socket),
        },
        handler,
        &tell,
    );
    // One connects at a time, so that the new socket is known for ours.
    let alone = CONNECTING.lock().await;
    let before = sockets_to(&peers).unwrap_or_default();
    let connecting = client.connect(connect_options(options, endpoint, clean_start)?);
    let began = clock::monotonic();
    // If nobody waits any more for the outcome, this one is never dropped; see `retire`.
    let held = ManuallyDrop::new(client.clone());
    let mut connecting = connecting;
    let patience = options.connect_within + LIBRARY_NOTICES_WITHIN;
    let (answer, rest) = match tokio::time::timeout(patience, &mut connecting).await {
        Ok(answer) => (answer.map_err(|error| explain(&error)), None),
        Err(_) => (Err(String::new()), Some(connecting)),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(reason) => {
            retire(held, rest);
            let in_time = clock::monotonic() - began < options.connect_within;
            let late = || format!("it did not answer within {:?}", options.connect_within);
            return Err(if in_time { reason } else { late() });
        }
    };
    drop(ManuallyDrop::into_inner(held));
    let after = sockets_to(&peers).unwrap_or_default();
    if let [new] = after.difference(&before).collect::<Vec<_>>().as_slice() {
        socket.get_or_init(|| (*new).clone());
    }
    drop(alone);
    let session_present = answer
        .connect_response()
        .is_some_and(|answer| answer.session_present);
    let connection = Connection {
        client,
        session_present,
        ended,
        unacknowledged_count: 0,
        is_closed: false,
    };
    connection
        .subscribe(subscriptions, options.connect_within)
        .await?;
    Ok(connection)
}

impl Connection {
    /// Subscribes; a session may not have what we want now, and a broker may have lost it. What is
    /// subscribed already is not disturbed.
    pub(super) async fn subscribe(
        &self,
        subscriptions: &[Subscription],
        within: Duration,
    ) -> Result<(), String> {
        if subscriptions.is_empty() {
            return Ok(());
        }
        let filters: Vec<&str> = subscriptions
            .iter()
            .map(|each| each.filter.as_str())
            .collect();
        let qualities: Vec<_> = subscriptions
            .iter()
            .map(|each| each.quality.to_paho())
            .collect();
        let new_only = SubscribeOptions::with_retain_handling(RetainHandling::SendRetainedOnNew);
        let each: Vec<_> = subscriptions.iter().map(|_| new_only).collect();
        let subscribing = self
            .client
            .subscribe_many_with_options(&filters, &qualities, &each, None);
        let answer = tokio::time::timeout(within, subscribing)
            .await
            .map_err(|_| format!("it did not answer a subscription within {within:?}"))?
            .map_err(|error| format!("it refused to subscribe us: {}", explain(&error)))?;
        let granted = answer.subscribe_many_response().unwrap_or_default();
        match filters.iter().zip(granted).find(|(_, code)| *code >= 0x80) {
            Some((filter, code)) => Err(format!("it refused us {filter} (code {code:#x})")),
            None => Ok(()),
        }
    }

    /// Unsubscribes from what is not wanted any more.
    pub(super) async fn unsubscribe(&self, filters: &[&str], within: Duration) {
        if filters.is_empty() {
            return;
        }
        let asked = self.client.unsubscribe_many(filters);
        // Whatever still comes is turned down by the handler, so this is only a courtesy.
        if !matches!(tokio::time::timeout(within, asked).await, Ok(Ok(_))) {
            tracing::warn!(
                ?filters,
                "the broker did not confirm the end of subscriptions"
            );
        }
    }

    /// Gives a message to Paho; the future is its acknowledgement (QoS 1), or that it was written.
    pub(super) fn publish(&mut self, message: Message) -> Result<DeliveryToken, Error> {
        let counts = message.qos() != paho_mqtt::QoS::AtMostOnce;
        let token = self.client.try_publish(message)?;
        self.unacknowledged_count += usize::from(counts);
        Ok(token)
    }

    /// Says good-bye, so that the broker need not find out.
    pub(super) async fn close(mut self, within: Duration) {
        let options = DisconnectOptionsBuilder::new().timeout(within).finalize();
        let leaving = self.client.disconnect(options);
        let left = tokio::time::timeout(within + Duration::from_millis(500), leaving).await;
        self.is_closed = left.is_ok() && self.unacknowledged_count == 0;
        if left.is_err() {
            tracing::debug!("the broker did not notice that we left");
        }
    }
}

fn create(options: &MqttOptions, endpoint: &Endpoint) -> Result<AsyncClient, Error> {
    let Endpoint { tls, host, port } = endpoint;
    let scheme = if *tls { "mqtts" } else { "mqtt" };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    CreateOptionsBuilder::new()
        .mqtt_version(MqttVersion::V5)
        .server_uri(format!("{scheme}://{host}:{port}"))
        .client_id(options.client_id.clone())
        .persistence(PersistenceType::None)
        .send_while_disconnected(false)
        // Both qualities of service at their limits, and a few for subscriptions: never reached.
        .max_buffered_messages(2 * i32::from(options.in_flight_max) + 16)
        .create_client()
}

fn connect_options(
    options: &MqttOptions,
    endpoint: &Endpoint,
    clean_start: bool,
) -> Result<ConnectOptions, String> {
    let mut properties = Properties::new();
    // Without a session Paho would free its publications at the end of a connection; see `Connection`.
    let seconds = u32::try_from(options.session_expiry.as_secs())
        .unwrap_or(u32::MAX)
        .max(1);
    let packet = u32::try_from(PAYLOAD_BYTES_MAX + PACKET_OVERHEAD_BYTES).unwrap_or(u32::MAX);
    properties
        .push_u32(PropertyCode::SessionExpiryInterval, seconds)
        .and_then(|()| properties.push_u16(PropertyCode::ReceiveMaximum, RECEIVE_MAX))
        .and_then(|()| properties.push_u32(PropertyCode::MaximumPacketSize, packet))
        .map_err(|error| error.to_string())?;
    let mut connect = ConnectOptionsBuilder::new_v5();
    connect
        .clean_start(clean_start)
        .keep_alive_interval(keep_alive(options))
        .connect_timeout(options.connect_within.max(Duration::from_secs(1)))
        .max_inflight(i32::from(options.in_flight_max))
        .properties(properties);
    if let Some(user) = &options.address.user {
        connect.user_name(user);
    }
    if let Some(password) = &options.address.password {
        connect.password(password.as_str());
    }
    if endpoint.tls {
        let verified = paho_mqtt::SslOptionsBuilder::new().verify(true).finalize();
        connect.ssl_options(verified);
    }
    Ok(connect.finalize())
}

fn keep_alive(options: &MqttOptions) -> Duration {
    let seconds = options
        .keep_alive
        .as_millis()
        .div_ceil(1_000)
        .clamp(1, 65_535);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(1))
}

/// Sets the callbacks. None of them lets a panic out, and none calls back into Paho.
fn listen(
    client: &AsyncClient,
    options: &MqttOptions,
    cutting: Cutting,
    handler: &Handler,
    tell: &mpsc::UnboundedSender<Ended>,
) {
    let lost = tell.clone();
    // A failed send means that nobody cares for this connection any more.
    client.set_connection_lost_callback(move |_| {
        lost.send(Ended::Lost("the connection broke".to_owned()))
            .ok();
    });
    let closed = tell.clone();
    client.set_disconnected_callback(move |_, _, reason| {
        let ended = if reason == ReasonCode::SessionTakenOver {
            Ended::TakenOver
        } else {
            Ended::Lost(format!("the broker closed the connection: {reason}"))
        };
        closed.send(ended).ok();
    });
    let refused = tell.clone();
    let handler = Arc::clone(handler);
    let log_within = options.log_within;
    let hold = keep_alive(options) * 3 / 2 + BROKER_NOTICES_WITHIN;
    let is_cut = AtomicBool::new(false);
    let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    client.set_message_callback(move |_, message| {
        // Paho passes nothing when the connection is lost, which the other callbacks tell us.
        let Some(message) = message else { return };
        // Behind a refused message everything else is refused too, or it would overtake it.
        if is_cut.load(Ordering::Acquire) {
            return;
        }
        let Err(NotTaken(reason)) = receive(&handler, &message, connection, log_within) else {
            return;
        };
        tracing::warn!(topic = message.topic(), reason, "a message was not taken");
        if QualityOfService::from_paho(message.qos()) == QualityOfService::AtLeastOnce {
            is_cut.store(true, Ordering::Release);
            cut_or_hold(&cutting, hold);
            refused
                .send(Ended::Lost(format!("a message was not taken: {reason}")))
                .ok();
        }
    });
}

/// Makes sure that the acknowledgement of the message in hand cannot reach the broker.
fn cut_or_hold(cutting: &Cutting, hold: Duration) {
    match cut(&cutting.peers, cutting.socket.get()) {
        Ok(count) if count > 0 => {}
        Ok(_) => tracing::debug!("the connection was gone before it could be cut"),
        Err(error) => {
            tracing::error!(
                %error,
                ?hold,
                "the connection cannot be cut; holding it until the broker closes it"
            );
            std::thread::sleep(hold);
        }
    }
}

/// Paho stops its threads with its last client and starts them with the next; doing that while
/// another thread connects is not safe, and slow. A client that is never used prevents it.
fn keep_the_library_running() {
    static ANCHOR: OnceLock<Option<AsyncClient>> = OnceLock::new();
    ANCHOR.get_or_init(|| {
        let options = CreateOptionsBuilder::new()
            .server_uri("mqtt://127.0.0.1:9")
            .client_id("anchor")
            .persistence(PersistenceType::None);
        options.create_client().ok()
    });
}

fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, String> {
    let addresses = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
    match addresses.map(Iterator::collect::<Vec<_>>) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(format!("the name {} has no address", endpoint.host)),
        Err(error) => Err(format!(
            "the name {} cannot be resolved ({error})",
            endpoint.host
        )),
    }
}

/// Paho's words, or clearer ones.
fn explain(error: &Error) -> String {
    if let Error::ReasonCode(reason, _) = error
        && matches!(
            reason,
            ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized
        )
    {
        return "it refused the user or the password".to_owned();
    }
    let unanswered = matches!(
        error,
        Error::TcpConnectCompletionFailure | Error::TcpTlsConnectFailure
    );
    if unanswered || matches!(error, Error::SocketError(_)) {
        return "nothing accepts connections there, or not this kind of them".to_owned();
    }
    error.to_string()
}

/// A message for Paho. Never retained: a command that outlives its sender would be carried out by a
/// device that has just been switched on.
pub(super) fn message(
    topic: &str,
    payload: &[u8],
    quality: QualityOfService,
    expiry: Option<Duration>,
    user_properties: &[(String, String)],
) -> Result<Message, Error> {
    let mut properties = Properties::new();
    if let Some(expiry) = expiry {
        let seconds = u32::try_from(expiry.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
        properties.push_u32(PropertyCode::MessageExpiryInterval, seconds)?;
    }
    for (key, value) in user_properties {
        properties.push_string_pair(PropertyCode::UserProperty, key, value)?;
    }
    let builder = MessageBuilder::new()
        .topic(topic)
        .payload(payload)
        .qos(quality.to_paho());
    Ok(builder.retained(false).properties(properties).finalize())
}
