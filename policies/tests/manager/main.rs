//! The manager in a world of values: servers are lost, one or two at once, the manager is killed at every
//! step of a repair, and all comes to the same good end.

#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

mod foreseen;
mod site;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::notification::EntityState;
use lamplighter_policies::protocol::control::{Answer, Ask, FromAgent};
use lamplighter_policies::protocol::global_manager::ledger::Change;

use site::site;
use world::{World, id};

#[test]
fn what_ran_on_a_lost_server_runs_elsewhere_and_resumes_in_the_order_of_its_dependencies() {
    let mut world = World::running(site());
    lose(&mut world, "rpi1");
    world.settle();
    let runs_at = world.runs_at();
    assert_eq!(runs_at.len(), 4, "{runs_at:?}");
    assert!(
        runs_at.values().all(|server| server != "rpi1"),
        "{runs_at:?}"
    );
    assert_eq!(world.resumed, ["door", "hall", "alarm"].map(id));
    assert_all_is_well(&world);
    let plans = count(&world, |change| matches!(change, Change::PlanBegun(_)));
    assert_eq!(plans, 1, "one plan for one root");
}

#[test]
fn a_manager_that_is_killed_at_any_step_of_a_repair_comes_to_the_same_end() {
    let mut undisturbed = World::running(site());
    let before = undisturbed.steps;
    lose(&mut undisturbed, "rpi1");
    undisturbed.settle();
    let steps = undisturbed.steps - before;
    assert!(steps > 20, "{steps}");
    for step in 1..=steps {
        let mut world = World::running(site());
        world.kill_at = Some(world.steps + step);
        lose(&mut world, "rpi1");
        world.settle();
        // A manager that never heard of the loss is told of it again, as by a detector.
        if world.ledger().state(&id("rpi1")) == &EntityState::Up {
            world.ask(Ask::DeclareLost { server: id("rpi1") });
            world.settle();
        }
        let runs_at = world.runs_at();
        assert_eq!(runs_at.len(), 4, "killed after {step} steps: {runs_at:?}");
        assert!(runs_at.values().all(|server| server != "rpi1"));
        assert_all_is_well(&world);
        let copies: BTreeSet<usize> = world.copies().into_iter().map(|(_, count)| count).collect();
        assert_eq!(copies, BTreeSet::from([1]), "killed after {step} steps");
    }
}

#[test]
fn two_servers_that_fail_at_once_are_planned_for_together_and_the_essential_have_the_room() {
    let mut world = World::running(site());
    lose(&mut world, "rpi1");
    lose(&mut world, "rpi2");
    world.settle();
    let expected = ["alarm", "door", "hall"].map(|name| (name.to_owned(), "pc".to_owned()));
    assert_eq!(world.runs_at(), BTreeMap::from(expected));
    let ledger = world.ledger();
    assert_eq!(ledger.state(&id("radio")), &EntityState::Failed);
    let reason = ledger.place(&id("radio")).unwrap().idle.clone().unwrap();
    assert!(reason.contains("its server rpi2 failed"), "{reason}");
    let plans = count(&world, |change| matches!(change, Change::PlanBegun(_)));
    assert_eq!(plans, 1);

    // Room comes: what ran nowhere runs again.
    world.bring_back("rpi2", &[]);
    world.settle();
    assert_eq!(world.runs_at()["radio"], "rpi2");
    assert_all_is_well(&world);
}

#[test]
fn a_server_that_is_back_stops_what_runs_elsewhere_and_gets_nothing_back_by_itself() {
    let mut world = World::running(site());
    lose(&mut world, "rpi1");
    world.settle();
    let before = world.runs_at();
    world.bring_back("rpi1", &[("alarm", 1), ("door", 1), ("hall", 1)]);
    world.settle();
    assert_eq!(world.runs_at(), before);
    assert_eq!(world.servers[&id("rpi1")].hosted, BTreeMap::new());
    assert_all_is_well(&world);
}

#[test]
fn a_server_that_is_back_before_anything_was_placed_keeps_its_elements() {
    let mut world = World::running(site());
    let hosted = ["alarm", "door", "hall"].map(|name| (name, 1));
    world.ask(Ask::DeclareLost { server: id("rpi1") });
    // Its agent is there all the time, and says so.
    world.tell("rpi1", FromAgent::Reported { request: 0 });
    world.settle();
    let rpi1 = hosted.map(|(name, _)| (name.to_owned(), "rpi1".to_owned()));
    let there = world.runs_at();
    assert!(
        rpi1.iter().all(|(name, server)| there[name] == *server),
        "{there:?}"
    );
    let plans = count(&world, |change| matches!(change, Change::PlanBegun(_)));
    assert_eq!(plans, 0);
    assert_all_is_well(&world);
}

