//! Who takes the place of whom, from the traps that real devices set; and the law of reservation: no
//! device serves in two places for the same.

use std::collections::BTreeSet;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    ActuationClass, Appliance, Candidates, Channel, Liveness, Medium, OnReturn, Probe, Topology,
};
use lamplighter_policies::recovery::{
    Decision, Kind, Lack, Rejection, Situation, Standing, decide, find_substitute,
};
use proptest::prelude::*;

mod deciding;
mod house;

use house::{house, id, lamp, with_functions};

/// What a decision follows from beside the topology.
#[derive(Clone, Debug, Default)]
struct State {
    failed: BTreeSet<EntityId>,
    unreachable: BTreeSet<EntityId>,
    servers_away: BTreeSet<EntityId>,
    standing: Standing,
}

impl State {
    fn failed(names: &[&str]) -> Self {
        Self {
            failed: names.iter().map(|name| id(name)).collect(),
            ..Self::default()
        }
    }

    fn of<'a>(&'a self, topology: &'a Topology) -> Situation<'a> {
        Situation {
            topology,
            failed: &self.failed,
            unreachable: &self.unreachable,
            servers_away: &self.servers_away,
            standing: &self.standing,
        }
    }

    /// Who serves in whose place, as decided in this state.
    fn decided(&self, topology: &Topology) -> Vec<(String, Option<String>)> {
        let decisions = decide(self.of(topology));
        let served = |(of, decision): (&EntityId, &Decision)| match decision {
            Decision::Substitute { by, .. } => (of.to_string(), Some(by.to_string())),
            Decision::Nobody { .. } => (of.to_string(), None),
        };
        decisions.iter().map(served).collect()
    }
}

fn served(of: &str, by: &str) -> (String, Option<String>) {
    (of.to_owned(), Some(by.to_owned()))
}

fn nobody(of: &str) -> (String, Option<String>) {
    (of.to_owned(), None)
}

/// Why each other appliance cannot stand in for the first of the house.
fn rejections(appliances: &[(&str, Appliance)]) -> Vec<(String, Rejection)> {
    let first = appliances[0].0;
    let topology = house(appliances, &[first]);
    let state = State::failed(&[first]);
    match &decide(state.of(&topology))[&id(first)] {
        Decision::Nobody { rejected } | Decision::Substitute { rejected, .. } => rejected
            .iter()
            .map(|(id, rejection)| (id.to_string(), rejection.clone()))
            .collect(),
    }
}

#[test]
fn a_lamp_that_fails_is_replaced_by_a_lamp_of_the_same_room() {
    let elsewhere = Appliance {
        spaces: [id("hall")].into(),
        ..lamp()
    };
    let topology = house(
        &[("a", lamp()), ("go", lamp()), ("b", elsewhere)],
        &["a", "go"],
    );
    assert_eq!(
        State::failed(&["a"]).decided(&topology),
        [served("a", "go")]
    );
    assert_eq!(State::default().decided(&topology), []);
}

#[test]
fn an_unknown_device_replaces_nothing_and_is_replaced_by_nothing() {
    let unknown = with_functions(&[]);
    let lacks = Rejection::Lacks(vec![Lack::Nothing]);
    assert_eq!(
        rejections(&[("a", unknown.clone()), ("b", lamp())]),
        [("b".into(), lacks)]
    );
    let lacks = Rejection::Lacks(vec![
        Lack::Missing("brightness".into()),
        Lack::Missing("on-off".into()),
    ]);
    assert_eq!(
        rejections(&[("a", lamp()), ("b", unknown)]),
        [("b".into(), lacks)]
    );
}

#[test]
fn the_switch_of_a_bridge_is_no_plug() {
    let bridge = Appliance {
        topic: Some("zigbee2mqtt/bridge".into()),
        ..lamp()
    };
    let behind = Appliance {
        liveness: Liveness {
            bridge: Some("zigbee2mqtt/bridge/state".into()),
            ..Liveness::default()
        },
        ..lamp()
    };
    let all = [("a", behind), ("b", bridge)];
    assert_eq!(rejections(&all), [("b".into(), Rejection::Bridge)]);
}

