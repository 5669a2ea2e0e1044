//! Performs what a cell asks for: the only place where an element meets store and broker.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::physical_world::{EventId, Position};
use lamplighter_policies::protocol::cell::{Cause, Cell, Effect, Input, Meta, Task};
use lamplighter_policies::protocol::messages::{
    ElementReport, Envelope, FromHost, Link, StartPhases,
};
use lamplighter_policies::state_saving::{Command, Record, delta};
use lamplighter_policies::time::{Monotonic, Now};
use lamplighter_runtime::clock;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::{Delta, Fence, Nonce, StableStore, StoreError, codec};
use lamplighter_runtime::transport::control::Outbox;
use lamplighter_runtime::transport::mqtt::{Mqtt, Publish, PublishError};
use serde_bytes::ByteBuf;

use super::json;
use super::links::{Links, answers_topic, events_topic};
use super::reception::{Receipts, encode_link, remaining};
use super::saved::{self, Restoring};
use super::watchdog::Progress;
use crate::dead_letter::DeadLetter;
use crate::instance::{Hosted, SavedFields};
use crate::shell::{Perform, Role};
use crate::spec::ElementSpec;

/// How many events one message between elements carries at most.
const EVENTS_MAX: usize = 64;
/// Why a command that must not be repeated is among the dead letters.
const UNKNOWN: &str = "it was being sent when the element or its connection failed: nobody knows whether it \
                       was carried out, and it is not repeated";
/// How long an appliance may take to say what it shows.
const COMPARE_WITHIN: Duration = Duration::from_millis(200);

/// What outlives one incarnation of the cell in this process.
pub(super) struct Body {
    pub(super) hosted: Box<dyn Hosted>,
    /// What the store holds of the element's fields.
    pub(super) committed: SavedFields,
    pub(super) fence: Option<Fence>,
    pub(super) nonce: Nonce,
    pub(super) epoch_floor: u64,
    pub(super) mqtt: Option<Mqtt>,
    /// What is wrong with the store at present, if anything.
    pub(super) trouble: Option<String>,
    /// How long the last checkpoint took.
    pub(super) checkpoint_took: Option<Duration>,
    pub(super) assigned_at: Monotonic,
    pub(super) restored_at: Monotonic,
    /// Appliances that are being asked, and what they are to show.
    pub(super) asking: BTreeMap<String, Command>,
}

/// Where an element's host puts what concerns the whole process.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) spec: Rc<ElementSpec>,
    pub(super) links: Rc<Links>,
    pub(super) store: AnyStore,
    pub(super) receipts: Receipts,
    pub(super) agent: Outbox<FromHost>,
    pub(super) progress: Progress,
    pub(super) ended: tokio::sync::mpsc::UnboundedSender<EntityId>,
}

/// The performer of one element's cell.
pub(super) struct Performer {
    body: Rc<RefCell<Body>>,
    around: Surroundings,
    answers: VecDeque<Input>,
    failed_at: Option<Monotonic>,
    first_event_due: bool,
}

impl Performer {
    pub(super) fn new(body: Rc<RefCell<Body>>, around: Surroundings) -> Self {
        Self {
            body,
            around,
            answers: VecDeque::new(),
            failed_at: None,
            first_event_due: false,
        }
    }

    fn id(&self) -> &EntityId {
        &self.around.spec.id
    }

    fn fence(&self) -> Fence {
        self.body
            .borrow()
            .fence
            .clone()
            .expect("nothing is written before the element is claimed")
    }

    fn append(&self, first: u64, records: &[Record], role: &Role<Input>) {
        let last = first + records.len() as u64 - 1;
        let bytes = codec::encode_batch(self.id(), first, records);
        let appending = self
            .around
            .store
            .append(&self.fence(), first - 1, last, bytes);
        let (role, body) = (role.clone(), Rc::clone(&self.body));
        actix_rt::spawn(async move {
            let answer = match appending.await {
                Ok(logged_at) => {
                    body.borrow_mut().trouble = None;
                    Input::Appended { last, logged_at }
                }
                Err(error) => {
                    body.borrow_mut().trouble = Some(error.to_string());
                    Input::AppendFailed {
                        last,
                        cause: cause(error),
                    }
                }
            };
            role.tell(answer);
        });
    }

