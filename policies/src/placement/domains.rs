//! Which servers each open block can still go to, kept up to date while blocks are placed and taken
//! back (forward checking). What changes is looked at, and nothing else.

use alloc::vec;
use alloc::vec::Vec;

use super::instance::{End, Instance, NO_WAY};
use super::partial::Partial;

/// The servers left to each open block.
pub(super) struct Domains {
    /// By block and server; empty for blocks that are not open.
    allowed: Vec<Vec<bool>>,
    count: Vec<usize>,
    /// What was removed, in order, to be put back.
    removed: Vec<(usize, usize)>,
}

impl Domains {
    /// What is left to each of these blocks by what is placed now.
    pub(super) fn new(partial: &mut Partial<'_, '_>, open: &[usize]) -> Self {
        let instance = partial.instance;
        let mut domains = Self {
            allowed: vec![Vec::new(); instance.blocks.len()],
            count: vec![0; instance.blocks.len()],
            removed: Vec::new(),
        };
        for block in open {
            let mut allowed = vec![false; instance.servers_count];
            for server in instance.candidates(*block) {
                if partial.fits(*block, *server) {
                    allowed[*server] = true;
                    domains.count[*block] += 1;
                }
            }
            domains.allowed[*block] = allowed;
        }
        domains
    }

    /// What is left if all of these blocks must have a place.
    pub(super) fn of_all(partial: &mut Partial<'_, '_>, open: &[usize]) -> Self {
        let mut domains = Self::new(partial, open);
        domains.make_consistent(partial.instance, open);
        domains.removed.clear();
        domains
    }

    /// How many servers are left to a block.
    pub(super) fn count(&self, block: usize) -> usize {
        self.count[block]
    }

    /// The servers left to a block.
    pub(super) fn servers(&self, block: usize) -> impl Iterator<Item = usize> {
        let allowed = self.allowed[block].iter().enumerate();
        allowed.filter(|(_, is)| **is).map(|(server, _)| server)
    }

    /// Whether a server is left to a block.
    pub(super) fn allows(&self, block: usize, server: usize) -> bool {
        self.allowed[block][server]
    }

    /// Where [`Domains::undo`] goes back to.
    pub(super) fn mark(&self) -> usize {
        self.removed.len()
    }

    /// Puts back all that was removed since a mark.
    pub(super) fn undo(&mut self, mark: usize) {
        for (block, server) in self.removed.drain(mark..).rev() {
            self.allowed[block][server] = true;
            self.count[block] += 1;
        }
    }

    /// Removes what does not fit any more after a block was put on a server; says whether every other
    /// block still has a server.
    pub(super) fn narrow(
        &mut self,
        partial: &mut Partial<'_, '_>,
        (block, server): (usize, usize),
        waiting: &[usize],
    ) -> bool {
        let instance = partial.instance;
        for other in waiting {
            if self.allowed[*other][server] && !partial.fits(*other, server) {
                self.remove(*other, server);
            }
        }
        let known = &instance.blocks[block];
        for with in &known.together {
            self.retain(*with, |at| at == server);
        }
        for tie in &known.ties {
            let End::Block(other) = tie.end else {
                continue;
            };
            if partial.at[other].is_some() || self.allowed[other].is_empty() {
                continue;
            }
            partial.spend(1 + self.count[other] as u64 / 4);
            self.retain(other, |at| {
                let micros = instance.micros(tie, server, at);
                micros != NO_WAY && micros <= tie.micros_max
            });
        }
        waiting.iter().all(|other| self.count[*other] > 0)
    }

    /// Removes every server from which no server left to a neighbour is near enough (arc consistency),
    /// until nothing changes.
    fn make_consistent(&mut self, instance: &Instance<'_>, open: &[usize]) {
        let mut waiting: Vec<usize> = open.to_vec();
        // Each round of a block removes something or is its last.
        while let Some(block) = waiting.pop() {
            for tie in &instance.blocks[block].ties {
                let End::Block(other) = tie.end else {
                    continue;
                };
                let is_limited = tie.micros_max < NO_WAY - 1;
                if !is_limited || self.allowed[other].is_empty() {
                    continue;
                }
                let before = self.count[other];
                let near: Vec<usize> = self.servers(block).collect();
                self.retain(other, |at| {
                    let reaches = |server: &usize| {
                        let micros = instance.micros(tie, *server, at);
                        micros <= tie.micros_max
                    };
                    near.iter().any(reaches)
                });
                if self.count[other] < before && !waiting.contains(&other) {
                    waiting.push(other);
                }
            }
        }
    }

    fn retain(&mut self, block: usize, mut keep: impl FnMut(usize) -> bool) {
        for server in 0..self.allowed[block].len() {
            if self.allowed[block][server] && !keep(server) {
                self.remove(block, server);
            }
        }
    }

    fn remove(&mut self, block: usize, server: usize) {
        self.allowed[block][server] = false;
        self.count[block] -= 1;
        self.removed.push((block, server));
    }
}
