//! What cannot be placed whatever is tried, found before anything runs.

use alloc::collections::BTreeMap;

use super::instance::{Hindrance, Instance};
use super::obstacle::{NoPlace, Obstacle};
use super::partial::Partial;
use super::problem::{Budget, Problem};
use super::reasons;
use crate::ids::EntityId;

/// The elements, placed or open, that no server could host even if nobody else were there, with what
/// keeps them from each.
#[must_use]
pub fn hopeless(problem: &Problem<'_>) -> BTreeMap<EntityId, NoPlace> {
    let instance = Instance::new(problem);
    let partial = Partial::new(&instance, Budget { steps: 0 });
    let mut hopeless = BTreeMap::new();
    for (block, known) in instance.blocks.iter().enumerate() {
        if instance.candidates(block).is_empty() {
            let why = reasons::no_place(&partial, block);
            let elements = known.elements.iter();
            hopeless.extend(elements.map(|element| ((*element).clone(), why.clone())));
        }
    }
    hopeless
}

/// The elements that run on a server that their own rules forbid, with that server and the rule.
#[must_use]
pub fn misplaced(problem: &Problem<'_>) -> BTreeMap<EntityId, (EntityId, Obstacle)> {
    let instance = Instance::new(problem);
    let partial = Partial::new(&instance, Budget { steps: 0 });
    let mut misplaced = BTreeMap::new();
    for (block, known) in instance.blocks.iter().enumerate() {
        let Some(server) = known.fixed else {
            continue;
        };
        for element in &known.elements {
            let own = instance.rule_broken(element, server);
            let hindrance = own.or_else(|| mutual(&partial, block, server));
            if let Some(hindrance) = hindrance {
                let obstacle = reasons::obstacle(&partial, block, server, hindrance);
                let server = instance.network.place(server).clone();
                misplaced.insert((*element).clone(), (server, obstacle));
            }
        }
    }
    misplaced
}

/// The rule about who is with whom that a placed block breaks.
fn mutual(partial: &Partial<'_, '_>, block: usize, server: usize) -> Option<Hindrance> {
    let known = &partial.instance.blocks[block];
    if known.contradicts_itself {
        return Some(Hindrance::Contradiction);
    }
    let elsewhere = |other: &&usize| partial.at[**other].is_some_and(|at| at != server);
    let with = known.together.iter().find(elsewhere);
    let here = |other: &&usize| partial.at[**other] == Some(server);
    let apart = known.apart.iter().find(here);
    with.map(|with| Hindrance::Together(*with))
        .or_else(|| apart.map(|from| Hindrance::Apart(*from)))
}
