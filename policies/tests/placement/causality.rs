//! What fails with what, followed by trying all rules until nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Topology;
use lamplighter_policies::placement::{Budget, Problem, kbps_needed, place};
use lamplighter_policies::recovery::causality::{
    Cause, Closure, How, Surroundings, choose_roots, closure,
};
use proptest::prelude::*;

use crate::dice::{Dice, Size, site};
use crate::site::{add, appliance, binding, channel, id, servers};

type Ids = BTreeSet<EntityId>;

fn ids(names: &[&str]) -> Ids {
    names.iter().map(|name| id(name)).collect()
}

/// A house: the hub speaks zigbee, the pc and the hub are joined twice, the shed over the pc alone.
fn house() -> (Topology, BTreeMap<EntityId, EntityId>) {
    let mut site = servers(&["hub", "pc", "shed"]);
    site.channels.clear();
    for (name, ends) in [
        ("cable", [("hub", "pc")]),
        ("wifi", [("hub", "pc")]),
        ("garden", [("pc", "shed")]),
        ("zigbee", [("hub", "lamp")]),
    ] {
        site.channels.insert(id(name), channel(&ends, 1));
    }
    site.appliances.insert(id("lamp"), appliance());
    add(&mut site, &[("lights", 10), ("pump", 10), ("rules", 10)]);
    for (name, from, to) in [
        ("b-lamp", "lights", "lamp"),
        ("b-lights", "rules", "lights"),
        ("b-pump", "rules", "pump"),
    ] {
        site.bindings.insert(id(name), binding(from, to));
    }
    let hosts = [("lights", "hub"), ("rules", "pc"), ("pump", "shed")];
    let hosts = hosts.map(|(it, at)| (id(it), id(at)));
    (site, hosts.into())
}

fn follow(roots: &[&str]) -> BTreeMap<String, String> {
    let (site, hosts) = house();
    let surroundings = Surroundings {
        topology: &site,
        hosts: &hosts,
        down: &Ids::new(),
        manager: Some(&id("hub")),
    };
    let closure = closure(surroundings, &ids(roots));
    let told = |(id, cause): (&EntityId, &Option<Cause>)| {
        let cause = cause.as_ref();
        let cause = cause.map(|cause| format!("{} {}", cause.how, cause.parent));
        (id.to_string(), cause.unwrap_or_default())
    };
    closure.failed.iter().map(told).collect()
}

fn expected(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
    let row = |(id, cause): &(&str, &str)| ((*id).to_owned(), (*cause).to_owned());
    rows.iter().map(row).collect()
}

#[test]
fn a_channel_takes_what_has_no_other_way_and_nothing_where_there_is_one() {
    assert_eq!(follow(&["cable"]), expected(&[("cable", "")]));
    let cut = expected(&[
        ("b-pump", "has no way but over garden"),
        ("garden", ""),
        ("pump", "runs on shed"),
        ("shed", "is reached only over garden"),
    ]);
    assert_eq!(follow(&["garden"]), cut);
    let both = follow(&["cable", "wifi"]);
    assert_eq!(both["pc"], "is reached only over cable");
    assert_eq!(both["shed"], "is reached only over cable");
    assert_eq!(both["rules"], "runs on pc");
}

#[test]
fn a_server_takes_its_elements_and_the_appliances_that_only_it_reaches() {
    let hub = expected(&[
        ("b-lamp", "has no way but over hub"),
        ("b-lights", "has no way but over hub"),
        ("hub", ""),
        ("lamp", "is reached only over hub"),
        ("lights", "runs on hub"),
    ]);
    assert_eq!(follow(&["hub"]), hub);
    let element = expected(&[
        ("b-lights", "has an end at rules"),
        ("b-pump", "has an end at rules"),
        ("rules", ""),
    ]);
    assert_eq!(follow(&["rules"]), element);
    let lamp = expected(&[("b-lamp", "has an end at lamp"), ("lamp", "")]);
    assert_eq!(follow(&["lamp"]), lamp);
}

#[test]
fn what_was_reported_together_is_traced_back_to_what_failed_by_itself() {
    let (site, hosts) = house();
    let none = Ids::new();
    let hub = id("hub");
    let surroundings = Surroundings {
        topology: &site,
        hosts: &hosts,
        down: &none,
        manager: Some(&hub),
    };
    let choose = |reported: &[&str]| choose_roots(surroundings, &ids(reported));
    assert_eq!(choose(&["pump", "shed"]), ids(&["shed"]));
    assert_eq!(choose(&["pump", "shed", "garden"]), ids(&["garden"]));
    assert_eq!(choose(&["pump", "shed", "pc", "rules"]), ids(&["pc"]));
    assert_eq!(choose(&["lights", "pump"]), ids(&["lights", "pump"]));
    assert_eq!(choose(&["cable", "pc", "wifi"]), ids(&["cable", "wifi"]));
    let pc = closure(surroundings, &ids(&["pc"]));
    let way: Vec<&str> = pc
        .way_to_root(&id("pump"))
        .iter()
        .map(|id| id.as_str())
        .collect();
    assert_eq!(way, ["pump", "shed", "pc"]);
    assert_eq!(
        pc.failed[&id("pump")].as_ref().map(|it| it.how),
        Some(How::HostedBy)
    );
}

