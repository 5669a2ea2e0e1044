//! What is done about a failure, with its reason.

use std::collections::BTreeMap;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Topology;
use lamplighter_policies::placement::{Budget, Problem};
use lamplighter_policies::protocol::appliances::ApplicationState;
use lamplighter_policies::recovery::decide::{Case, Fate, Outcome, decide, told};
use lamplighter_policies::recovery::essential::importance;

use crate::site::{add, appliance, binding, channel, id, servers};

fn case<'t>(site: &'t Topology, ran: &[(&str, &str)]) -> Case<'t> {
    let running = ran.iter().map(|(it, at)| (id(it), id(at))).collect();
    Case {
        problem: Problem::after_loss(site, &running, &Default::default()),
        manager: None,
        exhausted: Default::default(),
        appliances_failed: Default::default(),
        unreachable: Default::default(),
        standing: Default::default(),
    }
}

fn after(case: Case<'_>, roots: &[&str]) -> Outcome {
    let roots = roots.iter().map(|name| id(name)).collect();
    decide(case, &roots, Budget::FAILOVER)
}

fn fates(outcome: &Outcome) -> BTreeMap<&str, String> {
    let fates = outcome.elements.iter();
    fates
        .map(|(id, fate)| (id.as_str(), fate.to_string()))
        .collect()
}

#[test]
fn an_element_is_started_again_in_place_and_elsewhere_once_that_failed_too_often() {
    let mut site = servers(&["one", "two"]);
    add(&mut site, &[("a", 100), ("b", 100)]);
    let ran = [("a", "one"), ("b", "one")];
    let outcome = after(case(&site, &ran), &["a"]);
    let in_place = Fate::RestartInPlace { on: id("one") };
    assert_eq!(outcome.elements, [(id("a"), in_place)].into());
    assert_eq!(outcome.application, ApplicationState::Whole);

    let exhausted = Case {
        exhausted: [id("a")].into(),
        ..case(&site, &ran)
    };
    let outcome = after(exhausted.clone(), &["a"]);
    assert_eq!(
        fates(&outcome),
        [("a", "goes from one to two".to_owned())].into()
    );

    // With its server it is its server that failed, and all go together.
    let outcome = after(exhausted, &["a", "one"]);
    let both = ["a", "b"].map(|it| (it, "goes from one to two".to_owned()));
    assert_eq!(fates(&outcome), both.into());
}

#[test]
fn the_application_is_degraded_without_one_that_is_not_essential_and_fails_without_one_that_is() {
    let mut site = servers(&["one", "two"]);
    add(&mut site, &[("vital", 600), ("nice", 600), ("more", 300)]);
    site.elements
        .get_mut("nice")
        .expect("it is there")
        .essential = false;
    let ran = [("vital", "one"), ("nice", "two"), ("more", "two")];
    let outcome = after(case(&site, &ran), &["one"]);
    let expected = [
        (
            "nice",
            "is stopped on two, so that vital has room, which is more critical".to_owned(),
        ),
        ("vital", "goes from one to two".to_owned()),
    ];
    assert_eq!(fates(&outcome), expected.into());
    let reasons = vec!["nice runs nowhere: vital needs its room".to_owned()];
    assert_eq!(outcome.application, ApplicationState::Degraded { reasons });

    // What an essential element cannot work without is essential itself, and does not give way.
    site.bindings.insert(id("b"), binding("more", "nice"));
    let known = &importance(&site)["nice"];
    assert!(known.essential);
    assert_eq!(known.essential_for, Some(id("more")));
    let outcome = after(case(&site, &ran), &["one"]);
    let ApplicationState::Failed { reason } = &outcome.application else {
        panic!("{:?}", outcome.application);
    };
    assert_eq!(
        reason,
        "vital is essential and has no place: no server has room for it: two is full: 600 cpu_milli \
         needed, 100 there"
    );
}

#[test]
fn a_server_takes_appliances_with_it_and_whoever_needs_them_is_told() {
    let mut site = servers(&["one", "two"]);
    site.channels
        .insert(id("zigbee"), channel(&[("one", "lamp")], 1));
    site.appliances.insert(id("lamp"), appliance());
    add(&mut site, &[("lights", 100), ("rules", 100)]);
    site.bindings.insert(id("b"), binding("lights", "lamp"));
    site.bindings.insert(id("c"), binding("rules", "lights"));
    let ran = [("lights", "one"), ("rules", "two")];
    let outcome = after(case(&site, &ran), &["one"]);
    assert_eq!(
        fates(&outcome),
        [("lights", "goes from one to two".to_owned())].into()
    );
    let reasons = vec!["lamp failed and nothing can take its place".to_owned()];
    assert_eq!(outcome.application, ApplicationState::Degraded { reasons });
    let of = |name: &str| told(&site, &id(name));
    assert_eq!(of("lamp"), [id("lights")].into());
    assert_eq!(of("lights"), [id("rules")].into());

    site.appliances
        .get_mut("lamp")
        .expect("it is there")
        .essential = true;
    let outcome = after(case(&site, &ran), &["one"]);
    let reason = "lamp is essential, and nothing can take its place".to_owned();
    assert_eq!(outcome.application, ApplicationState::Failed { reason });
}

#[test]
fn what_a_channel_cuts_off_is_recovered_on_this_side() {
    let mut site = servers(&["one", "two", "shed"]);
    site.channels.clear();
    site.channels
        .insert(id("lan"), channel(&[("one", "two")], 1));
    site.channels
        .insert(id("garden"), channel(&[("two", "shed")], 1));
    add(&mut site, &[("a", 100), ("pump", 100)]);
    let ran = [("a", "two"), ("pump", "shed")];
    let outcome = after(case(&site, &ran), &["garden"]);
    let gone: Vec<&EntityId> = outcome.elements.keys().collect();
    assert_eq!(gone, [&id("pump")]);
    assert_ne!(outcome.placement.hosts[&id("pump")], id("shed"));
    assert_eq!(outcome.application, ApplicationState::Whole);
}
