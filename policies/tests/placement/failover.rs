//! After a server is lost: who goes where, who gives way, and who stays untouched.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{PlacementRules, Topology};
use lamplighter_policies::placement::{Budget, Eviction, Filter, Move, Placement, Problem, place};
use lamplighter_policies::recovery::essential::importance;
use proptest::prelude::*;

use crate::dice::{Size, site};
use crate::oracle::Oracle;
use crate::site::{add, id, servers};

fn running(pairs: &[(&str, &str)]) -> BTreeMap<EntityId, EntityId> {
    pairs.iter().map(|(it, at)| (id(it), id(at))).collect()
}

/// What becomes of those that ran so when servers are lost.
fn after(site: &Topology, ran: &[(&str, &str)], lost: &[&str]) -> Placement {
    let lost: BTreeSet<_> = lost.iter().map(|it| id(it)).collect();
    place(
        &Problem::after_loss(site, &running(ran), &lost),
        Budget::FAILOVER,
    )
}

fn not_essential(site: &mut Topology, name: &str, criticality: u8) {
    let element = site.elements.get_mut(name).expect("it is there");
    (element.essential, element.criticality) = (false, criticality);
}

#[test]
fn only_what_the_loss_displaced_moves_where_there_is_room() {
    let mut site = servers(&["one", "two", "three"]);
    add(&mut site, &[("a", 400), ("b", 400), ("c", 600), ("d", 500)]);
    let ran = [("a", "one"), ("b", "one"), ("c", "two"), ("d", "three")];
    let placement = after(&site, &ran, &["one"]);
    assert_eq!(
        placement.hosts,
        running(&[("a", "three"), ("b", "two"), ("c", "two"), ("d", "three")])
    );
    assert_eq!(placement.moved, BTreeMap::new());
    assert!(placement.is_optimal);
}

#[test]
fn the_less_critical_give_way_and_only_as_many_as_are_needed() {
    let mut site = servers(&["one", "two"]);
    add(
        &mut site,
        &[("vital", 400), ("tv", 300), ("radio", 300), ("lamp", 400)],
    );
    not_essential(&mut site, "tv", 1);
    not_essential(&mut site, "radio", 3);
    not_essential(&mut site, "lamp", 2);
    let ran = [
        ("vital", "one"),
        ("tv", "two"),
        ("radio", "two"),
        ("lamp", "two"),
    ];
    let placement = after(&site, &ran, &["one"]);
    // The television alone is not enough; with the lamp it is, and then the television can stay.
    let eviction = Eviction {
        from: id("two"),
        for_the_sake_of: id("vital"),
    };
    assert_eq!(placement.evicted, [(id("lamp"), eviction.clone())].into());
    assert_eq!(
        placement.hosts,
        running(&[("vital", "two"), ("tv", "two"), ("radio", "two")])
    );

    // One that is worth less than what would have to stop has no place itself.
    not_essential(&mut site, "vital", 2);
    let placement = after(&site, &ran, &["one"]);
    assert_eq!(placement.evicted, BTreeMap::new());
    assert_eq!(placement.unplaced[&id("vital")].filter(), Filter::Resources);
    assert_eq!(
        placement.unplaced[&id("vital")].to_string(),
        "no server has room for it: two is full: 400 cpu_milli needed, 0 there"
    );
}

#[test]
fn who_gives_way_goes_elsewhere_if_there_is_room_for_it() {
    let mut site = servers(&["one", "two", "three"]);
    add(&mut site, &[("vital", 500), ("tv", 700), ("radio", 800)]);
    not_essential(&mut site, "tv", 1);
    site.elements
        .get_mut("vital")
        .expect("it is there")
        .placement = PlacementRules {
        labels: ["zigbee".to_owned()].into(),
        ..PlacementRules::default()
    };
    site.servers.get_mut("two").expect("it is there").labels = ["zigbee".to_owned()].into();
    let ran = [("vital", "one"), ("tv", "two")];
    let placement = after(&site, &ran, &["one"]);
    let moved = Move {
        from: id("two"),
        to: id("three"),
        for_the_sake_of: id("vital"),
    };
    assert_eq!(placement.moved, [(id("tv"), moved)].into());
    assert_eq!(placement.evicted, BTreeMap::new());
}

