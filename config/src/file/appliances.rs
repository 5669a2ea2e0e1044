//! `[appliances]` as written: what is there, how it is known to be there, who may replace it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use lamplighter_policies::model::{
    ActuationClass, Appliance, ApplianceApi, CommandMethod, DeviceModel, Liveness, OnReturn, Probe,
    Role, Substitution,
};
use toml::Spanned;

use super::Reference;
use super::infrastructure::WORDS_MAX;
use super::services::address;
use crate::diagnostics::{Code, Fault, Faults};
use crate::reader::{Item, Table, entries};
use crate::topics::topic;
use crate::values::{
    VALIDITY_MAX, boolean, choice, duration, list, located, number, point, text, tree_table,
};

/// How long a bad signal lasts before it counts unless the author says otherwise: a bridge that
/// starts again says within a second that a healthy device is gone and that it is back.
const DEBOUNCE_DEFAULT: Duration = Duration::from_secs(2);

/// How long an answer may take unless the author says otherwise.
const ANSWER_DEFAULT: Duration = Duration::from_secs(2);

/// The most that a value of a substitute may be off; more is not the same any more.
const TOLERANCE_MAX: f64 = 1e6;

const API: &[(&str, ApplianceApi)] = &[
    ("mqtt", ApplianceApi::Mqtt),
    ("http", ApplianceApi::Http),
    ("simulated", ApplianceApi::Simulated),
    ("program", ApplianceApi::Program),
];
const METHOD: &[(&str, CommandMethod)] =
    &[("put", CommandMethod::Put), ("post", CommandMethod::Post)];
const ROLE: &[(&str, Role)] = &[
    ("sensor", Role::Sensor),
    ("actuator", Role::Actuator),
    ("both", Role::Both),
];
pub(super) const CLASS: &[(&str, ActuationClass)] = &[
    ("set", ActuationClass::Set),
    ("delta", ActuationClass::Delta),
    ("irreversible", ActuationClass::Irreversible),
    ("keyed", ActuationClass::Keyed),
    ("alarm", ActuationClass::Alarm),
];
const ON_RETURN: &[(&str, OnReturn)] =
    &[("stay", OnReturn::Stay), ("give-back", OnReturn::GiveBack)];

#[derive(Clone, Copy)]
enum WithWord {
    Auto,
    Nobody,
}

const WITH: &[(&str, WithWord)] = &[("auto", WithWord::Auto), ("nobody", WithWord::Nobody)];

/// An appliance whose model, spaces and substitutes are still names.
#[derive(Debug)]
pub(crate) struct ApplianceWritten {
    /// All but its model, its spaces, and the names in its substitution.
    pub(crate) appliance: Appliance,
    pub(crate) functions: Option<Vec<Spanned<String>>>,
    pub(crate) model: Option<Reference>,
    pub(crate) spaces: Vec<Reference>,
    pub(crate) substitution: SubstitutionWritten,
    pub(crate) position_place: Option<Range<usize>>,
    /// The place of `class`; `None` if it is not written.
    pub(crate) class_place: Option<Range<usize>>,
    pub(crate) safe_state_place: Option<Range<usize>>,
    pub(crate) probe_place: Option<Range<usize>>,
}

/// Who may take its place, by names.
#[derive(Debug, Default)]
pub(crate) struct SubstitutionWritten {
    pub(crate) with: CandidatesWritten,
    pub(crate) needs: Option<Spanned<Vec<Spanned<String>>>>,
    pub(crate) spaces: Vec<Reference>,
    pub(crate) tolerance: BTreeMap<String, (Range<usize>, f64)>,
}

/// Who may take a place, by name.
#[derive(Debug, Default)]
pub(crate) enum CandidatesWritten {
    #[default]
    Auto,
    Only(Vec<Reference>),
    Nobody,
}

