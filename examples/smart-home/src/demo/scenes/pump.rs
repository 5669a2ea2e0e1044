//! A dose is on its way when the element that asked for it dies: the broker stands still with the
//! command in hand, so that nobody can have heard whether it arrived. The dose must be given once, or
//! a person be asked; it must never be given twice.
//!
//! The first time the broker stands still as soon as the pump has said what it counted before: the
//! count tells afterwards. The second time it stands still before that, and nobody can tell.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::{SHOWN_WITHIN, SceneError, Stage, repaired};
use crate::demo::checks::{Check, check};
use crate::demo::processes::{Halted, descendants};
use crate::demo::screen::Screen;
use crate::simulator::{PUMP_TOPIC, TraceLine, now_us};

/// Where the button beside the bed reports.
const BUTTON_TOPIC: &str = "zigbee2mqtt/bedroom/call";

/// Where the display beside the bed is told what to show.
const DISPLAY_TOPIC: &str = "display/bedroom/set";

/// The element that asks for doses.
const GIVER: &str = "medicine-giver";

/// How long a dose is prepared: `prepare_seconds` of the topology.
const PREPARE: Duration = Duration::from_secs(1);

/// How long after that the command is surely with the broker, on a busy machine.
const SENT: Duration = Duration::from_millis(600);

/// How long the element is dead before the broker goes on.
const SOON: Duration = Duration::from_millis(20);

/// When the broker stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// When the pump has said what it counted before the dose.
    Counted,
    /// Before the pump is asked that.
    Unasked,
}

pub(super) async fn play(stage: &mut Stage<'_>, screen: &mut Screen) -> Result<Check, SceneError> {
    let began_us = now_us();
    let mut hand = stage.hand(&[PUMP_TOPIC, DISPLAY_TOPIC]).await?;
    let moments = [Moment::Counted, Moment::Unasked];
    let mut given = 0;
    for moment in moments {
        hand.look_away();
        hand.press(BUTTON_TOPIC, json!({ "action": "press" }))
            .await?;
        let prepares = hand.see(DISPLAY_TOPIC, SHOWN_WITHIN, |_| true).await;
        prepares.ok_or(SceneError::Missing("no dose was ever prepared"))?;
        if moment == Moment::Counted {
            // It is asked just before it is told to dose; whoever is late sees the dose itself.
            hand.see(PUMP_TOPIC, SHOWN_WITHIN, |_| true).await;
        }
        let broker = Halted::halt(broker()?).map_err(|source| SceneError::System {
            attempted: "halt the broker",
            source,
        })?;
        sleep(match moment {
            Moment::Counted => SENT,
            Moment::Unasked => PREPARE + SENT,
        })
        .await;
        // The broker goes on as soon as the element is dead, not when it is repaired.
        let (killed, ()) = tokio::join!(stage.kill(GIVER), async {
            sleep(SOON).await;
            drop(broker);
        });
        let counts = |report: &serde_json::Value| report["doses"].as_u64() > Some(given);
        let count = hand.see(PUMP_TOPIC, SHOWN_WITHIN, counts).await;
        let (_, report) = count.unwrap_or_default();
        given = report["doses"].as_u64().unwrap_or(given);
        screen.line(&format!(
            "a dose is on its way; kill -9 {GIVER}: {}, the pump counts {given}",
            repaired(&killed?),
        ));
    }
    hand.leave().await;
    let trace = stage.traced("pump", began_us).await?;
    let unknown = stage.house.status().await?.unknown(GIVER);
    for command in &unknown {
        stage.house.acknowledge(GIVER, command).await?;
        screen.line(&format!(
            "nobody knows whether {command} was carried out; a person looks and says ack"
        ));
    }
    let open = stage.waiting_for_a_word(GIVER).await?;
    Ok(judge(&trace, (moments.len(), unknown.len(), open)))
}

/// The process of the broker; only one house runs.
fn broker() -> Result<u32, SceneError> {
    let running = descendants().map_err(|source| SceneError::System {
        attempted: "list the processes of the house",
        source,
    })?;
    let is_broker = |command: &str| {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap_or_default();
        program.ends_with("mosquitto") || words.next() == Some("broker")
    };
    let broker = running.iter().find(|it| is_broker(&it.command));
    broker
        .map(|it| it.pid.unsigned_abs())
        .ok_or(SceneError::Missing("no broker runs"))
}

/// Judges by how many doses were asked for, how many of these a person was asked about, and how many
/// still wait for the person's word.
fn judge(trace: &[TraceLine], (asked, unknown, open): (usize, usize, usize)) -> Check {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let mut nameless = 0;
    for line in trace.iter().filter(|line| line.carried_out) {
        match &line.id {
            Some(id) => *times.entry(id).or_default() += 1,
            None => nameless += 1,
        }
    }
    let given: usize = times.values().sum();
    let twice: Vec<&&str> = times
        .iter()
        .filter(|(_, count)| **count > 1)
        .map(|(id, _)| id)
        .collect();
    let silent = asked.saturating_sub(given + unknown);
    let once = given > 0 && given <= asked && twice.is_empty() && nameless == 0;
    let held = once && silent == 0 && open == 0;
    check(
        "no dose was given twice",
        held,
        json!({
            "asked": asked,
            "given": given,
            "left_to_a_person": unknown,
            "still_open": open,
            "lost_silently": silent,
            "given_twice": twice,
            "without_id": nameless,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dose_once_holds_and_so_does_one_that_a_person_is_asked_about() {
        let both = [dose("m/1.4.0"), dose("m/1.9.0")];
        assert!(judge(&both, (2, 0, 0)).held);
        assert!(judge(&both[..1], (2, 1, 0)).held);
    }

    #[test]
    fn a_dose_twice_or_more_doses_than_asked_for_or_a_silent_loss_fails() {
        let twice = [dose("m/1.4.0"), dose("m/1.4.0")];
        assert!(!judge(&twice, (2, 0, 0)).held);
        let more = [dose("m/1.4.0"), dose("m/1.9.0"), dose("m/1.11.0")];
        assert!(!judge(&more, (2, 0, 0)).held);
        assert!(!judge(&more[..1], (2, 0, 0)).held);
        assert!(!judge(&[], (0, 0, 0)).held);
        assert!(!judge(&more[..1], (2, 1, 1)).held);
        let mut nameless = dose("m/1.4.0");
        nameless.id = None;
        assert!(!judge(&[nameless, dose("m/1.9.0")], (2, 0, 0)).held);
    }

    fn dose(id: &str) -> TraceLine {
        TraceLine {
            at_us: 1,
            device: "pump".into(),
            id: Some(id.into()),
            command: json!({ "dose": 2 }),
            carried_out: true,
            state: json!({ "doses": 1 }),
        }
    }
}
