//! `[elements]` and `[bindings]` as written.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use lamplighter_policies::model::{
    CheckpointPolicy, Communication, Durability, Element, Lag, LogChoice, OnExpired, PlacementRules,
};
use lamplighter_policies::physical_world::Validity;
use lamplighter_policies::restart::RestartPolicy;
use toml::Spanned;

use super::infrastructure::{WORDS_MAX, resources, words};
use super::{BINDINGS_MAX, Reference};
use crate::diagnostics::{Code, Fault, Faults};
use crate::reader::{Item, Table, entries};
use crate::topics::{fault_of, topic};
use crate::values::{
    VALIDITY_MAX, boolean, choice, duration, duration_range, list, located, number, text,
    tree_table, validity, whole,
};

/// How many inputs wait at most unless the author says otherwise.
const MAILBOX_DEFAULT: u32 = 1_024;
/// How long one call of an author's code may take: it computes; what waits belongs into an adapter.
const HANDLER_WITHIN_DEFAULT: Duration = Duration::from_secs(10);
const HANDLER_WITHIN_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3_600);

/// How often an input is tried unless the author says otherwise.
const ATTEMPTS_DEFAULT: u32 = 2;

/// The most flows of one binding, one way.
const FLOWS_MAX: usize = 1_024;

/// How long a reply may take at least and at most.
const REPLY_WITHIN: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(24 * 3_600);

const LOG: &[(&str, LogChoice)] = &[
    ("pessimistic", LogChoice::Pessimistic),
    ("optimistic", LogChoice::Optimistic),
    ("none", LogChoice::None),
];
const ON_EXPIRED: &[(&str, OnExpired)] =
    &[("absorb", OnExpired::Absorb), ("skip", OnExpired::Skip)];
const MODEL: &[(&str, Communication)] = &[
    ("message", Communication::Message),
    ("call", Communication::Call),
];

/// An element whose references are still names.
#[derive(Debug)]
pub(crate) struct ElementWritten {
    /// All but its place.
    pub(crate) element: Element,
    pub(crate) server: Option<Reference>,
    pub(crate) inputs: Vec<InputWritten>,
    pub(crate) outputs: Vec<OutputWritten>,
    pub(crate) log_place: Option<Range<usize>>,
    pub(crate) unsafe_weaken: bool,
    pub(crate) checkpoint_place: Option<Range<usize>>,
    pub(crate) placement: PlacementWritten,
}

/// Which servers may host an element; whom it must and must not be with are still names.
#[derive(Debug, Default)]
pub(crate) struct PlacementWritten {
    /// All but the names.
    pub(crate) rules: PlacementRules,
    pub(crate) together: Vec<Reference>,
    pub(crate) apart: Vec<Reference>,
    pub(crate) place: Option<Range<usize>>,
}

/// The short form of a binding with a device that is not declared, towards the element.
#[derive(Debug)]
pub(crate) struct InputWritten {
    pub(crate) topic: Spanned<String>,
    pub(crate) input: String,
    pub(crate) valid_for: Option<Spanned<Validity>>,
}

/// The short form of a binding away from the element.
#[derive(Debug)]
pub(crate) struct OutputWritten {
    pub(crate) port: Spanned<String>,
    pub(crate) target: OutputTarget,
    pub(crate) valid_for: Option<Spanned<Validity>>,
}

/// Where a short output goes.
#[derive(Debug)]
pub(crate) enum OutputTarget {
    /// To a device that is not declared.
    Topic(String),
    /// To a declared appliance, on its command topic or the one given.
    Appliance(Reference, Option<String>),
}

/// A binding whose references are still names.
#[derive(Debug)]
pub(crate) struct BindingWritten {
    pub(crate) from: Option<Reference>,
    pub(crate) to: Option<Reference>,
    pub(crate) model: Communication,
    pub(crate) mandatory: bool,
    pub(crate) latency_max: Option<Duration>,
    pub(crate) rate_hz: Option<f64>,
    pub(crate) payload_bytes: Option<u32>,
    pub(crate) bandwidth_kbps_min: Option<u32>,
    pub(crate) reply_within: Option<Spanned<Duration>>,
    pub(crate) receive: Vec<FlowWritten>,
    pub(crate) send: Vec<FlowWritten>,
}

/// One flow of a binding; which keys it needs depends on what is at the other end.
#[derive(Debug)]
pub(crate) struct FlowWritten {
    pub(crate) place: Range<usize>,
    pub(crate) output: Option<Spanned<String>>,
    pub(crate) input: Option<Spanned<String>>,
    pub(crate) topic: Option<Spanned<String>>,
    pub(crate) valid_for: Option<Spanned<Validity>>,
    pub(crate) reply: Option<Spanned<String>>,
}

