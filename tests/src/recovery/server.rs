//! The server on which the element of these tests runs: its storage, and what is lost with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_policies::model::Lag;
use lamplighter_policies::state_saving::{Event, Fields, Lost, Record};
use lamplighter_runtime::clock::Clock;
use lamplighter_runtime::store::embedded::Durability;
use lamplighter_runtime::store::local::LocalPlace;

use super::element::outputs;
use super::{Outside, READINGS, id};

/// How far the stable store may be behind.
pub const LAG: Lag = Lag {
    time: Duration::from_secs(3_600),
    records: 4,
};

/// What became of the server's storage, and what the element said of it.
#[derive(Debug, Default)]
pub struct Server {
    /// Where the local log is; `None` for an element that is saved pessimistically.
    pub directory: Option<PathBuf>,
    /// How often the storage was lost.
    pub lost_count: usize,
    /// What the element reported, each loss once.
    pub losses: Vec<Lost>,
    /// Where each reading was to be logged: how many losses were reported before, and its index.
    logged: BTreeMap<u8, Vec<(usize, u64)>>,
}

impl Server {
    /// A server whose storage is in `directory`.
    #[must_use]
    pub fn persistent(directory: PathBuf) -> Self {
        Self {
            directory: Some(directory),
            ..Self::default()
        }
    }

    pub(super) fn place(&self) -> LocalPlace {
        let nowhere = || PathBuf::from("/nonexistent/local");
        LocalPlace {
            server: id("server"),
            directory: self.directory.clone().unwrap_or_else(nowhere),
            durability: Durability::Required,
            clock: Clock::default(),
        }
    }

    /// Its storage is gone, and whatever takes its place is empty.
    pub(super) fn lose(&mut self) {
        let Some(directory) = &self.directory else {
            return;
        };
        if Path::new(directory).exists() {
            std::fs::remove_dir_all(directory).expect("a directory of this test");
            self.lost_count += 1;
        }
    }

    pub(super) fn reported(&mut self, lost: Lost) {
        if !self.losses.contains(&lost) {
            self.losses.push(lost);
        }
    }

    pub(super) fn noted(&mut self, first: u64, records: &[Record]) {
        for (index, record) in (first..).zip(records) {
            if let Record::Event(Event { payload, .. }) = record
                && payload[0] > READINGS
            {
                let place = (self.losses.len(), index);
                self.logged.entry(payload[0]).or_default().push(place);
            }
        }
    }

    /// The law of an element whose server may be lost: what a sender keeps is in the state, each once
    /// and in order; of what a device was told is safe, only records from a reported loss on are missing,
    /// and no more than the lag; what the receiver has besides is orphaned, by the same report; no
    /// command that must not be repeated comes from a lost record.
    ///
    /// # Errors
    /// What differs, and how.
    pub fn law(
        &self,
        state: &Fields,
        events: u8,
        readings: u8,
        outside: &Outside,
    ) -> Result<(), String> {
        let history = state.get(".history").cloned().unwrap_or_default();
        let (of_device, of_source): (Vec<u8>, Vec<u8>) =
            history.iter().partition(|input| **input > READINGS);
        if of_source != (1..=events).collect::<Vec<u8>>() {
            return Err(format!("events: {of_source:?} of {events}"));
        }
        if !of_device.is_sorted_by(|a, b| a < b) {
            return Err(format!("readings: {of_device:?}"));
        }
        self.only_reported_readings_are_missing(&of_device, readings)?;
        self.reported_as_lost()?;
        let mut folded = Fields::new();
        let mut expected = Vec::new();
        let mut commanded = 0;
        for input in &history {
            let emitted = outputs(&mut folded, *input);
            expected.push(emitted[0].payload.clone());
            commanded += emitted.len() - 1;
        }
        if folded != *state {
            return Err(format!("state: {state:?}, expected {folded:?}"));
        }
        let orphaned = |position: &lamplighter_policies::physical_world::Position| {
            self.losses
                .iter()
                .any(|loss| loss.lineage == position.lineage + 1 && loss.from <= position.index)
        };
        let received = outside.positions.iter().zip(&outside.received);
        let known: Vec<_> = received
            .filter(|(position, _)| !orphaned(position))
            .map(|(_, payload)| payload.clone())
            .collect();
        if known != expected {
            return Err(format!("downstream: {known:?}, expected {expected:?}"));
        }
        let carried_out = &outside.carried_out;
        if !carried_out.is_sorted_by(|a, b| a < b) || carried_out.iter().any(orphaned) {
            return Err(format!(
                "commands: {carried_out:?}, after {:?}",
                self.losses
            ));
        }
        let known = carried_out
            .iter()
            .filter(|p| !outside.unknown.contains(p))
            .count();
        match known + outside.unknown.len() == commanded {
            true => Ok(()),
            false => Err(format!(
                "{known} commands and {:?} of {commanded}",
                outside.unknown
            )),
        }
    }

    fn only_reported_readings_are_missing(
        &self,
        of_device: &[u8],
        readings: u8,
    ) -> Result<(), String> {
        let said = READINGS + 1..=READINGS + readings;
        let missing: Vec<u8> = said
            .filter(|reading| !of_device.contains(reading))
            .collect();
        for reading in &missing {
            let places = self.logged.get(reading).into_iter().flatten();
            let covered = |(before, index): &(usize, u64)| {
                let loss = self.losses.get(*before);
                loss.is_some_and(|loss| loss.from <= *index)
            };
            if !places.clone().any(covered) {
                let places: Vec<_> = places.collect();
                let losses = &self.losses;
                return Err(format!(
                    "reading {reading}, logged at {places:?}, is missing: {losses:?}"
                ));
            }
        }
        let most = self.losses.len() * usize::try_from(LAG.records).unwrap_or(usize::MAX);
        if missing.len() > most {
            return Err(format!("{missing:?} are missing after {:?}", self.losses));
        }
        Ok(())
    }

    /// Each loss is told, and no other.
    fn reported_as_lost(&self) -> Result<(), String> {
        let lineages: Vec<u32> = self.losses.iter().map(|loss| loss.lineage).collect();
        let expected: Vec<u32> = (2..).take(lineages.len()).collect();
        if lineages != expected || lineages.len() > self.lost_count {
            let (count, losses) = (self.lost_count, &self.losses);
            return Err(format!("{count} servers lost, told: {losses:?}"));
        }
        Ok(())
    }
}
