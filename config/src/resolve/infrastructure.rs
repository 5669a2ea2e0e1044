//! Servers, channels and spaces (V02, V03).

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Channel;

use super::Resolver;
use crate::diagnostics::{Code, Fault};
use crate::file::{ChannelWritten, Entries, Kind, Reference};

impl Resolver<'_> {
    /// Entries that refer to nothing.
    pub(super) fn plain<T>(&mut self, entries: Entries<T>) -> BTreeMap<EntityId, T> {
        let mut plain = BTreeMap::new();
        for (id, entry) in entries {
            self.places.set(&id, entry.place);
            plain.insert(id, entry.value);
        }
        plain
    }

    pub(super) fn channels(
        &mut self,
        entries: Entries<ChannelWritten>,
    ) -> BTreeMap<EntityId, Channel> {
        let mut channels = BTreeMap::new();
        for (id, entry) in entries {
            self.places.set(&id, entry.place);
            let written = entry.value;
            let mut seen = BTreeSet::new();
            let mut ends = Vec::new();
            for (one, other) in &written.ends {
                if let Some(pair) = self.pair(&id, one, other, &mut seen) {
                    ends.push(pair);
                }
            }
            let channel = Channel {
                medium: written.medium,
                ends,
                latency: written.latency,
                bandwidth_kbps: written.bandwidth_kbps,
                loss: written.loss,
            };
            channels.insert(id, channel);
        }
        channels
    }

    fn pair(
        &mut self,
        channel: &EntityId,
        one: &Reference,
        other: &Reference,
        seen: &mut BTreeSet<(EntityId, EntityId)>,
    ) -> Option<(EntityId, EntityId)> {
        let owner = format!("channel `{channel}`");
        let kinds = [Kind::Server, Kind::Appliance];
        let first = self.reference(one, &kinds, &owner);
        let second = self.reference(other, &kinds, &owner);
        let (first, second) = (first?, second?);
        let is_appliance =
            |id: &EntityId| matches!(self.names.find(id.as_str()), Some((Kind::Appliance, _)));
        let ordered = if first <= second {
            (first.clone(), second.clone())
        } else {
            (second.clone(), first.clone())
        };
        let place = one.span().start..other.span().end;
        let fault = |reason: String| Fault::new(Code::V03, place.clone(), reason);
        if first == second {
            self.faults.add(
                fault(format!("{owner} joins `{first}` with itself")).cure("name the other end"),
            );
        } else if is_appliance(&first) && is_appliance(&second) {
            let reason = format!("{owner} joins two appliances, `{first}` and `{second}`");
            let cure = "join each of them with the server that speaks to it";
            self.faults.add(fault(reason).cure(cure));
        } else if !seen.insert(ordered) {
            let reason = format!("{owner} joins `{first}` and `{second}` twice");
            let cure = "remove one of the two; a second way between them is a channel of its own";
            self.faults.add(fault(reason).cure(cure));
        } else {
            return Some((first, second));
        }
        None
    }
}
