//! The end of an element in this process. Whoever owns the element next acts as soon as it hears the
//! last word, so that nothing of this owner may leave after it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use lamplighter_policies::protocol::messages::FromHost;
use lamplighter_runtime::store::Fence;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::local::LocalFirst;

use super::body::{Body, Surroundings};
use super::leasing;

/// How long the broker may take to acknowledge what was published last.
const DISCONNECT_WITHIN: Duration = Duration::from_millis(500);
/// How long the stable store may take for what is only local when the element stops.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// The element took its last checkpoint: the store is told that this owner is over, then the agent.
pub(super) async fn stop(body: &Rc<RefCell<Body>>, around: &Surroundings) {
    silence(body).await;
    if !around.links.devices.is_empty() {
        leasing::release(body, around).await;
    }
    let fence = body.borrow().fence.clone();
    if let Some(fence) = fence {
        close(&around.store, &fence).await;
    }
    let element = around.spec.id.clone();
    say_last(around, FromHost::Stopped { element }).await;
}

/// The element cannot go on here. What is only in the local log is for the next claim.
pub(super) async fn give_up(
    body: &Rc<RefCell<Body>>,
    around: &Surroundings,
    cause: String,
    restart_may_help: bool,
) {
    silence(body).await;
    let element = around.spec.id.clone();
    tracing::error!(%element, cause, "gives up");
    let given_up = FromHost::GivenUp {
        element,
        cause,
        restart_may_help,
    };
    say_last(around, given_up).await;
}

/// Closes every way out.
async fn silence(body: &Rc<RefCell<Body>>) {
    let mqtt = body.borrow_mut().mqtt.take();
    if let Some(mqtt) = mqtt {
        mqtt.disconnect(DISCONNECT_WITHIN).await;
    }
    let adapters = body.borrow_mut().adapters.take();
    if let Some(adapters) = adapters {
        adapters.stop(DISCONNECT_WITHIN).await;
    }
    body.borrow_mut().direct = None;
}

/// An orderly stop leaves nothing in the local log alone.
async fn close(store: &LocalFirst<AnyStore>, fence: &Fence) {
    let closed = tokio::time::timeout(CLOSE_WITHIN, store.close(fence)).await;
    let fault = match closed {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(elapsed) => elapsed.to_string(),
    };
    let element = &fence.element;
    tracing::warn!(%element, fault, "the local log stays ahead; the next start on this server reads it");
}

/// Lets another process have the local log, and tells the agent and this process.
async fn say_last(around: &Surroundings, word: FromHost) {
    around.store.release().await;
    let element = around.spec.id.clone();
    if !around.agent.send(word) {
        tracing::warn!(%element, "the agent is not there to be told");
    }
    // The process waits for this; if it is gone there is nobody to tell.
    around.ended.send(element).ok();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lamplighter_policies::ids::EntityId;
    use lamplighter_policies::state_saving::Timing;
    use lamplighter_runtime::clock::{self, Clock};
    use lamplighter_runtime::store::embedded::{Durability, Embedded, Options};
    use lamplighter_runtime::store::local::LocalPlace;
    use lamplighter_runtime::transport::control::{CONTROL_FRAME_BYTES_MAX, Outbox};
    use lamplighter_runtime::transport::frame::FrameReceiver;
    use lamplighter_runtime::transport::mqtt::{ConnectionState, Publish};
    use serde::{Deserialize, Serialize};
    use tokio::sync::mpsc;

    use super::*;
    use crate::author::{Context, Element, Event, Outcome};
    use crate::host::deaf_broker::connected;
    use crate::host::links::Links;
    use crate::host::new_body;
    use crate::host::watchdog::Progress;
    use crate::instance::Instance;
    use crate::spec::{BrokerAccess, ElementSpec, StoreAccess};

    #[derive(Serialize, Deserialize)]
    struct Quiet {}

    impl Element for Quiet {
        type Event = ();

        fn handle(&mut self, _: Event<()>, _: &mut Context<Self>) -> Outcome {
            Ok(())
        }
    }

    fn spec() -> ElementSpec {
        let text = r#"
            [application]
            name = "home"
            [servers.pc]
            storage = "volatile"
            [elements.quiet]
            kind = "Quiet"
            server = "pc"
        "#;
        let parsed = lamplighter_config::parse("home.toml", text).unwrap();
        let broker = BrokerAccess {
            url: String::new(),
            user: None,
            password: None,
        };
        let store = StoreAccess::Served {
            address: String::new(),
            token: String::new(),
        };
        let quiet = EntityId::new("quiet").unwrap();
        ElementSpec::of(&parsed.topology, &quiet, &broker, &store, false).unwrap()
    }

    fn surroundings(
        store: Embedded,
        agent: Outbox<FromHost>,
        ended: mpsc::UnboundedSender<EntityId>,
    ) -> Surroundings {
        let spec = spec();
        let place = LocalPlace {
            server: EntityId::new("pc").unwrap(),
            directory: "/nonexistent/local".into(),
            durability: Durability::Process,
            clock: Clock::default(),
        };
        Surroundings {
            links: Rc::new(Links::of(&spec)),
            store: LocalFirst::new(AnyStore::Embedded(store), place, Timing::Pessimistic),
            clock: Clock::default(),
            receipts: Default::default(),
            agent,
            progress: Progress::new(spec.id.clone()),
            ended,
            callees: Default::default(),
            calls_directory: None,
            network: crate::network::Network::LOOPBACK,
            known_adapters: Rc::default(),
            spec: Rc::new(spec),
        }
    }

    #[actix::test]
    async fn an_element_that_gives_up_has_left_the_broker_when_the_agent_hears_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Embedded::open(directory.path(), Options::default()).unwrap();
        let (near, far) = tokio::io::duplex(4096);
        let (ended, mut endings) = mpsc::unbounded_channel();
        let around = surroundings(store, Outbox::new(near), ended);
        let id = around.spec.id.clone();
        let hosted = Box::new(Instance::<Quiet>::new(id, Vec::new(), BTreeSet::new()));
        let mut body = new_body(hosted, &around.links, 0, clock::monotonic());
        let mqtt = connected().await;
        let command = mqtt.publish("home/lamp", "ON", Publish::at_least_once());
        assert!(command.is_ok());
        body.mqtt = Some(mqtt.clone());
        let body = Rc::new(RefCell::new(body));
        let mut heard = FrameReceiver::<_, FromHost>::new(far, CONTROL_FRAME_BYTES_MAX);
        let hearing = async {
            let word = heard.next().await.unwrap();
            (word, mqtt.state().borrow().clone())
        };
        let giving_up = give_up(&body, &around, "it failed".to_owned(), true);
        let ((), (word, state)) = tokio::join!(giving_up, hearing);
        let given_up = FromHost::GivenUp {
            element: around.spec.id.clone(),
            cause: "it failed".to_owned(),
            restart_may_help: true,
        };
        assert_eq!((word, state), (Some(given_up), ConnectionState::Stopped));
        assert_eq!(endings.recv().await, Some(around.spec.id.clone()));
    }
}
