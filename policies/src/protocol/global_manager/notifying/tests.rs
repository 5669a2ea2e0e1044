use alloc::vec;

use super::super::{Agent, Input};
use super::*;
use crate::machine::Machine;
use crate::notification::{NoticeDecision, Said, Situation};
use crate::protocol::control::{Ask, ElementState, ElementStatus, PlacedStatus};

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}

fn ms(at: u64) -> Now {
    Now {
        monotonic: Monotonic(at * 1_000_000),
        ..Now::default()
    }
}

/// `lights` depends on `sense`, and `sense` on `radio`; `door` has nothing to do with them. `lights` is
/// on another server than the rest.
fn manager() -> GlobalManager {
    let agent = |connection| Agent {
        connection: ConnectionId(connection),
        pid: 7,
        stopped: false,
        registered: true,
    };
    let placed = |element: &str, server: &str| {
        let status = ElementStatus {
            state: ElementState::Running,
            ..super::super::unassigned(&id(element))
        };
        let server = id(server);
        (id(element), PlacedStatus { server, status })
    };
    let around = |element: &str, around: &[&str]| {
        let around = around.iter().map(|name| id(name)).collect();
        (id(element), around)
    };
    GlobalManager {
        servers: [(id("pc"), Some(agent(1))), (id("rpi"), Some(agent(2)))].into(),
        elements: [
            placed("radio", "pc"),
            placed("sense", "pc"),
            placed("door", "pc"),
            placed("lights", "rpi"),
        ]
        .into(),
        notifying: Notifying {
            around: [
                around("radio", &["sense"]),
                around("sense", &["radio", "lights"]),
                around("lights", &["sense"]),
                around("door", &[]),
            ]
            .into(),
            ..Notifying::default()
        },
        ..super::super::tests::registered()
    }
}

fn tell(manager: &mut GlobalManager, now: Now, by: u64, message: FromAgent) -> Vec<Effect> {
    let mut effects = Vec::new();
    let connection = ConnectionId(by);
    let input = Input::AgentTold {
        connection,
        message,
    };
    manager.handle(now, input, &mut effects);
    effects
}

fn wake(manager: &mut GlobalManager, now: Now) -> Vec<Effect> {
    let mut effects = Vec::new();
    manager.wake(now, &mut effects);
    effects
}

/// The manager decides that `sense` is like this.
fn is(manager: &mut GlobalManager, now: Now, epoch: u64, state: EntityState) -> Vec<Effect> {
    manager.notifying.committed(now, &notice(epoch, state));
    let mut effects = Vec::new();
    manager.notify(now, &mut effects);
    effects
}

fn notice(epoch: u64, state: EntityState) -> Notice {
    let decision = if state == EntityState::Up {
        NoticeDecision::Resume
    } else {
        NoticeDecision::AwaitRecovery
    };
    Notice {
        term: 1,
        entity: id("sense"),
        epoch,
        state,
        decision,
    }
}

fn of_sense(epoch: u64, state: EntityState) -> Table {
    Table::of(&notice(epoch, state))
}

fn told(agent: u64, element: &str, said: &Table) -> Effect {
    let reconfigure = ToAgent::Reconfigure {
        element: id(element),
        reconfiguration: Reconfiguration::of_peers(said.clone()),
    };
    Effect::TellAgent(ConnectionId(agent), reconfigure)
}

/// Both ends are told: who depends on it, and on whom it depends.
fn told_both(said: &Table) -> [Effect; 2] {
    [told(2, "lights", said), told(1, "radio", said)]
}

fn shows(manager: &mut GlobalManager, now: Now, element: &str, said: &Table) -> Vec<Effect> {
    let message = FromAgent::Reconfigured {
        element: id(element),
        reconfiguration: Reconfiguration::of_peers(said.clone()),
    };
    tell(manager, now, 1, message)
}

#[test]
fn a_repair_that_takes_no_time_is_told_to_nobody() {
    let mut manager = manager();
    assert_eq!(is(&mut manager, ms(0), 1, EntityState::Recovering), []);
    assert_eq!(is(&mut manager, ms(40), 2, EntityState::Up), []);
    assert_eq!(wake(&mut manager, ms(300)), []);
    assert_eq!(manager.notifying.next_deadline(), None);
}

#[test]
fn what_is_not_back_soon_is_told_to_both_sides_until_they_have_it_in_their_logs() {
    let mut manager = manager();
    is(&mut manager, ms(0), 1, EntityState::Recovering);
    assert_eq!(wake(&mut manager, ms(249)), []);
    let failed = of_sense(1, EntityState::Recovering);
    assert_eq!(wake(&mut manager, ms(250)), told_both(&failed));
    assert_eq!(wake(&mut manager, ms(300)), told_both(&failed));
    assert_eq!(shows(&mut manager, ms(310), "lights", &failed), []);
    let again = wake(&mut manager, ms(400));
    assert_eq!(again, [told(1, "radio", &failed)]);
    shows(&mut manager, ms(410), "radio", &failed);
    assert_eq!(manager.notifying.outbox.waiting(), 0);
}

