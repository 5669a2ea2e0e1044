//! Performs what a cell asks of appliances.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::PoisonError;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::physical_world::{EventId, Position};
use lamplighter_policies::protocol::appliances::Reconfiguration;
use lamplighter_policies::protocol::cell::{DeviceWord, Input};
use lamplighter_policies::recovery::{COMPARE_WITHIN, Outcome, Question};
use lamplighter_policies::state_saving::{Command, Properties};
use lamplighter_policies::time::Monotonic;
use lamplighter_runtime::clock;
use lamplighter_runtime::transport::mqtt::{Publish, PublishError};

use super::bindings::start_adapters;
use super::body::Body;
use super::json;
use super::links::{DeviceTopics, Links};
use super::performer::Performer;
use super::reception::remaining;
use crate::author::{ApplianceCommand, ApplianceError};
use crate::shell::Role;

/// The name under which a command says who it is, wherever its transport has room.
const ID: &str = "lamplighter-id";
/// The name under which it says by which epoch of its owner it was sent.
const EPOCH: &str = "lamplighter-epoch";
/// How long an adapter may take to say what its appliance shows. A device at the end of a connection of
/// its own is slower than one whose bridge knows.
const READ_WITHIN: Duration = Duration::from_secs(1);
/// Why a command that must not be repeated is among the dead letters.
pub(super) const UNKNOWN: &str = "it was being sent when the element or its connection failed: nobody knows whether it \
                       was carried out, and it is not repeated unless a person says `redo`";

impl Performer {
    pub(super) fn actuate(
        &self,
        link: String,
        command: &Command,
        sending: u64,
        role: &Role<Input>,
    ) {
        let topics = self.body.borrow().devices.get(&link).cloned();
        let properties = self.in_words_of(topics.as_ref(), &link, &command.properties);
        let payload = json::of_command(&properties);
        let (Some(topics), Ok(payload), false) = (topics, payload, properties.is_empty()) else {
            tracing::error!(link, "a command that no device understands is given up");
            return role.tell(Input::Settled {
                link,
                position: command.position,
                sending,
            });
        };
        let id = EventId {
            source: self.id().clone(),
            position: command.position,
        };
        if let Some(adapter) = &topics.adapter {
            return self.adapt(link, adapter, (id, sending), command, &payload, role);
        }
        let publish = Publish {
            leaves_within: Some(self.leaves_within()),
            expiry: remaining(self.around.clock.now(), command.expires_at),
            user_properties: vec![
                (ID.to_owned(), id.to_string()),
                (EPOCH.to_owned(), self.fence().epoch.to_string()),
            ],
            once: !self.around.links.may_repeat(&link, &command.properties),
            ..Publish::at_least_once()
        };
        let body = self.body.borrow();
        let Some(mqtt) = &body.mqtt else {
            return role.tell(Input::Returned { link, sending });
        };
        let publication = mqtt.publish(&topics.command, payload, publish);
        let (role, position) = (role.clone(), command.position);
        drop(body);
        actix_rt::spawn(async move {
            let outcome = match publication {
                Ok(publication) => publication.await,
                Err(error) => Err(error),
            };
            role.tell(settled(link, (position, sending), outcome));
        });
    }

    /// Has an adapter carry out a command.
    fn adapt(
        &self,
        link: String,
        adapter: &EntityId,
        (id, sending): (EventId, u64),
        command: &Command,
        payload: &[u8],
        role: &Role<Input>,
    ) {
        let useful = remaining(self.around.clock.now(), command.expires_at);
        let leaves = self.leaves_within();
        let position = command.position;
        let once = !self.around.links.may_repeat(&link, &command.properties);
        let word = || String::from_utf8_lossy(payload).into_owned();
        let command = ApplianceCommand {
            body: serde_json::from_slice(payload).unwrap_or_else(|_| word().into()),
            id,
            epoch: self.fence().epoch,
            once,
            leaves_until: clock::monotonic() + useful.map_or(leaves, |useful| useful.min(leaves)),
        };
        let is_called = self.around.links.is_called(&link);
        let (carrying, reading, words) = {
            let body = self.body.borrow();
            let Some(adapters) = &body.adapters else {
                return role.tell(Input::Returned { link, sending });
            };
            // A device that does what it is asked and says nothing of it is read, for the caller.
            let reading = is_called.then(|| adapters.reader(adapter)).flatten();
            let words = body.devices.get(&link).and_then(|it| it.words.clone());
            (adapters.carry_out(adapter, command), reading, words)
        };
        let role = role.clone();
        actix_rt::spawn(async move {
            let mut outcome = carrying.await;
            if let (Ok(answer @ None), Some(reading)) = (&mut outcome, reading) {
                *answer = reading.read().await.ok();
            }
            let shown = match (is_called, &outcome) {
                (true, Ok(said)) => Some(said.as_ref().map(|said| {
                    let shown = json::of_report(said.to_string().as_bytes());
                    words.map_or_else(|| shown.clone(), |words| words.shown(&shown))
                })),
                (_, _) => None,
            };
            role.tell(match shown {
                Some(shown) => Input::Device(DeviceWord::Answered {
                    link,
                    position,
                    sending,
                    shown: shown.unwrap_or_default(),
                }),
                None => carried_out(link, (position, sending), once, outcome),
            });
        });
    }

