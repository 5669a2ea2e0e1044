//! The topology as it is written: every table read into typed values with their places.
//!
//! Whatever is bad by itself is a fault here; what is bad only together with something else is
//! left to [`crate::check`]. An entry with a fault stays, with a harmless value in the gap, so that
//! references to it do not become faults too.

mod appliances;
mod application;
mod infrastructure;
mod models;
mod names;
#[cfg(test)]
mod reference;
mod services;

use std::collections::BTreeMap;
use std::ops::Range;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Broker, Detection, Server, Space, Store};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(crate) use appliances::{ApplianceWritten, CandidatesWritten, SubstitutionWritten};
pub(crate) use application::{
    BindingWritten, ElementWritten, FlowWritten, InputWritten, OutputTarget, OutputWritten,
    PlacementWritten,
};
pub(crate) use infrastructure::ChannelWritten;
pub(crate) use models::{ModelWritten, PropertyWritten};
pub(crate) use names::{Kind, Names};

use crate::diagnostics::{Code, Fault, Faults};
use crate::reader::{Item, Table, entries};

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The most entries of any one kind, bindings excepted.
pub const ENTRIES_MAX: usize = 10_000;

/// The most bindings, those of the short forms included.
pub const BINDINGS_MAX: usize = 100_000;

/// The most device models of one file.
pub(crate) const MODELS_MAX: usize = 1_000;

/// Everything that stands in one file.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) application: Option<EntityId>,
    pub(crate) servers: Entries<Server>,
    pub(crate) channels: Entries<ChannelWritten>,
    pub(crate) spaces: Entries<Space>,
    pub(crate) models: Entries<ModelWritten>,
    pub(crate) appliances: Entries<ApplianceWritten>,
    pub(crate) elements: Entries<ElementWritten>,
    pub(crate) bindings: Entries<BindingWritten>,
    pub(crate) store: Store,
    pub(crate) broker: Broker,
    pub(crate) detection: Detection,
    pub(crate) names: Names,
}

/// The entries of one kind by id.
pub(crate) type Entries<T> = BTreeMap<EntityId, Entry<T>>;

/// One entry and the place of its id.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) place: Range<usize>,
    pub(crate) value: T,
}

