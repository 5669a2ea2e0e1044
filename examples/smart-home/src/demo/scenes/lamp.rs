//! The bedroom lamp dies while it is on. The bedside lamp must take over at the same brightness, with
//! one command, and go off when the bedroom lamp would have.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{SHOWN_WITHIN, SceneError, Stage, milliseconds};
use crate::demo::checks::{Check, check};
use crate::demo::hand::Hand;
use crate::demo::screen::Screen;
use crate::simulator::{TraceLine, UNPLUG_TOPIC, now_us};

/// The lamp that dies, and where it reports.
const LAMP: (&str, &str) = ("hue-lamp", "zigbee2mqtt/bedroom/lamp");

/// The lamp that takes over, and where it reports.
const BEDSIDE: (&str, &str) = ("hue-go", "zigbee2mqtt/bedroom/hue_go");

/// Where the motion sensor of the bedroom reports.
const MOTION_TOPIC: &str = "zigbee2mqtt/0x0017880100fa1005";

/// How often somebody moves, so that the light stays on.
const MOVES_EVERY: Duration = Duration::from_millis(150);

pub(super) async fn play(stage: &mut Stage<'_>, screen: &mut Screen) -> Result<Check, SceneError> {
    let mut hand = stage.hand(&[LAMP.1, BEDSIDE.1]).await?;
    let on = moving_until(&mut hand, LAMP.1, "ON").await?;
    on.ok_or(SceneError::Missing("the bedroom lamp never went on"))?;
    let died_us = now_us();
    let dead = json!({ "device": LAMP.0 });
    hand.press(UNPLUG_TOPIC, dead).await?;
    let taken = moving_until(&mut hand, BEDSIDE.1, "ON").await?;
    let after = match &taken {
        Some((at_us, report)) => format!(
            "takes over at brightness {} after {} ms",
            report["brightness"],
            milliseconds(died_us, *at_us)
        ),
        None => "DOES NOT TAKE OVER".into(),
    };
    // Nobody moves any more: what the bedroom lamp would do now, the bedside lamp does.
    let off = hand.see(BEDSIDE.1, SHOWN_WITHIN, shows("OFF")).await;
    let then = if off.is_some() {
        "goes off with it"
    } else {
        "STAYS ON"
    };
    screen.line(&format!(
        "the bedroom lamp dies while it is on: the bedside lamp {after}, and {then}"
    ));
    hand.leave().await;
    let lamp = stage.traced(LAMP.0, 0).await?;
    let bedside = stage.traced(BEDSIDE.0, died_us).await?;
    Ok(judge(&lamp, &bedside, died_us))
}

/// Somebody moves in the dark until a lamp shows a state, and not longer than a device may take.
async fn moving_until(
    hand: &mut Hand,
    topic: &str,
    state: &'static str,
) -> Result<Option<(u64, Value)>, SceneError> {
    let until = Instant::now() + SHOWN_WITHIN;
    while Instant::now() < until {
        let moves = json!({ "occupancy": true, "illuminance": 3 });
        hand.press(MOTION_TOPIC, moves).await?;
        let shown = hand.see(topic, MOVES_EVERY, shows(state)).await;
        if shown.is_some() {
            return Ok(shown);
        }
    }
    Ok(None)
}

fn shows(state: &'static str) -> impl Fn(&Value) -> bool {
    move |report| report["state"] == state
}

/// `lamp` is all that the lamp ever did, `bedside` what its substitute was told since the death.
fn judge(lamp: &[TraceLine], bedside: &[TraceLine], died_us: u64) -> Check {
    let before = lamp.iter().rfind(|line| line.at_us < died_us);
    let bright = before.map(|line| line.state["brightness"].clone());
    let was_on = before.is_some_and(|line| line.state["state"] == "ON");
    let dead_did = lamp
        .iter()
        .filter(|line| line.carried_out && line.at_us >= died_us)
        .count();
    let changes: Vec<&TraceLine> = bedside.iter().filter(|line| line.carried_out).collect();
    let states: Vec<&Value> = changes.iter().map(|line| &line.state["state"]).collect();
    let taken = changes.first().map(|line| line.state["brightness"].clone());
    let same = taken.is_some() && taken == bright;
    check(
        "another lamp took over",
        was_on && dead_did == 0 && same && states == ["ON", "OFF"],
        json!({
            "was_on": was_on,
            "brightness": bright,
            "brightness_taken_over": taken,
            "shown_by_the_substitute": states,
            "done_by_the_dead_lamp": dead_did,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lamp_that_takes_over_as_bright_and_goes_off_holds() {
        assert!(judge(&lamp(), &bedside(), 10).held);
    }

    #[test]
    fn another_brightness_a_blink_or_nobody_at_all_fails() {
        let mut darker = bedside();
        darker[0].state["brightness"] = json!(100);
        let blinks = [bedside(), bedside()].concat();
        let stays_on = &bedside()[..1];
        for (number, wrong) in [&darker[..], &blinks, stays_on, &[]].iter().enumerate() {
            assert!(!judge(&lamp(), wrong, 10).held, "case {number}");
        }
        let mut moves = lamp();
        moves.push(line(11, "OFF"));
        assert!(!judge(&moves, &bedside(), 10).held);
        assert!(!judge(&[line(5, "OFF")], &bedside(), 10).held);
    }

    fn lamp() -> Vec<TraceLine> {
        vec![line(5, "ON")]
    }

    fn bedside() -> Vec<TraceLine> {
        vec![line(12, "ON"), line(20, "OFF")]
    }

    fn line(at_us: u64, state: &str) -> TraceLine {
        TraceLine {
            at_us,
            device: "lamp".into(),
            id: Some(format!("a/1.{at_us}.0")),
            command: json!({ "state": state }),
            carried_out: true,
            state: json!({ "state": state, "brightness": 254 }),
        }
    }
}