    /// A command as whoever serves there understands it.
    fn in_words_of(
        &self,
        topics: Option<&DeviceTopics>,
        link: &str,
        properties: &Properties,
    ) -> Properties {
        let Some(words) = topics.and_then(|topics| topics.words.as_ref()) else {
            return properties.clone();
        };
        let (said, lost) = words.command(properties);
        if !lost.is_empty() {
            tracing::warn!(link, ?lost, "the substitute cannot show all of a command");
        }
        said
    }

    /// From here on the flows lead to whoever serves in the places of appliances.
    pub(super) fn reroute(&self, table: &Reconfiguration) {
        let links = Links::served(&self.around.spec, table);
        let subscriptions = Links::subscriptions(&links.routes);
        let mut body = self.body.borrow_mut();
        if let Err(error) = start_adapters(&mut body, &self.around, &links.adapted) {
            tracing::error!(error, "a substitute cannot be spoken to");
        }
        body.devices = links.devices;
        *body.routes.write().unwrap_or_else(PoisonError::into_inner) = links.routes;
        if let Some(mqtt) = &body.mqtt
            && let Err(error) = mqtt.subscribe(subscriptions)
        {
            tracing::error!(%error, "a substitute cannot be heard");
        }
    }

    /// Asks an appliance what it shows; its report arrives on its topic.
    pub(super) fn compare(
        &self,
        link: String,
        number: u64,
        properties: Vec<String>,
        role: &Role<Input>,
    ) {
        let topics = self.body.borrow().devices.get(&link).cloned();
        if let Some(adapter) = topics.as_ref().and_then(|topics| topics.adapter.clone()) {
            return self.read(link, number, &adapter, role);
        }
        let question = topics.and_then(|topics| Some((topics.question?, topics.words)));
        let Some((topic, words)) = question else {
            return role.tell(Input::Compared {
                link,
                question: number,
                shown: None,
            });
        };
        let names = words.map(|words| words.names(&properties));
        let payload = json::question(names.as_deref().unwrap_or(&properties));
        let model = self.around.links.model(&link);
        let evidence = model.and_then(|model| model.evidence.clone());
        let (body, role) = (Rc::clone(&self.body), role.clone());
        actix_rt::spawn(async move {
            let ask = || {
                let asked_at = clock::monotonic();
                let question = Question::new(asked_at, properties.clone(), evidence.as_ref());
                (number, question)
            };
            if pose(&body, &link, ask(), &topic, payload.clone(), &role, true).await {
                // Its answer may have overtaken the broker's word that it has the question.
                pose(&body, &link, ask(), &topic, payload, &role, false).await;
            }
        });
    }

    /// Asks an adapter what its appliance shows.
    fn read(&self, link: String, question: u64, adapter: &EntityId, role: &Role<Input>) {
        let words = {
            let body = self.body.borrow();
            let topics = body.devices.get(&link);
            topics.and_then(|topics| topics.words.clone())
        };
        let body = self.body.borrow();
        let reader = body.adapters.as_ref().and_then(|all| all.reader(adapter));
        drop(body);
        let Some(reader) = reader else {
            return role.tell(Input::Compared {
                link,
                question,
                shown: None,
            });
        };
        let role = role.clone();
        actix_rt::spawn(async move {
            let shown = match tokio::time::timeout(READ_WITHIN, reader.read()).await {
                Ok(Ok(shown)) => Some(json::of_report(shown.to_string().as_bytes())),
                Ok(Err(error)) => {
                    tracing::debug!(link, %error, "a device does not say what it shows");
                    None
                }
                Err(_) => None,
            };
            let shown = shown.map(|shown| match &words {
                Some(words) => words.shown(&shown),
                None => shown,
            });
            role.tell(Input::Compared {
                link,
                question,
                shown,
            });
        });
    }
}

