//! An element's configurator as an actor: between its agent, the configurators of others, and its cell
//! (paper, 4.2.3).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Binding, Communication, Endpoint};
use lamplighter_policies::notification::{BetweenElements, Newest};
use lamplighter_policies::protocol::appliances::Reconfiguration;
use lamplighter_policies::protocol::cell::{self, Neighbour};
use lamplighter_policies::protocol::configurator::{
    Configurator, ConfiguratorSettings, Effect, Input,
};
use lamplighter_policies::protocol::messages::FromHost;
use lamplighter_policies::time::Now;
use lamplighter_runtime::transport::control::Outbox;

use super::body::{Body, Surroundings};
use super::{Host, ending, say};
use crate::shell::{Incarnation, Perform, Role, RoleSettings, Shell};
use crate::spec::ElementSpec;

/// Starts the configurator of an element whose cell has started.
pub(super) fn start(
    cell: &Role<cell::Input>,
    body: &Rc<RefCell<Body>>,
    around: &Surroundings,
) -> Role<Input> {
    let spec = &around.spec;
    let settings = ConfiguratorSettings {
        element: spec.id.clone(),
        around: spec.around.clone(),
        follows: spec.follows.clone(),
    };
    let (cell, agent) = (cell.lasting(), around.agent.clone());
    let factory = move |_: &Role<Input>| Incarnation {
        machine: Configurator::new(settings.clone()),
        performer: Performer {
            element: settings.element.clone(),
            cell: cell.clone(),
            agent: agent.clone(),
        },
        first: vec![Input::Started],
    };
    let (body, around) = (Rc::clone(body), around.clone());
    let name = format!("configurator of {}", around.spec.id);
    let escalate = move |escalated: crate::shell::Escalated| {
        actix_rt::spawn(async move {
            ending::give_up(&body, &around, escalated.to_string(), true).await;
        });
    };
    Shell::start(RoleSettings::new(name), factory, escalate)
}

struct Performer {
    element: EntityId,
    cell: Role<cell::Input>,
    agent: Outbox<FromHost>,
}

impl Perform for Performer {
    type Machine = Configurator;

    fn perform(&mut self, _: Now, effect: Effect, _: &Role<Input>) {
        let element = self.element.clone();
        match effect {
            Effect::Apply(reconfiguration) => {
                self.cell.tell(cell::Input::Reconfigured(reconfiguration));
            }
            Effect::AskWhatIsApplied => self.cell.tell(cell::Input::ShowAsked),
            // Nobody has to know that there is nothing to know.
            Effect::Show(reconfiguration) if reconfiguration == Reconfiguration::default() => {}
            Effect::Show(reconfiguration) => say(
                &self.agent,
                FromHost::Reconfigured {
                    element,
                    reconfiguration,
                },
            ),
            Effect::Say(message) => say(&self.agent, FromHost::Between(message)),
            Effect::Pull(entities) => say(&self.agent, FromHost::Lacking { element, entities }),
        }
    }
}

impl Host<'_> {
    /// Tells an element how those around it are; one that is about to start knows it before it is live.
    pub(super) fn reconfigure(&mut self, element: EntityId, told: Reconfiguration) {
        if let Some(running) = self.elements.get(&element) {
            return running.configurator.tell(Input::Told(told));
        }
        if self.preparing.contains(&element) {
            self.present.entry(element).or_default().join(&told);
        }
    }

    pub(super) fn heard(&self, message: BetweenElements) {
        match self.elements.get(&message.to) {
            Some(running) => running.configurator.tell(Input::Heard(message)),
            None => tracing::debug!(to = %message.to, "it is said again when it runs"),
        }
    }

    pub(super) fn digested(&self, digest: &BTreeMap<EntityId, Newest>) {
        for running in self.elements.values() {
            running.configurator.tell(Input::Digested(digest.clone()));
        }
    }
}

