//! A door is unlocked for a while, and the element that did it dies: at once, so that it comes back
//! while the door is open; and just before the end, so that the end comes while nobody is there. Each
//! time the door must be locked again, and never be unlocked by what is over.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{SHOWN_WITHIN, SceneError, Stage, milliseconds, repaired, until};
use crate::demo::checks::{Check, check};
use crate::demo::hand::Hand;
use crate::demo::screen::Screen;
use crate::simulator::{LOCK_TOPIC, TraceLine, now_us};

/// Where the keypad reports.
const KEYPAD_TOPIC: &str = "zigbee2mqtt/hall/keypad";

/// The element that unlocks.
const KEEPER: &str = "lock-keeper";

/// For how long the door is unlocked: `open_seconds` of the topology.
const OPEN: Duration = Duration::from_secs(2);

/// How long before the end the element dies the second time.
const JUST_BEFORE: Duration = Duration::from_millis(60);

/// How much too early a door may be locked: what two clocks are allowed to differ, and rounding.
const EARLY_US_MAX: u64 = 150_000;

pub(super) async fn play(stage: &mut Stage<'_>, screen: &mut Screen) -> Result<Check, SceneError> {
    let began_us = now_us();
    let mut hand = stage.hand(&[LOCK_TOPIC]).await?;
    for when in ["as it opens", "just before the end"] {
        let at_us = unlock(&mut hand).await?;
        if when != "as it opens" {
            sleep(until(at_us + micros(OPEN - JUST_BEFORE))).await;
        }
        let repairs = stage.kill(KEEPER).await?;
        let locked = hand.see(LOCK_TOPIC, OPEN + SHOWN_WITHIN, shows("LOCK"));
        let after = match locked.await {
            Some((locked_us, _)) => {
                format!(
                    "locked {} ms after it opened",
                    milliseconds(at_us, locked_us)
                )
            }
            None => "NOT LOCKED".into(),
        };
        screen.line(&format!(
            "the door is open for {} s; kill -9 {KEEPER} {when}: {}, the door is {after}",
            OPEN.as_secs(),
            repaired(&repairs),
        ));
    }
    hand.leave().await;
    Ok(judge(&stage.traced("lock", began_us).await?))
}

/// Unlocks the door, and returns when it was open.
async fn unlock(hand: &mut Hand) -> Result<u64, SceneError> {
    hand.look_away();
    hand.press(KEYPAD_TOPIC, json!({ "action": "unlock" }))
        .await?;
    let open = hand.see(LOCK_TOPIC, SHOWN_WITHIN, shows("UNLOCK")).await;
    open.map(|(at_us, _)| at_us)
        .ok_or(SceneError::Missing("the door was never unlocked"))
}

fn shows(word: &str) -> impl Fn(&Value) -> bool {
    move |report| report["state"] == word
}

fn judge(trace: &[TraceLine]) -> Check {
    let commands = |word: &'static str| {
        let of = move |line: &&TraceLine| line.command["state"] == word;
        trace.iter().filter(of)
    };
    let done = |word| commands(word).filter(|line| line.carried_out);
    // The door is open from the first that the lock hears of an unlocking; whatever it hears of that
    // one later is a copy.
    let opened = |id: &Option<String>| commands("UNLOCK").find(|line| line.id == *id);
    let late = commands("UNLOCK").filter(|line| {
        let opened = opened(&line.id).map_or(line.at_us, |first| first.at_us);
        line.at_us >= opened + micros(OPEN)
    });
    let late = late.count();
    let opens: Vec<u64> = done("UNLOCK").map(|line| line.at_us).collect();
    let locks: Vec<u64> = done("LOCK").map(|line| line.at_us).collect();
    let open_for: Vec<u64> = opens
        .iter()
        .zip(&locks)
        .map(|(opened, locked)| milliseconds(*opened, *locked))
        .collect();
    let early = micros(OPEN).saturating_sub(EARLY_US_MAX) / 1_000;
    let too_soon = open_for.iter().filter(|span| **span < early).count();
    check(
        "no door was unlocked by the past",
        opens.len() == 2 && locks.len() == 2 && late == 0 && too_soon == 0,
        json!({
            "unlocked": opens.len(),
            "locked_again": locks.len(),
            "open_for_ms": open_for,
            "unlocked_after_the_end": late,
            "locked_too_soon": too_soon,
        }),
    )
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_is_locked_again_each_time_holds() {
        assert!(judge(&evening()).held, "{:?}", judge(&evening()));
    }

    #[test]
    fn a_door_that_opens_again_or_stays_open_fails() {
        type Spoil = fn(&mut Vec<TraceLine>);
        let cases: [Spoil; 5] = [
            // The old unlocking comes again after its end.
            |trace| trace.push(line(5_500_000, "k/1.1.0", "UNLOCK", true)),
            // A copy of it comes after its end, and does nothing because the door is open anyway.
            |trace| trace.insert(3, line(4_200_000, "k/1.1.0", "UNLOCK", false)),
            // Nobody locks.
            |trace| {
                trace.pop();
            },
            // Somebody locks at once.
            |trace| trace[1].at_us = 500_000,
            // Nothing happened at all.
            Vec::clear,
        ];
        for (number, spoil) in cases.into_iter().enumerate() {
            let mut trace = evening();
            spoil(&mut trace);
            assert!(!judge(&trace).held, "case {number}");
        }
    }

    #[test]
    fn an_unlocking_that_comes_twice_while_it_holds_is_harmless() {
        let mut trace = evening();
        trace.insert(1, line(900_000, "k/1.1.0", "UNLOCK", false));
        assert!(judge(&trace).held);
    }

    fn evening() -> Vec<TraceLine> {
        vec![
            line(0, "k/1.1.0", "UNLOCK", true),
            line(2_010_000, "k/1.5.0", "LOCK", true),
            line(3_000_000, "k/1.7.0", "UNLOCK", true),
            line(5_150_000, "k/1.9.0", "LOCK", true),
        ]
    }

    fn line(at_us: u64, id: &str, word: &str, carried_out: bool) -> TraceLine {
        TraceLine {
            at_us,
            device: "lock".into(),
            id: Some(id.into()),
            command: json!({ "state": word }),
            carried_out,
            state: json!({ "state": word }),
        }
    }
}
