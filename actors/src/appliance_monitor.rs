//! The monitor of a fog agent's appliances: hears what they say on the broker, and asks them (paper,
//! 4.2.2: observation of applicative messages, ping-acks).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use lamplighter_policies::detection::{
    ApplianceMonitor, ApplianceWatch, Effect, Input, is_available,
};
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::fog_agent;
use lamplighter_policies::time::Now;
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::device::http::{HttpDevice, HttpError};
use lamplighter_runtime::message_pack::{self, MessagePackError};
use lamplighter_runtime::transport::mqtt::{
    ConnectionState, Incoming, Mqtt, MqttOptions, Publish, QualityOfService, Reception,
    Subscription,
};
use serde::{Deserialize, Serialize};

use crate::shell::{Incarnation, Perform, Role, RoleSettings, Shell};
use crate::spec::BrokerAccess;

/// How an agent hears appliances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hearing {
    /// The application, which names the connection.
    pub(crate) application: EntityId,
    /// The broker over which they speak.
    pub(crate) broker: BrokerAccess,
}

impl Hearing {
    /// The bytes that travel to an agent.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, MessagePackError> {
        let mut bytes = Vec::new();
        message_pack::encode_into(&mut bytes, self)?;
        Ok(bytes)
    }
}

/// What a message on a topic means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    /// An appliance speaks.
    Report(EntityId),
    /// Somebody says whether it is there.
    Availability(EntityId),
    /// A bridge says whether it is there.
    Bridge,
}

/// By topic, what its messages mean; one topic may mean several things.
type Meanings = BTreeMap<String, Vec<Meaning>>;

/// The monitor of one agent: its role, its connection, and what it watches.
pub(crate) struct Monitor {
    role: Role<Input>,
    mqtt: Mqtt,
    meanings: Arc<RwLock<Meanings>>,
    watched: Watched,
}

/// All that is watched, also for a monitor that is started again after a failure.
type Watched = Arc<RwLock<BTreeMap<EntityId, ApplianceWatch>>>;

impl Monitor {
    /// Starts a monitor that watches nothing yet and tells `agent` what it thinks.
    ///
    /// # Errors
    /// For people: why it cannot hear appliances.
    pub(crate) fn start(
        access: &[u8],
        server: &EntityId,
        agent: Role<fog_agent::Input>,
    ) -> Result<Self, String> {
        let hearing: Hearing = message_pack::decode(access).map_err(|e| e.to_string())?;
        let watched = Watched::default();
        let connection: Arc<RwLock<Option<Mqtt>>> = Arc::default();
        let (again, speaker) = (watched.clone(), connection.clone());
        let role = Shell::start(
            RoleSettings::new("appliance monitor"),
            move |_: &Role<Input>| Incarnation {
                machine: ApplianceMonitor::new(),
                performer: Voice {
                    watched: again.clone(),
                    connection: speaker.clone(),
                    agent: agent.clone(),
                },
                first: first_inputs(&again, &speaker),
            },
            |failed| tracing::error!(%failed, "appliances are no longer watched"),
        );
        let meanings: Arc<RwLock<Meanings>> = Arc::default();
        let (known, ear) = (meanings.clone(), role.lasting());
        let BrokerAccess {
            url,
            user,
            password,
        } = hearing.broker;
        let name = format!("lamplighter-{}-agent-{server}", hearing.application);
        let options = MqttOptions {
            // What was said while nobody listened is of no use.
            clean_start: true,
            session_expiry: Duration::ZERO,
            ..MqttOptions::new(
                BrokerAddress {
                    url,
                    user,
                    password,
                },
                name,
            )
        };
        let handler = Arc::new(move |incoming: Incoming| {
            let meanings = known.read().unwrap_or_else(PoisonError::into_inner);
            for meaning in meanings.get(&incoming.topic).into_iter().flatten() {
                if let Some(input) = heard(meaning, &incoming)
                    && let Err(lost) = ear.try_tell(input)
                {
                    tracing::debug!(%lost, "a sign of life is missed");
                }
            }
            Reception::Done
        });
        let mqtt = Mqtt::start(options, Vec::new(), handler).map_err(|e| e.to_string())?;
        *connection.write().unwrap_or_else(PoisonError::into_inner) = Some(mqtt.clone());
        tokio::task::spawn_local(follow(mqtt.state(), role.lasting()));
        Ok(Self {
            role,
            mqtt,
            meanings,
            watched,
        })
    }

    /// Watches these too.
    pub(crate) fn watch(&self, appliances: Vec<ApplianceWatch>) {
        let mut meanings = self
            .meanings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for watch in &appliances {
            for (topic, meaning) in meanings_of(watch) {
                let known = meanings.entry(topic).or_default();
                if !known.contains(&meaning) {
                    known.push(meaning);
                }
            }
        }
        let subscription = |filter: &String| Subscription {
            filter: filter.clone(),
            quality: QualityOfService::AtMostOnce,
        };
        let subscriptions = meanings.keys().map(subscription).collect();
        drop(meanings);
        if let Err(error) = self.mqtt.subscribe(subscriptions) {
            tracing::error!(%error, "appliances cannot be heard");
        }
        let mut watched = self.watched.write().unwrap_or_else(PoisonError::into_inner);
        for watch in &appliances {
            watched.insert(watch.appliance.clone(), watch.clone());
        }
        drop(watched);
        self.role.tell(Input::Watched(appliances));
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.role.stop();
    }
}

