use alloc::string::ToString;

use proptest::prelude::*;

use super::*;
use crate::machine::Machine;
use crate::model::testing::servers_in;
use crate::protocol::control::{Answer, Ask, FromAgent, ServerStatus};
use crate::protocol::global_manager::tests::stable;
use crate::protocol::global_manager::{ConnectionId, Input};
use crate::time::WallClock;

const MS: u64 = 1_000_000;

#[test]
fn what_two_observers_do_not_hear_is_failed_after_the_window_and_every_observer_is_told() {
    let mut house = House::of(&["a", "b", "c", "d"]);
    let asked = house.suspects(1_000, "a", "d");
    assert_eq!(asked, looks("d", &["b", "c", "d"]));
    assert_eq!(house.state("d"), ServerState::Suspected);
    assert_eq!(house.suspects(1_020, "b", "d"), []);
    assert_eq!(house.manager.next_deadline(), Some(ms(1_450)));
    assert_eq!(house.wake(1_449), []);
    let told = house.wake(1_450);
    assert_eq!(
        told[..3],
        judgements("d", &["a", "b", "c"], Judgement::Failed)
    );
    let status = house.status("d");
    assert_eq!(status.state, ServerState::Failed);
    assert_eq!(
        status.cause.as_deref(),
        Some("silent for a, b while it was asked, for 450 ms")
    );
    assert_eq!(status.since, Some(WallClock(1_450_000)));
    // It observes nobody any more, and is still observed.
    assert_eq!(house.status("a").observers, [id("b"), id("c")]);
    assert_eq!(status.observers, [id("a"), id("b"), id("c")]);
}

#[test]
fn who_is_the_only_one_to_see_nothing_is_believed_after_twice_the_window() {
    let mut pair = House::of(&["a", "b"]);
    assert_eq!(pair.suspects(1_000, "a", "b"), looks("b", &["b"]));
    assert_eq!(pair.wake(1_899), []);
    pair.wake(1_900);
    assert_eq!(pair.state("b"), ServerState::Failed);
}

#[test]
fn one_sign_of_life_refutes_whoever_gives_it() {
    let heard = FromAgent::Noticed(Noticed::Heard { server: id("d") });
    let signs: [(&str, FromAgent); 3] = [
        ("c", heard.clone()),
        ("a", heard),
        // The agent itself says anything.
        ("d", FromAgent::Reported { request: 0 }),
    ];
    for (by, sign) in signs {
        let mut house = House::of(&["a", "b", "c", "d"]);
        house.suspects(1_000, "a", "d");
        house.suspects(1_000, "b", "d");
        let told = house.told(1_440, by, sign);
        assert_eq!(
            told,
            judgements("d", &["a", "b", "c"], Judgement::Alive),
            "{by}"
        );
        assert_eq!(house.state("d"), ServerState::Up);
        assert_eq!(house.manager.next_deadline(), None);
    }
}

#[test]
fn a_lost_connection_is_no_evidence() {
    let mut house = House::of(&["a", "b", "c"]);
    let lost = Input::ConnectionLost(connection("c"));
    assert_eq!(house.handle(1_000, lost), []);
    assert_eq!(house.manager.next_deadline(), None);
    assert_eq!(house.state("c"), ServerState::Up);
}

#[test]
fn a_failed_server_returns_with_the_first_sign_of_life() {
    let heard = FromAgent::Noticed(Noticed::Heard { server: id("b") });
    for (by, sign) in [("a", heard), ("b", FromAgent::Reported { request: 0 })] {
        let mut pair = House::of(&["a", "b"]);
        pair.suspects(1_000, "a", "b");
        pair.wake(1_900);
        let told = pair.told(5_000, by, sign);
        assert_eq!(told[0], judgements("b", &["a"], Judgement::Alive)[0]);
        assert_eq!(pair.state("b"), ServerState::Returned);
        // It can be lost again.
        pair.suspects(9_000, "a", "b");
        pair.wake(9_900);
        assert_eq!(pair.state("b"), ServerState::Failed);
    }
}