/// The elements around one, and what goes to and from each.
pub(super) fn neighbours(spec: &ElementSpec) -> BTreeMap<EntityId, Neighbour> {
    let mut neighbours: BTreeMap<EntityId, Neighbour> = BTreeMap::new();
    let mut only_heard: BTreeMap<EntityId, BTreeSet<String>> = BTreeMap::new();
    for flow in spec.bindings.values().flat_map(|binding| &binding.flows) {
        let (
            Endpoint::Element {
                element: source,
                port,
            },
            Endpoint::Element {
                element: target, ..
            },
        ) = (&flow.source, &flow.target)
        else {
            continue;
        };
        let (peer, speaks) = if *source == spec.id {
            (target, true)
        } else {
            (source, false)
        };
        let neighbour = neighbours.entry(peer.clone()).or_default();
        neighbour.links.insert(flow.binding.clone());
        let binding = spec.bindings.get(&flow.binding);
        if binding.is_some_and(|binding| binding.model == Communication::Call) {
            let replies = Binding::reply_link(&flow.binding);
            neighbour.links.extend(replies.ok());
        }
        if speaks {
            neighbour.outputs.insert(port.clone());
        } else {
            let heard = only_heard.entry(peer.clone()).or_default();
            heard.insert(flow.binding.to_string());
        }
    }
    for (peer, bindings) in only_heard {
        let neighbour = neighbours.entry(peer).or_default();
        if neighbour.outputs.is_empty() {
            neighbour.outputs = bindings;
        }
    }
    neighbours
}

#[cfg(test)]
mod tests {
    use lamplighter_policies::notification::Need;

    use super::*;
    use crate::spec::{BrokerAccess, StoreAccess};

    fn id(name: &str) -> EntityId {
        EntityId::new(name).expect("the tests use good ids")
    }

    fn spec(element: &str) -> ElementSpec {
        let text = r#"
            [application]
            name = "home"
            [servers.pc]
            storage = "volatile"
            [elements.sense]
            kind = "Sense"
            server = "pc"
            inputs = { "home/motion" = "Motion" }
            [elements.lights]
            kind = "Lights"
            server = "pc"
            [elements.log]
            kind = "Log"
            server = "pc"
            [bindings.motion]
            from = "lights"
            to = "sense"
            receive = [ { output = "motion", input = "Motion" } ]
            send = [ { output = "calm", input = "Calm" } ]
            [bindings.kept]
            from = "log"
            to = "lights"
            mandatory = false
            receive = [ { output = "changed", input = "Changed" } ]
        "#;
        let topology = lamplighter_config::parse("home.toml", text)
            .unwrap_or_else(|faults| panic!("{faults:?}"))
            .topology;
        let broker = BrokerAccess {
            url: String::new(),
            user: None,
            password: None,
        };
        let store = StoreAccess::Served {
            address: String::new(),
            token: String::new(),
        };
        ElementSpec::of(&topology, &id(element), &broker, &store, false).expect("it is there")
    }

    #[test]
    fn an_element_knows_who_is_around_it_and_what_goes_between() {
        let lights = spec("lights");
        let around = &lights.around;
        assert_eq!(
            around.prerequisites,
            [(id("sense"), Need::Mandatory)].into()
        );
        assert_eq!(around.dependents, [id("log")].into());
        assert!(!around.hears_others);
        assert_eq!(lights.follows, [id("sense")].into());
        let sense = Neighbour {
            links: [id("motion"), id("motion.send")].into(),
            outputs: ["calm".to_owned()].into(),
        };
        let log = Neighbour {
            links: [id("kept")].into(),
            outputs: ["changed".to_owned()].into(),
        };
        let expected = [(id("sense"), sense), (id("log"), log)];
        assert_eq!(neighbours(&lights), expected.into());
    }

    #[test]
    fn one_that_is_only_heard_is_known_by_its_binding() {
        let log = spec("log");
        assert_eq!(
            log.around.prerequisites,
            [(id("lights"), Need::Optional)].into()
        );
        let outputs = neighbours(&log).remove(&id("lights")).map(|n| n.outputs);
        assert_eq!(outputs, Some(["kept".to_owned()].into()));
        assert!(spec("sense").around.hears_others);
    }
}
