//! An element's connection to the broker, and what arrives on it beside the cell's inputs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Appliance;
use lamplighter_policies::protocol::appliances::Reconfiguration;
use lamplighter_policies::protocol::cell::{Cause, DeviceWord, Input};
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::clock;
use lamplighter_runtime::store::StableStore;
use lamplighter_runtime::transport::mqtt::{ConnectionState, Mqtt, MqttOptions};
use tokio::sync::mpsc;

use super::actuating::conclude;
use super::body::{Body, Surroundings};
use super::json;
use super::links::Links;
use super::reception::{Aside, Door, Unusable};
use crate::app::Kind;
use crate::dead_letter::DeadLetter;
use crate::shell::Role;

/// How many messages may wait beside the mailbox.
const ASIDE_MAX: usize = 256;

/// Connects to the broker and starts adapters; from here on messages arrive.
pub(super) fn open(
    role: &Role<Input>,
    body: &Rc<RefCell<Body>>,
    around: &Surroundings,
    kind: &Kind,
) -> Result<(), String> {
    let spec = &around.spec;
    let access = &spec.broker;
    let address = BrokerAddress {
        url: access.url.clone(),
        user: access.user.clone(),
        password: access.password.clone(),
    };
    let options = MqttOptions::new(
        address,
        format!("lamplighter-{}-{}", spec.application, spec.id),
    );
    let (aside, asides) = mpsc::channel(ASIDE_MAX);
    let door = Arc::new(Door {
        routes: body.borrow().routes.clone(),
        role: role.lasting(),
        receipts: around.receipts.clone(),
        aside,
        accepts: kind.accepts,
        clock: around.clock.clone(),
    });
    let subscriptions = Links::subscriptions(&around.links.routes);
    body.borrow_mut().door = Some(Arc::clone(&door));
    start_adapters(&mut body.borrow_mut(), around, &around.links.adapted)?;
    let mqtt = Mqtt::start(
        options,
        subscriptions,
        Arc::new(move |incoming| door.receive(&incoming)),
    )
    .map_err(|error| error.to_string())?;
    actix_rt::spawn(follow_connection(mqtt.state(), role.lasting()));
    actix_rt::spawn(take_asides(
        asides,
        Rc::clone(body),
        around.clone(),
        role.lasting(),
    ));
    body.borrow_mut().mqtt = Some(mqtt);
    Ok(())
}

/// Sees that each of these appliances has an adapter, as long as the element is not over.
pub(super) fn start_adapters(
    body: &mut Body,
    around: &Surroundings,
    adapted: &BTreeMap<EntityId, Appliance>,
) -> Result<(), String> {
    let (Some(adapters), Some(door)) = (&mut body.adapters, &body.door) else {
        return Ok(());
    };
    for (id, appliance) in adapted {
        adapters.start(id, appliance, &around.known_adapters, door)?;
    }
    Ok(())
}

/// What a cell hears first: how those around it are, and, if it is made anew, that it is connected. Its
/// connection outlives it and tells only of what is new.
pub(super) fn known(mqtt: Option<&Mqtt>, present: Option<&Reconfiguration>) -> Vec<Input> {
    let state = mqtt.map(|mqtt| mqtt.state().borrow().clone());
    let connected = match state {
        Some(ConnectionState::Connected { .. }) => Some(Input::Connected),
        Some(
            ConnectionState::Connecting { .. }
            | ConnectionState::TakenOver
            | ConnectionState::Stopped,
        )
        | None => None,
    };
    let present = present.cloned().map(Input::Reconfigured);
    present.into_iter().chain(connected).collect()
}

/// Tells the cell of every new connection.
async fn follow_connection(
    mut state: tokio::sync::watch::Receiver<ConnectionState>,
    role: Role<Input>,
) {
    let mut told = 0;
    loop {
        match &*state.borrow_and_update() {
            ConnectionState::Connected { count, .. } if *count != told => {
                told = *count;
                role.tell(Input::Connected);
            }
            ConnectionState::Connected { .. } | ConnectionState::Stopped => {}
            ConnectionState::Connecting { attempts, reason } => {
                if *attempts > 0 {
                    tracing::warn!(attempts, ?reason, "the broker is out of reach");
                }
            }
            ConnectionState::TakenOver => {
                // Only whoever was told to run the element connects under its name.
                let cause = "another process has taken over its bindings".to_owned();
                role.tell(Input::NotProven {
                    cause: Cause::Fenced(cause),
                });
            }
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Takes what arrives beside the mailbox: reports of appliances and messages that are no input.
async fn take_asides(
    mut asides: mpsc::Receiver<Aside>,
    body: Rc<RefCell<Body>>,
    around: Surroundings,
    role: Role<Input>,
) {
    while let Some(aside) = asides.recv().await {
        match aside {
            Aside::Report(report) => {
                let mut body = body.borrow_mut();
                let mut shown = json::of_report(&report.payload);
                let topics = body.devices.get(&report.link);
                if let Some(words) = topics.and_then(|topics| topics.words.as_ref()) {
                    shown = words.shown(&shown);
                }
                if around.links.is_called(&report.link) {
                    role.tell(Input::Device(DeviceWord::Reported {
                        link: report.link.clone(),
                        shown: shown.clone(),
                    }));
                }
                let now = clock::monotonic();
                if let Some((_, question)) = body.asking.get_mut(&report.link) {
                    question.heard(now, shown);
                    conclude(&mut body, &report.link, now, &role);
                }
            }
            Aside::Unusable(unusable) => {
                bury_unusable(&body, &around, &unusable).await;
            }
        }
    }
}

/// A message that is no input of the element is kept for people, with the reason.
async fn bury_unusable(body: &Rc<RefCell<Body>>, around: &Surroundings, unusable: &Unusable) {
    let Unusable {
        topic,
        reason,
        payload,
    } = unusable;
    let element = &around.spec.id;
    tracing::warn!(%element, topic, reason, "a message is no input; it is among the dead letters");
    let what = format!("message on {topic}: {}", String::from_utf8_lossy(payload));
    let letter = DeadLetter {
        index: 0,
        what,
        cause: reason.clone(),
        at: clock::wall().0,
    };
    let fence = body.borrow().fence.clone();
    if let Some(fence) = fence
        && let Err(error) = around.store.bury(&fence, letter.encode()).await
    {
        tracing::error!(%element, %error, "a dead letter is only in this trace");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::deaf_broker::connected;

    #[tokio::test]
    async fn a_cell_that_is_made_anew_hears_that_its_connection_stands() {
        assert_eq!(known(None, None), []);
        let mqtt = connected().await;
        assert_eq!(known(Some(&mqtt), None), [Input::Connected]);
        mqtt.disconnect(Duration::from_secs(1)).await;
        assert_eq!(known(Some(&mqtt), None), []);
    }
}
