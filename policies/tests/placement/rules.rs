//! Each rule by which servers are filtered, alone.

use std::collections::BTreeSet;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Topology;
use lamplighter_policies::placement::{
    Budget, Filter, NoPlace, Obstacle, Placement, Problem, Resource, Shortage, place,
};

use crate::site::{add, appliance, binding, channel, element, id, room, servers};

fn placed(site: &Topology) -> Placement {
    place(&Problem::initial(site), Budget::FAILOVER)
}

fn host<'p>(placement: &'p Placement, element: &str) -> Option<&'p str> {
    placement.hosts.get(element).map(EntityId::as_str)
}

fn why(placement: &Placement, element: &str) -> (Filter, String) {
    let no_place: &NoPlace = &placement.unplaced[element];
    (no_place.filter(), no_place.to_string())
}

fn words<const N: usize>(words: [&str; N]) -> BTreeSet<String> {
    words.map(str::to_owned).into()
}

#[test]
fn an_element_goes_where_zone_processor_and_labels_let_it_and_else_nowhere() {
    let mut site = servers(&["one", "two"]);
    let two = site.servers.get_mut("two").unwrap();
    two.zone = Some("home".into());
    two.architecture = Some("aarch64".into());
    two.labels = words(["zigbee", "gpu"]);
    add(&mut site, &[("house", 100)]);
    let house = site.elements.get_mut("house").unwrap();
    house.placement.zones = words(["home", "garden"]);
    house.placement.labels = words(["zigbee"]);
    house.placement.architectures = words(["aarch64"]);
    assert_eq!(host(&placed(&site), "house"), Some("two"));

    let rules = site.elements["house"].placement.clone();
    let refused = |change: &dyn Fn(&mut Topology)| {
        let mut site = site.clone();
        change(&mut site);
        why(&placed(&site), "house")
    };
    let set = |rules: lamplighter_policies::model::PlacementRules| {
        move |site: &mut Topology| site.elements.get_mut("house").unwrap().placement = rules.clone()
    };
    let mut elsewhere = rules.clone();
    elsewhere.zones = words(["garden"]);
    let (filter, text) = refused(&set(elsewhere));
    assert_eq!(filter, Filter::Zone);
    assert_eq!(
        text,
        "no server is in its zones: two is in zone \"home\"; one has no label \"zigbee\""
    );
    let mut other = rules.clone();
    other.architectures = words(["riscv64"]);
    assert_eq!(refused(&set(other)).0, Filter::Labels);
    let mut labels = rules;
    labels.labels = words(["zigbee", "gpu", "camera"]);
    let (filter, text) = refused(&set(labels));
    assert_eq!(filter, Filter::Labels);
    assert!(text.contains("two has no label \"camera\""), "{text}");
}

#[test]
fn a_server_is_not_overfilled_and_its_agent_keeps_its_share() {
    let mut site = servers(&["one", "two"]);
    add(&mut site, &[("a", 700), ("b", 700), ("c", 300), ("d", 300)]);
    let placement = placed(&site);
    assert_eq!(placement.unplaced.len(), 0, "{placement:?}");
    let cpu_on = |server: &str| -> u32 {
        let there = placement
            .hosts
            .iter()
            .filter(|(_, at)| at.as_str() == server);
        there
            .map(|(it, _)| site.elements[it].demand.cpu_milli)
            .sum()
    };
    assert_eq!((cpu_on("one"), cpu_on("two")), (1_000, 1_000));

    add(&mut site, &[("e", 1_001)]);
    let shortage = Shortage {
        resource: Resource::Processor,
        needs: 1_001,
        offers: 1_000,
    };
    let small = |name: &str| (id(name), Obstacle::Small(shortage.clone()));
    let expected = NoPlace {
        servers: vec![small("one"), small("two")],
    };
    assert_eq!(placed(&site).unplaced["e"], expected);
}