/// What became of a command that an adapter was given.
fn carried_out(
    link: String,
    (position, sending): (Position, u64),
    once: bool,
    outcome: Result<Option<serde_json::Value>, ApplianceError>,
) -> Input {
    let error = match outcome {
        Ok(_) => {
            return Input::Settled {
                link,
                position,
                sending,
            };
        }
        Err(error) => error,
    };
    tracing::info!(link, ?position, %error, "a command was not carried out, as far as is known");
    match error {
        ApplianceError::Unreached { reason } => Input::Device(DeviceWord::Unreached {
            link,
            sending,
            cause: reason,
        }),
        ApplianceError::Refused { reason } => Input::Device(DeviceWord::Refused {
            link,
            position,
            sending,
            reason,
        }),
        // Whether we are replaced is for the store to say, before anything more leaves.
        ApplianceError::Fenced { .. } => Input::Returned { link, sending },
        ApplianceError::Unknown { .. } if once => Input::Doubted {
            link,
            position,
            sending,
        },
        ApplianceError::Unknown { reason } => Input::Device(DeviceWord::Unreached {
            link,
            sending,
            cause: reason,
        }),
    }
}

/// Asks one question and waits for its outcome. Says whether it is to be asked once more, which it
/// never is unless it `may_again`.
async fn pose(
    body: &Rc<RefCell<Body>>,
    link: &str,
    question: (u64, Question),
    topic: &str,
    payload: Vec<u8>,
    role: &Role<Input>,
    may_again: bool,
) -> bool {
    let asked_at = question.1.asked_at();
    let publication = {
        let mut body = body.borrow_mut();
        body.asking.insert(link.to_owned(), question);
        // A question that leaves later has nobody who waits for its answer.
        let publish = Publish {
            leaves_within: Some(COMPARE_WITHIN),
            ..Publish::at_least_once()
        };
        let mqtt = body.mqtt.as_ref().ok_or(PublishError::Disconnected);
        mqtt.and_then(|mqtt| mqtt.publish(topic, payload, publish))
    };
    let taken = match publication {
        Ok(publication) => tokio::time::timeout(COMPARE_WITHIN, publication).await,
        Err(error) => Ok(Err(error)),
    };
    if let Ok(Err(error)) = &taken {
        tracing::debug!(topic, %error, "not asked now");
    }
    let is_taken = matches!(taken, Ok(Ok(())));
    loop {
        let now = clock::monotonic();
        let until = {
            let mut body = body.borrow_mut();
            let open = body.asking.get_mut(link);
            // It is answered, or another question is open by now.
            let Some((_, question)) = open.filter(|(_, open)| open.asked_at() == asked_at) else {
                return false;
            };
            if is_taken {
                question.taken(now);
            }
            match question.outcome(now) {
                Outcome::Open(until) => until,
                Outcome::Closed(_) if may_again && question.came_early() => return true,
                Outcome::Closed(_) => {
                    conclude(&mut body, link, now, role);
                    return false;
                }
            }
        };
        tokio::time::sleep(until - now).await;
    }
}

/// Tells the cell what an appliance answered, if that is known.
pub(super) fn conclude(body: &mut Body, link: &str, now: Monotonic, role: &Role<Input>) {
    let open = body.asking.get(link);
    let outcome = open.map(|(number, question)| (*number, question.outcome(now)));
    if let Some((question, Outcome::Closed(shown))) = outcome {
        body.asking.remove(link);
        role.tell(Input::Compared {
            link: link.to_owned(),
            question,
            shown,
        });
    }
}

/// What became of a command.
fn settled(
    link: String,
    (position, sending): (Position, u64),
    outcome: Result<(), PublishError>,
) -> Input {
    let taken = |link| Input::Settled {
        link,
        position,
        sending,
    };
    match outcome {
        Ok(()) => taken(link),
        // It is of no use any more, and must not be offered again.
        Err(error @ (PublishError::Expired | PublishError::Refused { .. })) => {
            tracing::warn!(link, ?position, %error, "a command is given up");
            taken(link)
        }
        Err(error @ PublishError::Unknown) => {
            tracing::warn!(link, ?position, %error, "nobody knows whether a command was carried out");
            Input::Doubted {
                link,
                position,
                sending,
            }
        }
        Err(PublishError::Full { .. } | PublishError::Disconnected | PublishError::Over) => {
            Input::Returned { link, sending }
        }
    }
}
