//! The global manager and the fog agents around a failed appliance.

use std::collections::BTreeMap;

use lamplighter_policies::detection::{ApplianceVerdict, BridgeVerdict, Signal};
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::model::{Appliance, Liveness, OnReturn, Topology};
use lamplighter_policies::protocol::appliances::{
    ApplianceState, ApplicationState, Reconfiguration, Served,
};
use lamplighter_policies::protocol::control::{Answer, Ask, FromAgent, ToAgent};
use lamplighter_policies::protocol::global_manager::{ConnectionId, Effect, GlobalManager, Input};
use lamplighter_policies::time::{Monotonic, Now, WallClock};

use super::house::{house, id, lamp};

const AGENT: ConnectionId = ConnectionId(1);
const OTHER_AGENT: ConnectionId = ConnectionId(2);
const OPERATOR: ConnectionId = ConnectionId(9);

fn watched(bridge: Option<&str>) -> Appliance {
    Appliance {
        liveness: Liveness {
            availability: Some("there".into()),
            bridge: bridge.map(Into::into),
            ..Liveness::default()
        },
        ..lamp()
    }
}

fn suspected() -> ApplianceVerdict {
    ApplianceVerdict::Suspected {
        since: WallClock(5),
        signal: Signal::Offline,
    }
}

/// A manager, and whom it told what of reconfigurations.
struct Managed {
    manager: GlobalManager,
    told: Vec<(ConnectionId, String, Reconfiguration)>,
    answered: Vec<Answer>,
}

impl Managed {
    fn new(topology: &Topology) -> Self {
        let server = topology.servers.keys().next().expect("there is one");
        let placement: BTreeMap<EntityId, EntityId> = topology
            .elements
            .keys()
            .map(|element| (element.clone(), server.clone()))
            .collect();
        let mut managed = Self {
            manager: GlobalManager::new(topology, &placement, false),
            told: Vec::new(),
            answered: Vec::new(),
        };
        managed.tell(Input::Restored {
            term: 1,
            ledger: Box::default(),
            folded: 0,
            entries: Vec::new(),
        });
        managed
    }

    /// A manager whose only agent has registered.
    fn registered(topology: &Topology) -> Self {
        let mut managed = Self::new(topology);
        managed.connected(AGENT, "pc");
        managed.agent(AGENT, FromAgent::Registered { hosted: Vec::new() });
        managed
    }

    fn tell(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.manager.handle(Now::default(), input, &mut effects);
        self.note(effects);
    }

    fn note(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::TellAgent(
                    to,
                    ToAgent::Reconfigure {
                        element,
                        reconfiguration,
                    },
                ) => self.told.push((to, element.to_string(), reconfiguration)),
                Effect::Answer(_, answer) => self.answered.push(answer),
                // What it decides is stable at once.
                Effect::Journal { first, entries } => {
                    let upto = first + entries.len() as u64 - 1;
                    self.tell(Input::Journalled { upto });
                }
                Effect::TellAgent(..)
                | Effect::Refuse { .. }
                | Effect::Enrol { .. }
                | Effect::Place(_)
                | Effect::Fold { .. }
                | Effect::Finish => {}
            }
        }
    }

    fn connected(&mut self, connection: ConnectionId, server: &str) {
        let (server, pid) = (id(server), 7);
        self.tell(Input::AgentConnected {
            connection,
            server,
            pid,
        });
    }

    fn agent(&mut self, connection: ConnectionId, message: FromAgent) {
        self.tell(Input::AgentTold {
            connection,
            message,
        });
    }

    fn judged(&mut self, appliance: &str, verdict: ApplianceVerdict) {
        let appliance = id(appliance);
        self.agent(AGENT, FromAgent::Judged { appliance, verdict });
    }

    fn knows(&mut self, reconfiguration: Reconfiguration) {
        let element = id("lights");
        self.agent(
            AGENT,
            FromAgent::Reconfigured {
                element,
                reconfiguration,
            },
        );
    }

    /// What the element was told since the last time.
    fn told(&mut self) -> Vec<Reconfiguration> {
        let told = std::mem::take(&mut self.told);
        let told = told
            .into_iter()
            .inspect(|(_, element, _)| assert_eq!(element, "lights"));
        told.map(|(_, _, reconfiguration)| reconfiguration)
            .collect()
    }

    fn application(&mut self) -> ApplicationState {
        self.tell(Input::OperatorAsked {
            connection: OPERATOR,
            ask: Ask::Appliances,
        });
        match self.answered.pop() {
            Some(Answer::Appliances { application, .. }) => application,
            other => panic!("{other:?}"),
        }
    }
}

