//! The same problem solved by trying everything, written without a look at how it is solved.

use std::collections::BTreeMap;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Binding, Element, Topology};
use lamplighter_policies::placement::kbps_needed;

/// Where each element is; `None` is nowhere.
pub(crate) type Places = BTreeMap<EntityId, Option<EntityId>>;

/// Essential elements without a place, criticality without a place, latency by traffic.
pub(crate) type Cost = (u64, u64, u64);

const FAR: u64 = u64::MAX / 4;

/// The fastest ways over all channels of enough bandwidth (Floyd and Warshall).
struct Map {
    micros: BTreeMap<(EntityId, EntityId), u64>,
    by: BTreeMap<(EntityId, EntityId), (EntityId, EntityId)>,
}

pub(crate) struct Oracle<'t> {
    site: &'t Topology,
    /// Whether each element is essential, and how critical, by all who need it.
    matters: BTreeMap<EntityId, (bool, u8)>,
    maps: BTreeMap<u32, Map>,
}

impl<'t> Oracle<'t> {
    pub(crate) fn new(site: &'t Topology) -> Self {
        let needs: Vec<u32> = site.bindings.values().map(kbps_needed).collect();
        let maps = needs.into_iter().map(|kbps| (kbps, Map::new(site, kbps)));
        let own = |(id, it): (&EntityId, &Element)| (id.clone(), (it.essential, it.criticality));
        let mut matters: BTreeMap<_, _> = site.elements.iter().map(own).collect();
        for _ in 0..site.elements.len() {
            for binding in site.bindings.values() {
                let above = matters[&binding.from];
                let to = binding.to.as_ref().and_then(|to| matters.get_mut(to));
                if let Some(to) = to {
                    *to = (to.0 || above.0, to.1.max(above.1));
                }
            }
        }
        Self {
            site,
            matters,
            maps: maps.collect(),
        }
    }

    /// Whether no rule is broken by those that have a place.
    pub(crate) fn is_allowed(&self, places: &Places) -> bool {
        self.broken(places).is_none()
    }

    /// A rule that is broken.
    pub(crate) fn broken(&self, places: &Places) -> Option<String> {
        let site = self.site;
        let at = |id: &EntityId| places.get(id).and_then(Option::as_ref);
        for (id, known) in &site.servers {
            let here = site.elements.iter().filter(|(it, _)| at(it) == Some(id));
            let offered = known.resources.expect("every server says what it offers");
            let cpu: u32 = here.clone().map(|(_, it)| it.demand.cpu_milli).sum();
            let ram: u32 = here.map(|(_, it)| it.demand.ram_mb).sum();
            if cpu + 100 > offered.cpu_milli || ram + 64 > offered.ram_mb {
                // Every element of these sites needs both.
                if cpu > 0 {
                    return Some(format!("{id} is too full"));
                }
            }
        }
        for (id, known) in &site.elements {
            let Some(here) = at(id) else { continue };
            let (rules, server) = (&known.placement, &site.servers[here]);
            let zone = server.zone.as_ref().expect("every server is in a zone");
            let in_zone = rules.zones.is_empty() || rules.zones.contains(zone);
            let labelled = rules.labels.iter().all(|it| server.labels.contains(it));
            let apart = rules.apart.iter().all(|it| at(it) != Some(here));
            let together = rules
                .together
                .iter()
                .all(|it| at(it).is_none_or(|at| at == here));
            if !(in_zone && labelled && apart && together) {
                return Some(format!("{id} must not be on {here}"));
            }
        }
        self.broken_way(places)
    }

    fn broken_way(&self, places: &Places) -> Option<String> {
        let mut load: BTreeMap<&EntityId, u64> = BTreeMap::new();
        for (id, binding) in &self.site.bindings {
            let Some((one, other)) = self.ends(binding, places) else {
                continue;
            };
            let kbps = kbps_needed(binding);
            let map = &self.maps[&kbps];
            let micros = map.between(one, other);
            let max = binding
                .latency_max
                .map_or(FAR - 1, |it| it.as_micros() as u64);
            if micros > max {
                return Some(format!("{id} takes {micros}, {max} are allowed"));
            }
            for channel in map.channels(one, other) {
                let (id, _) = self.site.channels.get_key_value(&channel).expect("known");
                *load.entry(id).or_default() += u64::from(kbps);
            }
        }
        let mut over = load.iter().filter(|(channel, kbps)| {
            let offered = self.site.channels[**channel].bandwidth_kbps;
            offered.is_some_and(|offered| **kbps > u64::from(offered))
        });
        let (channel, kbps) = over.next()?;
        Some(format!("{channel} carries {kbps}"))
    }

    pub(crate) fn cost(&self, places: &Places) -> Cost {
        let (mut essential, mut lost) = (0, 0);
        // Who must be together is left out together, and counts once.
        for group in self.groups() {
            if places[&group[0]].is_none() {
                let known = group.iter().map(|id| self.matters[id]);
                essential += u64::from(known.clone().any(|it| it.0));
                lost += known.map(|it| u64::from(it.1)).max().unwrap_or(0) + 1;
            }
        }
        let latency = |binding: &Binding| {
            let (one, other) = self.ends(binding, places)?;
            let micros = self.maps[&kbps_needed(binding)].between(one, other);
            let traffic = binding.rate_hz? * f64::from(binding.payload_bytes?);
            Some(micros * traffic as u64)
        };
        let latency = self.site.bindings.values().filter_map(latency).sum();
        (essential, lost, latency)
    }