#[test]
fn what_the_application_does_not_use_is_not_asked_of_a_substitute() {
    let mut fancy = with_functions(&["color", "dim", "on-off"]);
    let plain = with_functions(&["dim", "on-off"]);
    let lacks = Rejection::Lacks(vec![Lack::Missing("color".into())]);
    assert_eq!(
        rejections(&[("a", fancy.clone()), ("b", plain.clone())]),
        [("b".into(), lacks)]
    );
    fancy.substitution.needs = Some(["dim".to_owned(), "on-off".to_owned()].into());
    assert_eq!(rejections(&[("a", fancy), ("b", plain)]), []);
}

#[test]
fn a_plug_is_replaced_only_by_one_that_is_for_the_same() {
    let plug = with_functions(&["on-off"]);
    let all = [("a", plug.clone()), ("b", plug.clone())];
    let unknown = Rejection::PurposeUnknown(Kind::Switch);
    assert_eq!(rejections(&all), [("b".into(), unknown)]);

    let with_purpose = |purpose: &str| {
        let mut plug = plug.clone();
        plug.substitution.purpose = Some(purpose.into());
        plug
    };
    let all = [
        ("a", with_purpose("pump")),
        ("b", with_purpose("lamp")),
        ("c", with_purpose("pump")),
    ];
    assert_eq!(rejections(&all), [("b".into(), Rejection::OtherPurpose)]);

    let mut named = plug.clone();
    named.substitution.with = Candidates::Only(vec![id("b")]);
    let all = [("a", named), ("b", plug.clone()), ("c", plug)];
    assert_eq!(rejections(&all), [("c".into(), Rejection::NotAllowed)]);
}

#[test]
fn each_hard_condition_rejects_by_its_own_reason() {
    let mut dangerous = lamp();
    let state = dangerous
        .model
        .properties
        .get_mut("state")
        .expect("it has one");
    state.class = ActuationClass::Delta;
    let nowhere = Appliance {
        topic: None,
        ..lamp()
    };
    let elsewhere = Appliance {
        spaces: [id("hall")].into(),
        ..lamp()
    };
    let all = [
        ("a", lamp()),
        ("dangerous", dangerous),
        ("elsewhere", elsewhere),
        ("nowhere", nowhere),
    ];
    let more_dangerous = Rejection::MoreDangerous {
        class: ActuationClass::Delta,
        than: ActuationClass::Set,
    };
    let expected = [
        ("dangerous".into(), more_dangerous),
        ("elsewhere".into(), Rejection::Elsewhere),
        ("nowhere".into(), Rejection::Unreachable),
    ];
    assert_eq!(rejections(&all), expected);

    let topology = house(&[("a", lamp()), ("b", lamp()), ("c", lamp())], &["a"]);
    let mut state = State::failed(&["a", "b"]);
    state.unreachable = [id("c")].into();
    let Decision::Nobody { rejected } = find_substitute(state.of(&topology), &id("a")) else {
        panic!("nobody is left");
    };
    let expected = [
        (id("b"), Rejection::Failed),
        (id("c"), Rejection::Unreachable),
    ];
    assert_eq!(rejected, expected);
}

#[test]
fn a_device_is_out_of_reach_with_the_only_server_that_reaches_it() {
    let mut topology = house(&[("a", lamp()), ("b", lamp())], &["a"]);
    let channel = Channel {
        medium: Medium::Zigbee,
        ends: vec![(id("pc"), id("b"))],
        latency: None,
        bandwidth_kbps: None,
        loss: None,
    };
    topology.channels.insert(id("zigbee"), channel);
    let mut state = State::failed(&["a"]);
    assert_eq!(state.decided(&topology), [served("a", "b")]);
    state.servers_away = [id("pc")].into();
    assert_eq!(state.decided(&topology), [nobody("a")]);
}

