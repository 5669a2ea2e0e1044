//! While nobody knows what the store's clock reads nothing is sent, and nothing that may hold is let go.

use super::substituting::{actuated, properties};
use super::world::asks;
use super::*;
use crate::model::Value;
use crate::state_saving::{Missed, Timed, Timer, TimerChange};

/// A clock that was set, by years.
fn unsure(monotonic_ms: u64) -> Now {
    Now {
        monotonic: Monotonic(monotonic_ms * 1_000_000),
        wall: WallClock(99_000_000_000),
        skew: Duration::MAX,
    }
}

fn sure(ms: u64) -> Now {
    at(i64::try_from(ms).unwrap() * 1_000)
}

fn timer(missed: Missed) -> Handled {
    let timer = Timer {
        due_at: WallClock(20_000),
        expires_at: Some(WallClock(60_000_000)),
        missed,
        payload: vec![5],
    };
    Handled {
        timers: vec![TimerChange::Set("late".into(), timer)],
        ..Handled::default()
    }
}

fn fired() -> Vec<Record> {
    vec![Record::Timer(Timed {
        key: "late".into(),
        due_at: WallClock(20_000),
        expires_at: Some(WallClock(60_000_000)),
        payload: vec![5],
    })]
}

#[test]
fn a_timer_with_an_end_waits_until_the_clock_is_known_and_the_store_is_asked_for_it() {
    let mut told = Told::live();
    told.event(sure(1), 1, timer(Missed::Fire));
    assert_eq!(told.wake(unsure(30)), []);
    let ask_at = told.cell.next_deadline();
    assert_eq!(ask_at, Some(unsure(530).monotonic));
    assert!(told.wake(unsure(530)).contains(&Effect::Prove));
    assert!(!told.wake(unsure(531)).contains(&Effect::Prove));
    let proven = Input::Proven {
        asked_at: unsure(530).monotonic,
    };
    told.tell(sure(540), proven);
    assert_eq!(told.cell.next_deadline(), Some(sure(540).monotonic));
    let first = told.cell.log.head + 1;
    let records = fired();
    let effects = told.wake(sure(540));
    assert!(
        effects.contains(&Effect::Append { first, records }),
        "{effects:?}"
    );
}

#[test]
fn a_recovery_shows_what_holds_as_soon_as_the_clock_is_known() {
    let mut told = Told::starting();
    let now = unsure(30);
    told.tell(now, restored(vec![batch(1, logged(1, 0, None))]));
    let handled = asks("lamp", "state", Value::Integer(7), Some(60_000_000));
    told.tell(now, Input::Handled { index: 1, handled });
    let asks = |effects: &[Effect]| {
        let asked = effects.iter();
        asked
            .filter(|effect| matches!(effect, Effect::Compare { .. }))
            .count()
    };
    let effects = told.tell(now, Input::Connected).to_vec();
    assert_eq!((asks(&effects), actuated(&effects)), (0, vec![]));
    let proven = Input::Proven {
        asked_at: now.monotonic,
    };
    let effects = told.tell(sure(40), proven).to_vec();
    assert_eq!((asks(&effects), actuated(&effects)), (1, vec![]));
    let shown = Input::Compared {
        link: "lamp".into(),
        question: 0,
        shown: None,
    };
    // A clock may be set again meanwhile.
    let effects = told.tell(unsure(50), shown).to_vec();
    assert_eq!(actuated(&effects), []);
    let effects = told.wake(sure(60)).to_vec();
    assert_eq!(actuated(&effects), [properties(7)]);
}

#[test]
fn only_a_known_clock_tells_which_timers_an_outage_missed() {
    for (missed, fires) in [(Missed::Fire, true), (Missed::Drop, false)] {
        let mut told = Told::starting();
        told.tell(unsure(30), restored(vec![batch(1, logged(1, 0, None))]));
        let handled = timer(missed);
        told.tell(unsure(30), Input::Handled { index: 1, handled });
        told.tell(unsure(30), Input::Connected);
        assert_eq!(told.cell.timers.iter().count(), 1);
        let mut effects = told.tell(sure(40), Input::Connected).to_vec();
        effects.extend_from_slice(told.wake(sure(41)));
        let appended = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Append { records, .. } if *records == fired()));
        assert_eq!(appended, fires, "{missed:?}");
    }
}
