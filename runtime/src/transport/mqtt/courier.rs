//! The thread that talks to Paho for one client: it connects, publishes, and connects again.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lamplighter_policies::time::Monotonic;
use rand::Rng;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::connection::{self, Connection, Ended};
use super::reception::Handler;
use super::{
    ConnectionState, MqttError, MqttOptions, Publish, PublishError, QualityOfService, Subscription,
};
use crate::broker::Endpoint;
use crate::clock::monotonic;

/// The first pause before connecting again; it doubles up to [`PAUSE_MAX`], each with up to half of it
/// more at random, so that the clients of a broker that comes back do not arrive together.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A connection that held this long makes the next pause a short one again.
const STEADY_AFTER: Duration = Duration::from_secs(2);

pub(super) enum Command {
    Publish(Outgoing),
    Subscribe(Vec<Subscription>),
    Disconnect {
        within: Duration,
        reply: oneshot::Sender<()>,
    },
}

/// A publication on its way.
pub(super) struct Outgoing {
    topic: String,
    payload: Bytes,
    publish: Publish,
    useful_until: Option<Monotonic>,
    leaves_until: Option<Monotonic>,
    /// Whether a connection was given it.
    was_sent: bool,
    reply: oneshot::Sender<Result<(), PublishError>>,
    /// Counts it as unfinished until it is dropped.
    _permit: OwnedSemaphorePermit,
}

impl Outgoing {
    pub(super) fn new(
        topic: &str,
        payload: Bytes,
        publish: Publish,
        reply: oneshot::Sender<Result<(), PublishError>>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let useful_until = publish.expiry.map(|expiry| monotonic() + expiry);
        let leaves_until = publish.leaves_within.map(|within| monotonic() + within);
        Self {
            topic: topic.to_owned(),
            payload,
            publish,
            useful_until,
            leaves_until,
            was_sent: false,
            reply,
            _permit: permit,
        }
    }

    fn finish(self, outcome: Result<(), PublishError>) {
        // Nobody has to wait for the outcome.
        self.reply.send(outcome).ok();
    }
}