pub(super) fn element(item: &Item<'_>, faults: &mut Faults) -> Option<ElementWritten> {
    let mut table = Table::of(item, faults)?;
    let restart = table.optional("restart", restart);
    let (restart, attempts) = restart.unwrap_or((RestartPolicy::default(), ATTEMPTS_DEFAULT));
    let element = Element {
        kind: table.required("kind", text).unwrap_or_default(),
        server: None,
        state: table.optional("state", tree_table).unwrap_or_default(),
        stateless: table.optional("stateless", boolean).unwrap_or(false),
        essential: table.optional("essential", boolean).unwrap_or(true),
        criticality: table
            .optional("criticality", whole(0..=u8::MAX))
            .unwrap_or(0),
        demand: table.optional("demand", resources).unwrap_or_default(),
        log: table.optional("log", choice(LOG)).unwrap_or_default(),
        checkpoint: table.optional("checkpoint", checkpoint).unwrap_or_default(),
        restart,
        attempts,
        mailbox: table
            .optional("mailbox", whole(1..=65_536))
            .unwrap_or(MAILBOX_DEFAULT),
        durability: Durability::default(),
        on_expired: table
            .optional("on_expired", choice(ON_EXPIRED))
            .unwrap_or_default(),
        lag: table.optional("max_lag", lag).unwrap_or_default(),
        placement: PlacementRules::default(),
        handler_within: table
            .optional("handler_within", duration(HANDLER_WITHIN_RANGE))
            .unwrap_or(HANDLER_WITHIN_DEFAULT),
    };
    let written = ElementWritten {
        element,
        server: table.optional("server", place_of_element).flatten(),
        inputs: table.optional("inputs", inputs).unwrap_or_default(),
        outputs: table.optional("outputs", outputs).unwrap_or_default(),
        log_place: table.place_of("log"),
        unsafe_weaken: table.optional("unsafe_weaken", boolean).unwrap_or(false),
        checkpoint_place: table.place_of("checkpoint"),
        placement: table.optional("placement", placement).unwrap_or_default(),
    };
    table.finish();
    Some(written)
}

/// The one server of an element (V07).
fn place_of_element(item: &Item<'_>, faults: &mut Faults) -> Option<Option<Reference>> {
    if item.value.is_array() {
        let reason = format!("`{}` names several servers", item.path);
        faults.add(
            Fault::new(Code::V07, item.place.clone(), reason)
                .cure("name one, or leave the key out and let the lifecycle manager choose"),
        );
        return Some(None);
    }
    located(text)(item, faults).map(Some)
}

fn placement(item: &Item<'_>, faults: &mut Faults) -> Option<PlacementWritten> {
    let mut table = Table::of(item, faults)?;
    let named = |item: &Item<'_>, faults: &mut Faults| located(text)(item, faults);
    let together = table.optional("with", list(WORDS_MAX, named));
    let apart = table.optional("apart", list(WORDS_MAX, named));
    let rules = PlacementRules {
        zones: words(&mut table, "zones"),
        architectures: words(&mut table, "arch"),
        labels: words(&mut table, "labels"),
        together: std::collections::BTreeSet::new(),
        apart: std::collections::BTreeSet::new(),
        pinned: table.optional("pinned", boolean).unwrap_or(false),
    };
    table.finish();
    Some(PlacementWritten {
        rules,
        together: together.unwrap_or_default(),
        apart: apart.unwrap_or_default(),
        place: Some(item.place.clone()),
    })
}

fn checkpoint(item: &Item<'_>, faults: &mut Faults) -> Option<CheckpointPolicy> {
    let mut table = Table::of(item, faults)?;
    let default = CheckpointPolicy::default();
    let longest = Duration::from_secs(24 * 3_600);
    let policy = CheckpointPolicy {
        every: table
            .optional("every", |item, faults| {
                faults.under(Code::V19, |faults| whole(1..=1_000_000)(item, faults))
            })
            .unwrap_or(default.every),
        interval: table
            .optional("interval", |item, faults| {
                let range = Duration::from_millis(10)..=longest;
                faults.under(Code::V19, |faults| duration(range)(item, faults))
            })
            .unwrap_or(default.interval),
    };
    table.finish();
    Some(policy)
}

fn lag(item: &Item<'_>, faults: &mut Faults) -> Option<Lag> {
    let mut table = Table::of(item, faults)?;
    let default = Lag::default();
    let range = Duration::from_millis(1)..=Duration::from_secs(3_600);
    let lag = Lag {
        time: table
            .optional("time", duration(range))
            .unwrap_or(default.time),
        records: table
            .optional("records", whole(1..=65_536))
            .unwrap_or(default.records),
    };
    table.finish();
    Some(lag)
}

