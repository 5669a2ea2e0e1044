//! Failure notification and reconfiguration (paper, 4.2.3 and Algorithm 1): what every order of messages
//! must come to.

mod network;
mod paper;

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::notification::{
    EntityState, Need, Neighbourhood, Notice, NoticeDecision, Situation, Table,
};
use network::{Edge, Network, Weather, id};
use paper::Algorithm1;

const DIAMOND: [Edge; 4] = [
    ("b", "a", Need::Mandatory),
    ("c", "a", Need::Mandatory),
    ("d", "b", Need::Mandatory),
    ("d", "c", Need::Mandatory),
];

/// Two diamonds, an optional prerequisite, and one that nobody can reach from them.
const HOUSE: [Edge; 11] = [
    ("b", "a", Need::Mandatory),
    ("c", "a", Need::Optional),
    ("d", "b", Need::Mandatory),
    ("d", "c", Need::Mandatory),
    ("e", "d", Need::Mandatory),
    ("f", "d", Need::Optional),
    ("g", "e", Need::Mandatory),
    ("g", "f", Need::Mandatory),
    ("h", "a", Need::Mandatory),
    ("j", "i", Need::Mandatory),
    ("g", "i", Need::Optional),
];

fn edges(edges: &[Edge]) -> Vec<(EntityId, EntityId, Need)> {
    let edge = |(from, to, need): &Edge| (id(from), id(to), *need);
    edges.iter().map(edge).collect()
}

/// Seven things said of the prerequisites of one element, stale ones and a change of term among them.
fn seven() -> [Table; 7] {
    use EntityState::{Failed, Recovering, Suspended, Up};
    use NoticeDecision::{AwaitRecovery, Resume, RunWithout};
    let notice = |entity, (term, epoch), state, decision| {
        Table::of(&Notice {
            term,
            entity: id(entity),
            epoch,
            state,
            decision,
        })
    };
    let said = |entity, incarnation, version, state| {
        let situation = Situation {
            incarnation,
            version,
            state,
        };
        Table::of_situation(id(entity), situation)
    };
    [
        notice("sensor", (1, 1), Failed, AwaitRecovery),
        notice("sensor", (1, 2), Recovering, AwaitRecovery),
        notice("sensor", (2, 1), Up, Resume),
        notice("clock", (1, 4), Failed, RunWithout),
        said("sensor", 3, 9, Suspended),
        said("sensor", 4, 1, Up),
        said("clock", 2, 2, Suspended),
    ]
}

fn around() -> Neighbourhood {
    let mut around = Neighbourhood::default();
    around.needs(id("sensor"), Need::Mandatory);
    around.needs(id("clock"), Need::Mandatory);
    around.dependents.insert(id("lights"));
    around
}

/// All orders of the numbers below `count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else {
        return vec![Vec::new()];
    };
    let with_last = |order: Vec<usize>| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, last);
            order
        })
    };
    orders(last).into_iter().flat_map(with_last).collect()
}

#[test]
fn every_order_of_up_to_seven_messages_with_duplicates_and_losses_gives_one_table_and_one_state() {
    let said = seven();
    for count in 1..=said.len() {
        let mut expected = Table::default();
        for table in &said[..count] {
            expected.join(table);
        }
        let state = around().effective(&expected);
        let blocked = around().blocked(&expected);
        let mut runs = 0;
        for order in orders(count) {
            let mut table = Table::default();
            // Every other message is lost at first, the rest comes twice, and what was lost is said
            // again at the end.
            let (lost, arrived): (Vec<&usize>, Vec<&usize>) =
                order.iter().partition(|at| *at % 2 == runs % 2);
            for at in arrived.iter().chain(arrived.iter().rev()).chain(&lost) {
                table.join(&said[**at]);
            }
            assert_eq!(table, expected, "{order:?}");
            assert_eq!(around().effective(&table), state, "{order:?}");
            assert_eq!(around().blocked(&table), blocked, "{order:?}");
            runs += 1;
        }
        assert_eq!(runs, (1..=count).product::<usize>());
    }
}

/// `count` diamonds, each on top of the one before.
fn stacked(count: usize) -> Vec<(EntityId, EntityId, Need)> {
    let name = |letter: &str, at: usize| id(&format!("{letter}{at}"));
    let diamond = |at: usize| {
        let (low, high) = (name("a", at), name("a", at + 1));
        let (left, right) = (name("b", at), name("c", at));
        [
            (left.clone(), low.clone(), Need::Mandatory),
            (right.clone(), low, Need::Mandatory),
            (high.clone(), left, Need::Mandatory),
            (high, right, Need::Mandatory),
        ]
    };
    (0..count).flat_map(diamond).collect()
}

