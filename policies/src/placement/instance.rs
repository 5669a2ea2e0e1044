//! A problem in numbers: blocks of elements that move together, servers, and ties between them.
//!
//! Elements that must be on the same server are one block, so that this constraint holds by itself.
//! A server's index is that of its place in the network.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::OnceCell;
use core::cmp::Reverse;

use super::problem::{AGENT_RESERVE, Problem, kbps_needed};
use crate::ids::EntityId;
use crate::model::{Binding, Element, Network, Resources, Ways};
use crate::recovery::essential::{Importance, importance};

/// How far a place is from a server to which there is no way.
pub(super) const NO_WAY: u32 = u32::MAX;

/// The traffic of a binding whose author says nothing of it, in bytes a second.
const TRAFFIC_UNKNOWN: f64 = 100.0;

/// The most that one binding weighs, so that sums of latencies stay within 64 bits.
const TRAFFIC_MAX: f64 = 1e6;

/// A problem, compiled once.
pub(super) struct Instance<'p> {
    pub(super) problem: &'p Problem<'p>,
    pub(super) network: Network<'p>,
    pub(super) servers_count: usize,
    /// Which servers take elements.
    pub(super) takes: Vec<bool>,
    /// What each server offers to elements; `None` is not known.
    pub(super) offers: Vec<Option<[u64; 3]>>,
    pub(super) blocks: Vec<Block<'p>>,
    knows_channels: bool,
    classes: Vec<Class>,
}

/// Elements that are on one server.
pub(super) struct Block<'p> {
    pub(super) elements: Vec<&'p EntityId>,
    pub(super) demand: [u64; 3],
    pub(super) essential: bool,
    pub(super) criticality: u8,
    /// Where it runs; `None` is open.
    pub(super) fixed: Option<usize>,
    pub(super) may_move: bool,
    pub(super) may_be_evicted: bool,
    /// Blocks that must be on the same server and run elsewhere, or may.
    pub(super) together: Vec<usize>,
    pub(super) apart: Vec<usize>,
    /// Two of its elements must also be apart.
    pub(super) contradicts_itself: bool,
    pub(super) ties: Vec<Tie<'p>>,
    candidates: OnceCell<Vec<usize>>,
}

/// What a binding asks of the places of its two ends, as one of them sees it.
#[derive(Clone, Copy)]
pub(super) struct Tie<'p> {
    pub(super) binding: &'p EntityId,
    pub(super) end: End,
    /// The longest allowed way, in microseconds.
    pub(super) micros_max: u32,
    pub(super) weight: u64,
    pub(super) kbps: u32,
    class: usize,
}

/// The other end of a tie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A block.
    Block(usize),
    /// An appliance, by its place in the network.
    Place(usize),
}

/// The ways of all bindings that need one bandwidth.
struct Class {
    kbps: u32,
    /// By source, how far each server is, in microseconds.
    rows: Vec<OnceCell<Vec<u32>>>,
    /// By source, the ways themselves; only where bandwidth counts.
    ways: Vec<OnceCell<Ways>>,
}

/// What keeps a block from a server, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    Contradiction,
    Barred,
    Pinned,
    Architecture,
    Label,
    Zone,
    Together(usize),
    Apart(usize),
    Small(usize),
    Room(usize),
    Path(usize),
    Latency(usize, u32),
    Bandwidth(usize, usize),
}

impl<'p> Instance<'p> {
    /// Compiles a problem.
    pub(super) fn new(problem: &'p Problem<'p>) -> Self {
        let topology = problem.topology;
        let network = Network::new(topology, &problem.down);
        let servers = topology.servers.keys();
        let mut instance = Self {
            problem,
            network,
            servers_count: topology.servers.len(),
            takes: servers.map(|id| problem.servers.contains(id)).collect(),
            offers: topology
                .servers
                .values()
                .map(|it| it.resources.map(offered))
                .collect(),
            blocks: Vec::new(),
            knows_channels: !topology.channels.is_empty(),
            classes: Vec::new(),
        };
        let block_of = instance.add_blocks();
        instance.add_ties(&block_of);
        instance.add_affinities(&block_of);
        instance
    }

