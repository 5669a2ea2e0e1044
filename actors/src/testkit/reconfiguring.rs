//! What a bench tells an element of those on whom it depends.

use std::collections::BTreeMap;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::notification::{EntityState, Notice, NoticeDecision, Table};
use lamplighter_policies::protocol::appliances::Reconfiguration;
use lamplighter_policies::protocol::cell::{Cell, Input, Neighbour};

use crate::author::Change;

/// By output port or binding, how often something was told of what is behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct Prerequisites(BTreeMap<String, u64>);

impl Prerequisites {
    /// Makes them known to a cell that has just been started.
    pub(super) fn tell(&self, cell: &mut Cell) {
        for output in self.0.keys() {
            add(cell, output);
        }
    }

    /// What a change is to the cell.
    pub(super) fn changed(&mut self, cell: &mut Cell, change: &Change) -> Input {
        let (output, state, decision) = match change {
            Change::Failed { output } => {
                (output, EntityState::Failed, NoticeDecision::AwaitRecovery)
            }
            Change::Recovered { output } => (output, EntityState::Up, NoticeDecision::Resume),
            Change::Replaced { output, by } => (
                output,
                EntityState::Replaced(by.clone()),
                NoticeDecision::ConnectTo(by.clone()),
            ),
        };
        let epoch = self.0.entry(output.clone()).or_default();
        *epoch += 1;
        let notice = Notice {
            term: 1,
            entity: entity(output),
            epoch: *epoch,
            state,
            decision,
        };
        add(cell, output);
        Input::Reconfigured(Reconfiguration::of_peers(Table::of(&notice)))
    }
}

fn add(cell: &mut Cell, output: &str) {
    let neighbour = Neighbour {
        outputs: [output.to_owned()].into(),
        ..Neighbour::default()
    };
    cell.add_prerequisite(entity(output), neighbour);
}

/// A port may have any name, an id may not.
fn entity(output: &str) -> EntityId {
    let letter = |c: char| {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '-'
        }
    };
    let name: String = output.chars().map(letter).take(32).collect();
    EntityId::new(&format!("behind-{name}")).expect("it is made of what ids are made of")
}
