//! Device models: what they extend, what follows where a key is left out, and where they contradict
//! themselves (V01, V02, V15).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    Access, ActuationClass, BUILT_IN, Described, Flaw, Misfit, Property, Relative, Value, built_in,
};

use super::Resolver;
use crate::diagnostics::{Code, Fault};
use crate::file::{Entries, Entry, ModelWritten, PropertyWritten, Reference};

/// The device models of a topology; `None` is one with a fault, of which nothing more is said.
pub(super) type Models = BTreeMap<EntityId, Option<Described>>;

impl Resolver<'_> {
    /// Every written model, those that are extended before those that extend them.
    pub(super) fn models(&mut self, mut waiting: Entries<ModelWritten>) -> Models {
        let mut models = Models::new();
        loop {
            let keys: BTreeSet<String> = waiting.keys().map(ToString::to_string).collect();
            let waits = |entry: &Entry<ModelWritten>| {
                let extends = entry.value.extends.as_ref();
                extends.is_some_and(|name| keys.contains(name.get_ref()))
            };
            let (later, ready): (Entries<_>, Entries<_>) =
                waiting.into_iter().partition(|(_, entry)| waits(entry));
            waiting = later;
            if ready.is_empty() {
                break;
            }
            for (id, entry) in ready {
                let described = self.model(&id, &entry, &models);
                models.insert(id, described);
            }
        }
        for (id, entry) in waiting {
            let reason = format!("model `{id}` extends itself, by way of what it extends");
            let place = entry.value.extends.map_or(entry.place, |name| name.span());
            let fault = Fault::new(Code::V02, place, reason);
            self.faults.add(
                fault.cure("a model extends a built-in one, or one that was there without it"),
            );
            models.insert(id, None);
        }
        models
    }

    /// The model that a reference stands for; `None`, with a fault, if there is none.
    pub(super) fn model_named(
        &mut self,
        name: &Reference,
        owner: &str,
        models: &Models,
    ) -> Option<Described> {
        let text = name.get_ref();
        if let Some(described) = models
            .iter()
            .find_map(|(id, described)| (id.as_str() == text).then_some(described))
        {
            return described.clone();
        }
        if let Some(described) = built_in(text) {
            return Some(described);
        }
        let shown: String = text.chars().take(64).collect();
        let reason = format!("{owner} names {shown:?}, which is no device model");
        let known = models.keys().map(EntityId::as_str).chain(BUILT_IN);
        let cure = match self.faults.meant(text, known) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => format!(
                "declare [models.NAME], or name one of the built-in {}",
                BUILT_IN.join(", ")
            ),
        };
        let fault = Fault::new(Code::V02, name.span(), reason);
        self.faults.add(fault.label("not declared").cure(cure));
        None
    }

    fn model(
        &mut self,
        id: &EntityId,
        entry: &Entry<ModelWritten>,
        models: &Models,
    ) -> Option<Described> {
        if BUILT_IN.contains(&id.as_str()) {
            let reason = format!("`{id}` is the name of a built-in model");
            let cure = format!("name it otherwise and write `extends = \"{id}\"`");
            let fault = Fault::new(Code::V01, entry.place.clone(), reason);
            self.faults.add(fault.cure(cure));
            return None;
        }
        let base = match &entry.value.extends {
            Some(name) => self.model_named(name, &format!("model `{id}`"), models)?,
            None => Described::default(),
        };
        if !entry.value.is_whole {
            return None;
        }
        let described = extended(id, base, &entry.value);
        let place = |property: &str| place_in(entry, property);
        let flaws = described.model.flaws();
        for (property, flaw) in &flaws {
            let what = match property.as_str() {
                "" => format!("model `{id}`"),
                property => format!("property `{property}` of model `{id}`"),
            };
            let fault = Fault::new(Code::V15, place(property), format!("{what} {flaw}"));
            self.faults.add(fault.cure(cure_of(flaw)));
        }
        if let Some(safe) = &entry.value.safe_state {
            self.safe_state(&described, safe.get_ref(), safe.span());
        }
        flaws.is_empty().then_some(described)
    }

    /// A safe state is a command that the device takes (V15).
    pub(super) fn safe_state(
        &mut self,
        described: &Described,
        safe: &BTreeMap<String, Value>,
        place: Range<usize>,
    ) {
        for misfit in described.model.misfits(safe) {
            let reason = format!("this safe state is no command: {misfit}");
            let cure = match misfit {
                Misfit::Unknown(_) | Misfit::Untaken(_) => {
                    "write properties that the model takes, or add this one to the model"
                }
                Misfit::Outside(_) => "write one of the values that the model gives it",
            };
            let fault = Fault::new(Code::V15, place.clone(), reason);
            self.faults.add(fault.cure(cure));
        }
    }
}