    /// The blocks that need a server.
    pub(super) fn open(&self) -> Vec<usize> {
        let is_open = |block: &usize| self.blocks[*block].fixed.is_none();
        (0..self.blocks.len()).filter(is_open).collect()
    }

    /// Who is placed first: the essential, the critical, the large.
    pub(super) fn urgency(&self, block: usize) -> impl Ord + use<> {
        let Block {
            essential,
            criticality,
            demand,
            ..
        } = &self.blocks[block];
        let size = demand[0] + demand[1];
        (!*essential, Reverse(*criticality), Reverse(size), block)
    }

    /// The servers that a block might run on, whoever else is there.
    pub(super) fn candidates(&self, block: usize) -> &[usize] {
        self.blocks[block].candidates.get_or_init(|| {
            let servers = 0..self.servers_count;
            servers
                .filter(|server| self.takes[*server])
                .filter(|server| self.lasting_hindrance(block, *server).is_none())
                .collect()
        })
    }

    /// What keeps a block from a server, whoever else is there.
    pub(super) fn lasting_hindrance(&self, block: usize, server: usize) -> Option<Hindrance> {
        let known = &self.blocks[block];
        if known.contradicts_itself {
            return Some(Hindrance::Contradiction);
        }
        let elements = known.elements.iter();
        let mut rules = elements.filter_map(|element| self.rule_broken(element, server));
        if let Some(hindrance) = rules.next() {
            return Some(hindrance);
        }
        if let Some(offers) = self.offers[server] {
            let short = (0..3).find(|kind| known.demand[*kind] > offers[*kind]);
            if let Some(kind) = short.filter(|kind| known.demand[*kind] > 0) {
                return Some(Hindrance::Small(kind));
            }
        }
        let mut ties = known.ties.iter().enumerate();
        ties.find_map(|(index, tie)| match tie.end {
            End::Place(place) => self.too_far(index, tie, place, server),
            End::Block(_) => None,
        })
    }

    /// Whether the way between a server and the other end of a tie is none, or too long.
    pub(super) fn too_far(
        &self,
        index: usize,
        tie: &Tie<'_>,
        place: usize,
        server: usize,
    ) -> Option<Hindrance> {
        match self.micros(tie, place, server) {
            NO_WAY => Some(Hindrance::Path(index)),
            micros if micros > tie.micros_max => Some(Hindrance::Latency(index, micros)),
            _ => None,
        }
    }

    /// How long a message takes from a place to a server over the channels that a tie may use.
    pub(super) fn micros(&self, tie: &Tie<'_>, place: usize, server: usize) -> u32 {
        if place == server || !self.knows_channels {
            return 0;
        }
        let class = &self.classes[tie.class];
        let row = class.rows[place].get_or_init(|| {
            let ways = self.network.ways(place, class.kbps);
            let servers = 0..self.servers_count;
            let micros = |server| ways.micros(server).map_or(NO_WAY, clamped);
            servers.map(micros).collect()
        });
        row[server]
    }

    /// The channels that the messages of a tie take between two places; none where bandwidth does
    /// not count.
    pub(super) fn channels(&self, tie: &Tie<'_>, one: usize, other: usize) -> Vec<usize> {
        if one == other || tie.kbps == 0 || !self.knows_channels {
            return Vec::new();
        }
        let class = &self.classes[tie.class];
        // The same way whichever end asks.
        let (source, target) = (one.min(other), one.max(other));
        let ways = class.ways[source].get_or_init(|| self.network.ways(source, class.kbps));
        ways.channels_to(target)
    }