#[test]
fn elements_are_near_enough_to_what_they_are_bound_to() {
    let mut site = servers(&["one", "two", "far"]);
    site.channels.clear();
    let wires = channel(&[("one", "two"), ("two", "lamp")], 5);
    site.channels.insert(id("wires"), wires);
    site.channels
        .insert(id("wan"), channel(&[("far", "one")], 80));
    site.appliances.insert(id("lamp"), appliance());
    add(&mut site, &[("house", 100)]);
    let lights = lamplighter_policies::model::Binding {
        latency_max: Some(Duration::from_millis(6)),
        ..binding("house", "lamp")
    };
    site.bindings.insert(id("lights"), lights);
    let placement = placed(&site);
    assert_eq!(host(&placement, "house"), Some("two"));
    assert_eq!(placement.latency_micros, 5_000);

    site.bindings.get_mut("lights").unwrap().latency_max = Some(Duration::from_millis(4));
    let (filter, text) = why(&placed(&site), "house");
    assert_eq!(filter, Filter::Latency);
    assert_eq!(
        text,
        "no server is near enough to what it is bound to: far is too far for binding lights: 90ms \
         where 4ms are allowed; one is too far for binding lights: 10ms where 4ms are allowed; \
         two is too far for binding lights: 5ms where 4ms are allowed"
    );

    // An appliance that nobody reaches has failed itself, and keeps nobody from anywhere.
    site.channels.remove("wires");
    assert!(placed(&site).unplaced.is_empty());
}

#[test]
fn channels_carry_what_the_bindings_over_them_need() {
    let mut site = servers(&["one", "two"]);
    site.channels.get_mut("lan").unwrap().bandwidth_kbps = Some(100);
    add(&mut site, &[("a", 900), ("b", 900)]);
    let wide = lamplighter_policies::model::Binding {
        bandwidth_kbps_min: Some(60),
        ..binding("a", "b")
    };
    site.bindings.insert(id("first"), wide.clone());
    assert!(placed(&site).unplaced.is_empty());
    site.bindings.insert(id("second"), wide);
    let placement = placed(&site);
    let (left_out, why) = placement.unplaced.first_key_value().unwrap();
    assert_eq!(left_out, &id("b"));
    assert_eq!(why.filter(), Filter::Bandwidth);
    let expected = Obstacle::Bandwidth {
        binding: id("second"),
        channel: id("lan"),
    };
    assert!(why.servers.contains(&(id("two"), expected)), "{why}");
}

#[test]
fn those_that_must_be_together_are_and_those_that_must_be_apart_are_not() {
    let mut site = servers(&["one", "two"]);
    add(&mut site, &[("a", 300), ("b", 300), ("c", 300), ("d", 300)]);
    site.elements.get_mut("a").unwrap().placement.together = [id("c")].into();
    site.elements.get_mut("c").unwrap().placement.apart = [id("b")].into();
    site.elements.get_mut("d").unwrap().placement.together = [id("b")].into();
    let placement = placed(&site);
    assert_eq!(host(&placement, "a"), host(&placement, "c"));
    assert_eq!(host(&placement, "b"), host(&placement, "d"));
    assert_ne!(host(&placement, "a"), host(&placement, "b"));

    site.servers.remove("two");
    let placement = placed(&site);
    let unplaced: Vec<_> = placement.unplaced.keys().collect();
    assert_eq!(unplaced, [&id("b"), &id("d")]);
    assert_eq!(why(&placement, "b").0, Filter::Affinity);
}

#[test]
fn a_pinned_element_waits_for_its_server_and_one_that_failed_somewhere_goes_elsewhere() {
    let mut site = servers(&["one", "two"]);
    site.elements.insert(id("a"), element(room(10, 10)));
    site.elements.get_mut("a").unwrap().server = Some(id("one"));
    let running = Problem::initial(&site).fixed;
    let lost = [id("one")].into();
    let problem = Problem::after_loss(&site, &running, &lost);
    let placement = place(&problem, Budget::FAILOVER);
    assert_eq!(host(&placement, "a"), Some("two"));

    site.elements.get_mut("a").unwrap().placement.pinned = true;
    let problem = Problem::after_loss(&site, &running, &lost);
    let placement = place(&problem, Budget::FAILOVER);
    let expected = (
        Filter::Pinned,
        "it is pinned to one, which is not there".to_owned(),
    );
    assert_eq!(why(&placement, "a"), expected);

    site.elements.get_mut("a").unwrap().placement.pinned = false;
    let problem = Problem {
        fixed: Default::default(),
        open: [id("a")].into(),
        barred: [(id("a"), [id("one")].into())].into(),
        ..Problem::initial(&site)
    };
    let placement = place(&problem, Budget::FAILOVER);
    assert_eq!(host(&placement, "a"), Some("two"));
}