#[test]
fn what_is_given_up_is_told_at_once_and_again_that_it_is_back() {
    let mut manager = manager();
    let failed = of_sense(1, EntityState::Failed);
    let effects = is(&mut manager, ms(0), 1, EntityState::Failed);
    assert_eq!(effects, told_both(&failed));
    let up = of_sense(2, EntityState::Up);
    let effects = is(&mut manager, ms(10), 2, EntityState::Up);
    assert_eq!(effects, told_both(&up));
    // An acknowledgement of what was said before is none of this.
    shows(&mut manager, ms(11), "lights", &failed);
    assert_eq!(manager.notifying.outbox.waiting(), 2);
}

#[test]
fn an_agent_that_was_away_is_told_as_soon_as_it_has_registered() {
    let mut manager = manager();
    let mut effects = Vec::new();
    manager.handle(ms(0), Input::ConnectionLost(ConnectionId(2)), &mut effects);
    let failed = of_sense(1, EntityState::Failed);
    let effects = is(&mut manager, ms(0), 1, EntityState::Failed);
    assert_eq!(effects, [told(1, "radio", &failed)]);
    let connected = Input::AgentConnected {
        connection: ConnectionId(3),
        server: id("rpi"),
        pid: 8,
    };
    manager.handle(ms(5), connected, &mut Vec::new());
    let registered = FromAgent::Registered { hosted: vec![] };
    let effects = tell(&mut manager, ms(6), 3, registered);
    assert!(effects.contains(&told(3, "lights", &failed)), "{effects:?}");
}

#[test]
fn all_are_told_which_changes_there_are_and_one_who_lacks_one_gets_it() {
    let mut manager = manager();
    let failed = of_sense(1, EntityState::Failed);
    is(&mut manager, ms(0), 1, EntityState::Failed);
    for element in ["radio", "lights"] {
        shows(&mut manager, ms(1), element, &failed);
    }
    let newest = Newest {
        term: 1,
        epoch: 1,
        is_up: false,
    };
    let digest = ToAgent::Digest([(id("sense"), newest)].into());
    let effects = wake(&mut manager, ms(2_000));
    let expected = [1, 2].map(|agent| Effect::TellAgent(ConnectionId(agent), digest.clone()));
    assert_eq!(effects, expected);
    let lacking = |element: &str| FromAgent::Lacking {
        element: id(element),
        entities: vec![id("sense")],
    };
    let effects = tell(&mut manager, ms(2_001), 2, lacking("lights"));
    assert_eq!(effects, [told(2, "lights", &failed)]);
    let effects = tell(&mut manager, ms(2_002), 1, lacking("door"));
    assert_eq!(effects, [], "it has nothing to do with it");
}

#[test]
fn a_manager_that_was_started_again_says_what_its_elements_do_not_know() {
    let mut manager = manager();
    manager.notifying.restored(&notice(5, EntityState::Up));
    let up = of_sense(5, EntityState::Up);
    assert_eq!(shows(&mut manager, ms(0), "lights", &Table::default()), []);
    let failed = of_sense(4, EntityState::Failed);
    let effects = shows(&mut manager, ms(0), "lights", &failed);
    assert_eq!(effects, [told(2, "lights", &up)]);
}

#[test]
fn nobody_is_told_anything_while_the_application_stops() {
    let mut manager = manager();
    let stop = Input::OperatorAsked {
        connection: ConnectionId(9),
        ask: Ask::Stop,
    };
    manager.handle(ms(0), stop, &mut Vec::new());
    assert_eq!(is(&mut manager, ms(1), 1, EntityState::Failed), []);
    assert_eq!(manager.notifying.next_deadline(), None);
}

#[test]
fn what_configurators_say_to_each_other_reaches_the_server_of_the_other() {
    let mut manager = manager();
    let message = BetweenElements {
        from: id("sense"),
        to: id("lights"),
        said: Said::Reconfigured(Situation {
            incarnation: 1,
            version: 4,
            state: EntityState::Suspended,
        }),
    };
    let effects = tell(&mut manager, ms(0), 1, FromAgent::Between(message.clone()));
    let passed_on = Effect::TellAgent(ConnectionId(2), ToAgent::Between(message));
    assert_eq!(effects, [passed_on]);
}

#[test]
fn what_an_element_that_is_about_to_start_is_told_is_who_around_it_is_down() {
    let mut manager = manager();
    let failed = of_sense(1, EntityState::Failed);
    is(&mut manager, ms(0), 1, EntityState::Failed);
    let present = manager.present(ConnectionId(2), &id("lights"));
    assert_eq!(present, Some(told(2, "lights", &failed)));
    assert_eq!(manager.present(ConnectionId(1), &id("door")), None);
    is(&mut manager, ms(1), 2, EntityState::Up);
    assert_eq!(manager.present(ConnectionId(2), &id("lights")), None);
}
