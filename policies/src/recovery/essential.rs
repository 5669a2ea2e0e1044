//! How much an element matters, by itself and by those who cannot work without it (paper, 4.2.4: what
//! all others depend on is essential).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
use crate::model::Topology;

/// How much an element matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Importance {
    /// Whether the application is worth nothing without it.
    pub essential: bool,
    /// Greater is placed first; at least that of each element that cannot work without it.
    pub criticality: u8,
    /// The essential element that makes it essential, if its author does not say so.
    pub essential_for: Option<EntityId>,
}

/// How much each element matters.
#[must_use]
pub fn importance(topology: &Topology) -> BTreeMap<EntityId, Importance> {
    let mut needed: BTreeMap<&EntityId, Vec<&EntityId>> = BTreeMap::new();
    for binding in topology.bindings.values().filter(|it| it.mandatory) {
        if let Some(to) = &binding.to
            && topology.elements.contains_key(to)
        {
            needed.entry(&binding.from).or_default().push(to);
        }
    }
    let own = |(id, element): (&EntityId, &crate::model::Element)| {
        let known = Importance {
            essential: element.essential,
            criticality: element.criticality,
            essential_for: None,
        };
        (id.clone(), known)
    };
    let mut all: BTreeMap<_, _> = topology.elements.iter().map(own).collect();
    // Each change raises something that has an upper end, so there is a last one.
    let mut changed: BTreeSet<&EntityId> = topology.elements.keys().collect();
    while let Some(id) = changed.pop_last() {
        let Some(above) = all.get(id).cloned() else {
            continue;
        };
        for to in needed.get(id).into_iter().flatten() {
            let Some(known) = all.get_mut(*to) else {
                continue;
            };
            let before = known.clone();
            known.criticality = known.criticality.max(above.criticality);
            if above.essential && !known.essential {
                known.essential = true;
                known.essential_for = Some(above.essential_for.clone().unwrap_or(id.clone()));
            }
            if *known != before {
                changed.insert(to);
            }
        }
    }
    all
}
