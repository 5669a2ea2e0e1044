//! What devices really do, as sequences of signals.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::model::Probe;

const LAMP: &str = "lamp";

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}

fn at(seconds: f64) -> Now {
    let wall = (seconds * 1_000_000.0) as i64;
    Now {
        monotonic: Monotonic(u64::try_from(wall).unwrap() * 1_000),
        wall: WallClock(wall),
        skew: Duration::ZERO,
    }
}

fn debounced() -> Liveness {
    Liveness {
        debounce: Duration::from_secs(2),
        ..Liveness::default()
    }
}

/// It is asked every 5 s and has 1 s to answer.
fn probed() -> Liveness {
    Liveness {
        probe: Some(Probe {
            every: Duration::from_secs(5),
            within: Duration::from_secs(1),
        }),
        ..debounced()
    }
}

/// A monitor, and with when it did what. Time passes by itself.
struct Watching {
    monitor: ApplianceMonitor,
    did: Vec<(f64, Effect)>,
}

impl Watching {
    fn new(all: &[(&str, Liveness)]) -> Self {
        let mut watching = Self {
            monitor: ApplianceMonitor::new(),
            did: vec![],
        };
        let watch = |(name, liveness): &(&str, Liveness)| ApplianceWatch {
            address: None,
            appliance: id(name),
            topic: None,
            asked_for: "state".into(),
            liveness: liveness.clone(),
        };
        let all = all.iter().map(watch).collect();
        watching.tell(0.0, Input::Watched(all));
        watching.tell(0.0, Input::Connected);
        watching
    }

    fn tell(&mut self, seconds: f64, input: Input) {
        self.pass(seconds);
        let mut effects = vec![];
        self.monitor.handle(at(seconds), input, &mut effects);
        self.note(seconds, effects);
    }

    /// Wakes the monitor whenever it wants to be woken, up to this instant.
    fn pass(&mut self, seconds: f64) {
        while let Some(due) = self.monitor.next_deadline()
            && due <= at(seconds).monotonic
        {
            let due = due.0 as f64 / 1e9;
            let mut effects = vec![];
            self.monitor.wake(at(due), &mut effects);
            self.note(due, effects);
            assert!(
                self.monitor.next_deadline() != Some(at(due).monotonic),
                "it asks to be woken again at once"
            );
        }
    }

    fn note(&mut self, seconds: f64, effects: Vec<Effect>) {
        self.did
            .extend(effects.into_iter().map(|effect| (seconds, effect)));
    }

    fn heard(&mut self, seconds: f64) {
        self.tell(seconds, Input::Heard(id(LAMP)));
    }

    fn available(&mut self, seconds: f64, available: bool) {
        let appliance = id(LAMP);
        self.tell(
            seconds,
            Input::AvailabilityTold {
                appliance,
                available,
                retained: false,
            },
        );
    }

    /// The broker had kept that it is there.
    fn kept_available(&mut self, seconds: f64) {
        let told = Input::AvailabilityTold {
            appliance: id(LAMP),
            available: true,
            retained: true,
        };
        self.tell(seconds, told);
    }

    fn bridge(&mut self, seconds: f64, available: bool) {
        let bridge = "bridge/state".into();
        self.tell(seconds, Input::BridgeTold { bridge, available });
    }

    /// What it judged, without what it asked.
    fn judged(&self) -> Vec<(f64, Effect)> {
        let judged = self.did.iter();
        judged
            .filter(|(_, effect)| !matches!(effect, Effect::Probe(_)))
            .cloned()
            .collect()
    }

    fn asked(&self) -> Vec<f64> {
        let asked = self.did.iter();
        asked
            .filter(|(_, effect)| matches!(effect, Effect::Probe(_)))
            .map(|(at, _)| *at)
            .collect()
    }
}

fn trusted() -> Effect {
    Effect::Judge(id(LAMP), ApplianceVerdict::Trusted)
}

fn suspected(since: f64, signal: Signal) -> Effect {
    let since = at(since).wall;
    Effect::Judge(id(LAMP), ApplianceVerdict::Suspected { since, signal })
}