fn served(epoch: u64, places: &[(&str, Option<&str>)]) -> Reconfiguration {
    let place = |(of, by): &(&str, Option<&str>)| {
        let served = by.map_or(Served::Nobody, |by| Served::By(id(by)));
        (id(of), served)
    };
    Reconfiguration {
        epoch,
        served: places.iter().map(place).collect(),
        application_failed: None,
        ..Reconfiguration::default()
    }
}

#[test]
fn the_elements_of_a_failed_appliance_are_told_of_its_substitute_once() {
    let topology = house(&[("a", watched(None)), ("b", watched(None))], &["a", "b"]);
    let mut managed = Managed::registered(&topology);
    managed.judged("a", suspected());
    assert_eq!(managed.told(), [served(1, &[("a", Some("b"))])]);
    managed.judged("a", suspected());
    assert_eq!(managed.told(), []);
    // The substitute fails too: there is nobody left.
    managed.judged("b", suspected());
    assert_eq!(managed.told(), [served(2, &[("a", None), ("b", None)])]);
    let reasons = ["a", "b"].map(|of| format!("{of} failed and nothing can take its place"));
    let degraded = ApplicationState::Degraded {
        reasons: reasons.into(),
    };
    assert_eq!(managed.application(), degraded);
}

#[test]
fn an_essential_appliance_without_substitute_fails_the_application_until_it_is_back() {
    let essential = Appliance {
        essential: true,
        ..watched(None)
    };
    let topology = house(&[("a", essential)], &["a"]);
    let mut managed = Managed::registered(&topology);
    managed.judged("a", suspected());
    let reason = "a is essential, it failed, and nothing can take its place";
    let failed = Reconfiguration {
        application_failed: Some(reason.into()),
        ..served(1, &[("a", None)])
    };
    assert_eq!(managed.told(), [failed]);
    let reason = reason.to_owned();
    assert_eq!(managed.application(), ApplicationState::Failed { reason });
    managed.judged("a", ApplianceVerdict::Trusted);
    assert_eq!(managed.told(), [served(2, &[])]);
    assert_eq!(managed.application(), ApplicationState::Whole);
}

#[test]
fn a_bridge_that_is_down_blames_nobody_behind_it() {
    let bridge = Some("zigbee2mqtt/bridge/state");
    let topology = house(&[("a", watched(bridge)), ("b", watched(None))], &["a", "b"]);
    let mut managed = Managed::registered(&topology);
    let verdict = BridgeVerdict::Down(WallClock(3));
    let told = FromAgent::JudgedBridge {
        bridge: "zigbee2mqtt/bridge/state".into(),
        verdict,
    };
    managed.agent(AGENT, told);
    assert_eq!(managed.told(), []);
    let reasons = vec!["the bridge that speaks on zigbee2mqtt/bridge/state is down".into()];
    assert_eq!(
        managed.application(),
        ApplicationState::Degraded { reasons }
    );
    // Who is behind it cannot take the place of another.
    managed.judged("b", suspected());
    assert_eq!(managed.told(), [served(1, &[("b", None)])]);
}

#[test]
fn a_manager_that_was_started_again_goes_on_with_what_was_decided_before() {
    let mut gives_back = watched(None);
    gives_back.substitution.on_return = OnReturn::GiveBack;
    let topology = house(
        &[
            ("a", gives_back),
            ("b", watched(None)),
            ("c", watched(None)),
        ],
        &["a"],
    );
    let mut managed = Managed::new(&topology);
    managed.connected(AGENT, "pc");
    // It would choose `b` itself.
    managed.knows(served(7, &[("a", Some("c"))]));
    managed.agent(AGENT, FromAgent::Registered { hosted: Vec::new() });
    // The agent may have been away longer than its host: it is told what it said.
    let again = managed.told();
    assert!(
        again
            .iter()
            .all(|told| *told == served(7, &[("a", Some("c"))])),
        "{again:?}"
    );
    managed.judged("a", suspected());
    assert_eq!(managed.told(), []);
    managed.judged("a", ApplianceVerdict::Trusted);
    assert_eq!(managed.told(), [served(8, &[])]);
}

