//! Performs what a cell asks for: the only place where an element meets store and broker.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::appliances::Reconfiguration;
use lamplighter_policies::protocol::cell::{Cell, Effect, Input, Task};
use lamplighter_policies::protocol::configurator;
use lamplighter_policies::protocol::messages::{
    ElementReport, Envelope, FromHost, Link, StartPhases,
};
use lamplighter_policies::time::{Monotonic, Now};
use lamplighter_runtime::clock;
use lamplighter_runtime::store::Fence;
use lamplighter_runtime::transport::mqtt::Publish;

use super::actuating::UNKNOWN;
use super::body::{Body, Surroundings};
use super::ending;
use super::links::{answers_topic, events_topic};
use super::reception::{encode_link, remaining};
use super::saved::Restoring;
use crate::shell::{Perform, Role};

/// How many events one message between elements carries at most.
const EVENTS_MAX: usize = 64;

/// The performer of one element's cell.
pub(super) struct Performer {
    pub(super) body: Rc<RefCell<Body>>,
    pub(super) around: Surroundings,
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

    pub(super) fn id(&self) -> &EntityId {
        &self.around.spec.id
    }

    pub(super) fn fence(&self) -> Fence {
        self.body
            .borrow()
            .fence
            .clone()
            .expect("nothing is written before the element is claimed")
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

    fn send(&self, link: &EntityId, envelopes: Vec<Envelope>) {
        let Some(Link::Events(envelopes)) = self.say(link, Link::Events(envelopes)) else {
            return;
        };
        let topic = events_topic(&self.around.spec, link);
        let now = self.around.clock.now();
        for events in envelopes.chunks(EVENTS_MAX) {
            // Expiry by the broker only saves it work: the sender keeps the events, and one that has
            // expired is sent again as such, so that the receiver's chain has no hole.
            let longest = events.iter().map(|event| remaining(now, event.expires_at));
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

    /// Says it from host to host, or gives it back if the link goes through the broker. What cannot
    /// leave is sent again until it is acknowledged.
    fn say(&self, link: &EntityId, message: Link) -> Option<Link> {
        let Some(peer) = self.around.links.direct.get(link) else {
            return Some(message);
        };
        if let Some(direct) = &self.body.borrow().direct {
            direct.peers.send(peer, link, message);
        }
        None
    }

    /// Answers whoever sends on a link.
    fn tell_sender(&self, link: &EntityId, message: Link) {
        if let Some(message) = self.say(link, message) {
            let topic = answers_topic(&self.around.spec, link);
            self.publish(&topic, encode_link(&message), Publish::at_most_once());
        }
    }

    /// Between elements a message that cannot leave is simply lost: it is sent again until it is
    /// acknowledged.
    pub(super) fn publish(&self, topic: &str, message: Vec<u8>, publish: Publish) {
        let body = self.body.borrow();
        let Some(mqtt) = &body.mqtt else { return };
        if let Err(error) = mqtt.publish(topic, message, publish) {
            tracing::debug!(topic, %error, "not sent now");
        }
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
        let told = [body.trouble.clone(), report.trouble, self.unsure_clock()];
        let told: Vec<String> = told.into_iter().flatten().collect();
        let report = ElementReport {
            epoch,
            checkpoint_took: body.checkpoint_took,
            trouble: (!told.is_empty()).then(|| told.join("; ")),
            ..report
        };
        drop(body);
        self.tell_agent(FromHost::Report {
            request,
            element: self.id().clone(),
            report,
        });
    }

    /// What to say of a clock that is not known as well as the topology promises.
    fn unsure_clock(&self) -> Option<String> {
        let (skew, promised) = (self.around.clock.now().skew, self.around.spec.skew_max);
        (skew > promised).then(|| {
            let known = if skew == Duration::MAX {
                "not at all, since a clock was set".to_owned()
            } else {
                format!("only within {skew:.1?}")
            };
            format!(
                "the store's clock is known {known}, and the topology promises {promised:?} \
                 ([detection] clock_skew): what is valid for a short time is not done"
            )
        })
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

    /// Tells the configurator what is in force. One that has not started yet asks for it when it does.
    fn show_applied(&self, version: u64, reconfiguration: Reconfiguration) {
        let body = self.body.borrow();
        let incarnation = body.fence.as_ref().map_or(0, |fence| fence.epoch);
        if let Some(configurator) = &body.configurator {
            configurator.tell(configurator::Input::Applied {
                incarnation,
                version,
                reconfiguration,
            });
        }
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
            Effect::Acknowledge { link, upto } => self.tell_sender(&link, Link::Acknowledged(upto)),
            Effect::Resume { link, mark } => self.tell_sender(&link, Link::Resume(mark)),
            Effect::Release { receipt } => self.around.receipts.sign(receipt),
            Effect::Send { link, envelopes } => self.send(&link, envelopes),
            Effect::Actuate {
                link,
                command,
                sending,
            } => self.actuate(link, &command, sending, role),
            Effect::Compare {
                link,
                question,
                properties,
            } => self.compare(link, question, properties, role),
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
                let (body, around) = (Rc::clone(&self.body), self.around.clone());
                actix_rt::spawn(async move {
                    ending::give_up(&body, &around, cause, restart_may_help).await;
                });
            }
            Effect::Reroute(table) => self.reroute(&table),
            Effect::ShowReconfiguration {
                version,
                reconfiguration,
            } => self.show_applied(version, reconfiguration),
            Effect::ShowRestored => self.tell_agent(FromHost::Restored {
                element: self.id().clone(),
                epoch: self.fence().epoch,
            }),
            Effect::Stop => {
                let (body, around) = (Rc::clone(&self.body), self.around.clone());
                actix_rt::spawn(async move { ending::stop(&body, &around).await });
            }
            Effect::Prove => self.prove(role),
            Effect::Flush => self.flush(role),
            Effect::ReportLost(lost) => self.lost(&lost),
            Effect::ReportOrphaned(orphaned) => self.orphaned(&orphaned),
        }
    }

    fn answer(&mut self) -> Option<Input> {
        self.answers.pop_front()
    }
}