#[test]
fn an_appliance_that_reports_regularly_is_trusted_until_it_is_silent() {
    let liveness = Liveness {
        silent_after: Some(Duration::from_secs(10)),
        ..debounced()
    };
    let mut lamp = Watching::new(&[(LAMP, liveness)]);
    for seconds in [4.0, 8.0, 17.0] {
        lamp.heard(seconds);
    }
    lamp.pass(100.0);
    lamp.heard(101.0);
    let expected = [
        (4.0, trusted()),
        (29.0, suspected(27.0, Signal::Silence)),
        (101.0, trusted()),
    ];
    assert_eq!(lamp.judged(), expected);
}

#[test]
fn offline_and_online_within_the_same_second_is_nothing() {
    let mut lamp = Watching::new(&[(LAMP, debounced())]);
    lamp.heard(1.0);
    lamp.available(5.0, false);
    lamp.available(5.4, true);
    lamp.pass(100.0);
    assert_eq!(lamp.judged(), [(1.0, trusted())]);
}

#[test]
fn an_appliance_that_stays_offline_is_suspected_after_the_debounce() {
    let mut lamp = Watching::new(&[(LAMP, debounced())]);
    lamp.available(5.0, false);
    lamp.available(6.0, false);
    lamp.pass(100.0);
    assert_eq!(lamp.judged(), [(7.0, suspected(5.0, Signal::Offline))]);
}

#[test]
fn an_appliance_that_does_not_answer_is_asked_again_before_it_is_suspected() {
    let mut lamp = Watching::new(&[(LAMP, probed())]);
    lamp.heard(0.1);
    lamp.pass(5.1);
    lamp.heard(5.2);
    lamp.pass(13.5);
    assert_eq!(lamp.asked(), [0.0, 5.1, 10.2, 11.2, 12.2, 13.2]);
    let expected = [(0.1, trusted()), (13.2, suspected(11.2, Signal::NoAnswer))];
    assert_eq!(lamp.judged(), expected);
    // Afterwards it is asked as often as usual, so that its return is seen.
    lamp.pass(20.0);
    assert_eq!(lamp.asked()[6..], [19.2]);
    lamp.heard(19.3);
    assert_eq!(lamp.judged().last(), Some(&(19.3, trusted())));
}

#[test]
fn an_answer_refutes_what_others_say() {
    let mut lamp = Watching::new(&[(LAMP, probed())]);
    lamp.heard(0.1);
    lamp.available(2.0, false);
    // It is asked at once, and answers.
    assert_eq!(lamp.asked(), [0.0, 2.0]);
    lamp.heard(2.1);
    lamp.pass(5.0);
    assert_eq!(lamp.judged(), [(0.1, trusted())]);
}

#[test]
fn a_late_answer_is_an_answer() {
    let mut lamp = Watching::new(&[(LAMP, probed())]);
    lamp.pass(1.5);
    lamp.heard(1.6);
    lamp.pass(5.0);
    assert_eq!(lamp.judged(), [(1.6, trusted())]);
}

#[test]
fn a_sleepy_appliance_is_never_asked_and_returns_by_itself() {
    let liveness = Liveness {
        silent_after: Some(Duration::from_secs(90_000)),
        ..debounced()
    };
    let mut button = Watching::new(&[(LAMP, liveness)]);
    button.heard(1.0);
    button.pass(200_000.0);
    button.heard(200_001.0);
    let expected = [
        (1.0, trusted()),
        (90_003.0, suspected(90_001.0, Signal::Silence)),
        (200_001.0, trusted()),
    ];
    assert_eq!(button.judged(), expected);
    assert_eq!(button.asked(), []);
}

#[test]
fn without_any_signal_nothing_is_suspected() {
    let mut lamp = Watching::new(&[(LAMP, Liveness::default())]);
    lamp.pass(1e6);
    assert_eq!(lamp.did, []);
}

