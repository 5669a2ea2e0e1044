//! Names become ids: the written document becomes a topology (V01 of implied names, V02, V03, V05,
//! V06, V10 and V24 of one element alone, V15 of models, V20).
//!
//! What does not resolve is a fault and is left out, so that the later checks see a topology whose
//! references all hold.

mod appliances;
mod bindings;
mod flows;
mod infrastructure;
mod models;
mod placement;
mod substitutes;

use std::collections::BTreeMap;
use std::ops::Range;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Application, Topology};
use lamplighter_policies::physical_world::Validity;
use toml::Spanned;

use crate::diagnostics::{Code, Fault, Faults};
use crate::file::{Document, Kind, Names, Reference};

/// Where things stand in the file, for faults that are found later.
#[derive(Debug, Default)]
pub(crate) struct Places {
    entities: BTreeMap<EntityId, Range<usize>>,
    keys: BTreeMap<(EntityId, &'static str), Range<usize>>,
    validities: Vec<Spanned<Validity>>,
    named: BTreeMap<(EntityId, EntityId), Range<usize>>,
}

impl Places {
    /// The place of an entity's id; that of the file's start if it has none.
    pub(crate) fn of(&self, id: &EntityId) -> Range<usize> {
        self.entities.get(id).cloned().unwrap_or(0..0)
    }

    /// The place of a key's value, or of the entity's id if the key is not written.
    pub(crate) fn key(&self, id: &EntityId, key: &'static str) -> Range<usize> {
        let written = self.keys.get(&(id.clone(), key)).cloned();
        written.unwrap_or_else(|| self.of(id))
    }

    /// Whether the author wrote the key.
    pub(crate) fn has_key(&self, id: &EntityId, key: &'static str) -> bool {
        self.keys.contains_key(&(id.clone(), key))
    }

    /// Every written say of how long what a flow carries holds.
    pub(crate) fn validities(&self) -> &[Spanned<Validity>] {
        &self.validities
    }

    /// Notes where a flow says how long what it carries holds.
    fn holds(&mut self, written: Option<&Spanned<Validity>>) -> Option<Validity> {
        self.validities.extend(written.cloned());
        written.map(|validity| *validity.get_ref())
    }

    /// The place where an entity names another; that of its id if it does not.
    pub(crate) fn named(&self, by: &EntityId, id: &EntityId) -> Range<usize> {
        let named = self.named.get(&(by.clone(), id.clone())).cloned();
        named.unwrap_or_else(|| self.of(by))
    }

    fn set_named(&mut self, by: &EntityId, id: &EntityId, place: Range<usize>) {
        self.named.insert((by.clone(), id.clone()), place);
    }

    fn set(&mut self, id: &EntityId, place: Range<usize>) {
        self.entities.insert(id.clone(), place);
    }

    fn set_key(&mut self, id: &EntityId, key: &'static str, place: Option<Range<usize>>) {
        if let Some(place) = place {
            self.keys.insert((id.clone(), key), place);
        }
    }
}

/// Turns names into ids. The result is whole only if there is no fault of errors' severity.
pub(crate) fn resolve(document: Document, faults: &mut Faults) -> (Topology, Places) {
    let Document {
        application,
        servers,
        channels,
        spaces,
        models,
        appliances,
        elements,
        bindings,
        store,
        broker,
        detection,
        names,
    } = document;
    let mut resolver = Resolver {
        names,
        faults,
        places: Places::default(),
    };
    let servers = resolver.plain(servers);
    let spaces = resolver.plain(spaces);
    let channels = resolver.channels(channels);
    let models = resolver.models(models);
    let appliances = resolver.appliances(appliances, &models);
    let nameless = || EntityId::new("nameless").expect("a constant that is an id");
    let mut topology = Topology {
        application: Application {
            name: application.unwrap_or_else(nameless),
        },
        servers,
        channels,
        spaces,
        appliances,
        elements: BTreeMap::new(),
        bindings: BTreeMap::new(),
        store,
        broker,
        detection,
    };
    resolver.elements_and_bindings(elements, bindings, &mut topology);
    (topology, resolver.places)
}

struct Resolver<'f> {
    names: Names,
    faults: &'f mut Faults,
    places: Places,
}

impl Resolver<'_> {
    /// The id that a reference stands for, if it is declared as one of `kinds` (V02).
    fn reference(&mut self, name: &Reference, kinds: &[Kind], owner: &str) -> Option<EntityId> {
        let text = name.get_ref();
        let wanted = kinds
            .iter()
            .map(Kind::to_string)
            .collect::<Vec<_>>()
            .join(" or ");
        let shown: String = text.chars().take(64).collect();
        match self.names.find(text) {
            // An ill-formed id was a fault where it was declared.
            Some((kind, _)) if kinds.contains(&kind) => EntityId::new(text).ok(),
            Some((kind, place)) => {
                let reason = format!("{owner} names `{shown}`, which is {kind}, not {wanted}");
                self.faults.add(
                    Fault::new(Code::V02, name.span(), reason)
                        .cure(format!("name {wanted}"))
                        .also(place, "declared here"),
                );
                None
            }
            None => {
                let reason = format!("{owner} names {shown:?}, which is not declared");
                let meant = self.faults.meant(text, self.names.of(kinds));
                let cure = match meant {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => format!("declare {wanted} of that name"),
                };
                let fault = Fault::new(Code::V02, name.span(), reason);
                self.faults.add(fault.label("not declared").cure(cure));
                None
            }
        }
    }
}
