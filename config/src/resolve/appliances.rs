//! Appliances: their models, what of them they have, their spaces (V02, V15, V20).

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    ActuationClass, Appliance, ApplianceApi, Described, DeviceModel, Evidence, Relative,
};

use super::Resolver;
use super::models::Models;
use super::substitutes::Wishes;
use crate::diagnostics::{Code, Fault};
use crate::file::{ApplianceWritten, Entries, Kind, Reference};

impl Resolver<'_> {
    pub(super) fn appliances(
        &mut self,
        entries: Entries<ApplianceWritten>,
        models: &Models,
    ) -> BTreeMap<EntityId, Appliance> {
        let mut appliances = BTreeMap::new();
        let mut wishes = Wishes::new();
        for (id, entry) in entries {
            self.places.set(&id, entry.place);
            let mut written = entry.value;
            self.places
                .set_key(&id, "class", written.class_place.take());
            let position = written.position_place.take();
            self.places.set_key(&id, "position", position);
            self.places
                .set_key(&id, "probe", written.probe_place.take());
            if let Some(model) = &written.model {
                self.places.set_key(&id, "model", Some(model.span()));
            }
            let owner = format!("appliance `{id}`");
            let spaces = written.spaces.iter();
            let spaces = spaces
                .filter_map(|space| self.reference(space, &[Kind::Space], &owner))
                .collect();
            let described = match &written.model {
                Some(name) => self.model_named(name, &owner, models),
                None => None,
            };
            let mut appliance = Appliance {
                spaces,
                ..written.appliance
            };
            let functions = written.functions.as_deref();
            match described {
                Some(described) => {
                    let class = self.places.has_key(&id, "class").then_some(appliance.class);
                    let described = self.fitted(described, functions, class, &owner);
                    let has = capabilities(&described.model);
                    appliance.functions = match functions {
                        Some(functions) => names(functions).filter(|it| has.contains(it)).collect(),
                        None => has,
                    };
                    self.describe(&mut appliance, described, written.safe_state_place);
                }
                // Without a model its functions are what the author says.
                None => appliance.functions = names(functions.unwrap_or_default()).collect(),
            }
            appliance.model.answers |= answers_by_itself(appliance.api);
            if appliance.api == ApplianceApi::Simulated {
                // The simulator's devices are on the broker under their own names.
                appliance.topic.get_or_insert_with(|| id.to_string());
            }
            let model_is_bad = written.model.is_some() && appliance.model.name.is_empty();
            if !model_is_bad {
                wishes.insert(id.clone(), written.substitution);
            }
            appliances.insert(id, appliance);
        }
        self.substitutions(&mut appliances, wishes);
        appliances
    }

    /// A model with what the appliance has of it, and of the class that the author gives it.
    ///
    /// `functions` leaves capabilities out. `class` is that of every command to the appliance,
    /// relative ones excepted: these become commands to the property that they change.
    fn fitted(
        &mut self,
        mut described: Described,
        functions: Option<&[Reference]>,
        class: Option<ActuationClass>,
        owner: &str,
    ) -> Described {
        let model = &mut described.model;
        if let Some(functions) = functions {
            self.functions_known(model, functions, owner);
            let kept: BTreeSet<_> = functions.iter().map(|it| it.get_ref().as_str()).collect();
            let evidence = match &model.evidence {
                Some(Evidence::Counter(name) | Evidence::LastCommand(name)) => Some(name.clone()),
                None => None,
            };
            model.properties.retain(|name, property| {
                kept.contains(property.capability.as_str()) || evidence.as_ref() == Some(name)
            });
            let left: BTreeSet<_> = model.properties.keys().cloned().collect();
            model
                .properties
                .retain(|_, property| match &property.relative {
                    Some(Relative::Adds(changed) | Relative::Toggles(changed)) => {
                        left.contains(changed)
                    }
                    None => true,
                });
        }
        if let Some(class) = class {
            model.other = class;
            for property in model.properties.values_mut() {
                if property.relative.is_none() && property.access.is_taken() {
                    property.class = class;
                }
            }
        }
        described
    }

    fn functions_known(&mut self, model: &DeviceModel, functions: &[Reference], owner: &str) {
        let known = capabilities(model);
        for function in functions {
            let name = function.get_ref();
            if known.contains(name) {
                continue;
            }
            let shown: String = name.chars().take(64).collect();
            let reason = format!(
                "{owner} has {shown:?}, which its model `{}` has not",
                model.name
            );
            let cure = match self.faults.meant(name, known.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("the model has {}", listed(&known)),
            };
            let fault = Fault::new(Code::V20, function.span(), reason);
            self.faults.add(fault.label("not of the model").cure(cure));
        }
    }

    /// Gives the appliance its model, and what follows from it where the author says nothing.
    fn describe(
        &mut self,
        appliance: &mut Appliance,
        described: Described,
        safe_state_place: Option<std::ops::Range<usize>>,
    ) {
        appliance.class = described.model.other;
        match (&appliance.safe_state, safe_state_place) {
            (Some(safe), Some(place)) => self.safe_state(&described, safe, place),
            (Some(_), None) => {}
            (None, _) if appliance.role.acts() => {
                let mut safe = described.safe_state.clone().unwrap_or_default();
                safe.retain(|name, _| described.model.properties.contains_key(name));
                appliance.safe_state = Some(safe).filter(|safe| !safe.is_empty());
            }
            (None, _) => {}
        }
        appliance.model = described.model;
    }
}

/// Whether whatever is spoken to in this way can be asked, whoever made it: HTTP has GET, an adapter
/// has a way to read, and the simulator answers.
fn answers_by_itself(api: ApplianceApi) -> bool {
    match api {
        ApplianceApi::Http | ApplianceApi::Program | ApplianceApi::Simulated => true,
        ApplianceApi::Mqtt => false,
    }
}

fn names(functions: &[Reference]) -> impl Iterator<Item = String> {
    functions.iter().map(|function| function.get_ref().clone())
}

/// The capabilities of everything a model shows and takes.
fn capabilities(model: &DeviceModel) -> BTreeSet<String> {
    let properties = model.properties.values();
    properties
        .map(|property| property.capability.clone())
        .collect()
}

/// Capabilities as a list in a sentence.
pub(super) fn listed(capabilities: &BTreeSet<String>) -> String {
    if capabilities.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<_> = capabilities
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    quoted.join(", ")
}
