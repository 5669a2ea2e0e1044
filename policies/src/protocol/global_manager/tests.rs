use alloc::vec;

use super::*;
use crate::model::{Application, Broker, Detection, Durability, Store, StoreKind};
use crate::physical_world::Position;
use crate::protocol::control::{Ask, Decision, Injection, ServerState, ServerStatus};
use crate::protocol::messages::Judgement;
use crate::state_saving::Verdict;

#[test]
fn a_suspected_element_is_restarted_in_place() {
    let mut manager = registered();
    assert_eq!(
        told(&mut manager, suspected("lamp")),
        [Effect::TellAgent(
            AGENT,
            ToAgent::Decided {
                element: id("lamp"),
                failure: 1,
                decision: Decision::RestartInPlace,
            }
        )]
    );
}

#[test]
fn nothing_is_restarted_while_the_application_stops() {
    let mut manager = registered();
    assert_eq!(
        told(&mut manager, asked(Ask::Stop)),
        [Effect::TellAgent(AGENT, ToAgent::Stop)]
    );
    let reason = "the application is stopping".into();
    assert_eq!(
        told(&mut manager, suspected("lamp")),
        [Effect::TellAgent(
            AGENT,
            ToAgent::Decided {
                element: id("lamp"),
                failure: 1,
                decision: Decision::Leave { reason },
            }
        )]
    );
    assert_eq!(
        told(&mut manager, from_agent(FromAgent::Stopped)),
        [Effect::Answer(OPERATOR, Answer::Stopped)]
    );
    assert_eq!(told(&mut manager, Input::StopRequested), [Effect::Finish]);
}

#[test]
fn a_registered_agent_is_enrolled_with_what_it_hosts_and_readiness_is_told() {
    let mut manager = registered();
    assert_eq!(told(&mut manager, asked(Ask::AwaitReady)), []);
    let status = ElementStatus {
        state: ElementState::Running,
        ..unassigned(&id("lamp"))
    };
    let hosted = vec![status];
    assert_eq!(
        told(&mut manager, from_agent(FromAgent::Registered { hosted })),
        [
            Effect::Enrol {
                server: id("pc"),
                hosted: vec![id("lamp")],
            },
            Effect::Answer(
                OPERATOR,
                Answer::Ready {
                    running: 1,
                    failed: vec![],
                }
            ),
        ]
    );
}

#[test]
fn drills_are_refused_unless_they_are_allowed() {
    let mut manager = registered();
    manager.allow_inject = false;
    let ask = Ask::Inject {
        element: id("lamp"),
        injection: Injection::Kill,
    };
    let reason = "faults may not be injected into this application; set allow_inject".into();
    assert_eq!(
        told(&mut manager, asked(ask)),
        [Effect::Answer(OPERATOR, Answer::Refused { reason })]
    );
}

#[test]
fn a_persons_word_about_a_command_is_passed_on_to_the_element_that_sent_it() {
    let mut manager = registered();
    let judgement = |element: &str| Judgement {
        element: id(element),
        link: "pump/dose".into(),
        position: Position::new(1, 7, 0),
        verdict: Verdict::Redo,
    };
    let reason = "the topology has no element nobody".into();
    assert_eq!(
        told(&mut manager, asked(Ask::Judge(judgement("nobody")))),
        [Effect::Answer(OPERATOR, Answer::Refused { reason })]
    );
    let mut running = unassigned(&id("lamp"));
    running.state = ElementState::Running;
    let running = FromAgent::Status(alloc::boxed::Box::new(running));
    told(&mut manager, from_agent(running));
    assert_eq!(
        told(&mut manager, asked(Ask::Judge(judgement("lamp")))),
        [
            Effect::TellAgent(AGENT, ToAgent::Judge(judgement("lamp"))),
            Effect::Answer(OPERATOR, Answer::Judged),
        ]
    );
}