    fn handle(&mut self, task: Task) {
        let (index, replay) = (task.index, task.replay);
        self.around.progress.begins(index);
        let outcome = self.body.borrow_mut().hosted.handle(task);
        self.around.progress.ends();
        self.answers.push_back(match outcome {
            Ok(handled) => Input::Handled { index, handled },
            Err(cause) => {
                self.failed_at.get_or_insert(clock::monotonic());
                Input::HandlerFailed { index, cause }
            }
        });
        if self.first_event_due && !replay {
            self.first_event_due = false;
            self.tell_agent(FromHost::FirstEvent {
                element: self.id().clone(),
            });
        }
    }

    fn checkpoint(&self, upto: u64, meta: &Meta, role: &Role<Input>) {
        let began = clock::monotonic();
        let state = self.body.borrow_mut().hosted.save();
        let current = match state {
            Ok(state) => saved::fields(state, meta),
            Err(fault) => {
                let cause = Cause::Refused(fault.to_string());
                return role.tell(Input::CheckpointFailed { cause });
            }
        };
        let changes = delta(&self.body.borrow().committed, &current);
        let seal = |(name, bytes): (String, Vec<u8>)| {
            let sealed = codec::encode_field(self.id(), &name, &bytes);
            (name, ByteBuf::from(sealed))
        };
        let set = changes.set.into_iter().map(seal).collect();
        let change = Delta {
            upto,
            set,
            delete: changes.delete,
        };
        let checkpointing = self.around.store.checkpoint(&self.fence(), change);
        let (role, body) = (role.clone(), Rc::clone(&self.body));
        actix_rt::spawn(async move {
            let answer = match checkpointing.await {
                Ok(()) => {
                    let mut body = body.borrow_mut();
                    body.committed = current;
                    body.checkpoint_took = Some(clock::monotonic() - began);
                    Input::Checkpointed { upto }
                }
                Err(error) => Input::CheckpointFailed {
                    cause: cause(error),
                },
            };
            role.tell(answer);
        });
    }

    fn send(&self, link: &EntityId, envelopes: &[Envelope]) {
        let topic = events_topic(&self.around.spec, link);
        for events in envelopes.chunks(EVENTS_MAX) {
            // Expiry by the broker only saves it work: the sender keeps the events, and one that has
            // expired is sent again as such, so that the receiver's chain has no hole.
            let longest = events.iter().map(|event| remaining(event.expires_at));
            let expiry = longest
                .reduce(|a, b| a.zip(b).map(|(a, b)| a.max(b)))
                .flatten();
            let expiry = expiry.filter(|left| !left.is_zero());
            let message = encode_link(&Link::Events(events.to_vec()));
            self.publish(
                &topic,
                message,
                Publish {
                    expiry,
                    ..Publish::at_most_once()
                },
            );
        }
    }

    /// Between elements a message that cannot leave is simply lost: it is sent again until it is
    /// acknowledged.
    fn publish(&self, topic: &str, message: Vec<u8>, publish: Publish) {
        let body = self.body.borrow();
        let Some(mqtt) = &body.mqtt else { return };
        if let Err(error) = mqtt.publish(topic, message, publish) {
            tracing::debug!(topic, %error, "not sent now");
        }
    }

