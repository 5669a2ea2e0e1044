//! What a recovery did and why, for people (paper, 4.2.4).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Cell;
use crate::ids::EntityId;
use crate::model::Value;
use crate::physical_world::{Entry, EventId, Key, Kind};
use crate::state_saving::{Missed, Properties, Timer};
use crate::time::{Now, WallClock};

/// The most timers that an explanation lists.
const TIMERS_MAX: usize = 64;

/// The last recovery of an element.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// When it went live again: the instant against which validities were held.
    pub at: WallClock,
    /// The index up to which the checkpoint covered the log.
    pub checkpoint: u64,
    /// The index of the last record in the log.
    pub head: u64,
    /// How many records were folded.
    pub replayed: u64,
    /// Per flow to an appliance, what became of it.
    pub flows: BTreeMap<String, FlowExplanation>,
    /// What became of the timers, by name.
    pub timers: BTreeMap<String, TimerFate>,
}

/// What a recovery did about one flow to an appliance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowExplanation {
    /// The appliance.
    pub appliance: String,
    /// What the log says of it and still holds.
    pub held: Vec<Held>,
    /// What had expired, and when.
    pub expired: Vec<Held>,
    /// What was overridden while the log was folded, and by what.
    pub overridden: Vec<Overridden>,
    /// What went back by itself because the validity of its last command had ended.
    pub reverted: Vec<String>,
    /// When the properties that hold for a while will go back.
    pub goes_back_at: BTreeMap<String, WallClock>,
    /// What it was to show.
    pub target: Properties,
    /// What it showed when it was asked; `None` if it was not asked or did not answer.
    pub shown: Option<Properties>,
    /// What it was told at last.
    pub command: Option<Properties>,
    /// Commands that must not be repeated, and what was found out about them.
    pub doubtful: BTreeMap<String, String>,
    /// Why it was told that, or nothing.
    pub why: String,
}

/// An event of an appliance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The property.
    pub property: String,
    /// Its value.
    pub value: Value,
    /// Whether it was sensed or commanded.
    pub kind: Kind,
    /// Which event.
    pub event: String,
    /// When it occurred.
    pub occurred_at: WallClock,
    /// Until when it held; `None` is until overridden.
    pub expires_at: Option<WallClock>,
}

/// An event that another one overrode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overridden {
    /// The property.
    pub property: String,
    /// Its value.
    pub value: Value,
    /// Which event.
    pub event: String,
    /// By which event.
    pub by: String,
}

/// What became of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimerFate {
    /// It fires when it is due.
    Armed(WallClock),
    /// It came due during the outage and fires late.
    Late(WallClock),
    /// It came due during the outage and is dropped, as it was set to.
    Dropped(WallClock),
}

impl Cell {
    /// What the last recovery did; `None` if the element has never been recovered.
    #[must_use]
    pub fn explanation(&self) -> Option<&Explanation> {
        self.explanation.as_ref()
    }

    /// The log is folded: what becomes of the timers is known, and what becomes of the appliances will
    /// be when they can be reached.
    pub(super) fn explain_replay(&mut self, now: Now) {
        let (checkpoint, head) = self.recovering_from;
        if head == 0 && self.checkpoint.initial_missing {
            // It starts for the first time.
            return;
        }
        self.explanation = Some(Explanation {
            at: now.wall,
            checkpoint,
            head,
            replayed: head.saturating_sub(checkpoint),
            flows: BTreeMap::new(),
            timers: BTreeMap::new(),
        });
    }

    /// What becomes of the timers is known, since the clock is.
    pub(super) fn explain_timers(&mut self, now: Now) {
        let fate = |(name, timer): (&String, &Timer)| (name.clone(), fate(timer, now));
        let fates = self.timers.iter().take(TIMERS_MAX).map(fate).collect();
        if let Some(explanation) = &mut self.explanation {
            explanation.timers = fates;
        }
    }

    /// What is explained of a flow.
    pub(super) fn explained(&mut self, link: &str) -> Option<&mut FlowExplanation> {
        self.explanation.as_mut()?.flows.get_mut(link)
    }
}

fn fate(timer: &Timer, now: Now) -> TimerFate {
    let dropped = timer.missed == Missed::Drop || !now.surely_before(timer.expires_at);
    match (timer.due_at > now.wall, dropped) {
        (true, _) => TimerFate::Armed(timer.due_at),
        (false, true) => TimerFate::Dropped(timer.due_at),
        (false, false) => TimerFate::Late(timer.due_at),
    }
}

impl Held {
    pub(super) fn new(property: &str, entry: &Entry) -> Self {
        Self {
            property: property.into(),
            value: entry.value.clone(),
            kind: entry.kind,
            event: alloc::format!("{}", entry.event),
            occurred_at: entry.occurred_at,
            expires_at: entry.expires_at,
        }
    }
}

impl Overridden {
    pub(super) fn new(key: &Key, entry: Entry, by: EventId) -> Self {
        Self {
            property: key.attribute.clone(),
            value: entry.value,
            event: alloc::format!("{}", entry.event),
            by: alloc::format!("{by}"),
        }
    }
}

impl FlowExplanation {
    pub(super) fn of(appliance: &EntityId) -> Self {
        Self {
            appliance: alloc::format!("{appliance}"),
            ..Self::default()
        }
    }
}