#[test]
fn nothing_is_decided_before_every_agent_was_heard_or_took_too_long() {
    let mut topology = house(&[("a", watched(None)), ("b", watched(None))], &["a"]);
    let other = topology
        .servers
        .values()
        .next()
        .expect("there is one")
        .clone();
    topology.servers.insert(id("rpi"), other);
    let mut managed = Managed::registered(&topology);
    managed.judged("a", suspected());
    assert_eq!(managed.told(), []);
    let mut effects = Vec::new();
    let deadline = managed
        .manager
        .next_deadline()
        .expect("it does not wait for ever");
    let late = Now {
        monotonic: deadline,
        ..Now::default()
    };
    assert!(deadline > Monotonic(0));
    managed.manager.wake(late, &mut effects);
    managed.note(effects);
    assert_eq!(managed.told(), [served(1, &[("a", Some("b"))])]);

    let mut managed = Managed::registered(&topology);
    managed.judged("a", suspected());
    managed.connected(OTHER_AGENT, "rpi");
    managed.agent(OTHER_AGENT, FromAgent::Registered { hosted: Vec::new() });
    assert_eq!(managed.told(), [served(1, &[("a", Some("b"))])]);
}

#[test]
fn an_agent_that_registers_is_told_what_to_watch_and_what_was_decided_while_it_was_away() {
    let topology = house(&[("a", watched(None)), ("b", watched(None))], &["a"]);
    let mut managed = Managed::registered(&topology);
    managed.tell(Input::ConnectionLost(AGENT));
    let mut effects = Vec::new();
    managed.connected(OTHER_AGENT, "pc");
    managed.manager.handle(
        Now::default(),
        Input::AgentTold {
            connection: OTHER_AGENT,
            message: FromAgent::Judged {
                appliance: id("a"),
                verdict: suspected(),
            },
        },
        &mut effects,
    );
    managed.note(effects);
    assert_eq!(managed.told(), [served(1, &[("a", Some("b"))])]);
    let mut effects = Vec::new();
    managed.manager.handle(
        Now::default(),
        Input::AgentTold {
            connection: OTHER_AGENT,
            message: FromAgent::Registered { hosted: Vec::new() },
        },
        &mut effects,
    );
    let watches = effects.iter().find_map(|effect| {
        let Effect::TellAgent(OTHER_AGENT, ToAgent::Watch { appliances, .. }) = effect else {
            return None;
        };
        Some(appliances)
    });
    let watched: Vec<&str> = watches
        .into_iter()
        .flatten()
        .map(|watch| watch.appliance.as_str())
        .collect();
    assert_eq!(watched, ["a", "b"]);
    managed.note(effects);
    assert_eq!(managed.told(), [served(1, &[("a", Some("b"))])]);
}

#[test]
fn the_status_of_an_appliance_says_who_serves_and_why_others_do_not() {
    let mut elsewhere = watched(None);
    elsewhere.spaces = [id("hall")].into();
    let all = [("a", watched(None)), ("b", lamp()), ("c", elsewhere)];
    let topology = house(&all, &["a"]);
    let mut managed = Managed::registered(&topology);
    managed.judged("a", suspected());
    managed.tell(Input::OperatorAsked {
        connection: OPERATOR,
        ask: Ask::Appliances,
    });
    let Some(Answer::Appliances { appliances, .. }) = managed.answered.pop() else {
        panic!("it answers");
    };
    let failed = ApplianceState::Failed {
        since: WallClock(5),
        cause: "it is said to be offline".into(),
    };
    assert_eq!(appliances[0].state, failed);
    assert_eq!(appliances[0].replaced_by, Some(id("b")));
    assert_eq!(
        appliances[0].rejected,
        [(id("c"), "it is in none of the spaces".to_owned())]
    );
    assert_eq!(appliances[1].state, ApplianceState::Unwatched);
    assert_eq!(appliances[1].stands_in_for, [id("a")]);
    assert_eq!(appliances[2].state, ApplianceState::Unheard);
}
