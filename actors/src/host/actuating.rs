//! Performs what a cell asks of appliances.

use std::rc::Rc;
use std::time::Duration;

use lamplighter_policies::physical_world::{EventId, Position, gate};
use lamplighter_policies::protocol::cell::Input;
use lamplighter_policies::state_saving::Command;
use lamplighter_runtime::clock;
use lamplighter_runtime::transport::mqtt::{Publish, PublishError};

use super::json;
use super::performer::Performer;
use super::reception::remaining;
use crate::shell::Role;

/// Why a command that must not be repeated is among the dead letters.
pub(super) const UNKNOWN: &str = "it was being sent when the element or its connection failed: nobody knows whether it \
                       was carried out, and it is not repeated unless a person says `redo`";
/// How long an appliance may take to say what it shows.
const COMPARE_WITHIN: Duration = Duration::from_millis(200);

impl Performer {
    pub(super) fn actuate(&self, link: String, command: &Command, role: &Role<Input>) {
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
            leaves_within: Some(self.leaves_within()),
            expiry: remaining(self.around.clock.now(), command.expires_at),
            user_properties: vec![
                (gate::ID.to_owned(), id.to_string()),
                (gate::EPOCH.to_owned(), self.fence().epoch.to_string()),
            ],
            once: !self.around.links.may_repeat(&link, &command.properties),
            ..Publish::at_least_once()
        };
        let body = self.body.borrow();
        let Some(mqtt) = &body.mqtt else {
            return role.tell(Input::Returned { link });
        };
        let publication = mqtt.publish(&topics.command, payload, publish);
        let (role, position) = (role.clone(), command.position);
        drop(body);
        actix_rt::spawn(async move {
            let outcome = match publication {
                Ok(publication) => publication.await,
                Err(error) => Err(error),
            };
            role.tell(settled(link, position, outcome));
        });
    }

    /// Asks an appliance what it shows; its report arrives on its topic.
    pub(super) fn compare(&self, link: String, properties: Vec<String>, role: &Role<Input>) {
        let question = self
            .around
            .links
            .devices
            .get(&link)
            .and_then(|topics| topics.question.clone());
        let Some(topic) = question else {
            return role.tell(Input::Compared { link, shown: None });
        };
        self.publish(
            &topic,
            json::question(&properties),
            Publish::at_least_once(),
        );
        let mut body = self.body.borrow_mut();
        let asked_at = clock::monotonic();
        body.asking.insert(link.clone(), (asked_at, properties));
        drop(body);
        let (body, role) = (Rc::clone(&self.body), role.clone());
        actix_rt::spawn(async move {
            tokio::time::sleep(COMPARE_WITHIN).await;
            // Another question may be open by now.
            let mut body = body.borrow_mut();
            let open = body.asking.get(&link).map(|(at, _)| *at);
            if open == Some(asked_at) {
                body.asking.remove(&link);
                role.tell(Input::Compared { link, shown: None });
            }
        });
    }
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
            tracing::warn!(link, ?position, %error, "nobody knows whether a command was carried out");
            Input::Doubted { link, position }
        }
        Err(PublishError::Full { .. } | PublishError::Disconnected | PublishError::Over) => {
            Input::Returned { link }
        }
    }
}