#[test]
fn an_observer_that_alone_suspects_most_of_its_servers_is_looked_at_itself() {
    let mut house = House::of(&["a", "b", "c", "d", "e"]);
    let observed = house.manager.suspecting.observed[&id("a")].clone();
    assert!(observed.len() >= 3, "{observed:?}");
    for server in &observed {
        house.suspects(1_000, "a", server.as_str());
    }
    let told = house.wake(9_000);
    let looked = |effect: &Effect| {
        let Effect::TellAgent(_, ToAgent::Monitor(MonitorOrder::Look(peer))) = effect else {
            return false;
        };
        peer.server == id("a")
    };
    assert!(told.iter().any(looked), "{told:?}");
    assert_eq!(house.state("a"), ServerState::Suspected);
    for server in &observed {
        assert_eq!(house.state(server.as_str()), ServerState::Up);
    }
    // Nobody has said that it is silent, so that is all.
    house.wake(99_000);
    assert_eq!(house.state("a"), ServerState::Up);
}

#[test]
fn who_is_left_alone_is_believed_though_it_suspects_everybody() {
    let mut house = House::of(&["a", "b", "c", "d"]);
    for server in ["b", "c", "d"] {
        house.suspects(1_000, "a", server);
    }
    house.wake(99_000);
    for server in ["b", "c", "d"] {
        assert_eq!(house.state(server), ServerState::Failed, "{server}");
    }
}

#[test]
fn where_much_of_a_zone_falls_silent_at_once_more_time_is_given() {
    let mut house = House::of(&["a", "b", "c", "d", "e"]);
    for server in ["c", "d", "e"] {
        house.suspects(1_000, "a", server);
        house.suspects(1_000, "b", server);
    }
    assert_eq!(house.manager.next_deadline(), Some(ms(1_000 + 3 * 450)));
    house.wake(2_350);
    let cause = house.status("c").cause.unwrap();
    assert!(cause.contains("perhaps with the network"), "{cause}");
}

#[test]
fn nobody_is_suspected_while_the_application_stops() {
    let mut house = House::of(&["a", "b", "c"]);
    house.suspects(1_000, "a", "c");
    house.suspects(1_000, "b", "c");
    let operator = ConnectionId(99);
    let ask = Ask::Stop;
    house.handle(
        1_100,
        Input::OperatorAsked {
            connection: operator,
            ask,
        },
    );
    house.wake(2_000);
    assert_ne!(house.state("c"), ServerState::Failed);
    assert_eq!(house.suspects(2_001, "a", "b"), []);
}

#[test]
fn a_new_address_is_told_to_those_whom_it_concerns_and_nothing_is_told_twice() {
    let mut house = House::of(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    let beats = |address: &str, incarnation| FromAgent::Beats {
        address: address.into(),
        incarnation,
    };
    let told = house.told(100, "c", beats("new", 2));
    let agents: BTreeSet<ConnectionId> = told
        .iter()
        .map(|effect| {
            let Effect::TellAgent(to, ToAgent::Monitor(MonitorOrder::Observe(_))) = effect else {
                panic!("{effect:?}");
            };
            *to
        })
        .collect();
    let concerned = house.manager.suspecting.concerned(&id("c"));
    let concerned = concerned.iter().map(|server| connection(server.as_str()));
    assert_eq!(agents, concerned.collect());
    // It may have been restarted, so it alone is told again.
    assert_eq!(house.told(100, "c", beats("new", 2)).len(), 1);
}

#[test]
fn the_load_of_a_server_is_the_same_in_an_application_of_a_thousand() {
    let names: Vec<String> = (0..1_000).map(|number| format!("s{number}")).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let mut house = House::of(&names);
    let mut largest = 0;
    for server in &names {
        let observation = house.manager.suspecting.observation_of(&id(server));
        assert_eq!(observation.observers.len(), 3);
        largest = largest.max(observation.observed.len());
    }
    assert!(largest <= 6, "{largest}");
    let observer = house.manager.suspecting.observers_of(&id("s7"))[0].to_string();
    let asked = house.suspects(1_000, &observer, "s7");
    assert_eq!(asked.len(), 2 + 3 + 1);
}

proptest! {
    /// I21 in small: who gives signs of life within every window is never taken for failed; who gives
    /// none and is silent for two is failed within four windows.
    #[test]
    fn only_the_silent_fail_and_all_of_them(
        words in prop::collection::vec((0_u64..60, 0_usize..6, 0_usize..6, 0_u8..9), 1..150),
        dead in prop::collection::btree_set(0_usize..6, 0..4),
    ) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut house = House::of(&names);
        let is_dead = |number: usize| dead.contains(&number);
        let mut at = 1_000;
        for (after, by, about, unwellness) in words {
            at += after;
            if is_dead(by) || by == about {
                continue;
            }
            let server = id(names[about]);
            let noticed = Noticed::Suspected { server: server.clone(), silent_for: Duration::ZERO, unwellness };
            house.told(at, names[by], FromAgent::Noticed(noticed));
            if !is_dead(about) {
                house.told(at + 1, names[about], FromAgent::Noticed(Noticed::Heard { server }));
            }
            house.wake(at);
            for number in (0..names.len()).filter(|number| !is_dead(*number)) {
                prop_assert_ne!(house.state(names[number]), ServerState::Failed, "{}", names[number]);
            }
        }
        for about in &dead {
            for by in (0..names.len()).filter(|by| !is_dead(*by)).take(2) {
                house.suspects(at, names[by], names[*about]);
            }
        }
        house.wake(at + 450 * 4);
        for about in &dead {
            prop_assert_eq!(house.state(names[*about]), ServerState::Failed, "{}", names[*about]);
        }
    }
}