fn restart(item: &Item<'_>, faults: &mut Faults) -> Option<(RestartPolicy, u32)> {
    let mut table = Table::of(item, faults)?;
    let default = RestartPolicy::default();
    let backoff = table.optional("backoff", duration_range);
    let (backoff_min, backoff_max) = backoff.unwrap_or((default.backoff_min, default.backoff_max));
    let policy = RestartPolicy {
        restarts_max: table
            .optional("max", whole(0..=10_000))
            .unwrap_or(default.restarts_max),
        within: table
            .optional("within", duration(Duration::from_millis(1)..=VALIDITY_MAX))
            .unwrap_or(default.within),
        backoff_min,
        backoff_max,
    };
    let attempts = table
        .optional("attempts", whole(1..=1_000))
        .unwrap_or(ATTEMPTS_DEFAULT);
    table.finish();
    Some((policy, attempts))
}

fn inputs(item: &Item<'_>, faults: &mut Faults) -> Option<Vec<InputWritten>> {
    let mut inputs = Vec::new();
    entries(item, faults, |name, item, faults| {
        if let Some((why, cure)) = fault_of(name.get_ref()) {
            let shown: String = name.get_ref().chars().take(80).collect();
            let reason = format!("the key {shown:?} {why}");
            faults.add(Fault::new(Code::F05, name.span(), reason).cure(cure));
            return;
        }
        if let Some((input, valid_for)) = input(item, faults) {
            inputs.push(InputWritten {
                topic: name,
                input,
                valid_for,
            });
        }
    });
    limited(inputs, item, faults)
}

/// A variant alone, or with how long what arrives holds.
fn input(item: &Item<'_>, faults: &mut Faults) -> Option<(String, Option<Spanned<Validity>>)> {
    if !item.value.is_table() {
        return text(item, faults).map(|input| (input, None));
    }
    let mut table = Table::of(item, faults)?;
    let input = table.required("input", text);
    let valid_for = table.optional("valid_for", located(validity));
    table.finish();
    Some((input?, valid_for))
}

fn outputs(item: &Item<'_>, faults: &mut Faults) -> Option<Vec<OutputWritten>> {
    let mut outputs = Vec::new();
    entries(item, faults, |port, item, faults| {
        let Some(mut table) = Table::of(item, faults) else {
            return;
        };
        let appliance = table.optional("appliance", located(text));
        let topic = table.optional("topic", topic);
        let valid_for = table.optional("valid_for", located(validity));
        let has_either = table.place_of("appliance").is_some() || table.place_of("topic").is_some();
        if !has_either {
            let reason = format!("`{}` goes nowhere", item.path);
            table.fault(
                Fault::new(Code::F04, item.place.clone(), reason)
                    .cure("write { topic = \"…\" } or { appliance = \"…\" }"),
            );
        }
        table.finish();
        let target = match (appliance, topic) {
            (Some(appliance), topic) => OutputTarget::Appliance(appliance, topic),
            (None, Some(topic)) => OutputTarget::Topic(topic),
            (None, None) => return,
        };
        outputs.push(OutputWritten {
            port,
            target,
            valid_for,
        });
    });
    limited(outputs, item, faults)
}

fn limited<T>(found: Vec<T>, item: &Item<'_>, faults: &mut Faults) -> Option<Vec<T>> {
    if found.len() <= BINDINGS_MAX {
        return Some(found);
    }
    let reason = format!("`{}` has more than {BINDINGS_MAX} entries", item.path);
    faults.add(Fault::new(Code::F06, item.place.clone(), reason).cure("split the application"));
    None
}

pub(super) fn binding(item: &Item<'_>, faults: &mut Faults) -> Option<BindingWritten> {
    let mut table = Table::of(item, faults)?;
    let binding = BindingWritten {
        from: table.required("from", located(text)),
        to: table.required("to", located(text)),
        model: table.optional("model", choice(MODEL)).unwrap_or_default(),
        mandatory: table.optional("mandatory", boolean).unwrap_or(true),
        latency_max: table
            .optional("max_latency_ms", number(0.001..=3_600_000.0))
            .map(|ms| Duration::from_secs_f64(ms / 1e3)),
        rate_hz: table.optional("rate_hz", number(0.0..=1e6)),
        payload_bytes: table.optional("payload_bytes", whole(0..=1 << 24)),
        bandwidth_kbps_min: table.optional("min_kbps", whole(0..=u32::MAX)),
        reply_within: table.optional("reply_within", located(duration(REPLY_WITHIN))),
        receive: table
            .optional("receive", list(FLOWS_MAX, flow))
            .unwrap_or_default(),
        send: table
            .optional("send", list(FLOWS_MAX, flow))
            .unwrap_or_default(),
    };
    table.finish();
    Some(binding)
}

fn flow(item: &Item<'_>, faults: &mut Faults) -> Option<FlowWritten> {
    let mut table = Table::of(item, faults)?;
    let flow = FlowWritten {
        place: item.place.clone(),
        output: table.optional("output", located(text)),
        input: table.optional("input", located(text)),
        topic: table.optional("topic", located(topic)),
        valid_for: table.optional("valid_for", located(validity)),
        reply: table.optional("reply", located(text)),
    };
    table.finish();
    Some(flow)
}