/// What a model says, on top of what it extends.
fn extended(id: &EntityId, base: Described, written: &ModelWritten) -> Described {
    let Described {
        mut model,
        mut safe_state,
    } = base;
    model.name = id.to_string();
    model.other = written.other.unwrap_or(model.other);
    if let Some(evidence) = &written.evidence {
        model.evidence = Some(evidence.get_ref().clone());
    }
    if let Some(answers) = &written.answers {
        model.answers = *answers.get_ref();
    }
    if let Some(safe) = &written.safe_state {
        safe_state = Some(safe.get_ref().clone());
    }
    let properties = written.properties.iter().map(|(name, property)| {
        let inherited = |name: &str| model.properties.get(name).map(|it| it.capability.clone());
        let capability = capability(name, property, &written.properties, &inherited);
        (name.clone(), whole(property, capability, model.other))
    });
    let properties: Vec<_> = properties.collect();
    model.properties.extend(properties);
    Described { model, safe_state }
}

/// The capability that is written; else that of the property it changes; else its own name.
fn capability(
    name: &str,
    property: &PropertyWritten,
    written: &BTreeMap<String, PropertyWritten>,
    inherited: &impl Fn(&str) -> Option<String>,
) -> String {
    if let Some(capability) = &property.capability {
        return capability.clone();
    }
    match &property.relative {
        None => name.to_owned(),
        Some(Relative::Adds(changed) | Relative::Toggles(changed)) => match written.get(changed) {
            Some(other) => other.capability.clone(),
            None => inherited(changed),
        }
        .unwrap_or_else(|| changed.clone()),
    }
}

fn whole(written: &PropertyWritten, capability: String, other: ActuationClass) -> Property {
    let (access, class) = match &written.relative {
        Some(_) => (Access::Taken, ActuationClass::Delta),
        None => (Access::Both, other),
    };
    Property {
        capability,
        access: written.access.unwrap_or(access),
        domain: written.domain.clone().unwrap_or_default(),
        class: written.class.unwrap_or(class),
        relative: written.relative.clone(),
        reverts: written.reverts.clone(),
        accumulates: written.accumulates,
    }
}

/// Where a property is written; else what speaks of it; else the model.
fn place_in(entry: &Entry<ModelWritten>, property: &str) -> Range<usize> {
    let model = &entry.value;
    let written = model.properties.get(property).map(|it| it.place.clone());
    let evidence = || model.evidence.as_ref().map(|it| it.span());
    let answers = || model.answers.as_ref().map(|it| it.span());
    let spoken_of = || match property {
        "" => answers(),
        _ => evidence(),
    };
    written
        .or_else(spoken_of)
        .unwrap_or_else(|| entry.place.clone())
}

fn cure_of(flaw: &Flaw) -> &'static str {
    match flaw {
        Flaw::Domain => "write each word once, and `min` not greater than `max`",
        Flaw::ChangesNothing(_) => "name a property whose `access` is \"taken\" or \"both\"",
        Flaw::ChangesRelative(_) => "name the property that holds the state",
        Flaw::AddsToNoNumber(_) => "give that property `values = { min = …, max = … }`",
        Flaw::TogglesNoPair(_) => "give that property `values = \"truth\"` or two words",
        Flaw::Class => "remove `class`: a relative command is of class `delta`",
        Flaw::RelativeState => "remove `access`, `reverts` and `accumulates`",
        Flaw::ReturnsOutside => "write one of its `values`",
        Flaw::ReturnsUntaken => "write `access = \"both\"`, or remove `reverts`",
        Flaw::AccumulatesAndSets => {
            "write the class of what repeating it does, or remove `accumulates`"
        }
        Flaw::AccumulatesAndReturns => "keep one of `accumulates` and `reverts`",
        Flaw::EvidenceUnseen => "declare a property of that name with `access = \"shown\"`",
        Flaw::CounterNoNumber => "give that property `values = { min = …, max = … }`",
        Flaw::AnswersNothing => "declare a property that it shows, or write `answers = false`",
    }
}
