//! What a failure detector would do on a network: how often it would be wrong, and how long it would
//! take. The rules that run are those of a running application.

mod network;
mod observer;
mod rival;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use lamplighter_policies::detection::{HeartbeatProfile, Suspicion, Verdict};
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::DetectionProfile;
use lamplighter_policies::time::Monotonic;
use serde::Serialize;

use self::network::Weather;
pub(crate) use self::network::{NETWORKS, Network};
use self::observer::Observer;
use self::rival::Rival;

/// How many others observe the same server.
const OTHER_OBSERVERS: u64 = 2;
/// How far back and ahead heartbeats may still be on their way.
const STRAGGLERS: u64 = 64;

/// A way to notice that a server is gone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Detector {
    pub(crate) name: String,
    pub(crate) interval: Duration,
    pub(crate) kind: Kind,
    /// Whether others look too before a suspicion counts.
    pub(crate) confirmed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Lamplighter's own, with these times.
    Expected(HeartbeatProfile),
    /// What others do, for comparison.
    Rival(Rival),
}

/// What a detector did on a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Outcome {
    pub(crate) detector: String,
    pub(crate) network: &'static str,
    pub(crate) interval_ms: u128,
    pub(crate) heartbeats: u64,
    /// Suspicions of a server that was there, per heartbeat.
    pub(crate) suspected: f64,
    /// Those of them that were taken for failures, per heartbeat.
    pub(crate) failed: f64,
    /// How long a crash just after a heartbeat goes unnoticed, in milliseconds.
    pub(crate) detected_p99_ms: f64,
    pub(crate) detected_max_ms: f64,
}

/// The detectors of the profiles, and what they compare with.
pub(crate) fn detectors() -> Vec<Detector> {
    let ours = |profile: DetectionProfile, name: &str| {
        let heartbeats = profile.heartbeats();
        Detector {
            name: format!("profile {name}"),
            interval: heartbeats.interval,
            kind: Kind::Expected(heartbeats),
            confirmed: true,
        }
    };
    let fixed = |interval, timeout| Detector {
        name: format!("fixed {timeout} ms, alone"),
        interval: Duration::from_millis(interval),
        kind: Kind::Rival(Rival::fixed(timeout)),
        confirmed: false,
    };
    let accrual = |interval, pause| Detector {
        name: format!("accrual 8, pause {pause} ms, alone"),
        interval: Duration::from_millis(interval),
        kind: Kind::Rival(Rival::accrual(pause)),
        confirmed: false,
    };
    let alone = HeartbeatProfile {
        margin: Duration::from_millis(300),
        ..DetectionProfile::Fast.heartbeats()
    };
    vec![
        ours(DetectionProfile::Fast, "fast"),
        ours(DetectionProfile::Paper, "paper"),
        ours(DetectionProfile::Wifi, "wifi"),
        fixed(500, 750),
        fixed(500, 1_500),
        accrual(500, 0),
        fixed(100, 300),
        fixed(100, 800),
        accrual(100, 200),
        Detector {
            name: "expected + 300 ms, alone".to_owned(),
            interval: alone.interval,
            kind: Kind::Expected(alone),
            confirmed: false,
        },
    ]
}

/// Lets a healthy server send so many heartbeats over a network, and counts what the detector thinks.
pub(crate) fn simulate(
    detector: &Detector,
    network: Network,
    heartbeats: u64,
    seed: u64,
) -> Outcome {
    let interval = detector.interval.as_secs_f64();
    let span = interval * (heartbeats + 2 * STRAGGLERS) as f64;
    let run = Run {
        weather: Weather::new(network, seed, span),
        interval,
        detector,
    };
    run.counted(network, heartbeats)
}

struct Run<'a> {
    weather: Weather,
    interval: f64,
    detector: &'a Detector,
}

/// The estimator of one observer.
enum Estimator {
    Expected(Observer),
    Rival(Rival),
}

impl Estimator {
    fn heard(&mut self, at: f64, sequence: u64) {
        match self {
            Self::Expected(observer) => observer.heard(instant(at), sequence),
            Self::Rival(rival) => drop(rival.heard(at, sequence)),
        }
    }

    /// When the server is suspected before `at`, if it is.
    fn suspects_before(&mut self, at: f64) -> Option<f64> {
        match self {
            Self::Expected(observer) => observer.suspects_before(instant(at)).map(seconds),
            Self::Rival(rival) => rival.deadline().filter(|deadline| *deadline < at),
        }
    }

    /// When the server is suspected if nothing more is heard.
    fn deadline(&self) -> Option<f64> {
        match self {
            Self::Expected(observer) => observer.deadline().map(seconds),
            Self::Rival(rival) => rival.deadline(),
        }
    }
}