    /// The rule of an element's own that a server breaks.
    pub(super) fn rule_broken(&self, element: &EntityId, server: usize) -> Option<Hindrance> {
        let id = self.network.place(server);
        let barred = self.problem.barred.get(element);
        if barred.is_some_and(|servers| servers.contains(id)) {
            return Some(Hindrance::Barred);
        }
        let known = self.element(element);
        let rules = &known.placement;
        if rules.pinned && known.server.as_ref().is_some_and(|at| at != id) {
            return Some(Hindrance::Pinned);
        }
        let offered = &self.problem.topology.servers[id];
        let architecture = offered.architecture.as_ref();
        let suits = |has| rules.architectures.is_empty() || rules.architectures.contains(has);
        if !architecture.is_none_or(suits) {
            return Some(Hindrance::Architecture);
        }
        if !rules.labels.is_subset(&offered.labels) {
            return Some(Hindrance::Label);
        }
        let zone = offered.zone.as_ref();
        let is_inside = zone.is_some_and(|zone| rules.zones.contains(zone));
        (!rules.zones.is_empty() && !is_inside).then_some(Hindrance::Zone)
    }

    fn element(&self, id: &EntityId) -> &'p Element {
        &self.problem.topology.elements[id]
    }

    /// Joins elements that must be on one server; says which block each element is in.
    fn add_blocks(&mut self) -> BTreeMap<&'p EntityId, usize> {
        let problem = self.problem;
        let groups = groups(problem);
        let importance = importance(problem.topology);
        let mut block_of = BTreeMap::new();
        let mut found: BTreeMap<(&EntityId, Option<usize>), usize> = BTreeMap::new();
        for (id, element) in &problem.topology.elements {
            let fixed = match problem.fixed.get(id) {
                Some(server) => self.network.index(server),
                None if problem.open.contains(id) => None,
                None => continue,
            };
            let group = groups.get(id).copied().unwrap_or(id);
            let block = *found.entry((group, fixed)).or_insert_with(|| {
                self.blocks.push(Block::new(fixed));
                self.blocks.len() - 1
            });
            block_of.insert(id, block);
            self.blocks[block].add(id, element, &importance[id], problem);
        }
        block_of
    }

    fn add_ties(&mut self, block_of: &BTreeMap<&'p EntityId, usize>) {
        let mut classes: BTreeMap<usize, usize> = BTreeMap::new();
        let channels = self.problem.topology.channels.values();
        let mut limits: Vec<u32> = channels.filter_map(|it| it.bandwidth_kbps).collect();
        limits.sort_unstable();
        for (id, binding) in &self.problem.topology.bindings {
            let Some(from) = block_of.get(&binding.from).copied() else {
                continue;
            };
            let Some(end) = binding.to.as_ref().and_then(|to| self.end(to, block_of)) else {
                continue;
            };
            if end == End::Block(from) {
                continue;
            }
            let asked = kbps_needed(binding);
            // Where no channel has a limit nothing is counted; and who is kept from the same channels
            // takes the same ways.
            let kbps = if limits.is_empty() { 0 } else { asked };
            let too_narrow = limits.partition_point(|limit| *limit < kbps);
            let class = *classes.entry(too_narrow).or_insert_with(|| {
                let count = self.network.places_count();
                self.classes.push(Class {
                    kbps: if too_narrow == 0 { 0 } else { kbps },
                    rows: vec![OnceCell::new(); count],
                    ways: vec![OnceCell::new(); count],
                });
                self.classes.len() - 1
            });
            let tie = Tie {
                binding: id,
                end,
                micros_max: binding
                    .latency_max
                    .map_or(NO_WAY - 1, |max| clamped(max.as_micros())),
                weight: traffic(binding),
                kbps,
                class,
            };
            self.blocks[from].ties.push(tie);
            if let End::Block(to) = end {
                let end = End::Block(from);
                self.blocks[to].ties.push(Tie { end, ..tie });
            }
        }
    }

    /// The other end of a binding. An appliance that no server reaches has failed, whoever needs it:
    /// it keeps nobody from any server.
    fn end(&self, to: &EntityId, block_of: &BTreeMap<&'p EntityId, usize>) -> Option<End> {
        if let Some(block) = block_of.get(to) {
            return Some(End::Block(*block));
        }
        if !self.problem.topology.appliances.contains_key(to) {
            return None;
        }
        let place = self.network.index(to)?;
        let mut neighbours = self.network.neighbours(place);
        neighbours.next().is_some().then_some(End::Place(place))
    }

    fn add_affinities(&mut self, block_of: &BTreeMap<&'p EntityId, usize>) {
        let mut pairs = BTreeSet::new();
        let groups = groups(self.problem);
        let mut members: BTreeMap<&EntityId, BTreeSet<usize>> = BTreeMap::new();
        for (id, block) in block_of {
            let group = groups.get(id).copied().unwrap_or(id);
            members.entry(group).or_default().insert(*block);
            for other in &self.element(id).placement.apart {
                if let Some(other) = block_of.get(other) {
                    pairs.insert((*block, *other));
                    pairs.insert((*other, *block));
                }
            }
        }
        for (one, other) in pairs {
            if one == other {
                self.blocks[one].contradicts_itself = true;
            } else {
                self.blocks[one].apart.push(other);
            }
        }
        for blocks in members.values().filter(|blocks| blocks.len() > 1) {
            for block in blocks {
                let others = blocks.iter().filter(|other| *other != block);
                self.blocks[*block].together.extend(others);
            }
        }
    }
}

