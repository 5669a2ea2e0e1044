//! Any site: no rule is broken, and what is said to be best is.

use lamplighter_policies::model::Topology;
use lamplighter_policies::placement::{Budget, Placement, Problem, place};
use proptest::prelude::*;

use crate::dice::{Size, site};
use crate::oracle::{Oracle, Places};

fn places(site: &Topology, placement: &Placement) -> Places {
    let hosts = &placement.hosts;
    let of = |id: &lamplighter_policies::ids::EntityId| (id.clone(), hosts.get(id).cloned());
    site.elements.keys().map(of).collect()
}

fn small() -> impl Strategy<Value = (u64, Size)> {
    let size = (2..5_u64, 2..7_u64, 40..150_u64, any::<bool>());
    let size = size.prop_map(|(servers, elements, load, strict)| Size {
        servers,
        elements,
        load,
        strict,
    });
    (any::<u64>(), size)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn few_elements_are_placed_as_trying_everything_would((seed, size) in small()) {
        let site = site(seed, size);
        let oracle = Oracle::new(&site);
        let placement = place(&Problem::initial(&site), Budget::DEPLOYMENT);
        let places = places(&site, &placement);
        prop_assert_eq!(oracle.broken(&places), None);
        prop_assert!(placement.is_optimal);
        prop_assert_eq!(oracle.cost(&places), oracle.best());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn twelve_elements_have_a_place_exactly_if_trying_everything_finds_one(
        seed in any::<u64>(),
        load in 60..110_u64,
        elements in 9..13_u64,
    ) {
        let size = Size { servers: 3, elements, load, strict: true };
        let site = site(seed, size);
        let oracle = Oracle::new(&site);
        let placement = place(&Problem::initial(&site), Budget::DEPLOYMENT);
        let places = places(&site, &placement);
        prop_assert_eq!(oracle.broken(&places), None);
        prop_assert!(placement.is_optimal);
        prop_assert_eq!(oracle.cost(&places), oracle.best());
    }

    #[test]
    fn whatever_the_budget_no_rule_is_broken((seed, mut size) in small(), steps in 0..2_000_u64) {
        size.elements *= 4;
        size.servers *= 2;
        let site = site(seed, size);
        let placement = place(&Problem::initial(&site), Budget { steps });
        let places = places(&site, &placement);
        prop_assert_eq!(Oracle::new(&site).broken(&places), None);
        let everybody = placement.hosts.len() + placement.unplaced.len();
        prop_assert_eq!(everybody, site.elements.len());
    }
}
