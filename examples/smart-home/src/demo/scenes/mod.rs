//! Scenes after the evening, where a mistake hurts: a door, a medicine pump, a lamp that
//! dies. Each breaks the house at
//! the worst moment, and is judged by the physical trace alone.

mod door;
mod lamp;
mod pump;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::checks::{Check, Repair};
use super::faults::{Fault, PlannedFault};
use super::hand::{Hand, HandError};
use super::house::{House, HouseError};
use super::injection::break_and_watch;
use super::screen::Screen;
use super::status::Status;
use crate::simulator::{PhysicalTrace, TraceError, TraceLine, now_us};

/// How long a device may take to show what it was told, on a busy machine.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// How often a house is asked whether it took a person's word.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// How long it is watched afterwards that nothing else happens.
const QUIET: Duration = Duration::from_millis(700);

/// Why a scene could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The house does not answer.
    #[error(transparent)]
    House(#[from] HouseError),
    /// Nobody can press anything.
    #[error(transparent)]
    Hand(#[from] HandError),
    /// The devices left no trace that can be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A process cannot be halted or found.
    #[error("cannot {attempted}: {source}")]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Something that the scene needs did not happen at all.
    #[error("{0}")]
    Missing(&'static str),
}

/// What the scenes are played with.
pub(super) struct Stage<'a> {
    house: &'a House,
    began: Instant,
    latest: Status,
}

/// Plays every scene in a house that is at rest, and judges each.
///
/// # Errors
/// A scene could not be played to its end, so that nothing can be said about its promise.
pub async fn play(house: &House, screen: &mut Screen) -> Result<Vec<Check>, SceneError> {
    let mut stage = Stage {
        house,
        began: Instant::now(),
        latest: house.status().await?,
    };
    Ok(vec![
        door::play(&mut stage, screen).await?,
        pump::play(&mut stage, screen).await?,
        lamp::play(&mut stage, screen).await?,
    ])
}

impl Stage<'_> {
    async fn hand(&self, watched: &[&str]) -> Result<Hand, SceneError> {
        Ok(Hand::reach(self.house.broker(), watched).await?)
    }

    /// Kills the host of an element and waits until it is repaired, or is not.
    async fn kill(&mut self, element: &'static str) -> Result<Vec<Repair>, SceneError> {
        let planned = PlannedFault {
            at_ms: 0,
            fault: Fault::Killed(vec![element]),
        };
        let (house, began) = (self.house, self.began);
        Ok(break_and_watch(house, &planned, 1.0, began, &mut self.latest).await?)
    }

    /// How many commands of an element still wait for a person's word after a while in which the word
    /// should have been taken.
    async fn waiting_for_a_word(&self, element: &str) -> Result<usize, SceneError> {
        let until = Instant::now() + SHOWN_WITHIN;
        loop {
            let waiting = self.house.status().await?.unknown(element).len();
            if waiting == 0 || Instant::now() >= until {
                return Ok(waiting);
            }
            sleep(ASK_INTERVAL).await;
        }
    }

    /// Whatever the trace has of a device since an instant, after a while in which nothing else
    /// should have happened.
    async fn traced(&self, device: &str, since_us: u64) -> Result<Vec<TraceLine>, SceneError> {
        sleep(QUIET).await;
        let mut trace = PhysicalTrace::read(&self.house.trace())?;
        trace.retain(|line| line.device == device && line.at_us >= since_us);
        Ok(trace)
    }
}

/// How long a repair took, in words.
fn repaired(repairs: &[Repair]) -> String {
    match repairs.first().and_then(|repair| repair.repaired_ms) {
        Some(took) => format!("repaired in {took:.0} ms"),
        None => "NOT REPAIRED".into(),
    }
}

/// Milliseconds from one instant to a later one.
fn milliseconds(from_us: u64, to_us: u64) -> u64 {
    to_us.saturating_sub(from_us) / 1_000
}

/// What is left until an instant.
fn until(at_us: u64) -> Duration {
    Duration::from_micros(at_us.saturating_sub(now_us()))
}