/// A manager with the agents of these servers connected, all in one zone.
struct House {
    manager: GlobalManager,
}

impl House {
    fn of(names: &[&str]) -> Self {
        let topology = servers_in(names.iter().map(|name| (*name, "home")));
        let manager = GlobalManager::new(&topology, &BTreeMap::new(), false);
        let mut house = Self { manager };
        let restored = Input::Restored {
            term: 1,
            ledger: alloc::boxed::Box::default(),
            folded: 0,
            entries: alloc::vec::Vec::new(),
        };
        house.handle(0, restored);
        for name in names {
            let connected = Input::AgentConnected {
                connection: connection(name),
                server: id(name),
                pid: 1,
            };
            house.handle(0, connected);
            let beats = FromAgent::Beats {
                address: (*name).into(),
                incarnation: 1,
            };
            house.told(0, name, beats);
        }
        house
    }

    fn handle(&mut self, at: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.manager.handle(now(at), input, &mut effects);
        stable(&mut self.manager, now(at), effects)
    }

    fn told(&mut self, at: u64, by: &str, message: FromAgent) -> Vec<Effect> {
        let connection = connection(by);
        self.handle(
            at,
            Input::AgentTold {
                connection,
                message,
            },
        )
    }

    fn suspects(&mut self, at: u64, by: &str, server: &str) -> Vec<Effect> {
        let noticed = Noticed::Suspected {
            server: id(server),
            silent_for: Duration::from_millis(350),
            unwellness: 0,
        };
        self.told(at, by, FromAgent::Noticed(noticed))
    }

    fn wake(&mut self, at: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.manager.wake(now(at), &mut effects);
        stable(&mut self.manager, now(at), effects)
    }

    fn state(&self, server: &str) -> ServerState {
        self.manager.server_state(&id(server))
    }

    fn status(&mut self, server: &str) -> ServerStatus {
        let mut effects = Vec::new();
        self.manager.answer_status(ConnectionId(0), &mut effects);
        let found = effects.into_iter().find_map(|effect| {
            let Effect::Answer(_, Answer::Status { servers, .. }) = effect else {
                return None;
            };
            servers
                .into_iter()
                .find(|status| status.server == id(server))
        });
        found.unwrap()
    }
}

fn looks(server: &str, asked: &[&str]) -> Vec<Effect> {
    let peer = Peer {
        server: id(server),
        address: Some(server.into()),
        incarnation: Some(1),
    };
    let look = |to: &&str| {
        let order = MonitorOrder::Look(peer.clone());
        Effect::TellAgent(connection(to), ToAgent::Monitor(order))
    };
    asked.iter().map(look).collect()
}

fn judgements(server: &str, told: &[&str], judgement: Judgement) -> Vec<Effect> {
    let judge = |to: &&str| {
        let order = MonitorOrder::Judge(id(server), judgement);
        Effect::TellAgent(connection(to), ToAgent::Monitor(order))
    };
    told.iter().map(judge).collect()
}

/// A connection named after its server.
fn connection(server: &str) -> ConnectionId {
    let digits = server.trim_start_matches('s').parse::<u64>();
    ConnectionId(digits.map_or_else(|_| u64::from(server.as_bytes()[0]), |number| number + 1_000))
}

fn now(at: u64) -> Now {
    Now {
        monotonic: ms(at),
        wall: WallClock(i64::try_from(at).unwrap() * 1_000),
        skew: Duration::ZERO,
    }
}

fn ms(at: u64) -> Monotonic {
    Monotonic(at * MS)
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}