    fn ends<'a>(
        &'a self,
        binding: &'a Binding,
        places: &'a Places,
    ) -> Option<(&'a EntityId, &'a EntityId)> {
        let to = binding.to.as_ref()?;
        let one = places.get(&binding.from)?.as_ref()?;
        let other = match places.get(to) {
            Some(place) => place.as_ref()?,
            None => to,
        };
        Some((one, other))
    }

    /// Elements that must be on one server.
    fn groups(&self) -> Vec<Vec<EntityId>> {
        let mut groups: Vec<Vec<EntityId>> = Vec::new();
        for (id, known) in &self.site.elements {
            let mut group = vec![id.clone()];
            group.extend(known.placement.together.iter().cloned());
            let touches = |other: &Vec<EntityId>| other.iter().any(|it| group.contains(it));
            let (joined, apart): (Vec<_>, Vec<_>) = groups.into_iter().partition(touches);
            groups = apart;
            group.extend(joined.into_iter().flatten());
            group.sort();
            group.dedup();
            groups.push(group);
        }
        groups
    }

    /// The least cost of all placements that break no rule. What cannot get better is not looked at.
    pub(crate) fn best(&self) -> Cost {
        let groups = self.groups();
        let mut places: Places = self
            .site
            .elements
            .keys()
            .map(|id| (id.clone(), None))
            .collect();
        let mut best = (u64::MAX, u64::MAX, u64::MAX);
        self.try_all(&groups, 0, &mut places, &mut best);
        best
    }

    fn try_all(&self, groups: &[Vec<EntityId>], next: usize, places: &mut Places, best: &mut Cost) {
        if next == groups.len() {
            *best = (*best).min(self.cost(places));
            return;
        }
        let group = &groups[next];
        let set = |places: &mut Places, server: Option<&EntityId>| {
            for id in group {
                places.insert(id.clone(), server.cloned());
            }
        };
        for server in self.site.servers.keys() {
            set(places, Some(server));
            // More placements only add to loads and to what is broken.
            if self.is_allowed(places) {
                self.try_all(groups, next + 1, places, best);
            }
        }
        set(places, None);
        let lost = self.lost_so_far(&groups[..=next], places);
        if lost <= (best.0, best.1) {
            self.try_all(groups, next + 1, places, best);
        }
    }

    fn lost_so_far(&self, groups: &[Vec<EntityId>], places: &Places) -> (u64, u64) {
        let lost = groups.iter().filter(|group| places[&group[0]].is_none());
        let of = |group: &Vec<EntityId>| {
            let known = group.iter().map(|id| self.matters[id]);
            let essential = u64::from(known.clone().any(|it| it.0));
            (
                essential,
                known.map(|it| u64::from(it.1)).max().unwrap_or(0) + 1,
            )
        };
        lost.map(of)
            .fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
    }
}

impl Map {
    fn new(site: &Topology, kbps: u32) -> Self {
        let places: Vec<_> = site.servers.keys().chain(site.appliances.keys()).collect();
        let mut map = Self {
            micros: BTreeMap::new(),
            by: BTreeMap::new(),
        };
        for (id, channel) in &site.channels {
            if channel.bandwidth_kbps.is_some_and(|offered| offered < kbps) {
                continue;
            }
            let micros = channel.latency.expect("every channel says it").as_micros() as u64;
            for (one, other) in &channel.ends {
                for (from, to) in [(one, other), (other, one)] {
                    let pair = (from.clone(), to.clone());
                    if map.micros.get(&pair).is_none_or(|best| micros < *best) {
                        map.micros.insert(pair.clone(), micros);
                        map.by.insert(pair, (id.clone(), to.clone()));
                    }
                }
            }
        }
        for middle in site.servers.keys() {
            for one in &places {
                for other in &places {
                    let over = map.step(one, middle) + map.step(middle, other);
                    if one != other && over < map.step(one, other) {
                        let pair = ((*one).clone(), (*other).clone());
                        let first = map.by[&((*one).clone(), middle.clone())].clone();
                        map.micros.insert(pair.clone(), over);
                        map.by.insert(pair, first);
                    }
                }
            }
        }
        map
    }

    fn step(&self, one: &EntityId, other: &EntityId) -> u64 {
        let pair = (one.clone(), other.clone());
        self.micros.get(&pair).copied().unwrap_or(FAR)
    }

    fn between(&self, one: &EntityId, other: &EntityId) -> u64 {
        if one == other {
            0
        } else {
            self.step(one, other)
        }
    }

    fn channels(&self, one: &EntityId, other: &EntityId) -> Vec<EntityId> {
        let mut channels = Vec::new();
        let mut at = one.clone();
        while at != *other {
            let Some((channel, next)) = self.by.get(&(at, other.clone())) else {
                break;
            };
            channels.push(channel.clone());
            at = next.clone();
        }
        channels
    }
}