/// Every rule of Figure 2, again and again until none adds anything.
fn by_hand(
    site: &Topology,
    hosts: &BTreeMap<EntityId, EntityId>,
    manager: &EntityId,
    roots: &Ids,
) -> Ids {
    let nothing = Ids::new();
    let mut failed = roots.clone();
    loop {
        let before = failed.len();
        let reached = |down: &Ids, from: &EntityId, kbps: u32| reach(site, down, from, kbps);
        let at_first = reached(&nothing, manager, 0);
        let now = reached(&failed, manager, 0);
        failed.extend(at_first.difference(&now).cloned());
        for (element, server) in hosts {
            if failed.contains(server) {
                failed.insert(element.clone());
            }
        }
        for (id, binding) in &site.bindings {
            let to = binding.to.as_ref().expect("two ends");
            let place = |end| hosts.get(end).unwrap_or(end);
            let (one, other) = (place(&binding.from), place(to));
            let kbps = kbps_needed(binding);
            let was_joined = one != other && reached(&nothing, one, kbps).contains(other);
            let is_joined = reached(&failed, one, kbps).contains(other);
            let ended = failed.contains(&binding.from) || failed.contains(to);
            if ended || was_joined && !is_joined {
                failed.insert(id.clone());
            }
        }
        if failed.len() == before {
            return failed;
        }
    }
}

/// Who is joined with a place; nobody with one that is down.
fn reach(site: &Topology, down: &Ids, from: &EntityId, kbps: u32) -> Ids {
    if down.contains(from) {
        return Ids::new();
    }
    let mut reached = Ids::from([from.clone()]);
    loop {
        let mut more = Ids::new();
        for (id, channel) in &site.channels {
            let narrow = channel.bandwidth_kbps.is_some_and(|it| it < kbps);
            if narrow || down.contains(id) {
                continue;
            }
            for (one, other) in &channel.ends {
                for (near, far) in [(one, other), (other, one)] {
                    let hands_on = near == from || site.servers.contains_key(near);
                    if reached.contains(near) && hands_on && !down.contains(far) {
                        more.insert(far.clone());
                    }
                }
            }
        }
        if more.is_subset(&reached) {
            return reached;
        }
        reached.extend(more);
    }
}

fn is_grounded(closure: &Closure, roots: &Ids) -> bool {
    let mut all = closure.failed.keys();
    all.all(|id| {
        closure
            .way_to_root(id)
            .last()
            .is_some_and(|root| roots.contains(*root))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_closure_is_what_all_rules_give_together(seed in any::<u64>(), count in 1..5_u64) {
        let size = Size { servers: 8, elements: 10, load: 50, strict: seed % 2 == 0 };
        let site = site(seed, size);
        let hosts = place(&Problem::initial(&site), Budget::FAILOVER).hosts;
        let mut all: Vec<&EntityId> = site.channels.keys().chain(site.servers.keys()).collect();
        all.extend(site.elements.keys().chain(site.appliances.keys()));
        let mut dice = Dice::new(seed);
        let mut one = || all[dice.below(all.len() as u64) as usize].clone();
        let manager = id("s0");
        let mut reported: Ids = (0..count).map(|_| one()).collect();
        reported.remove(&manager);
        let down = Ids::new();
        let surroundings = Surroundings {
            topology: &site,
            hosts: &hosts,
            down: &down,
            manager: Some(&manager),
        };
        let found = closure(surroundings, &reported);
        let failed: Ids = found.failed.keys().cloned().collect();
        prop_assert_eq!(&failed, &by_hand(&site, &hosts, &manager, &reported));
        prop_assert!(is_grounded(&found, &reported));

        let roots = choose_roots(surroundings, &reported);
        let from_roots = closure(surroundings, &roots);
        let explained: Ids = from_roots.failed.keys().cloned().collect();
        prop_assert_eq!(&explained, &failed);
        for root in &roots {
            let mut others = roots.clone();
            others.remove(root);
            prop_assert!(!closure(surroundings, &others).failed.contains_key(root));
        }
    }
}