#[test]
fn a_bridge_that_is_down_is_one_failure_and_nobody_behind_it_is_blamed() {
    let behind = |liveness: Liveness| Liveness {
        bridge: Some("bridge/state".into()),
        silent_after: Some(Duration::from_secs(10)),
        ..liveness
    };
    let all = [(LAMP, behind(probed())), ("other", behind(debounced()))];
    let mut house = Watching::new(&all);
    house.heard(0.1);
    house.bridge(1.0, false);
    house.available(1.0, false);
    house.pass(1_000.0);
    let down = (
        3.0,
        Effect::JudgeBridge("bridge/state".into(), BridgeVerdict::Down(at(1.0).wall)),
    );
    assert_eq!(house.judged(), [(0.1, trusted()), down.clone()]);
    assert_eq!(house.asked(), [0.0]);

    // When it is back each device has its time anew; one that stays away is its own failure.
    house.bridge(1_000.0, true);
    house.heard(1_000.1);
    house.heard(1_005.2);
    house.pass(1_009.0);
    let up = Effect::JudgeBridge("bridge/state".into(), BridgeVerdict::Up);
    assert_eq!(house.judged()[2..], [(1_000.0, up)]);
    house.heard(1_009.1);
    house.pass(1_013.0);
    let gone = ApplianceVerdict::Suspected {
        since: at(1_010.0).wall,
        signal: Signal::Silence,
    };
    assert_eq!(
        house.judged()[3..],
        [(1_012.0, Effect::Judge(id("other"), gone))]
    );
}

#[test]
fn a_restart_of_the_bridge_within_the_debounce_is_nothing() {
    let liveness = Liveness {
        bridge: Some("bridge/state".into()),
        ..debounced()
    };
    let mut lamp = Watching::new(&[(LAMP, liveness)]);
    lamp.heard(0.5);
    lamp.bridge(1.0, false);
    lamp.bridge(2.0, true);
    lamp.available(2.1, false);
    lamp.available(2.3, true);
    lamp.pass(100.0);
    assert_eq!(lamp.judged(), [(0.5, trusted())]);
}

#[test]
fn what_is_heard_through_a_bridge_shows_that_it_is_there() {
    let liveness = Liveness {
        bridge: Some("bridge/state".into()),
        ..debounced()
    };
    let mut lamp = Watching::new(&[(LAMP, liveness)]);
    lamp.bridge(1.0, false);
    lamp.heard(1.5);
    lamp.pass(100.0);
    assert_eq!(lamp.judged(), [(1.5, trusted())]);
}

#[test]
fn what_others_say_of_an_appliance_does_not_show_that_its_bridge_is_there() {
    let liveness = Liveness {
        bridge: Some("bridge/state".into()),
        ..debounced()
    };
    let down = Effect::JudgeBridge("bridge/state".into(), BridgeVerdict::Down(at(1.0).wall));
    let mut lamp = Watching::new(&[(LAMP, liveness)]);
    lamp.heard(0.5);
    lamp.bridge(1.0, false);
    lamp.kept_available(1.5);
    lamp.available(1.6, true);
    lamp.pass(100.0);
    assert_eq!(lamp.judged(), [(0.5, trusted()), (3.0, down)]);
}

#[test]
fn what_a_broker_kept_of_old_brings_no_appliance_back() {
    let mut lamp = Watching::new(&[(LAMP, probed())]);
    lamp.pass(10.0);
    let dead = lamp.judged();
    assert_eq!(dead, [(3.0, suspected(1.0, Signal::NoAnswer))]);
    lamp.kept_available(11.0);
    lamp.pass(20.0);
    assert_eq!(lamp.judged(), dead);
}

#[test]
fn what_a_broker_kept_of_old_takes_back_that_an_appliance_was_said_to_be_offline() {
    let mut lamp = Watching::new(&[(LAMP, debounced())]);
    lamp.available(5.0, false);
    lamp.kept_available(5.4);
    lamp.pass(100.0);
    assert_eq!(lamp.judged(), []);
}

#[test]
fn while_our_own_connection_is_down_silence_says_nothing() {
    let liveness = Liveness {
        silent_after: Some(Duration::from_secs(10)),
        ..probed()
    };
    let mut lamp = Watching::new(&[(LAMP, liveness)]);
    lamp.heard(0.1);
    lamp.tell(1.0, Input::Disconnected);
    lamp.pass(1_000.0);
    lamp.tell(1_000.0, Input::Connected);
    lamp.heard(1_000.1);
    lamp.pass(1_004.0);
    assert_eq!(lamp.judged(), [(0.1, trusted())]);
    assert_eq!(lamp.asked(), [0.0, 1_000.0]);
}
