//! Who has been seen: duplicates dropped and order restored on one binding.
//!
//! One mark (the last position accepted without a gap) and a bounded window of early arrivals. The
//! marks live in the owner's memory and are rebuilt from checkpoint and log, which is enough because
//! only the fenced owner appends.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::physical_world::Position;
use crate::protocol::messages::Envelope;

/// The most early arrivals kept for one binding; what comes beyond is sent again by its source.
pub const WINDOW_MAX: usize = 256;

/// What became of an arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// These are next, in order: the arrival itself and early ones that now follow it.
    Accepted(Vec<Envelope>),
    /// It was accepted before.
    Duplicate,
    /// Something before it is missing; it waits in the window, or was let go if that is full.
    Early,
    /// It contradicts what was accepted: its source made other outputs from the same inputs.
    Diverged,
}

/// The receiving end of one binding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inbound {
    mark: Position,
    early: BTreeMap<Position, Envelope>,
}

impl Inbound {
    /// Continues after `mark`.
    #[must_use]
    pub fn after(mark: Position) -> Self {
        Self {
            mark,
            early: BTreeMap::new(),
        }
    }

    /// The last position accepted without a gap.
    #[must_use]
    pub fn mark(&self) -> Position {
        self.mark
    }

    /// Notes that everything up to `position` was accepted; never goes back.
    pub fn accepted(&mut self, position: Position) {
        self.mark = self.mark.max(position);
        let mark = self.mark;
        self.early.retain(|early, _| *early > mark);
    }

    /// Takes an arrival.
    pub fn arrived(&mut self, envelope: Envelope) -> Arrival {
        if envelope.position <= self.mark || self.early.contains_key(&envelope.position) {
            return Arrival::Duplicate;
        }
        if self.follows(&envelope) {
            let mut accepted = Vec::with_capacity(1);
            self.take(envelope, &mut accepted);
            return Arrival::Accepted(accepted);
        }
        if envelope.after < self.mark && envelope.position.lineage == self.mark.lineage {
            return Arrival::Diverged;
        }
        if self.early.len() < WINDOW_MAX {
            self.early.insert(envelope.position, envelope);
        }
        Arrival::Early
    }

    /// A new lineage goes on from the last event that its source still knows of: what was accepted
    /// beyond that is orphaned, and what is missing before it will still arrive.
    fn follows(&self, envelope: &Envelope) -> bool {
        envelope.after == self.mark
            || (envelope.position.lineage > self.mark.lineage && envelope.after <= self.mark)
    }

    fn take(&mut self, envelope: Envelope, accepted: &mut Vec<Envelope>) {
        self.mark = envelope.position;
        accepted.push(envelope);
        while let Some(next) = self.early.values().find(|early| self.follows(early)) {
            let position = next.position;
            accepted.extend(self.early.remove(&position));
            self.accepted(position);
        }
        self.accepted(self.mark);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::physical_world::Causes;
    use crate::time::WallClock;

    fn envelope(index: u64, after: u64) -> Envelope {
        let place = |index| {
            if index == 0 {
                Position::default()
            } else {
                Position::new(1, index, 0)
            }
        };
        Envelope {
            position: place(index),
            after: place(after),
            occurred_at: WallClock(0),
            expires_at: None,
            causes: Causes::default(),
            payload: Vec::new(),
        }
    }

    #[test]
    fn what_arrives_in_order_is_accepted_once() {
        let mut inbound = Inbound::default();
        assert_eq!(
            inbound.arrived(envelope(3, 0)),
            Arrival::Accepted(vec![envelope(3, 0)])
        );
        assert_eq!(inbound.arrived(envelope(3, 0)), Arrival::Duplicate);
        assert_eq!(
            inbound.arrived(envelope(7, 3)),
            Arrival::Accepted(vec![envelope(7, 3)])
        );
    }

    #[test]
    fn an_early_arrival_waits_for_what_it_follows() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.arrived(envelope(7, 3)), Arrival::Early);
        assert_eq!(inbound.arrived(envelope(7, 3)), Arrival::Duplicate);
        assert_eq!(
            inbound.arrived(envelope(3, 0)),
            Arrival::Accepted(vec![envelope(3, 0), envelope(7, 3)])
        );
    }

    #[test]
    fn an_arrival_that_contradicts_the_accepted_chain_is_told_apart_from_a_gap() {
        let mut inbound = Inbound::after(Position::new(1, 5, 0));
        assert_eq!(inbound.arrived(envelope(6, 4)), Arrival::Diverged);
    }

    #[test]
    fn a_new_lineage_goes_on_from_what_its_source_still_knows() {
        let of = |lineage, index, after: (u32, u64)| Envelope {
            position: Position::new(lineage, index, 0),
            after: Position::new(after.0, after.1, 0),
            ..envelope(1, 0)
        };
        // The source sent 3, 4, 6 and 7, lost all after 4, and says 5 of a new lineage next.
        let mut inbound = Inbound::after(Position::new(1, 3, 0));
        assert_eq!(inbound.arrived(of(2, 5, (1, 4))), Arrival::Early);
        assert_eq!(inbound.arrived(of(1, 7, (1, 6))), Arrival::Early);
        let last_known = of(1, 4, (1, 3));
        assert_eq!(
            inbound.arrived(last_known.clone()),
            Arrival::Accepted(vec![last_known, of(2, 5, (1, 4))])
        );
        assert_eq!(inbound.arrived(of(1, 7, (1, 6))), Arrival::Duplicate);
        let mut ahead = Inbound::after(Position::new(1, 7, 0));
        assert_eq!(
            ahead.arrived(of(2, 5, (1, 4))),
            Arrival::Accepted(vec![of(2, 5, (1, 4))])
        );
    }

    #[test]
    fn a_new_lineage_begins_its_chain_anew() {
        let mut inbound = Inbound::after(Position::new(1, 5, 0));
        let first = Envelope {
            position: Position::new(2, 3, 0),
            ..envelope(3, 0)
        };
        assert_eq!(
            inbound.arrived(first.clone()),
            Arrival::Accepted(vec![first])
        );
    }

    proptest! {
        #[test]
        fn any_order_with_any_repetition_is_accepted_in_order_once(
            mut order in Just((1..=40_u64).flat_map(|i| [i, i]).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            order.extend(1..=40);
            let mut inbound = Inbound::default();
            let mut accepted = Vec::new();
            for index in order {
                if let Arrival::Accepted(next) = inbound.arrived(envelope(index, index - 1)) {
                    accepted.extend(next);
                }
            }
            let expected: Vec<_> = (1..=40).map(|index| envelope(index, index - 1)).collect();
            prop_assert_eq!(accepted, expected);
        }
    }
}