pub(super) fn appliance(item: &Item<'_>, faults: &mut Faults) -> Option<ApplianceWritten> {
    let mut table = Table::of(item, faults)?;
    let api = table.required("api", choice(API));
    let class = table.optional("class", choice(CLASS)).unwrap_or_default();
    let (liveness, probe_place) = table.optional("liveness", liveness).unwrap_or_default();
    let substitute = table.optional("substitute", substitution);
    let (substitution, substitution_written) = substitute.unwrap_or_default();
    let appliance = Appliance {
        api: api.unwrap_or(ApplianceApi::Simulated),
        role: table.required("role", choice(ROLE)).unwrap_or(Role::Both),
        functions: Default::default(),
        spaces: Default::default(),
        position: table.optional("position", point),
        zone: table.optional("zone", text),
        topic: table.optional("topic", topic),
        class,
        report_period: table.optional(
            "report_period",
            duration(Duration::from_millis(1)..=VALIDITY_MAX),
        ),
        identified_by: table.optional("identified_by", text),
        stamped_by: table.optional("stamped_by", text),
        safe_state: table.optional("safe_state", tree_table),
        model: DeviceModel::unknown(class),
        liveness,
        substitution,
        essential: table.optional("essential", boolean).unwrap_or(false),
        address: table.optional("address", |item, faults| match api {
            Some(ApplianceApi::Http) => http_address(item, faults),
            Some(ApplianceApi::Mqtt | ApplianceApi::Simulated | ApplianceApi::Program) | None => {
                text(item, faults)
            }
        }),
        method: table.optional("method", choice(METHOD)).unwrap_or_default(),
        adapter: table.optional("adapter", text),
    };
    if let Some(api) = api {
        own_keys(api, &mut table);
    }
    let functions = list(WORDS_MAX, |item, faults| located(text)(item, faults));
    let spaces = list(WORDS_MAX, |item, faults| located(text)(item, faults));
    let written = ApplianceWritten {
        appliance,
        functions: table.optional("functions", functions),
        model: table.optional("model", located(text)),
        spaces: table.optional("spaces", spaces).unwrap_or_default(),
        substitution: substitution_written,
        position_place: table.place_of("position"),
        class_place: table.place_of("class"),
        safe_state_place: table.place_of("safe_state"),
        probe_place,
    };
    table.finish();
    Some(written)
}

/// The keys that only one way to speak has, and needs.
fn own_keys(api: ApplianceApi, table: &mut Table<'_, '_>) {
    let (http, program) = match api {
        ApplianceApi::Http => (true, false),
        ApplianceApi::Program => (false, true),
        ApplianceApi::Mqtt | ApplianceApi::Simulated => (false, false),
    };
    for (key, wanted, of) in [("method", http, "http"), ("adapter", program, "program")] {
        if let Some(place) = table.place_of(key).filter(|_| !wanted) {
            let reason = format!("only an appliance with `api = \"{of}\"` has `{key}`");
            let fault = Fault::new(Code::F05, place, reason);
            table.fault(fault.cure(format!("remove `{key}`, or write `api = \"{of}\"`")));
        }
    }
    for (key, needed) in [("address", http), ("adapter", program)] {
        if needed && table.place_of(key).is_none() {
            table.missing(key);
        }
    }
}

/// Where a device is. TLS is not spoken to devices, which would have to be found out too late.
fn http_address(item: &Item<'_>, faults: &mut Faults) -> Option<String> {
    if item
        .value
        .as_str()
        .is_some_and(|url| url.starts_with("https://"))
    {
        let reason = format!(
            "`{}` asks for TLS, which is not spoken to devices",
            item.path
        );
        let fault = Fault::new(Code::F05, item.place.clone(), reason);
        faults.add(fault.cure(
            "write `http://…` in a network of the home, put a proxy before the device, or write \
             `api = \"program\"` and an adapter of your own",
        ));
        return None;
    }
    address(item, faults, &["http"])
}