#[test]
fn the_ranking_is_space_spare_options_distance_channel_battery_id() {
    let mut failed = with_functions(&["color", "dim", "on-off"]);
    failed.substitution.needs = Some(["dim".to_owned(), "on-off".to_owned()].into());
    failed.substitution.spaces = [id("hall")].into();
    failed.position = Some([0.0; 3]);
    let plain = || Appliance {
        position: Some([1.0, 0.0, 0.0]),
        ..with_functions(&["dim", "on-off"])
    };
    let elsewhere = Appliance {
        spaces: [id("hall")].into(),
        position: Some([0.0; 3]),
        ..with_functions(&["color", "dim", "on-off"])
    };
    let in_use = with_functions(&["color", "dim", "on-off"]);
    let far = Appliance {
        position: Some([9.0, 0.0, 0.0]),
        ..plain()
    };
    let mut on_battery = plain();
    on_battery.liveness.silent_after = Some(Duration::from_secs(60));
    let colourful = Appliance {
        position: Some([9.0, 0.0, 0.0]),
        ..with_functions(&["color", "dim", "on-off"])
    };
    let all = [
        ("failed", failed),
        ("a-elsewhere", elsewhere),
        ("b-in-use", in_use),
        ("c-far", far),
        ("d-on-battery", on_battery),
        ("e-near", plain()),
        ("f-near", plain()),
        ("g-good-channel", plain()),
        ("h-colourful", colourful),
    ];
    let mut topology = house(&all, &["failed", "b-in-use"]);
    let reach = |name: &str, latency| Channel {
        medium: Medium::Zigbee,
        ends: vec![(id("pc"), id(name))],
        latency: Some(Duration::from_millis(latency)),
        bandwidth_kbps: None,
        loss: None,
    };
    for (at, name) in ["d-on-battery", "e-near", "f-near"].into_iter().enumerate() {
        topology
            .channels
            .insert(id(&format!("c{at}")), reach(name, 15));
    }
    topology
        .channels
        .insert(id("good"), reach("g-good-channel", 1));
    let mut state = State::failed(&["failed"]);
    let mut order = Vec::new();
    while let Decision::Substitute { by, .. } = find_substitute(state.of(&topology), &id("failed"))
    {
        order.push(by.to_string());
        state.failed.insert(by);
    }
    let expected = [
        "h-colourful",
        "g-good-channel",
        "e-near",
        "f-near",
        "d-on-battery",
        "c-far",
        "b-in-use",
        "a-elsewhere",
    ];
    assert_eq!(order, expected);
}

#[test]
fn a_named_list_is_taken_in_its_order() {
    let mut failed = lamp();
    failed.substitution.with = Candidates::Only(vec![id("z"), id("b")]);
    let topology = house(&[("a", failed), ("b", lamp()), ("z", lamp())], &["a"]);
    assert_eq!(State::failed(&["a"]).decided(&topology), [served("a", "z")]);
    assert_eq!(
        State::failed(&["a", "z"]).decided(&topology),
        [served("a", "b")]
    );
}

#[test]
fn of_two_failures_that_want_one_substitute_the_essential_gets_it() {
    let essential = Appliance {
        essential: true,
        ..lamp()
    };
    let all = [("a", lamp()), ("b", essential), ("spare", lamp())];
    let topology = house(&all, &["a", "b"]);
    let expected = [nobody("a"), served("b", "spare")];
    assert_eq!(State::failed(&["a", "b"]).decided(&topology), expected);

    // It stood in for the other before, and there is no second one.
    let mut state = State::failed(&["a", "b"]);
    state.standing = [(id("a"), id("spare"))].into();
    assert_eq!(state.decided(&topology), expected);
    let Decision::Nobody { rejected } = &decide(state.of(&topology))[&id("a")] else {
        panic!("there is nobody");
    };
    let reserved = (id("spare"), Rejection::Reserved(id("b")));
    assert!(rejected.contains(&reserved), "{rejected:?}");
}

#[test]
fn who_stands_in_goes_on_where_a_better_one_comes_and_where_another_needs_one() {
    let topology = house(
        &[("a", lamp()), ("b", lamp()), ("x", lamp()), ("y", lamp())],
        &["a", "b"],
    );
    let mut state = State::failed(&["a", "b"]);
    state.standing = [(id("b"), id("x"))].into();
    assert_eq!(
        state.decided(&topology),
        [served("a", "y"), served("b", "x")]
    );
}

#[test]
fn on_return_a_substitute_stays_or_gives_the_place_back() {
    let mut gives_back = lamp();
    gives_back.substitution.on_return = OnReturn::GiveBack;
    let all = [
        ("a", lamp()),
        ("b", gives_back),
        ("x", lamp()),
        ("y", lamp()),
    ];
    let topology = house(&all, &["a", "b"]);
    let mut state = State {
        standing: [(id("a"), id("x")), (id("b"), id("y"))].into(),
        ..State::default()
    };
    assert_eq!(state.decided(&topology), [served("a", "x")]);
    // The substitute that stayed fails: the original is there again, and serves itself.
    state.failed = [id("x")].into();
    assert_eq!(state.decided(&topology), []);
}

