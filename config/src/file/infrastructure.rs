//! `[servers]`, `[channels]` and `[spaces]` as written.

use std::time::Duration;

use lamplighter_policies::model::{Isolation, LocalStorage, Medium, Resources, Server, Space};

use super::Reference;
use crate::diagnostics::{Code, Fault, Faults};
use crate::reader::{Item, Table};
use crate::values::{choice, list, located, number, point, text, whole};

/// The most labels, functions or spaces of one entry.
pub(super) const WORDS_MAX: usize = 256;

/// The most pairs that one channel joins.
const ENDS_MAX: usize = 20_000;

const STORAGE: &[(&str, LocalStorage)] = &[
    ("volatile", LocalStorage::Volatile),
    ("persistent", LocalStorage::Persistent),
];
const ISOLATION: &[(&str, Isolation)] = &[
    ("process", Isolation::Process),
    ("shared", Isolation::Shared),
];
const MEDIUM: &[(&str, Medium)] = &[
    ("wired", Medium::Wired),
    ("wifi", Medium::Wifi),
    ("zigbee", Medium::Zigbee),
    ("zwave", Medium::Zwave),
    ("bluetooth", Medium::Bluetooth),
    ("other", Medium::Other),
];
/// A channel whose ends are still names.
#[derive(Debug)]
pub(crate) struct ChannelWritten {
    pub(crate) medium: Medium,
    pub(crate) ends: Vec<(Reference, Reference)>,
    pub(crate) latency: Option<Duration>,
    pub(crate) bandwidth_kbps: Option<u32>,
    pub(crate) loss: Option<f64>,
}

pub(super) fn server(item: &Item<'_>, faults: &mut Faults) -> Option<Server> {
    let mut table = Table::of(item, faults)?;
    let server = Server {
        storage: table
            .required("storage", choice(STORAGE))
            .unwrap_or(LocalStorage::Volatile),
        zone: table.optional("zone", text),
        architecture: table.optional("arch", text),
        labels: words(&mut table, "labels"),
        resources: table.optional("resources", resources),
        isolation: table
            .optional("isolation", choice(ISOLATION))
            .unwrap_or_default(),
    };
    table.finish();
    Some(server)
}

pub(super) fn resources(item: &Item<'_>, faults: &mut Faults) -> Option<Resources> {
    let mut table = Table::of(item, faults)?;
    let mut amount = |key| table.optional(key, whole(0..=u32::MAX)).unwrap_or(0);
    let resources = Resources {
        cpu_milli: amount("cpu_milli"),
        ram_mb: amount("ram_mb"),
        disk_mb: amount("disk_mb"),
    };
    table.finish();
    Some(resources)
}

pub(super) fn channel(item: &Item<'_>, faults: &mut Faults) -> Option<ChannelWritten> {
    let mut table = Table::of(item, faults)?;
    let channel = ChannelWritten {
        medium: table
            .required("medium", choice(MEDIUM))
            .unwrap_or(Medium::Other),
        ends: table
            .required("ends", list(ENDS_MAX, pair))
            .unwrap_or_default(),
        latency: table
            .optional("latency_ms", number(0.0..=3_600_000.0))
            .map(|ms| Duration::from_secs_f64(ms / 1e3)),
        bandwidth_kbps: table.optional("bandwidth_kbps", whole(1..=u32::MAX)),
        loss: table.optional("loss", number(0.0..=1.0)),
    };
    table.finish();
    Some(channel)
}

fn pair(item: &Item<'_>, faults: &mut Faults) -> Option<(Reference, Reference)> {
    let ends = item.value.as_array().map_or(&[][..], |ends| &ends[..]);
    let [one, other] = ends else {
        let fault = item.wrong_type("a pair of names");
        faults.add(fault.cure("write [\"one\", \"other\"]"));
        return None;
    };
    let one = located(text)(&item.child(0, one), faults);
    let other = located(text)(&item.child(1, other), faults);
    Some((one?, other?))
}

pub(super) fn space(item: &Item<'_>, faults: &mut Faults) -> Option<Space> {
    let mut table = Table::of(item, faults)?;
    let min = table.required("min", point);
    let max = table.required("max", point);
    let place = table.place_of("max").unwrap_or(table.place());
    if let (Some(min), Some(max)) = (min, max)
        && let Some(axis) = (0..3).find(|axis| min[*axis] >= max[*axis])
    {
        let name = ["x", "y", "z"][axis];
        let reason = format!(
            "`{}` is empty: on the {name} axis `min` is {} and `max` is {}",
            item.path, min[axis], max[axis]
        );
        let fault = Fault::new(Code::V21, place, reason);
        table.fault(fault.cure("`max` must be greater than `min` on every axis"));
    }
    table.finish();
    Some(Space {
        min: min?,
        max: max?,
    })
}

pub(super) fn words<C: FromIterator<String> + Default>(
    table: &mut Table<'_, '_>,
    key: &'static str,
) -> C {
    table
        .optional(key, list(WORDS_MAX, text))
        .map(C::from_iter)
        .unwrap_or_default()
}