    fn actuate(&self, link: String, command: &Command, role: &Role<Input>) {
        let topics = self.around.links.devices.get(&link);
        let payload = json::of_command(&command.properties);
        let (Some(topics), Ok(payload)) = (topics, payload) else {
            tracing::error!(link, "a command that no device understands is given up");
            return role.tell(Input::Settled {
                link,
                position: command.position,
            });
        };
        let id = EventId {
            source: self.id().clone(),
            position: command.position,
        };
        let publish = Publish {
            expiry: remaining(command.expires_at),
            user_properties: vec![("lamplighter-id".to_owned(), id.to_string())],
            once: !self.around.links.may_repeat(&link),
            ..Publish::at_least_once()
        };
        let body = self.body.borrow();
        let Some(mqtt) = &body.mqtt else {
            return role.tell(Input::Returned { link });
        };
        let publication = mqtt.publish(&topics.command, payload, publish);
        let (role, position) = (role.clone(), command.position);
        let unknown = letter(
            position.index,
            &format!("command {position:?} on {link}"),
            UNKNOWN,
        );
        let (store, fence) = (self.around.store.clone(), self.fence());
        drop(body);
        actix_rt::spawn(async move {
            let outcome = match publication {
                Ok(publication) => publication.await,
                Err(error) => Err(error),
            };
            if outcome == Err(PublishError::Unknown)
                && let Err(error) = store.bury(&fence, unknown).await
            {
                tracing::error!(%error, "a dead letter is only in this trace");
            }
            role.tell(settled(link, position, outcome));
        });
    }

    /// Asks an appliance what it shows; its report arrives on its topic.
    fn compare(&self, link: String, command: Command, role: &Role<Input>) {
        let question = self
            .around
            .links
            .devices
            .get(&link)
            .and_then(|topics| topics.question.clone());
        let Some(topic) = question else {
            return role.tell(Input::Compared {
                link,
                shown: Vec::new(),
            });
        };
        self.publish(
            &topic,
            json::question(&command.properties),
            Publish::at_least_once(),
        );
        self.body.borrow_mut().asking.insert(link.clone(), command);
        let (body, role) = (Rc::clone(&self.body), role.clone());
        actix_rt::spawn(async move {
            tokio::time::sleep(COMPARE_WITHIN).await;
            if body.borrow_mut().asking.remove(&link).is_some() {
                role.tell(Input::Compared {
                    link,
                    shown: Vec::new(),
                });
            }
        });
    }

    fn bury(&self, index: u64, what: &str, cause: &str) {
        tracing::error!(element = %self.id(), index, what, cause, "given up; it is among the dead letters");
        let bytes = letter(index, what, cause);
        let (store, fence) = (self.around.store.clone(), self.fence());
        actix_rt::spawn(async move {
            if let Err(error) = store.bury(&fence, bytes).await {
                tracing::error!(%error, "a dead letter is only in this trace");
            }
        });
    }

    fn ready(&mut self, replayed: u64, took: Duration) {
        let body = self.body.borrow();
        let restored = body.restored_at - body.assigned_at;
        let since = clock::monotonic() - body.restored_at;
        let resumed = since.saturating_sub(took);
        let phases = StartPhases {
            restored,
            replayed: took,
            resumed,
            records_replayed: replayed,
        };
        let epoch = body.fence.as_ref().map_or(0, |fence| fence.epoch);
        drop(body);
        self.first_event_due = true;
        self.tell_agent(FromHost::Ready {
            element: self.id().clone(),
            epoch,
            phases,
        });
    }

    fn report(&self, request: u64, report: ElementReport) {
        let body = self.body.borrow();
        let epoch = body.fence.as_ref().map_or(0, |fence| fence.epoch);
        let report = ElementReport {
            epoch,
            checkpoint_took: body.checkpoint_took,
            trouble: body.trouble.clone().or(report.trouble),
            ..report
        };
        drop(body);
        self.tell_agent(FromHost::Report {
            request,
            element: self.id().clone(),
            report,
        });
    }

    fn mended(&mut self, cause: String) {
        let took = self
            .failed_at
            .take()
            .map_or(Duration::ZERO, |at| clock::monotonic() - at);
        tracing::warn!(element = %self.id(), cause, ?took, "a handler failed and is mended");
        self.tell_agent(FromHost::Mended {
            element: self.id().clone(),
            cause,
            took,
        });
    }

    /// The element is over in this process.
    fn end(&self, last_word: FromHost) {
        self.tell_agent(last_word);
        let mqtt = self.body.borrow_mut().mqtt.take();
        let (ended, id) = (self.around.ended.clone(), self.id().clone());
        actix_rt::spawn(async move {
            if let Some(mqtt) = mqtt {
                mqtt.disconnect(Duration::from_millis(500)).await;
            }
            // The process waits for this; if it is gone there is nobody to tell.
            ended.send(id).ok();
        });
    }