#[test]
fn one_device_may_serve_in_two_places_for_different_things() {
    let light = with_functions(&["dim", "on-off"]);
    let horn = with_functions(&["sound"]);
    let both = with_functions(&["dim", "on-off", "sound"]);
    let topology = house(&[("a", light), ("b", horn), ("x", both)], &["a", "b"]);
    assert_eq!(
        State::failed(&["a", "b"]).decided(&topology),
        [served("a", "x"), served("b", "x")]
    );
}

#[test]
fn a_passive_device_is_not_worse_than_nobody() {
    let mut sleepy = lamp();
    sleepy.liveness.silent_after = Some(Duration::from_secs(90_000));
    let mut probed = lamp();
    probed.liveness.silent_after = Some(Duration::from_secs(60));
    probed.liveness.probe = Some(Probe {
        every: Duration::from_secs(5),
        within: Duration::from_secs(2),
    });
    let topology = house(&[("a", lamp()), ("s", sleepy), ("t", probed)], &["a"]);
    assert_eq!(State::failed(&["a"]).decided(&topology), [served("a", "t")]);
    assert_eq!(
        State::failed(&["a", "t"]).decided(&topology),
        [served("a", "s")]
    );
}

const FUNCTIONS: [&str; 4] = ["color", "dim", "on-off", "sound"];

prop_compose! {
    fn any_appliance()(
        functions in proptest::sample::subsequence(&FUNCTIONS, 0..=4),
        essential in any::<bool>(),
        spare in any::<bool>(),
        gives_back in any::<bool>(),
        hall in any::<bool>(),
    ) -> Appliance {
        let mut appliance = with_functions(&functions);
        appliance.essential = essential;
        appliance.substitution.spare = spare;
        appliance.substitution.purpose = Some("light".into());
        if gives_back {
            appliance.substitution.on_return = OnReturn::GiveBack;
        }
        appliance.spaces = [id(if hall { "hall" } else { "bedroom" })].into();
        appliance
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_device_serves_in_two_places_for_the_same(
        appliances in proptest::collection::vec(any_appliance(), 2..9),
        steps in proptest::collection::vec((0..9_usize, any::<bool>()), 1..24),
    ) {
        let names: Vec<String> = (0..appliances.len()).map(|at| format!("a{at}")).collect();
        let named: Vec<(&str, Appliance)> = names.iter().map(String::as_str).zip(appliances).collect();
        let used: Vec<&str> = names.iter().map(String::as_str).collect();
        let topology = house(&named, &used);
        let mut state = State::default();
        for (at, fails) in steps {
            let Some((name, _)) = named.get(at) else { continue };
            if fails {
                state.failed.insert(id(name));
            } else {
                state.failed.remove(&id(name));
            }
            let decisions = decide(state.of(&topology));
            let mut given: BTreeSet<(&EntityId, &String)> = BTreeSet::new();
            for (of, decision) in &decisions {
                let Decision::Substitute { by, .. } = decision else {
                    prop_assert!(state.failed.contains(of));
                    continue;
                };
                prop_assert!(!state.failed.contains(by), "{by} failed itself");
                let functions = &topology.appliances[of].functions;
                prop_assert!(functions.is_subset(&topology.appliances[by].functions));
                for function in functions {
                    prop_assert!(given.insert((by, function)), "{by} does {function} in two places");
                }
            }
            // Whoever failed is decided about, and an essential one never waits behind another.
            for failed in &state.failed {
                prop_assert!(decisions.contains_key(failed));
            }
            for (of, decision) in &decisions {
                let Decision::Nobody { rejected } = decision else { continue };
                let essential = topology.appliances[of].essential;
                for (_, rejection) in rejected {
                    if let Rejection::Reserved(other) = rejection {
                        prop_assert!(!essential || topology.appliances[other].essential);
                    }
                }
            }
            state.standing = decisions
                .iter()
                .filter_map(|(of, decision)| match decision {
                    Decision::Substitute { by, .. } => Some((of.clone(), by.clone())),
                    Decision::Nobody { .. } => None,
                })
                .collect();
            // What is decided stands: the same situation is decided the same again.
            prop_assert_eq!(decide(state.of(&topology)), decisions);
        }
    }
}
