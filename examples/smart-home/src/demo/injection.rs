//! Breaks something in a house, and watches how it is repaired.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::checks::Repair;
use super::faults::{Fault, PlannedFault};
use super::house::{House, HouseError};
use super::processes::kill;
use super::status::{Failure, Status};
use crate::simulator::now_us;

/// How often the status is looked at while something is broken.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// After how long a fault that is not repaired counts as never repaired.
const REPAIRED_WITHIN: Duration = Duration::from_secs(15);

/// Injects a fault and waits until every element that it hit is repaired, or never is. `latest` is
/// what was last known of the house, before and after.
///
/// # Errors
/// The house does not answer, or a process cannot be killed.
pub async fn break_and_watch(
    house: &House,
    planned: &PlannedFault,
    speed: f64,
    began: Instant,
    latest: &mut Status,
) -> Result<Vec<Repair>, HouseError> {
    let before = latest.clone();
    let at_ms = u64::try_from(began.elapsed().mul_f64(speed).as_millis()).unwrap_or(u64::MAX);
    let at_us = match &planned.fault {
        Fault::Killed(elements) => Some(kill_hosts(&before, elements)?),
        Fault::Panicked(element) => {
            house.inject_panic(element).await?;
            None // The panic comes with the next event, whose time only the host knows.
        }
    };
    let mut waiting = planned.fault.elements();
    let mut repairs = Vec::new();
    let until = Instant::now() + REPAIRED_WITHIN;
    while !waiting.is_empty() && Instant::now() < until {
        *latest = house.status().await?;
        waiting.retain(|element| {
            let Some(failure) = latest.repaired_since(element, before.failures(element)) else {
                return true;
            };
            repairs.push(repair(planned, element, at_ms, at_us, failure));
            false
        });
        if !waiting.is_empty() {
            sleep(WATCH_INTERVAL).await;
        }
    }
    repairs.extend(waiting.iter().map(|element| Repair {
        fault: planned.fault.to_string(),
        element: (*element).to_owned(),
        at_ms,
        ..Repair::default()
    }));
    Ok(repairs)
}

/// Kills the hosts of these elements, and says when, in microseconds since 1970 UTC.
fn kill_hosts(status: &Status, elements: &[&str]) -> Result<u64, HouseError> {
    let at_us = now_us();
    for element in elements {
        let pid = status.pid(element).ok_or_else(|| HouseError::Command {
            command: format!("kill -9 {element}"),
            reason: "it has no process".into(),
        })?;
        kill(pid).map_err(|source| HouseError::System {
            attempted: format!("kill process {pid} of {element}"),
            source,
        })?;
    }
    Ok(at_us)
}

fn repair(
    planned: &PlannedFault,
    element: &str,
    at_ms: u64,
    at_us: Option<u64>,
    failure: &Failure,
) -> Repair {
    let noticed = at_us.map(|at| milliseconds(failure.seen_at_us.saturating_sub(at)));
    let mut parts = Vec::new();
    parts.extend(noticed.map(|took| ("noticed".to_owned(), took)));
    parts.extend(failure.phases.known());
    let repaired = failure.phases.repaired_ms;
    Repair {
        fault: planned.fault.to_string(),
        element: element.to_owned(),
        at_ms,
        repaired_ms: repaired.map(|took| took + noticed.unwrap_or_default()),
        phases: parts,
    }
}

fn milliseconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64() * 1_000.0
}