impl Run<'_> {
    fn counted(&self, network: Network, heartbeats: u64) -> Outcome {
        let mut estimator = match &self.detector.kind {
            Kind::Expected(profile) => Estimator::Expected(Observer::of_server(*profile)),
            Kind::Rival(rival) => Estimator::Rival(rival.clone()),
        };
        let (mut suspected, mut failed) = (0_u64, 0_u64);
        let mut detected = Vec::new();
        let mut on_their_way = BinaryHeap::new();
        for sequence in 1..=heartbeats {
            if let Some(at) = self.heartbeat(sequence, 0) {
                on_their_way.push(Reverse((instant(at), sequence)));
            }
            let next_sent = instant(self.sent(sequence + 1));
            while let Some(Reverse((at, heard))) = on_their_way.peek().copied()
                && at <= next_sent
            {
                on_their_way.pop();
                let at = at.0 as f64 / 1e9;
                if let Some(deadline) = estimator.suspects_before(at) {
                    suspected += 1;
                    failed += u64::from(!self.detector.confirmed || self.confirmed(deadline));
                }
                estimator.heard(at, heard);
            }
            // If the server had crashed just after this heartbeat, nothing more would be heard.
            if sequence.is_multiple_of((heartbeats / 20_000).max(1))
                && let Some(deadline) = estimator.deadline()
            {
                detected.push((deadline - self.sent(sequence) + self.confirming()) * 1e3);
            }
        }
        detected.sort_by(f64::total_cmp);
        let share = |count: u64| count as f64 / heartbeats as f64;
        let at = |share: f64| detected[((detected.len() - 1) as f64 * share) as usize];
        Outcome {
            detector: self.detector.name.clone(),
            network: network.name,
            interval_ms: self.detector.interval.as_millis(),
            heartbeats,
            suspected: share(suspected),
            failed: share(failed),
            detected_p99_ms: at(0.99),
            detected_max_ms: at(1.0),
        }
    }

    fn sent(&self, sequence: u64) -> f64 {
        self.interval * sequence as f64
    }

    /// When a heartbeat arrives at one of the observers.
    fn heartbeat(&self, sequence: u64, observer: u64) -> Option<f64> {
        let sent_at = self.sent(sequence);
        self.weather.arrival(sent_at, sequence, observer, 1)
    }

    fn confirming(&self) -> f64 {
        match &self.detector.kind {
            Kind::Expected(profile) if self.detector.confirmed => {
                profile.confirmation.within.as_secs_f64()
            }
            Kind::Expected(_) | Kind::Rival(_) => 0.0,
        }
    }

    /// Whether a suspicion at `since` of a server that is there would be taken for a failure.
    fn confirmed(&self, since: f64) -> bool {
        let Kind::Expected(profile) = &self.detector.kind else {
            return true;
        };
        let rules = profile.confirmation;
        let name = |name: &str| EntityId::new(name).expect("a fixed name");
        let mut suspicion = Suspicion::new(rules, instant(since));
        suspicion.silent(name("first"), 0);
        suspicion.silent(name("second"), 0);
        let until = since + rules.within.as_secs_f64();
        let mut signs: Vec<f64> = Vec::new();
        let about = (since / self.interval) as u64;
        for sequence in about.saturating_sub(STRAGGLERS)..=about + STRAGGLERS {
            let heard = (0..=OTHER_OBSERVERS).filter_map(|by| self.heartbeat(sequence, by));
            signs.extend(heard);
        }
        // The observer asks directly; a relay is asked and tells over two legs more.
        let lookers =
            (0..=u64::from(rules.relays)).map(|looker| (8 + looker, 2 + 2 * looker.min(1)));
        for (salt, legs) in lookers {
            let mut looker = Observer::who_looks(*profile, instant(since));
            let mut round = 0;
            let answered = |asked_at| {
                round += 1;
                let message = instant(since).0 ^ (round - 1);
                let answer = self.weather.arrival(seconds(asked_at), message, salt, legs);
                answer.map(instant)
            };
            signs.extend(looker.hears_until(instant(until), answered).map(seconds));
        }
        for sign in signs.into_iter().filter(|sign| *sign <= until) {
            suspicion.alive(instant(sign));
        }
        suspicion.verdict(instant(until)) == Verdict::Confirmed
    }
}

fn seconds(instant: Monotonic) -> f64 {
    instant.0 as f64 / 1e9
}

fn instant(seconds: f64) -> Monotonic {
    Monotonic((seconds * 1e9) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(detector: usize, network: usize) -> Outcome {
        simulate(&detectors()[detector], NETWORKS[network], 50_000, 1)
    }

    #[test]
    fn the_same_seed_gives_the_same_outcome() {
        assert_eq!(outcome(0, 3), outcome(0, 3));
    }

    #[test]
    fn what_is_confirmed_by_others_is_rarely_wrong_and_what_is_decided_alone_is() {
        let fast = outcome(0, 1);
        assert_eq!(fast.failed, 0.0);
        assert!((790.0..900.0).contains(&fast.detected_p99_ms), "{fast:?}");
        let paper = outcome(1, 1);
        assert_eq!(paper.failed, 0.0);
        assert!(
            (930.0..1_000.0).contains(&paper.detected_p99_ms),
            "{paper:?}"
        );
        let alone = outcome(3, 1);
        assert!((0.007..0.014).contains(&alone.failed), "{alone:?}");
    }
}
