//! Which servers may host an element: names become ids (V02, V10, V24).

use std::collections::BTreeSet;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::PlacementRules;

use super::Resolver;
use crate::diagnostics::{Code, Fault};
use crate::file::{Kind, PlacementWritten, Reference};

impl Resolver<'_> {
    /// The rules of an element; what contradicts itself is a fault.
    pub(super) fn placement(
        &mut self,
        element: &EntityId,
        written: PlacementWritten,
        server: Option<&EntityId>,
    ) -> PlacementRules {
        let owner = format!("`placement` of element `{element}`");
        let place = written.place;
        self.places.set_key(element, "placement", place.clone());
        let together = self.others(element, &written.together, &owner);
        let apart = self.others(element, &written.apart, &owner);
        let place = place.unwrap_or_default();
        if let Some(both) = together.intersection(&apart).next() {
            let reason = format!("{owner} wants it with `{both}` and apart from it");
            let fault = Fault::new(Code::V24, place.clone(), reason);
            self.faults
                .add(fault.cure("name it in `with` or in `apart`"));
        }
        if written.rules.pinned && server.is_none() {
            let reason = format!("{owner} pins it to its server, and it names none");
            let fault = Fault::new(Code::V10, place, reason);
            self.faults
                .add(fault.cure("add `server`, or remove `pinned`"));
        }
        PlacementRules {
            together,
            apart,
            ..written.rules
        }
    }

    fn others(
        &mut self,
        element: &EntityId,
        names: &[Reference],
        owner: &str,
    ) -> BTreeSet<EntityId> {
        let mut others = BTreeSet::new();
        for name in names {
            let Some(other) = self.reference(name, &[Kind::Element], owner) else {
                continue;
            };
            if other == *element {
                let reason = format!("{owner} names the element itself");
                let fault = Fault::new(Code::V24, name.span(), reason);
                self.faults.add(fault.cure("name another element"));
                continue;
            }
            self.places.set_named(element, &other, name.span());
            others.insert(other);
        }
        others
    }
}
