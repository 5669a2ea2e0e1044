//! Functional dependencies have no cycle; of each knot the shortest one is told (V04).
//!
//! Both searches keep their own stacks: a chain of ten thousand elements must not exhaust the
//! thread's.

use std::collections::{BTreeMap, VecDeque};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Topology;

use crate::diagnostics::{Code, Fault, Faults};
use crate::resolve::Places;

/// How many steps the search for the shortest cycle of one knot may take; then the shortest one
/// found so far is told.
const STEPS_MAX: usize = 500_000;

/// How many elements and places of one cycle are shown.
const SHOWN_MAX: usize = 8;

pub(super) fn check(topology: &Topology, places: &Places, faults: &mut Faults) {
    let graph = Graph::new(topology);
    for knot in graph.knots() {
        let cycle = graph.shortest_cycle(&knot);
        faults.add(fault(&graph, &cycle, places));
    }
}

fn fault(graph: &Graph<'_>, cycle: &[usize], places: &Places) -> Fault {
    let name = |index: usize| graph.elements[index].as_str();
    let mut shown: Vec<_> = cycle.iter().take(SHOWN_MAX).map(|it| name(*it)).collect();
    if cycle.len() > SHOWN_MAX {
        shown.push("…");
    }
    shown.push(name(cycle[0]));
    let count = cycle.len();
    let reason = format!("{count} elements require each other: {}", shown.join(" → "));
    let bindings: Vec<_> = (0..count.min(SHOWN_MAX))
        .filter_map(|at| graph.binding(cycle[at], cycle[(at + 1) % count]))
        .collect();
    let mut edges = bindings.into_iter().map(|id| (places.of(id), id));
    let first = edges.next().map_or(0..0, |(place, _)| place);
    let mut fault = Fault::new(Code::V04, first, reason)
        .label("closes the cycle")
        .cure("turn one binding round, or let one of the elements work without the other");
    for (place, _) in edges {
        fault = fault.also(place, "part of the cycle");
    }
    fault
}

/// Who requires whom among the elements, by index.
struct Graph<'t> {
    elements: Vec<&'t EntityId>,
    edges: Vec<Vec<(usize, &'t EntityId)>>,
}

impl<'t> Graph<'t> {
    fn new(topology: &'t Topology) -> Self {
        let elements: Vec<_> = topology.elements.keys().collect();
        let indices: BTreeMap<_, _> = elements
            .iter()
            .enumerate()
            .map(|(i, id)| (*id, i))
            .collect();
        let mut edges = vec![Vec::new(); elements.len()];
        for (id, binding) in &topology.bindings {
            let to = binding.to.as_ref().and_then(|to| indices.get(to));
            if let (Some(from), Some(to)) = (indices.get(&binding.from), to) {
                edges[*from].push((*to, id));
            }
        }
        Self { elements, edges }
    }

    fn binding(&self, from: usize, to: usize) -> Option<&'t EntityId> {
        let edge = self.edges[from].iter().find(|(end, _)| *end == to);
        edge.map(|(_, id)| *id)
    }

    /// The strongly connected components of more than one element (Tarjan), each sorted.
    fn knots(&self) -> Vec<Vec<usize>> {
        const UNSEEN: usize = usize::MAX;
        let count = self.elements.len();
        let (mut order, mut low) = (vec![UNSEEN; count], vec![UNSEEN; count]);
        let mut on_stack = vec![false; count];
        let (mut stack, mut knots, mut next) = (Vec::new(), Vec::new(), 0);
        for root in 0..count {
            if order[root] != UNSEEN {
                continue;
            }
            let mut visits = vec![(root, 0)];
            while let Some((node, edge)) = visits.pop() {
                if edge == 0 {
                    (order[node], low[node]) = (next, next);
                    next += 1;
                    stack.push(node);
                    on_stack[node] = true;
                }
                if let Some((to, _)) = self.edges[node].get(edge) {
                    visits.push((node, edge + 1));
                    if order[*to] == UNSEEN {
                        visits.push((*to, 0));
                    } else if on_stack[*to] {
                        low[node] = low[node].min(order[*to]);
                    }
                    continue;
                }
                if let Some((parent, _)) = visits.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
                if low[node] == order[node] {
                    let at = stack.iter().rposition(|it| *it == node);
                    let mut knot = stack.split_off(at.expect("a node is on the stack until here"));
                    for member in &knot {
                        on_stack[*member] = false;
                    }
                    if knot.len() > 1 {
                        knot.sort_unstable();
                        knots.push(knot);
                    }
                }
            }
        }
        knots
    }

    /// The shortest cycle of a knot, from its first element in order of ids.
    fn shortest_cycle(&self, knot: &[usize]) -> Vec<usize> {
        let mut inside = vec![false; self.elements.len()];
        for member in knot {
            inside[*member] = true;
        }
        let mut shortest: Vec<usize> = Vec::new();
        let mut steps = 0;
        for start in knot {
            if !shortest.is_empty() && (steps > STEPS_MAX || shortest.len() == 2) {
                break;
            }
            if let Some(cycle) = self.cycle_through(*start, &inside, &mut steps)
                && (shortest.is_empty() || cycle.len() < shortest.len())
            {
                shortest = cycle;
            }
        }
        let least = (0..shortest.len()).min_by_key(|at| shortest[*at]);
        shortest.rotate_left(least.unwrap_or(0));
        shortest
    }

    /// The shortest cycle through one element that stays inside its knot (breadth first).
    fn cycle_through(
        &self,
        start: usize,
        inside: &[bool],
        steps: &mut usize,
    ) -> Option<Vec<usize>> {
        let mut reached_from: Vec<Option<usize>> = vec![None; self.elements.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for (to, _) in &self.edges[node] {
                *steps += 1;
                if *to == start {
                    let back = |at: &usize| reached_from[*at].filter(|_| *at != start);
                    let mut cycle: Vec<_> = std::iter::successors(Some(node), back).collect();
                    cycle.reverse();
                    return Some(cycle);
                }
                if inside[*to] && reached_from[*to].is_none() {
                    reached_from[*to] = Some(node);
                    queue.push_back(*to);
                }
            }
        }
        None
    }
}
