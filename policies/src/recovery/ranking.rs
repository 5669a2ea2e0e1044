//! Which of those who can take a place is best.

use core::cmp::Ordering;
use core::time::Duration;

use super::capability::{capabilities, needed};
use super::substitution::Situation;
use crate::ids::EntityId;
use crate::model::{Appliance, Candidates, Liveness, Topology};

/// How good a candidate is: the first difference decides, the smaller is better.
#[derive(Debug)]
pub(super) struct Rank<'a> {
    place_in_list: usize,
    other_space: bool,
    in_use: bool,
    lost_options: usize,
    /// Square metres; unknown is infinitely far.
    distance: f64,
    channel: (f64, Duration),
    on_battery: bool,
    id: &'a EntityId,
}

impl Rank<'_> {
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.place_in_list
            .cmp(&other.place_in_list)
            .then(self.other_space.cmp(&other.other_space))
            .then(self.in_use.cmp(&other.in_use))
            .then(self.lost_options.cmp(&other.lost_options))
            .then(self.distance.total_cmp(&other.distance))
            .then(self.channel.0.total_cmp(&other.channel.0))
            .then(self.channel.1.cmp(&other.channel.1))
            .then(self.on_battery.cmp(&other.on_battery))
            .then(self.id.cmp(other.id))
    }
}

pub(super) fn rank<'a>(
    situation: Situation<'_>,
    appliance: &EntityId,
    id: &'a EntityId,
) -> Rank<'a> {
    let topology = situation.topology;
    let (failed, candidate) = (&topology.appliances[appliance], &topology.appliances[id]);
    let place_in_list = match &failed.substitution.with {
        Candidates::Only(these) => these
            .iter()
            .position(|this| this == id)
            .unwrap_or(usize::MAX),
        Candidates::Auto | Candidates::Nobody => 0,
    };
    let able = capabilities(candidate);
    let needs = needed(failed);
    let lost = capabilities(failed)
        .into_keys()
        .filter(|name| !needs.contains_key(name) && !able.contains_key(name));
    let used = topology.dependents(id).next().is_some();
    let stands_in = situation
        .standing
        .iter()
        .any(|(of, by)| by == id && of != appliance);
    Rank {
        place_in_list,
        other_space: failed.spaces.is_disjoint(&candidate.spaces),
        in_use: stands_in || (used && !candidate.substitution.spare),
        lost_options: lost.count(),
        distance: distance(failed, candidate),
        channel: channel_to(topology, id),
        on_battery: is_sleepy(&candidate.liveness),
        id,
    }
}

fn distance(one: &Appliance, other: &Appliance) -> f64 {
    let Some((one, other)) = one.position.zip(other.position) else {
        return f64::INFINITY;
    };
    one.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Loss and latency of the best channel to it; what is not known is worst.
fn channel_to(topology: &Topology, appliance: &EntityId) -> (f64, Duration) {
    let joins = |(one, other): &(EntityId, EntityId)| one == appliance || other == appliance;
    let channels = topology.channels.values();
    let quality = channels
        .filter(|channel| channel.ends.iter().any(joins))
        .map(|channel| {
            let latency = channel.latency.unwrap_or(Duration::MAX);
            (channel.loss.unwrap_or(0.0), latency)
        });
    quality
        .min_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)))
        .unwrap_or((1.0, Duration::MAX))
}

/// A device that is only heard when it wakes runs on a battery.
fn is_sleepy(liveness: &Liveness) -> bool {
    liveness.silent_after.is_some() && liveness.probe.is_none()
}
