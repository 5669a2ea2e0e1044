//! The state of an element as a host would restore it, without being one.
//!
//! The same cell that a host runs decides what is folded and what is left out; nothing that it asks
//! for leaves, and nothing is written.

use std::collections::VecDeque;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::physical_world::World;
use lamplighter_policies::protocol::appliances::Reconfiguration;
use lamplighter_policies::protocol::cell::{Cell, Effect, Explanation, Input, Restored};
use lamplighter_policies::protocol::messages::UnknownCommand;
use lamplighter_policies::state_saving::{Batch, Record};
use lamplighter_policies::time::Now;
use lamplighter_runtime::store::Saved;

use super::links::Links;
use super::saved;
use crate::app::Kind;
use crate::encoding::Encoded;
use crate::instance::{Hosted, SavedFields};
use crate::spec::ElementSpec;

/// The state of an element, and what is not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedState {
    /// The author's fields.
    pub state: serde_json::Value,
    /// Inputs in the log whose handler fails, and why: the state is as if they had not come.
    pub left_out: Vec<(u64, String)>,
    /// What it knows of the physical world.
    pub world: World,
    /// What its last recovery did, as far as a checkpoint has it.
    pub explanation: Option<Explanation>,
    /// Commands of unknown fate, which a person has to judge.
    pub unknown: Vec<UnknownCommand>,
}

/// Folds the log into the checkpoint with the element's own code.
///
/// # Errors
/// For people: why the element cannot be restored.
pub(crate) fn folded(
    kind: &Kind,
    spec: &ElementSpec,
    saved: &Saved,
) -> Result<FoldedState, String> {
    let (fields, restored) = saved::decoded(&spec.id, saved)?;
    let links = Links::of(spec);
    let mut settings = links.settings(spec);
    // The code is given the same input again: a second try cannot end otherwise.
    settings.attempts_max = 1;
    // What is folded is in the stable store.
    settings.lag = None;
    let initial = Encoded::of(&spec.element.state).map_err(|error| error.to_string())?;
    let hosted = (kind.make)(
        spec.id.clone(),
        initial.into_bytes(),
        links.appliance_ports.clone(),
    );
    let now = Now {
        wall: saved.read_at,
        ..Now::default()
    };
    let folding = Folding {
        hosted,
        cell: Cell::new(settings),
        fields,
        restored,
        now,
        inputs: VecDeque::new(),
        left_out: Vec::new(),
    };
    folding.run()
}

/// What the last recovery of an element did, as its last checkpoint has it; `None` if it has not been
/// recovered yet. The element's own code is not needed.
///
/// # Errors
/// For people: why what is saved cannot be read.
pub(crate) fn explanation(
    element: &EntityId,
    saved: &Saved,
) -> Result<Option<Explanation>, String> {
    let (_, restored) = saved::decoded(element, saved)?;
    Ok(restored.meta.explanation.map(|it| *it))
}

/// Who serves in whose place, and how the entities around an element are, as its log has it.
///
/// # Errors
/// For people: why what is saved cannot be read.
pub(crate) fn reconfiguration(
    element: &EntityId,
    saved: &Saved,
) -> Result<Reconfiguration, String> {
    let (_, restored) = saved::decoded(element, saved)?;
    let mut table = restored.meta.reconfiguration.table;
    let records = restored.log.iter().flat_map(|batch| &batch.records);
    for record in records {
        if let Record::Reconfigured(newer) = record {
            table.join(newer);
        }
    }
    Ok(table)
}

/// A cell whose store is a copy in memory and whose time passes only when it waits.
struct Folding {
    hosted: Box<dyn Hosted>,
    cell: Cell,
    fields: SavedFields,
    restored: Restored,
    now: Now,
    inputs: VecDeque<Input>,
    left_out: Vec<(u64, String)>,
}

impl Folding {
    fn run(mut self) -> Result<FoldedState, String> {
        self.restore()?;
        loop {
            let mut effects = Vec::new();
            match (self.inputs.pop_front(), self.cell.next_deadline()) {
                (Some(input), _) => self.cell.handle(self.now, input, &mut effects),
                (None, Some(deadline)) => {
                    self.now.monotonic = self.now.monotonic.max(deadline);
                    self.cell.wake(self.now, &mut effects);
                }
                (None, None) => return Err("it waits for something that never comes".into()),
            }
            if self.cell.is_live() {
                // All that is logged is folded. What it would do from here on is its host's.
                let state = self.hosted.show().map_err(|fault| fault.to_string())?;
                return Ok(FoldedState {
                    state,
                    left_out: self.left_out,
                    world: self.cell.world().clone(),
                    explanation: self.restored.meta.explanation.map(|it| *it),
                    unknown: self.cell.unknown_commands(),
                });
            }
            for effect in effects {
                self.perform(effect)?;
            }
        }
    }

    fn restore(&mut self) -> Result<(), String> {
        let made = self.hosted.make(&self.fields);
        made.map_err(|fault| fault.to_string())?;
        self.inputs
            .push_back(Input::Restored(self.restored.clone()));
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Restore => self.restore()?,
            Effect::Handle(task) => {
                let index = task.index;
                self.inputs.push_front(match self.hosted.handle(task) {
                    Ok(handled) => Input::Handled { index, handled },
                    Err(cause) => Input::HandlerFailed { index, cause },
                });
            }
            Effect::Append { first, records } => {
                let logged_at = self.now.wall;
                let batch = Batch {
                    first,
                    logged_at,
                    records,
                };
                let last = batch.last();
                self.restored.head = last;
                self.restored.log.push(batch);
                self.inputs.push_back(Input::Appended { last, logged_at });
            }
            Effect::Bury { index, cause, .. } => self.left_out.push((index, cause)),
            Effect::GiveUp { cause, .. } => return Err(cause),
            // Nothing leaves.
            Effect::Acknowledge { .. }
            | Effect::Resume { .. }
            | Effect::Release { .. }
            | Effect::Send { .. }
            | Effect::Actuate { .. }
            | Effect::Compare { .. }
            | Effect::Checkpoint { .. }
            | Effect::ReportUnknown { .. }
            | Effect::Ready { .. }
            | Effect::ShowRestored
            | Effect::Report { .. }
            | Effect::Mended { .. }
            | Effect::Reroute(_)
            | Effect::ShowReconfiguration { .. }
            | Effect::Stop
            | Effect::Prove
            | Effect::Flush
            | Effect::ReportLost(_)
            | Effect::ReportOrphaned(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