/// Starts the thread.
pub(super) fn spawn(
    options: MqttOptions,
    endpoint: Endpoint,
    subscriptions: Vec<Subscription>,
    handler: Handler,
    commands: mpsc::UnboundedReceiver<Command>,
    state: watch::Sender<ConnectionState>,
) -> Result<(), MqttError> {
    let refused = |error: std::io::Error| MqttError::Refused {
        reason: error.to_string(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.map_err(refused)?;
    let courier = Courier {
        options,
        endpoint,
        subscriptions,
        handler,
        commands,
        state,
        unacknowledged: BTreeMap::new(),
        next_number: 0,
        connection_count: 0,
    };
    std::thread::Builder::new()
        .name("mqtt".to_owned())
        .spawn(move || runtime.block_on(courier.run()))
        .map_err(refused)?;
    Ok(())
}

struct Courier {
    options: MqttOptions,
    endpoint: Endpoint,
    subscriptions: Vec<Subscription>,
    handler: Handler,
    commands: mpsc::UnboundedReceiver<Command>,
    state: watch::Sender<ConnectionState>,
    /// QoS 1 publications in the order they were given to us.
    unacknowledged: BTreeMap<u64, Outgoing>,
    next_number: u64,
    connection_count: u64,
}

/// Why a phase of the courier's life ended.
enum Next {
    /// Connect again.
    Again(String),
    /// Stay away.
    TakenOver,
    /// End, and say so, after letting publications finish for a while.
    Stop(Option<oneshot::Sender<()>>),
}

type Deliveries = FuturesUnordered<Pin<Box<dyn Future<Output = Delivered>>>>;

/// A QoS 1 publication that Paho is done with; `None` for QoS 0, which has been answered.
type Delivered = Option<(u64, Result<(), paho_mqtt::Error>)>;

impl Courier {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        let mut attempts = 0;
        let reply = loop {
            let opened_at = monotonic();
            let next = match self.connect().await {
                Ok(connection) => {
                    attempts = 0;
                    let next = self.serve(connection).await;
                    if monotonic() - opened_at >= STEADY_AFTER {
                        pause = PAUSE_MIN;
                    }
                    next
                }
                Err(next) => next,
            };
            match next {
                Next::Again(reason) => {
                    attempts += 1;
                    tracing::debug!(client_id = self.options.client_id, reason, "not connected");
                    let reason = Some(reason);
                    self.state
                        .send_replace(ConnectionState::Connecting { attempts, reason });
                    let jitter = rand::rng().random_range(1.0..1.5);
                    if let Some(stop) = self.rest(pause.mul_f64(jitter)).await {
                        break stop;
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Next::TakenOver => break self.stay_away().await,
                Next::Stop(reply) => break reply,
            }
        };
        for (_, outgoing) in std::mem::take(&mut self.unacknowledged) {
            outgoing.finish(Err(PublishError::Over));
        }
        self.state.send_replace(ConnectionState::Stopped);
        if let Some(reply) = reply {
            reply.send(()).ok(); // whoever asked may have stopped waiting
        }
    }

    async fn connect(&mut self) -> Result<Connection, Next> {
        let clean_start = self.options.clean_start && self.connection_count == 0;
        let subscriptions = self.subscriptions.clone();
        let (options, endpoint) = (self.options.clone(), self.endpoint.clone());
        let handler = self.handler.clone();
        let opening = connection::open(&options, &endpoint, clean_start, &subscriptions, &handler);
        let mut opening = std::pin::pin!(opening);
        loop {
            tokio::select! {
                opened = &mut opening => {
                    let connection = opened.map_err(Next::Again)?;
                    if self.subscriptions != subscriptions {
                        self.change_subscriptions(&connection, &subscriptions).await;
                    }
                    self.connection_count += 1;
                    self.state.send_replace(ConnectionState::Connected {
                        session_present: connection.session_present,
                        count: self.connection_count,
                    });
                    return Ok(connection);
                }
                command = self.commands.recv() => {
                    if let Some(stop) = self.take_disconnected(command) {
                        return Err(Next::Stop(stop));
                    }
                }
            }
        }
    }

    async fn serve(&mut self, mut connection: Connection) -> Next {
        let mut deliveries = Deliveries::new();
        self.give_up_what_goes_once();
        for number in self.unacknowledged.keys().copied().collect::<Vec<_>>() {
            self.send(number, &mut connection, &deliveries);
        }
        let (within, reply) = loop {
            tokio::select! {
                biased;
                ended = connection.ended.recv() => return match ended {
                    Some(Ended::TakenOver) => Next::TakenOver,
                    Some(Ended::Lost(reason)) => Next::Again(reason),
                    None => Next::Again("the connection was dropped".to_owned()),
                },
                Some(delivered) = deliveries.next(), if !deliveries.is_empty() => {
                    self.delivered(delivered, &mut connection);
                }
                command = self.commands.recv() => match command {
                    Some(Command::Publish(outgoing)) => {
                        self.publish(outgoing, &mut connection, &deliveries);
                    }
                    Some(Command::Subscribe(subscriptions)) => {
                        let before = std::mem::replace(&mut self.subscriptions, subscriptions);
                        if let Some(reason) = self.change_subscriptions(&connection, &before).await {
                            return Next::Again(reason);
                        }
                    }
                    Some(Command::Disconnect { within, reply }) => break (within, Some(reply)),
                    None => break (Duration::ZERO, None),
                },
            }
        };
        let finishing = async {
            while !self.unacknowledged.is_empty() || !deliveries.is_empty() {
                let Some(delivered) = deliveries.next().await else {
                    break;
                };
                self.delivered(delivered, &mut connection);
            }
        };
        if tokio::time::timeout(within, finishing).await.is_err() {
            tracing::debug!("publications were left unacknowledged");
        }
        connection.close(Duration::from_millis(200)).await;
        Next::Stop(reply)
    }

    fn publish(
        &mut self,
        outgoing: Outgoing,
        connection: &mut Connection,
        deliveries: &Deliveries,
    ) {
        match outgoing.publish.quality {
            QualityOfService::AtLeastOnce => {
                let number = self.keep(outgoing);
                self.send(number, connection, deliveries);
            }
            QualityOfService::AtMostOnce => match paho_message(&outgoing) {
                None => outgoing.finish(Err(PublishError::Expired)),
                Some(Err(error)) => {
                    let (topic, reason) = (outgoing.topic.clone(), error.to_string());
                    outgoing.finish(Err(PublishError::Refused { topic, reason }));
                }
                Some(Ok(message)) => match connection.publish(message) {
                    Err(_) => outgoing.finish(Err(PublishError::Disconnected)),
                    Ok(token) => deliveries.push(Box::pin(async move {
                        let outcome = token.await.map_err(|_| PublishError::Disconnected);
                        outgoing.finish(outcome);
                        None
                    })),
                },
            },
        }
    }

    fn keep(&mut self, outgoing: Outgoing) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.unacknowledged.insert(number, outgoing);
        number
    }

    /// On a new connection: what was given to the one before and may not be repeated.
    fn give_up_what_goes_once(&mut self) {
        let gone = |_: &u64, outgoing: &mut Outgoing| outgoing.publish.once && outgoing.was_sent;
        for (_, outgoing) in self.unacknowledged.extract_if(.., gone) {
            outgoing.finish(Err(PublishError::Unknown));
        }
    }

    /// Sends a kept publication. A failure of the connection is noticed elsewhere, and sends it again.
    fn send(&mut self, number: u64, connection: &mut Connection, deliveries: &Deliveries) {
        let Some(outgoing) = self.unacknowledged.get_mut(&number) else {
            return;
        };
        let too_late = outgoing.leaves_until.is_some_and(|at| at <= monotonic());
        if too_late && let Some(outgoing) = self.unacknowledged.remove(&number) {
            return outgoing.finish(Err(PublishError::Disconnected));
        }
        let Some(outgoing) = self.unacknowledged.get_mut(&number) else {
            return;
        };
        outgoing.was_sent = true;
        let refused = match paho_message(outgoing) {
            None => PublishError::Expired,
            Some(Err(error)) => {
                let (topic, reason) = (outgoing.topic.clone(), error.to_string());
                PublishError::Refused { topic, reason }
            }
            Some(Ok(message)) => {
                if let Ok(token) = connection.publish(message) {
                    deliveries.push(Box::pin(async move { Some((number, token.await)) }));
                }
                return;
            }
        };
        if let Some(outgoing) = self.unacknowledged.remove(&number) {
            outgoing.finish(Err(refused));
        }
    }

    fn delivered(&mut self, delivered: Delivered, connection: &mut Connection) {
        let Some((number, result)) = delivered else {
            return;
        };
        let outcome = match result {
            Ok(()) => Ok(()),
            Err(paho_mqtt::Error::ReasonCode(reason, _)) => Err(reason.to_string()),
            // The connection is about to be found lost; the publication is kept for the next one.
            Err(_) => return,
        };
        connection.unacknowledged_count -= 1;
        if let Some(outgoing) = self.unacknowledged.remove(&number) {
            let topic = outgoing.topic.clone();
            outgoing.finish(outcome.map_err(|reason| PublishError::Refused { topic, reason }));
        }
    }

    /// Unsubscribes from what has gone, subscribes to what is there; the reason if that failed.
    async fn change_subscriptions(
        &self,
        connection: &Connection,
        before: &[Subscription],
    ) -> Option<String> {
        let wanted = |filter: &str| self.subscriptions.iter().any(|each| each.filter == filter);
        let gone = before
            .iter()
            .map(|each| each.filter.as_str())
            .filter(|each| !wanted(each));
        let within = self.options.connect_within;
        connection
            .unsubscribe(&gone.collect::<Vec<_>>(), within)
            .await;
        connection
            .subscribe(&self.subscriptions, within)
            .await
            .err()
    }

    /// Waits before connecting again; returns early to stop.
    async fn rest(&mut self, pause: Duration) -> Option<Option<oneshot::Sender<()>>> {
        let resting = tokio::time::sleep(pause);
        let mut resting = std::pin::pin!(resting);
        loop {
            tokio::select! {
                () = &mut resting => return None,
                command = self.commands.recv() => {
                    if let Some(stop) = self.take_disconnected(command) {
                        return Some(stop);
                    }
                }
            }
        }
    }

    /// Lives on without a connection until it is told to end.
    async fn stay_away(&mut self) -> Option<oneshot::Sender<()>> {
        self.state.send_replace(ConnectionState::TakenOver);
        for (_, outgoing) in std::mem::take(&mut self.unacknowledged) {
            outgoing.finish(Err(PublishError::Over));
        }
        loop {
            match self.commands.recv().await {
                Some(Command::Publish(outgoing)) => outgoing.finish(Err(PublishError::Over)),
                Some(Command::Subscribe(_)) => {}
                Some(Command::Disconnect { reply, .. }) => return Some(reply),
                None => return None,
            }
        }
    }

    /// Takes a command while there is no connection; `Some` means stop.
    fn take_disconnected(
        &mut self,
        command: Option<Command>,
    ) -> Option<Option<oneshot::Sender<()>>> {
        match command {
            Some(Command::Publish(outgoing)) => {
                match outgoing.publish.quality {
                    QualityOfService::AtMostOnce => {
                        outgoing.finish(Err(PublishError::Disconnected));
                    }
                    QualityOfService::AtLeastOnce => {
                        self.keep(outgoing);
                    }
                }
                None
            }
            Some(Command::Subscribe(subscriptions)) => {
                self.subscriptions = subscriptions;
                None
            }
            Some(Command::Disconnect { reply, .. }) => Some(Some(reply)),
            None => Some(None),
        }
    }
}

/// The message for Paho; `None` if it has expired.
fn paho_message(outgoing: &Outgoing) -> Option<Result<paho_mqtt::Message, paho_mqtt::Error>> {
    let remaining = match outgoing.useful_until {
        None => None,
        Some(until) => match until - monotonic() {
            Duration::ZERO => return None,
            remaining => Some(remaining),
        },
    };
    Some(connection::message(
        &outgoing.topic,
        &outgoing.payload,
        outgoing.publish.quality,
        remaining,
        &outgoing.publish.user_properties,
    ))
}