#[test]
fn a_status_waits_for_the_agents_but_not_for_one_that_is_lost() {
    let mut manager = registered();
    assert_eq!(
        told(&mut manager, asked(Ask::Status)),
        [Effect::TellAgent(AGENT, ToAgent::Report { request: 1 })]
    );
    let effects = told(&mut manager, Input::ConnectionLost(AGENT));
    let placed = PlacedStatus {
        server: id("pc"),
        status: unassigned(&id("lamp")),
    };
    let server = ServerStatus {
        server: id("pc"),
        agent: None,
        state: ServerState::Awaited,
        since: None,
        cause: None,
        observers: vec![],
        certificate_until: None,
    };
    assert_eq!(
        effects,
        [Effect::Answer(
            OPERATOR,
            Answer::Status {
                elements: vec![placed],
                servers: vec![server],
                more: false,
            }
        )]
    );
}

const AGENT: ConnectionId = ConnectionId(1);
const OPERATOR: ConnectionId = ConnectionId(2);

/// A manager of the element `lamp` on the server `pc`, whose agent is connected.
pub(super) fn registered() -> GlobalManager {
    let agent = Agent {
        connection: AGENT,
        pid: 7,
        registered: true,
        stopped: false,
    };
    let placed = PlacedStatus {
        server: id("pc"),
        status: unassigned(&id("lamp")),
    };
    let mut journal = Journal::default();
    journal.opened(1, 0, 0);
    GlobalManager {
        allow_inject: true,
        autonomy_after: Duration::from_millis(100),
        isolation: BTreeMap::new(),
        servers: BTreeMap::from([(id("pc"), Some(agent))]),
        elements: BTreeMap::from([(id("lamp"), placed)]),
        topology: without_appliances(),
        ledger: Ledger::default(),
        journal,
        recovery: Recovery::default(),
        waiting: restoring::Waiting::default(),
        awaiting_ready: BTreeSet::new(),
        queries: BTreeMap::new(),
        last_query: 0,
        stopping: None,
        callees: Callees::default(),
        notifying: Notifying::default(),
        appliances: Appliances::new(&without_appliances()),
        standings: BTreeMap::from([(id("pc"), Standing::default())]),
        suspecting: Suspecting::new(&without_appliances()),
    }
}

fn without_appliances() -> Topology {
    Topology {
        application: Application { name: id("house") },
        servers: BTreeMap::new(),
        channels: BTreeMap::new(),
        spaces: BTreeMap::new(),
        appliances: BTreeMap::new(),
        elements: BTreeMap::new(),
        bindings: BTreeMap::new(),
        store: Store {
            kind: StoreKind::Embedded,
            durability: Durability::Required,
            lease: Store::LEASE,
        },
        broker: Broker::Embedded,
        detection: Detection::default(),
    }
}

/// Tells the manager something. What it decides is stable at once.
pub(super) fn told(manager: &mut GlobalManager, input: Input) -> Vec<Effect> {
    let mut effects = Vec::new();
    manager.handle(Now::default(), input, &mut effects);
    stable(manager, Now::default(), effects)
}

/// What follows once all that was decided is stable.
pub(super) fn stable(manager: &mut GlobalManager, now: Now, effects: Vec<Effect>) -> Vec<Effect> {
    let mut all = Vec::new();
    for effect in effects {
        let Effect::Journal { first, entries } = effect else {
            all.push(effect);
            continue;
        };
        let upto = first + entries.len() as u64 - 1;
        let mut more = Vec::new();
        manager.handle(now, Input::Journalled { upto }, &mut more);
        all.extend(stable(manager, now, more));
    }
    all
}

fn asked(ask: Ask) -> Input {
    Input::OperatorAsked {
        connection: OPERATOR,
        ask,
    }
}

fn from_agent(message: FromAgent) -> Input {
    Input::AgentTold {
        connection: AGENT,
        message,
    }
}

fn suspected(element: &str) -> Input {
    from_agent(FromAgent::Suspected {
        element: id(element),
        failure: 1,
        cause: "was killed".into(),
    })
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}