impl<'p> Block<'p> {
    fn new(fixed: Option<usize>) -> Self {
        Self {
            elements: Vec::new(),
            demand: [0; 3],
            essential: false,
            criticality: 0,
            fixed,
            may_move: fixed.is_some(),
            may_be_evicted: fixed.is_some(),
            together: Vec::new(),
            apart: Vec::new(),
            contradicts_itself: false,
            ties: Vec::new(),
            candidates: OnceCell::new(),
        }
    }

    fn add(
        &mut self,
        id: &'p EntityId,
        element: &Element,
        importance: &Importance,
        problem: &Problem<'_>,
    ) {
        self.elements.push(id);
        let demand = amounts(element.demand);
        for (sum, amount) in self.demand.iter_mut().zip(demand) {
            *sum += amount;
        }
        self.essential |= importance.essential;
        self.criticality = self.criticality.max(importance.criticality);
        self.may_move &= problem.movable.contains(id);
        self.may_be_evicted &= problem.evictable.contains(id) && !importance.essential;
    }
}

/// For each element of a group that must be on one server the group's first element.
fn groups<'p>(problem: &Problem<'p>) -> BTreeMap<&'p EntityId, &'p EntityId> {
    let mut group: BTreeMap<&EntityId, &EntityId> = BTreeMap::new();
    let root = |group: &BTreeMap<&'p EntityId, &'p EntityId>, mut id: &'p EntityId| {
        while let Some(above) = group.get(id).filter(|above| **above != id) {
            id = above;
        }
        id
    };
    for (id, element) in &problem.topology.elements {
        for with in &element.placement.together {
            let (one, other) = (root(&group, id), root(&group, with));
            group.insert(one.max(other), one.min(other));
        }
    }
    let members: Vec<_> = group.keys().copied().collect();
    members.iter().map(|id| (*id, root(&group, id))).collect()
}

fn offered(resources: Resources) -> [u64; 3] {
    let mut offered = amounts(resources);
    for (amount, reserve) in offered.iter_mut().zip(amounts(AGENT_RESERVE)) {
        *amount = amount.saturating_sub(reserve);
    }
    offered
}

fn amounts(resources: Resources) -> [u64; 3] {
    let Resources {
        cpu_milli,
        ram_mb,
        disk_mb,
    } = resources;
    [cpu_milli, ram_mb, disk_mb].map(u64::from)
}

/// What passes over a binding in bytes a second, by its author's estimate: at least 1.
fn traffic(binding: &Binding) -> u64 {
    let traffic = match (binding.rate_hz, binding.payload_bytes) {
        (Some(rate), Some(bytes)) => rate * f64::from(bytes),
        (Some(rate), None) => rate * TRAFFIC_UNKNOWN,
        (None, Some(bytes)) => f64::from(bytes),
        (None, None) => TRAFFIC_UNKNOWN,
    };
    // Between these bounds the cast is exact but for the fraction.
    traffic.clamp(1.0, TRAFFIC_MAX) as u64
}

/// Microseconds, with room for the mark of what cannot be reached.
fn clamped(micros: impl TryInto<u32>) -> u32 {
    micros.try_into().unwrap_or(NO_WAY).min(NO_WAY - 1)
}