#[test]
fn an_essential_element_gets_room_by_moving_as_few_others_as_possible() {
    let mut site = servers(&["one", "two", "three", "four"]);
    add(
        &mut site,
        &[
            ("vital", 900),
            ("a", 350),
            ("b", 250),
            ("c", 600),
            ("d", 400),
        ],
    );
    let ran = [
        ("vital", "one"),
        ("a", "two"),
        ("b", "two"),
        ("c", "three"),
        ("d", "four"),
    ];
    let by = |from: &str, to: &str| Move {
        from: id(from),
        to: id(to),
        for_the_sake_of: id("vital"),
    };
    let placement = after(&site, &ran, &["one"]);
    assert_eq!(placement.moved.len(), 1);
    assert!(placement.moved[&id("d")].to != id("four"));
    assert_eq!(placement.hosts[&id("vital")], id("four"));

    // Too large for what two and three have left: it can only go where somebody goes in turn.
    add(&mut site, &[("d", 450)]);
    let placement = after(&site, &ran, &["one"]);
    assert_eq!(placement.moved.len(), 2);
    assert_eq!(placement.moved[&id("d")], by("four", "two"));
    assert_eq!(placement.hosts[&id("vital")], id("four"));

    // Nobody can go anywhere, or nobody is moved for one that is not essential.
    add(&mut site, &[("d", 800)]);
    let placement = after(&site, &ran, &["one"]);
    assert_eq!(placement.moved, BTreeMap::new());
    assert_eq!(placement.unplaced[&id("vital")].filter(), Filter::Resources);
    add(&mut site, &[("d", 400)]);
    not_essential(&mut site, "vital", 9);
    let placement = after(&site, &ran, &["one"]);
    assert_eq!(placement.moved, BTreeMap::new());
    assert_eq!(placement.unplaced[&id("vital")].filter(), Filter::Resources);
}

#[test]
fn two_servers_lost_at_once_are_one_problem() {
    let mut site = servers(&["one", "two", "three"]);
    add(&mut site, &[("a", 500), ("b", 500), ("c", 500)]);
    not_essential(&mut site, "c", 0);
    let ran = [("a", "one"), ("b", "two"), ("c", "three")];
    let placement = after(&site, &ran, &["one", "two"]);
    assert_eq!(placement.hosts, running(&[("a", "three"), ("b", "three")]));
    assert_eq!(placement.evicted.len(), 1);
    let placement = after(&site, &ran, &["one", "two", "three"]);
    assert_eq!(placement.hosts, BTreeMap::new());
    assert_eq!(placement.unplaced[&id("a")].filter(), Filter::Servers);
}

/// What is left of a site without a server. Bindings between two that stayed are left out: the ways
/// between them are no matter of placement; so are those to appliances that nobody reaches any more.
fn without(site: &Topology, server: &EntityId, fixed: &BTreeMap<EntityId, EntityId>) -> Topology {
    let mut left = site.clone();
    left.servers.remove(server);
    for channel in left.channels.values_mut() {
        channel
            .ends
            .retain(|(one, other)| one != server && other != server);
    }
    let ends = left.channels.values().flat_map(|it| &it.ends);
    let joined: BTreeSet<_> = ends
        .flat_map(|(one, other)| [one.clone(), other.clone()])
        .collect();
    left.bindings.retain(|_, binding| {
        let stays = |id: &EntityId| fixed.contains_key(id) || !site.elements.contains_key(id);
        let to = binding.to.as_ref().expect("every binding has two ends");
        let is_cut = site.appliances.contains_key(to) && !joined.contains(to);
        !(is_cut || stays(&binding.from) && stays(to))
    });
    left
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn nobody_is_touched_without_need((seed, load) in (any::<u64>(), 50..110_u64)) {
        let size = Size { servers: 6, elements: 10, load, strict: seed % 2 == 0 };
        let site = site(seed, size);
        let ran = place(&Problem::initial(&site), Budget::FAILOVER).hosts;
        for server in site.servers.keys() {
            let lost = [server.clone()].into();
            let problem = Problem::after_loss(&site, &ran, &lost);
            let placement = place(&problem, Budget::FAILOVER);
            let hosts = &placement.hosts;
            let of = |id: &EntityId| (id.clone(), hosts.get(id).cloned());
            let places = site.elements.keys().map(of).collect();
            let left = without(&site, server, &problem.fixed);
            prop_assert_eq!(Oracle::new(&left).broken(&places), None);
            let importance = importance(&site);
            let rank = |id: &EntityId| (importance[id].essential, importance[id].criticality);
            for (id, eviction) in &placement.evicted {
                prop_assert!(!rank(id).0);
                prop_assert!(rank(id) < rank(&eviction.for_the_sake_of));
            }
            for (id, at) in &problem.fixed {
                let untouched = hosts.get(id) == Some(at);
                let told = placement.moved.contains_key(id) || placement.evicted.contains_key(id);
                prop_assert!(untouched != told, "{id}");
            }
        }
    }
}

#[test]
fn two_hundred_elements_lose_a_server_within_the_budget_and_no_other_moves() {
    let size = Size {
        servers: 40,
        elements: 200,
        load: 60,
        strict: false,
    };
    let site = site(7, size);
    let first = place(&Problem::initial(&site), Budget::FAILOVER);
    assert_eq!(first.unplaced, BTreeMap::new());
    let mut displaced = 0;
    for server in site.servers.keys() {
        let lost = [server.clone()].into();
        let problem = Problem::after_loss(&site, &first.hosts, &lost);
        let placement = place(&problem, Budget::FAILOVER);
        displaced += problem.open.len();
        assert!(
            placement.steps <= 2 * Budget::FAILOVER.steps,
            "{}",
            placement.steps
        );
        let stays = |(id, at): (&EntityId, &EntityId)| placement.hosts.get(id) == Some(at);
        let told = placement.moved.len() + placement.evicted.len();
        let moved = problem.fixed.iter().filter(|it| !stays(*it)).count();
        assert_eq!(moved, told);
    }
    assert_eq!(displaced, first.hosts.len());
}