/// Reads a whole text; `None`, with faults, if it is too large or not TOML.
pub(crate) fn read(text: &str, faults: &mut Faults) -> Option<Document> {
    if text.len() > FILE_BYTES_MAX {
        faults.add(too_large());
        return None;
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut readable = true;
    for error in &errors {
        // A key written twice leaves the rest as it is; after any other error the parser guesses.
        readable &= error.message() == "duplicate key";
        faults.add(syntax_fault(error));
    }
    let place = root.span();
    let root = DeValue::Table(root.into_inner());
    let item = Item {
        value: &root,
        place,
        path: String::new(),
    };
    readable.then(|| document(&item, faults))?
}

/// The fault of a file larger than is read.
pub(crate) fn too_large() -> Fault {
    Fault::whole(
        Code::F06,
        format!("the file is larger than the {FILE_BYTES_MAX} bytes that are read"),
    )
    .cure("split the application, or generate less")
}

/// What the parser says, for people.
pub(crate) fn syntax_fault(error: &toml::de::Error) -> Fault {
    let message = error.message().replace('\n', ", ");
    let place = match error.span() {
        Some(place) => place,
        // The parser does not say where a key has too many parts.
        None => return too_deep(Fault::whole(Code::F06, "a key has too many parts")),
    };
    match message.as_str() {
        deep if deep.contains("recurs") => too_deep(Fault::new(
            Code::F06,
            place,
            "values lie too deep in each other",
        )),
        "duplicate key" => Fault::new(Code::F01, place, "a key is written twice")
            .label("second time")
            .cure("keep one of the two, or give this one another name"),
        _ => Fault::new(Code::F01, place, format!("this is not TOML: {message}"))
            .cure("see https://toml.io for how it is written"),
    }
}

fn too_deep(fault: Fault) -> Fault {
    fault.cure("at most 80 levels are read; make it flatter")
}

fn document(item: &Item<'_>, faults: &mut Faults) -> Option<Document> {
    let mut names = Names::default();
    let mut table = Table::of(item, faults)?;
    let application = table.required("application", services::application);
    let servers = kind(
        &mut table,
        "servers",
        &mut names,
        Kind::Server,
        infrastructure::server,
    );
    let channels = kind(
        &mut table,
        "channels",
        &mut names,
        Kind::Channel,
        infrastructure::channel,
    );
    let spaces = kind(
        &mut table,
        "spaces",
        &mut names,
        Kind::Space,
        infrastructure::space,
    );
    let models = models(&mut table);
    let appliances = kind(
        &mut table,
        "appliances",
        &mut names,
        Kind::Appliance,
        appliances::appliance,
    );
    let elements = kind(
        &mut table,
        "elements",
        &mut names,
        Kind::Element,
        application::element,
    );
    let bindings = kind(
        &mut table,
        "bindings",
        &mut names,
        Kind::Binding,
        application::binding,
    );
    let store = table.optional("store", services::store);
    let broker = table.optional("broker", services::broker);
    let detection = table.optional("detection", services::detection);
    something_declared(&mut table, "servers", servers.is_empty());
    something_declared(&mut table, "elements", elements.is_empty());
    table.finish();
    Some(Document {
        application,
        servers,
        channels,
        spaces,
        models,
        appliances,
        elements,
        bindings,
        store: store.unwrap_or_else(services::default_store),
        broker: broker.unwrap_or(Broker::Embedded),
        detection: detection.unwrap_or_default(),
        names,
    })
}

/// All device models. They are kinds, not things, so their names are their own: a lock may be an
/// appliance and its model.
fn models(table: &mut Table<'_, '_>) -> Entries<ModelWritten> {
    let mut found = Entries::new();
    table.optional("models", |item, faults| {
        let count = item.value.as_table().map_or(0, |entries| entries.len());
        if count > MODELS_MAX {
            let reason = format!("`models` has {count} entries, at most {MODELS_MAX} are allowed");
            let fault = Fault::new(Code::F06, item.place.clone(), reason);
            faults.add(fault.cure("devices that show and take the same share one model"));
            return Some(());
        }
        entries(item, faults, |name, item, faults| {
            let place = name.span();
            let id = names::entity_id(&name, faults);
            let value = models::model(item, faults);
            if let (Some(id), Some(value)) = (id, value) {
                found.insert(id, Entry { place, value });
            }
        });
        Some(())
    });
    found
}

/// A topology without a server or an element runs nothing.
fn something_declared(table: &mut Table<'_, '_>, key: &str, is_empty: bool) {
    if is_empty && table.place_of(key).is_none() {
        let one = &key[..key.len() - 1];
        let reason = format!("the topology declares no {one}");
        table.fault(Fault::whole(Code::F04, reason).cure(format!("add [{key}.NAME]")));
    }
}

/// All entries of one kind.
fn kind<'d, T>(
    table: &mut Table<'d, '_>,
    key: &'static str,
    names: &mut Names,
    kind: Kind,
    read: fn(&Item<'d>, &mut Faults) -> Option<T>,
) -> Entries<T> {
    let mut found = Entries::new();
    let max = match kind {
        Kind::Binding => BINDINGS_MAX,
        Kind::Server | Kind::Channel | Kind::Space | Kind::Appliance | Kind::Element => ENTRIES_MAX,
    };
    table.optional(key, |item, faults| {
        let count = item.value.as_table().map_or(0, |entries| entries.len());
        if count > max {
            let reason = format!("`{key}` has {count} entries, at most {max} are allowed");
            let fault = Fault::new(Code::F06, item.place.clone(), reason);
            faults.add(fault.cure("split the application"));
            return Some(());
        }
        entries(item, faults, |name, item, faults| {
            let place = name.span();
            let id = names.declare(&name, kind, faults);
            let value = read(item, faults);
            if let (Some(id), Some(value)) = (id, value) {
                found.insert(id, Entry { place, value });
            }
        });
        Some(())
    });
    found
}

/// A reference to something by its id; whether it resolves is checked later.
pub(crate) type Reference = Spanned<String>;