#[test]
fn the_server_to_which_elements_go_dies_too_and_they_go_to_a_third() {
    let mut world = World::running(site());
    lose(&mut world, "rpi1");
    world.settle();
    let target = world.runs_at()["alarm"].clone();
    lose(&mut world, &target);
    world.settle();
    let runs_at = world.runs_at();
    for essential in ["alarm", "door", "hall"] {
        assert!(
            runs_at[essential] != "rpi1" && runs_at[essential] != target,
            "{runs_at:?}"
        );
    }
}

#[test]
fn an_element_that_cannot_be_kept_running_goes_elsewhere_and_not_around_in_circles() {
    let mut world = World::running(site());
    let mut places = Vec::new();
    for _ in 0..4 {
        let runs_at = world.runs_at();
        let Some(server) = runs_at.get("radio").cloned() else {
            break;
        };
        let state = lamplighter_policies::protocol::control::ElementState::Failed {
            reason: "it failed too often".into(),
        };
        let hosted = &mut world.servers.get_mut(&id(&server)).unwrap().hosted;
        hosted.get_mut(&id("radio")).unwrap().1 = state;
        world.tell(
            &server,
            FromAgent::Escalated {
                element: id("radio"),
                cause: "it failed too often".into(),
            },
        );
        world.settle();
        places.push(server);
    }
    assert_eq!(
        places.len(),
        3,
        "it was moved twice and then given up: {places:?}"
    );
    let ledger = world.ledger();
    let reason = ledger.place(&id("radio")).unwrap().idle.clone().unwrap();
    assert_eq!(reason, "it was placed elsewhere 2 times already");
}

#[test]
fn an_element_is_moved_in_order_and_back_and_a_drained_server_is_empty() {
    let mut world = World::running(site());
    let wish = |element: &str, server: &str| Ask::Move {
        element: id(element),
        server: id(server),
    };
    world.ask(wish("radio", "pc"));
    world.settle();
    let moved = Answer::Done {
        outcomes: vec![(id("radio"), "runs on pc".into())],
    };
    assert_eq!(core::mem::take(&mut world.answers), [moved]);
    assert_eq!(world.runs_at()["radio"], "pc");
    let drain = |drained| Ask::Drain {
        server: id("pc"),
        drained,
    };
    world.ask(drain(true));
    world.ask(wish("alarm", "pc"));
    world.settle();
    assert_eq!(world.runs_at()["radio"], "rpi2");
    let reason = "pc takes no elements: an operator drained it; `undrain` opens it again".into();
    assert!(
        world.answers.contains(&Answer::Refused { reason }),
        "{:?}",
        world.answers
    );
    assert_all_is_well(&world);
}

#[test]
fn a_server_that_leaves_in_order_hands_its_elements_over() {
    let mut world = World::running(site());
    world.servers.get_mut(&id("rpi1")).unwrap().hosted.clear();
    world.tell("rpi1", FromAgent::Stopped);
    world.settle();
    let runs_at = world.runs_at();
    assert_eq!(runs_at.len(), 4);
    assert!(
        runs_at.values().all(|server| server != "rpi1"),
        "{runs_at:?}"
    );
}

#[test]
fn without_the_store_only_restarts_in_place_go_on() {
    let mut world = World::running(site());
    world.store_answers = false;
    world.tell(
        "rpi2",
        FromAgent::Suspected {
            element: id("radio"),
            failure: 1,
            cause: "was killed".into(),
        },
    );
    world.servers.get_mut(&id("rpi2")).unwrap().hosted.clear();
    world.settle();
    assert_eq!(world.runs_at()["radio"], "rpi2");
    world.ask(Ask::Standing);
    world.settle();
    let Some(Answer::Standing(standing)) = world.answers.pop() else {
        panic!("{:?}", world.answers);
    };
    let trouble = standing.journal.unwrap();
    assert!(trouble.contains("the store is away"), "{trouble}");
}

/// A server dies, and a person says so.
fn lose(world: &mut World, server: &str) {
    world.lose(server);
    world.ask(Ask::DeclareLost { server: id(server) });
}

/// No plan is open, and whatever runs is known to run.
fn assert_all_is_well(world: &World) {
    let ledger = world.ledger();
    assert_eq!(
        ledger.plans().count(),
        0,
        "{:?}",
        ledger.plans().collect::<Vec<_>>()
    );
    for element in world.runs_at().keys() {
        assert_eq!(ledger.state(&id(element)), &EntityState::Up, "{element}");
    }
}

fn count(world: &World, wanted: impl Fn(&Change) -> bool) -> usize {
    let ledger = world.ledger();
    ledger
        .timeline()
        .filter(|entry| wanted(&entry.change))
        .count()
}
