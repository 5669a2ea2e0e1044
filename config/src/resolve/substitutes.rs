//! Who may take the place of an appliance: references, and whether they could (V02, V20).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Appliance, Candidates};

use super::Resolver;
use super::appliances::listed;
use crate::diagnostics::{Code, Fault, Severity};
use crate::file::{CandidatesWritten, Kind, Reference, SubstitutionWritten};

/// By appliance, what is written about its substitutes.
pub(super) type Wishes = BTreeMap<EntityId, SubstitutionWritten>;

impl Resolver<'_> {
    /// Gives every appliance its wishes, once all appliances are known.
    pub(super) fn substitutions(
        &mut self,
        appliances: &mut BTreeMap<EntityId, Appliance>,
        wishes: Wishes,
    ) {
        // By substitute, the first that names it.
        let mut named: BTreeMap<EntityId, (EntityId, Range<usize>)> = BTreeMap::new();
        for (id, written) in wishes {
            let Some(appliance) = appliances.get(&id) else {
                continue;
            };
            let functions = appliance.functions.clone();
            let essential = appliance.essential;
            let owner = format!("appliance `{id}`");
            let needs = written.needs.as_ref();
            let needs =
                needs.map(|needs| self.needs(&owner, needs.get_ref(), needs.span(), &functions));
            let tolerance = self.tolerance(&owner, written.tolerance, &functions);
            let spaces = written.spaces.iter();
            let spaces = spaces
                .filter_map(|space| self.reference(space, &[Kind::Space], &owner))
                .collect();
            let with = match &written.with {
                CandidatesWritten::Auto => Candidates::Auto,
                CandidatesWritten::Nobody => Candidates::Nobody,
                CandidatesWritten::Only(names) => {
                    let only = self.only(&id, names);
                    if essential {
                        self.shared(&id, &only, &mut named);
                    }
                    for (candidate, place) in &only {
                        self.places.set_named(&id, candidate, place.clone());
                    }
                    Candidates::Only(only.into_iter().map(|(id, _)| id).collect())
                }
            };
            if let Some(appliance) = appliances.get_mut(&id) {
                let substitution = &mut appliance.substitution;
                substitution.with = with;
                substitution.needs = needs;
                substitution.spaces = spaces;
                substitution.tolerance = tolerance;
            }
        }
    }

    /// What the application uses of an appliance is something that it has.
    fn needs(
        &mut self,
        owner: &str,
        needs: &[Reference],
        place: Range<usize>,
        functions: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        if needs.is_empty() {
            let reason = format!("nothing is needed of {owner}, so nobody could provide it");
            let fault = Fault::new(Code::V20, place, reason);
            self.faults
                .add(fault.cure("name what is used of it, or leave `needs` out for all of it"));
        }
        for need in needs {
            self.capability(owner, "needs", need.get_ref(), need.span(), functions);
        }
        needs.iter().map(|need| need.get_ref().clone()).collect()
    }

    fn tolerance(
        &mut self,
        owner: &str,
        tolerance: BTreeMap<String, (Range<usize>, f64)>,
        functions: &BTreeSet<String>,
    ) -> BTreeMap<String, f64> {
        let mut known = BTreeMap::new();
        for (name, (place, value)) in tolerance {
            self.capability(owner, "tolerates", &name, place, functions);
            known.insert(name, value);
        }
        known
    }

    fn capability(
        &mut self,
        owner: &str,
        verb: &str,
        name: &str,
        place: Range<usize>,
        functions: &BTreeSet<String>,
    ) {
        if functions.contains(name) {
            return;
        }
        let shown: String = name.chars().take(64).collect();
        let reason = match verb {
            "needs" => format!("{shown:?} is needed of {owner}, which does not have it"),
            _ => format!("{shown:?} may differ of {owner}, which does not have it"),
        };
        let cure = match self
            .faults
            .meant(name, functions.iter().map(String::as_str))
        {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None if functions.is_empty() => {
                "give the appliance a `model`, or `functions`".to_owned()
            }
            None => format!("it has {}", listed(functions)),
        };
        let fault = Fault::new(Code::V20, place, reason);
        self.faults
            .add(fault.label("no capability of it").cure(cure));
    }

    /// Named substitutes, each with where it is named.
    fn only(&mut self, id: &EntityId, names: &[Reference]) -> Vec<(EntityId, Range<usize>)> {
        let owner = format!("appliance `{id}`");
        let mut only = Vec::new();
        for name in names {
            let Some(candidate) = self.reference(name, &[Kind::Appliance], &owner) else {
                continue;
            };
            let place = name.span();
            if candidate == *id {
                let reason = format!("{owner} is named as its own substitute");
                let fault = Fault::new(Code::V20, place, reason);
                self.faults.add(fault.cure("name another appliance"));
            } else if only.iter().any(|(known, _)| *known == candidate) {
                let reason = format!("`{candidate}` is named twice as a substitute of `{id}`");
                let fault = Fault::new(Code::V20, place, reason);
                self.faults.add(fault.cure("name it once"));
            } else {
                only.push((candidate, place));
            }
        }
        only
    }

    /// One substitute for two that the application cannot do without is one too few.
    fn shared(
        &mut self,
        id: &EntityId,
        only: &[(EntityId, Range<usize>)],
        named: &mut BTreeMap<EntityId, (EntityId, Range<usize>)>,
    ) {
        for (candidate, place) in only {
            if let Some((other, first)) = named.get(candidate) {
                let reason = format!(
                    "`{candidate}` is to take the place of `{other}` and of `{id}`, both essential"
                );
                self.faults.add(
                    Fault::new(Code::V20, place.clone(), reason)
                        .severity(Severity::Warning)
                        .also(first.clone(), "named here too")
                        .label("when both fail, one of them is not replaced")
                        .cure("name another substitute for one of the two"),
                );
            } else {
                named.insert(candidate.clone(), (id.clone(), place.clone()));
            }
        }
    }
}