#[test]
fn messages_are_as_many_as_edges_where_the_paper_has_as_many_as_paths() {
    for count in 1..=12 {
        let edges = stacked(count);
        let mut network = Network::new(&edges, Weather::Fair, 1);
        network.settle();
        // Each follower subscribed and was told once.
        assert_eq!(network.reconfigurations, edges.len());
        network.reconfigurations = 0;
        network.crash(&id("a0"));
        network.commit(&id("a0"), EntityState::Failed);
        network.settle();
        // Each edge but the two out of the failed element itself is told of one failure.
        let of_failure = network.reconfigurations;
        assert_eq!(of_failure, edges.len() - 2, "{count} diamonds");
        assert_eq!(network.situations(), network.expected());
        network.start(&id("a0"));
        network.commit(&id("a0"), EntityState::Up);
        network.settle();
        assert_eq!(network.situations(), network.expected());
        let of_recovery = network.reconfigurations - of_failure;
        assert!(
            of_recovery <= 2 * edges.len(),
            "{of_recovery}, {count} diamonds"
        );

        let mut paper = Algorithm1::default();
        for (from, to, _) in &edges {
            let followers = paper.followers.entry(to.clone()).or_default();
            followers.push(from.clone());
        }
        paper.notify(&[id("b0"), id("c0")], false);
        while !paper.wires.is_empty() {
            paper.arrive(0);
        }
        assert!(paper.messages >= 1 << count, "{} messages", paper.messages);
    }
}

#[test]
fn the_papers_own_algorithm_without_epochs_leaves_an_element_waiting_for_ever() {
    let mut paper = Algorithm1::default();
    for (from, to, _) in edges(&DIAMOND) {
        paper.followers.entry(to).or_default().push(from);
    }
    let dependents = [id("b"), id("c")];
    paper.notify(&dependents, false);
    paper.notify(&dependents, true);
    // b hears both, in order; c hears of the recovery first, as it may after a reconnection.
    let to = |paper: &Algorithm1, element: &str, recovered: bool| {
        let wanted = |n: &paper::Notification| n.to == id(element) && n.recovered == recovered;
        paper.wires.iter().position(wanted).unwrap()
    };
    for (element, recovered) in [("b", false), ("b", true), ("c", true), ("c", false)] {
        let at = to(&paper, element, recovered);
        paper.arrive(at);
    }
    while !paper.wires.is_empty() {
        paper.arrive(0);
    }
    assert_eq!(paper.waits_for[&id("c")], BTreeSet::from([None]));
    assert_eq!(paper.waits_for[&id("d")], BTreeSet::from([Some(id("c"))]));

    // The same four notices in the same order, with epochs: nobody waits.
    let notice = |epoch, state| {
        Table::of(&Notice {
            term: 1,
            entity: id("a"),
            epoch,
            state,
            decision: NoticeDecision::AwaitRecovery,
        })
    };
    let mut around = Neighbourhood::default();
    around.needs(id("a"), Need::Mandatory);
    let mut table = notice(2, EntityState::Up);
    table.join(&notice(1, EntityState::Failed));
    assert_eq!(around.effective(&table), EntityState::Up);
}

#[test]
fn the_rest_of_a_diamond_waits_for_what_failed_and_resumes_with_it() {
    let mut network = Network::new(&edges(&DIAMOND), Weather::Fair, 1);
    network.settle();
    network.crash(&id("a"));
    network.commit(&id("a"), EntityState::Failed);
    network.settle();
    let states = |network: &Network| -> BTreeMap<String, EntityState> {
        let situations = network.situations().into_iter();
        let state = |(element, (state, _)): (EntityId, _)| (element.to_string(), state);
        situations.map(state).collect()
    };
    let expected = [
        ("b".to_owned(), EntityState::Suspended),
        ("c".to_owned(), EntityState::Suspended),
        ("d".to_owned(), EntityState::Stopped),
    ];
    assert_eq!(states(&network), expected.into());
    network.start(&id("a"));
    network.commit(&id("a"), EntityState::Up);
    network.settle();
    assert!(states(&network).values().all(|s| *s == EntityState::Up));
}

/// Elements fail and come back at random while messages are under way, the notified among them.
fn storm(seed: u64) -> Network {
    let mut network = Network::new(&edges(&HOUSE), Weather::Foul, seed);
    let elements = network.elements();
    for _ in 0..24 {
        let at = network.roll(elements.len());
        let element = &elements[at];
        if network.is_up(element) {
            network.crash(element);
            // Now and then it is back before the manager has told anybody.
            if network.roll(4) > 0 {
                network.commit(element, EntityState::Failed);
            } else {
                network.start(element);
            }
        } else {
            network.start(element);
            network.commit(element, EntityState::Up);
        }
        let steps = network.roll(30);
        network.run(steps);
    }
    network
}

#[test]
fn whatever_failed_in_whatever_order_all_agree_in_the_end_on_what_is() {
    for seed in 0..300 {
        let mut network = storm(seed);
        network.settle();
        assert_eq!(network.situations(), network.expected(), "seed {seed}");
    }
}

#[test]
fn when_all_are_up_and_nothing_is_under_way_nothing_is_blocked() {
    for seed in 0..300 {
        let mut network = storm(seed);
        for element in network.elements() {
            if !network.is_up(&element) {
                network.start(&element);
                network.commit(&element, EntityState::Up);
            }
        }
        network.settle();
        for (element, situation) in network.situations() {
            let free = (EntityState::Up, BTreeSet::new());
            assert_eq!(situation, free, "{element}, seed {seed}");
        }
    }
}