/// The signals, and where the probe stands.
fn liveness(item: &Item<'_>, faults: &mut Faults) -> Option<(Liveness, Option<Range<usize>>)> {
    let mut table = Table::of(item, faults)?;
    let liveness = Liveness {
        silent_after: table.optional("silent_after", span(1)),
        probe: table.optional("probe", probe),
        availability: table.optional("availability", topic),
        bridge: table.optional("bridge", topic),
        debounce: table
            .optional("debounce", span(0))
            .unwrap_or(DEBOUNCE_DEFAULT),
    };
    let signals = ["silent_after", "probe", "availability", "bridge"];
    if signals.iter().all(|key| table.place_of(key).is_none()) {
        let reason = format!("`{}` names no signal", item.path);
        table.fault(
            Fault::new(Code::V22, item.place.clone(), reason)
                .cure("write `silent_after`, `probe`, `availability` or `bridge`"),
        );
    }
    let place = table.place_of("probe");
    table.finish();
    Some((liveness, place))
}

/// How often, alone or with how long the answer may take.
fn probe(item: &Item<'_>, faults: &mut Faults) -> Option<Probe> {
    if !item.value.is_table() {
        let every = span(1)(item, faults)?;
        return Some(Probe {
            every,
            within: every.min(ANSWER_DEFAULT),
        });
    }
    let mut table = Table::of(item, faults)?;
    let every = table.required("every", span(1));
    let within = table.optional("within", span(1));
    if let (Some(every), Some(within)) = (every, within)
        && within > every
    {
        let place = table.place_of("within").unwrap_or(item.place.clone());
        let reason = format!("`{}` asks again before the answer is due", item.path);
        let fault = Fault::new(Code::V22, place, reason);
        table.fault(fault.cure("make `within` at most as long as `every`"));
    }
    table.finish();
    let every = every?;
    Some(Probe {
        every,
        within: within.unwrap_or(every.min(ANSWER_DEFAULT)),
    })
}

/// A duration of at least some milliseconds.
fn span(least_ms: u64) -> impl Fn(&Item<'_>, &mut Faults) -> Option<Duration> {
    duration(Duration::from_millis(least_ms)..=VALIDITY_MAX)
}

fn substitution(
    item: &Item<'_>,
    faults: &mut Faults,
) -> Option<(Substitution, SubstitutionWritten)> {
    let mut table = Table::of(item, faults)?;
    let references = || list(WORDS_MAX, |item, faults| located(text)(item, faults));
    let written = SubstitutionWritten {
        with: table.optional("with", candidates).unwrap_or_default(),
        needs: table.optional("needs", located(references())),
        spaces: table.optional("spaces", references()).unwrap_or_default(),
        tolerance: table
            .optional("tolerance", |item, faults| Some(tolerance(item, faults)))
            .unwrap_or_default(),
    };
    let substitution = Substitution {
        on_return: table
            .optional("on_return", choice(ON_RETURN))
            .unwrap_or_default(),
        purpose: table.optional("purpose", text),
        spare: table.optional("spare", boolean).unwrap_or(false),
        ..Substitution::default()
    };
    table.finish();
    Some((substitution, written))
}

/// `"auto"`, `"nobody"`, or the ids of those who may, best first.
fn candidates(item: &Item<'_>, faults: &mut Faults) -> Option<CandidatesWritten> {
    if item.value.is_array() {
        let read = list(WORDS_MAX, |item, faults| located(text)(item, faults));
        return read(item, faults).map(CandidatesWritten::Only);
    }
    if !item.value.is_str() {
        let fault = item.wrong_type("who may take its place");
        faults.add(fault.cure("write \"auto\", \"nobody\" or a list of appliances"));
        return None;
    }
    choice(WITH)(item, faults).map(|word| match word {
        WithWord::Auto => CandidatesWritten::Auto,
        WithWord::Nobody => CandidatesWritten::Nobody,
    })
}

fn tolerance(item: &Item<'_>, faults: &mut Faults) -> BTreeMap<String, (Range<usize>, f64)> {
    let mut tolerance = BTreeMap::new();
    entries(item, faults, |name, item, faults| {
        if let Some(value) = number(0.0..=TOLERANCE_MAX)(item, faults) {
            let place = name.span();
            tolerance.insert(name.into_inner(), (place, value));
        }
    });
    tolerance
}
