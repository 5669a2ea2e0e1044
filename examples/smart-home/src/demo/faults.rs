//! Which faults the house suffers, and when: all of it follows from one seed.

use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use lamplighter::scenario::Scenario;

/// The elements, as the topology names them.
pub const ELEMENTS: [&str; 7] = [
    "awox-actuate",
    "fibaro-adapter",
    "node-hue-actuate",
    "node-hue-sense",
    "orchestrator",
    "sound-player",
    "wemo-sense",
];

/// Elements whose handlers are made to panic: those that the motion sensor keeps busy, so that the
/// panic comes at once and not hours later.
const PANICKING: [&str; 2] = ["fibaro-adapter", "orchestrator"];

/// How many handlers panic.
const PANICS: usize = 4;

/// How many elements are killed at once, once (the paper's hardest case of experiment 1).
const AT_ONCE: usize = 4;

/// Faults stay clear of the recording's first and last seconds, so that there is a house to break
/// and time to see it repaired.
const MARGIN_MS: u64 = 3_000;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The hosts of these elements get SIGKILL at the same instant.
    Killed(Vec<&'static str>),
    /// The next event that this element handles makes its handler panic.
    Panicked(&'static str),
}

impl Fault {
    /// Which elements fail.
    #[must_use]
    pub fn elements(&self) -> Vec<&'static str> {
        match self {
            Self::Killed(elements) => elements.clone(),
            Self::Panicked(element) => vec![element],
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(elements) => write!(f, "kill -9 {}", elements.join(", ")),
            Self::Panicked(element) => write!(f, "a handler of {element} panics"),
        }
    }
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFault {
    /// Milliseconds since the recording began.
    pub at_ms: u64,
    /// What goes wrong.
    pub fault: Fault,
}

impl PlannedFault {
    /// When it is due if the recording is played `speed` times as fast as it was recorded.
    #[must_use]
    pub fn due(&self, speed: f64) -> Duration {
        Duration::from_millis(self.at_ms).div_f64(speed)
    }
}

/// Plans the faults: each element is killed once, four are killed at once, four handlers panic, in
/// random order, each in its own part of the evening, close to an event.
#[must_use]
pub fn plan(seed: u64, recording: &Scenario) -> Vec<PlannedFault> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut faults: Vec<Fault> = ELEMENTS.iter().map(|e| Fault::Killed(vec![e])).collect();
    faults.push(Fault::Killed(
        ELEMENTS
            .choose_multiple(&mut random, AT_ONCE)
            .copied()
            .collect(),
    ));
    faults.extend((0..PANICS).map(|n| Fault::Panicked(PANICKING[n % PANICKING.len()])));
    faults.shuffle(&mut random);

    let length = u64::try_from(recording.length().as_millis()).unwrap_or(u64::MAX);
    let part = length.saturating_sub(2 * MARGIN_MS) / faults.len() as u64;
    faults
        .into_iter()
        .zip(0..)
        .map(|(fault, number)| {
            let begins = MARGIN_MS + number * part;
            let at_ms = moment(&mut random, &fault, recording, begins, begins + part);
            PlannedFault { at_ms, fault }
        })
        .collect()
}

/// A moment within the part: around an event for a kill, so that it strikes while events flow; just
/// before somebody moves for a panic, so that there is something to panic at.
fn moment(
    random: &mut ChaCha8Rng,
    fault: &Fault,
    recording: &Scenario,
    begins: u64,
    ends: u64,
) -> u64 {
    let panics = matches!(fault, Fault::Panicked(_));
    let moves = |payload: &[u8]| {
        let payload = std::str::from_utf8(payload).unwrap_or_default();
        payload.contains(r#""occupancy":true"#)
    };
    let events: Vec<u64> = recording
        .messages
        .iter()
        .filter(|message| !panics || moves(&message.payload))
        .map(|message| u64::try_from(message.at.as_millis()).unwrap_or(u64::MAX))
        .filter(|at| (begins..ends).contains(at))
        .collect();
    match events.choose(random) {
        Some(at) if panics => at.saturating_sub(random.random_range(300..600)),
        Some(at) => (at + random.random_range(0..60)).saturating_sub(40),
        None => random.random_range(begins..ends.max(begins + 1)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn evening() -> Scenario {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/zigbee2mqtt-evening.jsonl");
        crate::evening::read_evening(&path).unwrap()
    }

    #[test]
    fn one_seed_gives_one_plan_and_another_seed_another() {
        let evening = evening();
        assert_eq!(plan(7, &evening), plan(7, &evening));
        assert_ne!(plan(7, &evening), plan(8, &evening));
    }

    #[test]
    fn every_plan_kills_each_element_and_four_at_once_and_makes_four_handlers_panic() {
        let evening = evening();
        for seed in 0..50 {
            let plan = plan(seed, &evening);
            let single: BTreeSet<_> = plan
                .iter()
                .filter_map(|p| match &p.fault {
                    Fault::Killed(elements) if elements.len() == 1 => Some(elements[0]),
                    Fault::Killed(_) | Fault::Panicked(_) => None,
                })
                .collect();
            assert_eq!(single, BTreeSet::from(ELEMENTS));
            let count =
                |wanted: fn(&Fault) -> bool| plan.iter().filter(|p| wanted(&p.fault)).count();
            assert_eq!(count(|f| f.elements().len() == AT_ONCE), 1);
            assert_eq!(count(|f| matches!(f, Fault::Panicked(_))), PANICS);
        }
    }

    #[test]
    fn faults_come_in_order_and_within_the_evening() {
        let evening = evening();
        for seed in 0..50 {
            let plan = plan(seed, &evening);
            assert!(plan.is_sorted_by_key(|p| p.at_ms), "{plan:#?}");
            assert!(plan.iter().all(|p| (2_000..93_000).contains(&p.at_ms)));
        }
    }
}
