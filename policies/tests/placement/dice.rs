//! Sites from a seed: zones of servers and a cloud, elements bound to each other and to appliances.

use std::time::Duration;

use lamplighter_policies::model::{Binding, Resources, Topology};

use crate::site::{appliance, binding, channel, element, empty, id, room, server};

/// Numbers from a seed (xorshift).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// How large a site is, and how full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) servers: u64,
    pub(crate) elements: u64,
    /// What all elements need of what all servers offer, in percent.
    pub(crate) load: u64,
    /// Whether rules are thrown without a look at whether they can be kept: elements apart, together,
    /// with labels, far from what they need to be near; narrow channels. Else there is a placement,
    /// unless it is too full: each element in its zone by number.
    pub(crate) strict: bool,
}

impl Size {
    fn zones(self) -> u64 {
        self.servers.div_ceil(SERVERS_A_ZONE)
    }

    /// The zone in which an element would be well placed.
    fn zone_of(self, element: u64) -> u64 {
        element * self.zones() / self.elements
    }
}

const SERVERS_A_ZONE: u64 = 4;

pub(crate) fn site(seed: u64, size: Size) -> Topology {
    let mut dice = Dice::new(seed);
    let mut site = empty();
    let zones = size.zones();
    for index in 0..size.servers {
        let zone = index / SERVERS_A_ZONE;
        let cpu = if size.strict {
            500 + 250 * dice.below(4)
        } else {
            1_000
        };
        let offers = room(cpu as u32 + 100, 4_096);
        let mut known = server(Some(offers));
        known.zone = Some(format!("z{zone}"));
        if dice.one_in(2) {
            known.labels.insert("radio".into());
        }
        site.servers.insert(id(&format!("s{index}")), known);
    }
    add_channels(&mut site, &mut dice, size, zones);
    add_elements(&mut site, &mut dice, size, zones);
    add_bindings(&mut site, &mut dice, size, zones);
    site
}

/// Inside a zone all are near each other, between zones they go over the first server of each.
fn add_channels(site: &mut Topology, dice: &mut Dice, size: Size, zones: u64) {
    let name = |index: u64| format!("s{index}");
    for index in 0..size.servers {
        let first = index / SERVERS_A_ZONE * SERVERS_A_ZONE;
        if index > first {
            add_channel(site, dice, size, (&name(first), &name(index)), 1);
        }
        if index > first + 1 && dice.one_in(2) {
            add_channel(site, dice, size, (&name(index - 1), &name(index)), 1);
        }
    }
    for zone in 1..zones {
        let ends = (name(0), name(zone * SERVERS_A_ZONE));
        add_channel(site, dice, size, (&ends.0, &ends.1), 20);
    }
    for zone in 0..zones {
        let lamp = format!("lamp{zone}");
        site.appliances.insert(id(&lamp), appliance());
        let inside = SERVERS_A_ZONE.min(size.servers - zone * SERVERS_A_ZONE);
        let by = name(zone * SERVERS_A_ZONE + dice.below(inside));
        add_channel(site, dice, size, (&by, &lamp), 5);
    }
}

fn add_channel(site: &mut Topology, dice: &mut Dice, size: Size, ends: (&str, &str), ms: u64) {
    let mut known = channel(&[ends], 0);
    // No two ways are equally long, so that there is one answer.
    known.latency = Some(Duration::from_micros(ms * 1_000 + dice.below(ms * 900)));
    if size.strict && dice.one_in(3) {
        known.bandwidth_kbps = Some(100);
    }
    let count = site.channels.len();
    site.channels.insert(id(&format!("c{count}")), known);
}

fn add_elements(site: &mut Topology, dice: &mut Dice, size: Size, zones: u64) {
    let offered = |it: Resources| u64::from(it.cpu_milli) - 100;
    let all: u64 = site
        .servers
        .values()
        .filter_map(|it| it.resources.map(offered))
        .sum();
    let mean = all * size.load / 100 / size.elements;
    for index in 0..size.elements {
        let cpu = mean / 2 + dice.below(mean.max(1));
        let mut known = element(room(cpu as u32, 10));
        known.essential = !dice.one_in(3);
        known.criticality = dice.below(4) as u8;
        if dice.below(10) < 3 {
            let any = dice.below(zones);
            let zone = if size.strict {
                any
            } else {
                size.zone_of(index)
            };
            known.placement.zones = [format!("z{zone}")].into();
        }
        if size.strict {
            let other = id(&format!("e{}", dice.below(size.elements)));
            let is_other = other != id(&format!("e{index}"));
            if is_other && dice.one_in(5) {
                known.placement.apart.insert(other);
            } else if is_other && dice.one_in(8) {
                known.placement.together.insert(other);
            }
            if dice.one_in(6) {
                known.placement.labels.insert("radio".into());
            }
        }
        site.elements.insert(id(&format!("e{index}")), known);
    }
}

fn add_bindings(site: &mut Topology, dice: &mut Dice, size: Size, zones: u64) {
    let mut add = |dice: &mut Dice, from: u64, to: &str, zone: u64| {
        let is_near = size.strict || zone == size.zone_of(from);
        let limit = match dice.below(10) {
            0 if is_near => Some(if size.strict { 8 } else { 15 }),
            1 => Some(if size.strict { 40 } else { 100 }),
            _ => None,
        };
        let known = Binding {
            latency_max: limit.map(Duration::from_millis),
            rate_hz: Some(1.0 + dice.below(20) as f64),
            payload_bytes: Some(10 + 10 * dice.below(10) as u32),
            bandwidth_kbps_min: (size.strict && dice.one_in(4)).then_some(45),
            ..binding(&format!("e{from}"), to)
        };
        let count = site.bindings.len();
        site.bindings.insert(id(&format!("b{count}")), known);
    };
    for from in 0..size.elements {
        for _ in 0..1 + dice.below(2) {
            if from + 1 < size.elements {
                let span = (size.elements - from - 1).min(6);
                let to = from + 1 + dice.below(span);
                add(dice, from, &format!("e{to}"), size.zone_of(to));
            }
        }
        if dice.one_in(3) {
            let zone = dice.below(zones);
            add(dice, from, &format!("lamp{zone}"), zone);
        }
    }
}