    fn tell_agent(&self, message: FromHost) {
        if !self.around.agent.send(message) {
            tracing::warn!(element = %self.id(), "the agent is not there to be told");
        }
    }
}

impl Perform for Performer {
    type Machine = Cell;

    fn perform(&mut self, _: Now, effect: Effect, role: &Role<Input>) {
        match effect {
            Effect::Restore => Restoring::new(&self.body, &self.around).start(role.clone()),
            Effect::Append { first, records } => self.append(first, &records, role),
            Effect::Handle(task) => self.handle(task),
            Effect::Acknowledge { link, upto } => {
                let topic = answers_topic(&self.around.spec, &link);
                self.publish(
                    &topic,
                    encode_link(&Link::Acknowledged(upto)),
                    Publish::at_most_once(),
                );
            }
            Effect::Resume { link, mark } => {
                let topic = answers_topic(&self.around.spec, &link);
                self.publish(
                    &topic,
                    encode_link(&Link::Resume(mark)),
                    Publish::at_most_once(),
                );
            }
            Effect::Release { receipt } => self.around.receipts.sign(receipt),
            Effect::Send { link, envelopes } => self.send(&link, &envelopes),
            Effect::Actuate { link, command } => self.actuate(link, &command, role),
            Effect::Compare { link, command } => self.compare(link, command, role),
            Effect::Checkpoint { upto, meta } => self.checkpoint(upto, &meta, role),
            Effect::Bury { index, what, cause } => self.bury(index, &what, &cause),
            Effect::ReportUnknown { link, command } => {
                let position = command.position;
                self.bury(
                    position.index,
                    &format!("command {position:?} on {link}"),
                    UNKNOWN,
                );
            }
            Effect::Ready { replayed, took } => self.ready(replayed, took),
            Effect::Report { request, report } => self.report(request, report),
            Effect::Mended { cause } => self.mended(cause),
            Effect::GiveUp {
                cause,
                restart_may_help,
            } => {
                let element = self.id().clone();
                tracing::error!(%element, cause, "gives up");
                self.end(FromHost::GivenUp {
                    element,
                    cause,
                    restart_may_help,
                });
            }
            Effect::Stop => self.end(FromHost::Stopped {
                element: self.id().clone(),
            }),
        }
    }

    fn answer(&mut self) -> Option<Input> {
        self.answers.pop_front()
    }
}

fn letter(index: u64, what: &str, cause: &str) -> Vec<u8> {
    let (what, cause) = (what.to_owned(), cause.to_owned());
    let at = clock::wall().0;
    DeadLetter {
        index,
        what,
        cause,
        at,
    }
    .encode()
}

/// What became of a command.
fn settled(link: String, position: Position, outcome: Result<(), PublishError>) -> Input {
    match outcome {
        Ok(()) => Input::Settled { link, position },
        // It is of no use any more, and must not be offered again.
        Err(error @ (PublishError::Expired | PublishError::Refused { .. })) => {
            tracing::warn!(link, ?position, %error, "a command is given up");
            Input::Settled { link, position }
        }
        Err(error @ PublishError::Unknown) => {
            tracing::error!(link, ?position, %error, "nobody knows whether a command was carried out");
            Input::Settled { link, position }
        }
        Err(PublishError::Full { .. } | PublishError::Disconnected | PublishError::Over) => {
            Input::Returned { link }
        }
    }
}

/// What the cell must know of a store's error.
pub(super) fn cause(error: StoreError) -> Cause {
    match error {
        StoreError::Gap { head, .. } => Cause::Gap { head },
        StoreError::Unavailable { .. } => Cause::Unavailable(error.to_string()),
        StoreError::Fenced { .. } => Cause::Fenced(error.to_string()),
        StoreError::Refused { .. } | StoreError::Damaged { .. } => {
            Cause::Refused(error.to_string())
        }
    }
}
