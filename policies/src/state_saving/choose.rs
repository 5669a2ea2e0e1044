//! When, where and how a flow is saved: Figure 4 as one total function (paper, 4.2.1).
//!
//! The figure's unit is a binding of an element, ours is a flow, one way. A flow towards an
//! appliance is logged where it is emitted, because the appliance cannot keep a log; every other
//! flow where it is received. Over a binding with an appliance both ways together give the figure's
//! "Emission & Reception". The cell persistent, message, appliance is printed as "Reception"
//! alone, against the paper's own prose and the other three cells of its column; here it is as they
//! are.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::EntityId;
use crate::model::{Communication, LocalStorage};

/// What receives a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Destination {
    /// A software element, which keeps its own log.
    Element,
    /// An appliance, which keeps none.
    Appliance,
}

/// What is kept of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Each message.
    MessageLog,
    /// Each function call.
    CallRecord,
}

/// Whether a record is saved before or after what it records takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timing {
    /// Before: nothing that was delivered can be lost.
    Pessimistic,
    /// After: to local storage first, to the stable store within a bounded lag.
    Optimistic,
}

/// Which end of a flow takes the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Site {
    /// The sender or caller.
    Emission,
    /// The receiver or callee.
    Reception,
}

/// How one flow is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavingPolicy {
    /// What is kept.
    pub strategy: Strategy,
    /// Before or after it takes effect.
    pub timing: Timing,
    /// At which end.
    pub site: Site,
    /// Whether the caller logs the reply too: a reply is an input of the caller, which could not be
    /// replayed without it.
    pub reply_logged: bool,
}

/// Chooses when and where to save what flows to a destination (paper, Figure 4).
///
/// `storage` is that of the server where the record is taken.
#[must_use]
pub fn choose(
    storage: LocalStorage,
    model: Communication,
    destination: Destination,
) -> SavingPolicy {
    let timing = match storage {
        LocalStorage::Persistent => Timing::Optimistic,
        LocalStorage::Volatile => Timing::Pessimistic, // what is only local is lost with the server
    };
    let (strategy, reply_logged) = match model {
        Communication::Message => (Strategy::MessageLog, false),
        Communication::Call => (Strategy::CallRecord, true),
    };
    let site = match destination {
        Destination::Element => Site::Reception,
        Destination::Appliance => Site::Emission,
    };
    SavingPolicy {
        strategy,
        timing,
        site,
        reply_logged,
    }
}

/// The number of a cell of Figure 4, 1 to 8: persistent storage before volatile, then element before
/// appliance, then call before message.
///
/// The destination is that of the figure, whose unit is a binding: over a binding with an appliance
/// what the appliance reports belongs to the appliance's cell too.
#[must_use]
pub fn cell(storage: LocalStorage, model: Communication, destination: Destination) -> u8 {
    let storage = match storage {
        LocalStorage::Persistent => 0,
        LocalStorage::Volatile => 4,
    };
    let destination = match destination {
        Destination::Element => 0,
        Destination::Appliance => 2,
    };
    let model = match model {
        Communication::Call => 1,
        Communication::Message => 2,
    };
    storage + destination + model
}

/// Who saves a flow of a topology, how, and why so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSaving {
    /// The element whose logger takes the record.
    pub keeper: EntityId,
    /// How; `None` if the author chose not to save it.
    pub policy: Option<SavingPolicy>,
    /// What decided the timing.
    pub reason: SavingReason,
}

/// What decided the timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SavingReason {
    /// The local storage of the server that hosts the keeper.
    Storage(LocalStorage),
    /// The keeper has no place yet, so what is safe everywhere.
    NoPlace,
    /// The author's `log` key.
    Author,
}

impl fmt::Display for SavingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Storage(LocalStorage::Persistent) => "persistent local storage",
            Self::Storage(LocalStorage::Volatile) => "volatile local storage",
            Self::NoPlace => "no place yet",
            Self::Author => "the author's choice",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    use Communication::{Call, Message};
    use LocalStorage::{Persistent, Volatile};
    use Strategy::{CallRecord, MessageLog};
    use Timing::{Optimistic, Pessimistic};

    /// The sites of all flows between an element and another end: a cell of the figure.
    fn sites(
        storage: LocalStorage,
        model: Communication,
        end: Destination,
    ) -> (Timing, Strategy, Vec<Site>, bool) {
        let there = choose(storage, model, end);
        let mut sites = Vec::from([there.site]);
        if end == Destination::Appliance {
            // What the appliance answers or reports flows back to the element.
            sites.push(choose(storage, model, Destination::Element).site);
        }
        (there.timing, there.strategy, sites, there.reply_logged)
    }

    #[test]
    fn every_cell_of_figure_4_is_as_the_paper_rules_it() {
        use Destination::{Appliance, Element};
        let reception = || Vec::from([Site::Reception]);
        let both = || Vec::from([Site::Emission, Site::Reception]);
        let cells = [
            (
                Persistent,
                Call,
                Element,
                (Optimistic, CallRecord, reception(), true),
            ),
            (
                Persistent,
                Message,
                Element,
                (Optimistic, MessageLog, reception(), false),
            ),
            (
                Persistent,
                Call,
                Appliance,
                (Optimistic, CallRecord, both(), true),
            ),
            (
                Persistent,
                Message,
                Appliance,
                (Optimistic, MessageLog, both(), false),
            ),
            (
                Volatile,
                Call,
                Element,
                (Pessimistic, CallRecord, reception(), true),
            ),
            (
                Volatile,
                Message,
                Element,
                (Pessimistic, MessageLog, reception(), false),
            ),
            (
                Volatile,
                Call,
                Appliance,
                (Pessimistic, CallRecord, both(), true),
            ),
            (
                Volatile,
                Message,
                Appliance,
                (Pessimistic, MessageLog, both(), false),
            ),
        ];
        for (number, (storage, model, end, expected)) in (1..).zip(cells) {
            let shown = sites(storage, model, end);
            assert_eq!(shown, expected, "{storage:?}, {model:?}, {end:?}");
            assert_eq!(cell(storage, model, end), number);
        }
    }

    #[test]
    fn volatile_storage_is_never_saved_optimistically() {
        for model in [Message, Call] {
            for end in [Destination::Element, Destination::Appliance] {
                assert_eq!(choose(Volatile, model, end).timing, Pessimistic);
            }
        }
    }
}