/// What a monitor that was started again must know at once.
fn first_inputs(watched: &Watched, connection: &RwLock<Option<Mqtt>>) -> Vec<Input> {
    let watched = watched.read().unwrap_or_else(PoisonError::into_inner);
    let all = watched.values().cloned().collect();
    let connection = connection.read().unwrap_or_else(PoisonError::into_inner);
    let is_connected = |mqtt: &Mqtt| {
        let state = mqtt.state();
        let state = state.borrow();
        matches!(*state, ConnectionState::Connected { .. })
    };
    let connected = connection.as_ref().is_some_and(is_connected);
    let mut inputs = vec![Input::Watched(all)];
    inputs.extend(connected.then_some(Input::Connected));
    inputs
}

fn meanings_of(watch: &ApplianceWatch) -> Vec<(String, Meaning)> {
    let id = &watch.appliance;
    let report = watch.topic.clone();
    let availability = watch.liveness.availability.clone();
    let bridge = watch.liveness.bridge.clone();
    [
        report.map(|topic| (topic, Meaning::Report(id.clone()))),
        availability.map(|topic| (topic, Meaning::Availability(id.clone()))),
        bridge.map(|topic| (topic, Meaning::Bridge)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a message says of who is there; `None` if nothing.
fn heard(meaning: &Meaning, incoming: &Incoming) -> Option<Input> {
    match meaning {
        // Nobody knows when what a broker kept was said.
        Meaning::Report(_) if incoming.retained => None,
        Meaning::Report(appliance) => Some(Input::Heard(appliance.clone())),
        Meaning::Availability(appliance) => {
            let available = is_there(&incoming.payload)?;
            Some(Input::AvailabilityTold {
                appliance: appliance.clone(),
                available,
                retained: incoming.retained,
            })
        }
        Meaning::Bridge => {
            let available = is_there(&incoming.payload)?;
            let bridge = incoming.topic.clone();
            Some(Input::BridgeTold { bridge, available })
        }
    }
}

/// Reads an availability message: a word, or a JSON object with a `state`.
fn is_there(payload: &[u8]) -> Option<bool> {
    match serde_json::from_slice::<serde_json::Value>(payload) {
        Ok(serde_json::Value::Bool(there)) => Some(there),
        Ok(serde_json::Value::String(word)) => is_available(&word),
        Ok(serde_json::Value::Object(object)) => is_available(object.get("state")?.as_str()?),
        Ok(_) => None,
        Err(_) => is_available(std::str::from_utf8(payload).ok()?),
    }
}

/// Tells the monitor whether it can hear anything.
async fn follow(mut state: tokio::sync::watch::Receiver<ConnectionState>, role: Role<Input>) {
    loop {
        let connected = matches!(
            *state.borrow_and_update(),
            ConnectionState::Connected { .. }
        );
        role.tell(if connected {
            Input::Connected
        } else {
            Input::Disconnected
        });
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Reads an appliance over HTTP; any answer is a sign of life.
fn read(appliance: EntityId, address: &str, within: Duration, role: Role<Input>) {
    let device = match HttpDevice::at(address) {
        Ok(device) => device,
        Err(error) => return tracing::error!(%appliance, %error, "it cannot be watched"),
    };
    tokio::task::spawn_local(async move {
        match device.read(within).await {
            Ok(_) => role.tell(Input::Heard(appliance)),
            // It is there, whatever it thinks of us.
            Err(HttpError::Refused { .. } | HttpError::Fenced { .. }) => {
                role.tell(Input::Heard(appliance));
            }
            Err(
                error @ (HttpError::Unreached { .. }
                | HttpError::Unanswered { .. }
                | HttpError::Late { .. }
                | HttpError::Address { .. }),
            ) => tracing::debug!(%appliance, %error, "no sign of life"),
        }
    });
}

/// Performs what a monitor asks for.
struct Voice {
    watched: Watched,
    connection: Arc<RwLock<Option<Mqtt>>>,
    agent: Role<fog_agent::Input>,
}

impl Voice {
    /// Asks by the convention of zigbee2mqtt: an empty value asks for the property.
    fn ask(&self, appliance: &EntityId, role: &Role<Input>) {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        let connection = self
            .connection
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let (Some(watch), Some(mqtt)) = (watched.get(appliance), connection.as_ref()) else {
            return;
        };
        if let Some(address) = &watch.address {
            let within = watch
                .liveness
                .probe
                .map_or(Duration::ZERO, |probe| probe.within);
            return read(appliance.clone(), address, within, role.clone());
        }
        let Some(topic) = &watch.topic else { return };
        let question = serde_json::json!({ watch.asked_for.as_str(): "" });
        let publish = Publish::at_most_once();
        if let Err(error) = mqtt.publish(&format!("{topic}/get"), question.to_string(), publish) {
            tracing::debug!(%appliance, %error, "not asked now");
        }
    }
}

impl Perform for Voice {
    type Machine = ApplianceMonitor;

    fn perform(&mut self, _: Now, effect: Effect, role: &Role<Input>) {
        match effect {
            Effect::Probe(appliance) => self.ask(&appliance, role),
            Effect::Judge(appliance, verdict) => {
                tracing::info!(%appliance, ?verdict, "an appliance");
                let judged = fog_agent::Input::ApplianceJudged(appliance, verdict);
                self.agent.tell(judged);
            }
            Effect::JudgeBridge(bridge, verdict) => {
                tracing::info!(bridge, ?verdict, "a bridge of appliances");
                self.agent
                    .tell(fog_agent::Input::BridgeJudged(bridge, verdict));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn availability_is_read_as_devices_say_it() {
        let said = [
            "online",
            "\"offline\"",
            r#"{"state":"online"}"#,
            "false",
            r#"{"battery":3}"#,
            "",
        ];
        let read = said.map(|payload| is_there(payload.as_bytes()));
        assert_eq!(
            read,
            [Some(true), Some(false), Some(true), Some(false), None, None]
        );
    }
}
