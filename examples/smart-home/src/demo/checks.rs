//! What must hold after the evening: one function a check, from evidence alone.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::simulator::TraceLine;

/// What one house leaves behind when the evening is over.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// When the recording began to play, in microseconds since 1970 UTC.
    pub began_us: u64,
    /// How many messages the broker acknowledged, by topic.
    pub acknowledged: BTreeMap<String, u64>,
    /// The state of each element, as the element itself has it.
    pub states: BTreeMap<String, Value>,
    /// What the devices were told and did.
    pub trace: Vec<TraceLine>,
    /// Inputs that elements gave up.
    pub dead_letters: u64,
    /// Processes of the house that still ran after it was stopped.
    pub left_running: Vec<String>,
}

/// The outcome of one fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Repair {
    /// What went wrong, in plain words.
    pub fault: String,
    /// Which element failed by it.
    pub element: String,
    /// When, in milliseconds since the recording began to play.
    pub at_ms: u64,
    /// From the fault until the element was live again, in milliseconds; `None` if it never was.
    pub repaired_ms: Option<f64>,
    /// The phases of the repair, in their order, each with its milliseconds.
    pub phases: Vec<(String, f64)>,
}

/// A promise and whether it was kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The promise.
    pub name: &'static str,
    /// Whether it was kept.
    pub held: bool,
    /// The figures it was judged by.
    pub figures: Map<String, Value>,
}

/// Which counter of which element counts the messages of a topic.
const COUNTED: [(&str, &str, &str); 3] = [
    (
        "zigbee2mqtt/0x0017880100fa1005",
        "fibaro-adapter",
        "room_reports",
    ),
    (
        "zigbee2mqtt/0x0017880100fa1006",
        "fibaro-adapter",
        "door_reports",
    ),
    (
        "zigbee2mqtt/0x0017880100fa1007",
        "node-hue-sense",
        "reports",
    ),
];

/// Fields of states that hold instants of the wall clock, which no two runs share.
const OF_THE_MOMENT: [&str; 1] = ["presence"];

/// How far apart the same change of the same lamp may lie in two houses, in microseconds: a repair
/// takes its time, and no more than this.
const APART_US_MAX: u64 = 2_000_000;

/// Judges the house that was broken by the one that was left alone.
#[must_use]
pub fn judge(broken: &Evidence, untouched: &Evidence, repairs: &[Repair]) -> Vec<Check> {
    vec![
        none_lost(broken),
        each_once(broken, untouched),
        none_twice(broken),
        none_blinked(broken, untouched),
        all_repaired(repairs),
        none_left_running(broken, untouched),
    ]
}

fn none_lost(broken: &Evidence) -> Check {
    let mut acknowledged = 0;
    let mut received = 0;
    let mut lost = 0;
    for (topic, element, counter) in COUNTED {
        let sent = broken.acknowledged.get(topic).copied().unwrap_or(0);
        let counted = counter_of(broken, element, counter);
        acknowledged += sent;
        received += counted;
        lost += sent.saturating_sub(counted);
    }
    check(
        "no acknowledged event was lost",
        acknowledged > 0 && lost == 0 && broken.dead_letters == 0,
        json!({
            "acknowledged": acknowledged,
            "received": received,
            "lost": lost,
            "given_up": broken.dead_letters,
        }),
    )
}

fn each_once(broken: &Evidence, untouched: &Evidence) -> Check {
    let mut compared = 0_u64;
    let mut differences = Vec::new();
    for (element, expected) in &untouched.states {
        let found = broken.states.get(element).unwrap_or(&Value::Null);
        // Two houses that both cannot say their state agree on nothing.
        if !expected.is_object() {
            differences.push(format!("{element}: no state to compare with: {expected}"));
            continue;
        }
        compared += compare(element, expected, found, &mut differences);
    }
    let surplus: u64 = [broken, untouched].map(surplus).iter().sum();
    check(
        "each event was handled once",
        compared > 0 && differences.is_empty() && surplus == 0,
        json!({
            "elements": untouched.states.len(),
            "values_compared": compared,
            "differences": differences,
            "received_more_than_sent": surplus,
        }),
    )
}

/// How many more messages the sensing elements counted than were ever sent to them.
fn surplus(house: &Evidence) -> u64 {
    COUNTED
        .iter()
        .map(|(topic, element, counter)| {
            let sent = house.acknowledged.get(*topic).copied().unwrap_or(0);
            counter_of(house, element, counter).saturating_sub(sent)
        })
        .sum()
}

fn none_twice(broken: &Evidence) -> Check {
    let mut times: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    let mut nameless = 0_u64;
    for line in &broken.trace {
        let Some(id) = &line.id else {
            nameless += 1;
            continue;
        };
        let (came, done) = times.entry((&line.device, id)).or_default();
        *came += 1;
        *done += u64::from(line.carried_out);
    }
    let twice: Vec<_> = times
        .iter()
        .filter(|(_, (_, done))| *done > 1)
        .map(|((device, id), _)| format!("{device}: {id}"))
        .collect();
    let copies: u64 = times.values().map(|(came, _)| came - 1).sum();
    check(
        "no command was carried out twice",
        !times.is_empty() && twice.is_empty() && nameless == 0,
        json!({
            "commands": times.len(),
            "carried_out_twice": twice,
            "copies_that_did_nothing": copies,
            "without_id": nameless,
        }),
    )
}

fn none_blinked(broken: &Evidence, untouched: &Evidence) -> Check {
    let expected = changes(untouched);
    let found = changes(broken);
    let mut blinked = Vec::new();
    for device in expected.keys().chain(found.keys()) {
        let of = |all: &BTreeMap<String, Vec<Change>>| all.get(device).cloned().unwrap_or_default();
        let (expected, found) = (of(&expected), of(&found));
        if !is_thinned(&found, &expected) && !blinked.contains(device) {
            blinked.push(device.clone());
        }
    }
    let count = |all: &BTreeMap<String, Vec<Change>>| all.values().map(Vec::len).sum::<usize>();
    check(
        "no lamp blinked",
        count(&expected) > 0 && blinked.is_empty(),
        json!({
            "devices": expected.len(),
            "changes": count(&found),
            "changes_in_the_untouched_house": count(&expected),
            "blinked": blinked,
        }),
    )
}

fn all_repaired(repairs: &[Repair]) -> Check {
    let mut times: Vec<f64> = repairs.iter().filter_map(|r| r.repaired_ms).collect();
    times.sort_by(f64::total_cmp);
    let never: Vec<_> = repairs
        .iter()
        .filter(|r| r.repaired_ms.is_none())
        .map(|r| format!("{}: {}", r.element, r.fault))
        .collect();
    check(
        "every fault was repaired",
        !repairs.is_empty() && never.is_empty(),
        json!({
            "faults": repairs.len(),
            "repaired": times.len(),
            "median_ms": times.get(times.len() / 2).map(|took| took.round()),
            "longest_ms": times.last().map(|took| took.round()),
            "never": never,
        }),
    )
}

fn none_left_running(broken: &Evidence, untouched: &Evidence) -> Check {
    let left: Vec<_> = [&broken.left_running, &untouched.left_running]
        .into_iter()
        .flatten()
        .collect();
    check(
        "nothing was left running",
        left.is_empty(),
        json!({ "processes": left }),
    )
}

/// One change of what a device shows: when, since the evening began, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    at_us: u64,
    state: Value,
}

/// Every change of every device, in the order in which they happened.
fn changes(house: &Evidence) -> BTreeMap<String, Vec<Change>> {
    let mut changes: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    for line in house.trace.iter().filter(|line| line.carried_out) {
        changes
            .entry(line.device.clone())
            .or_default()
            .push(Change {
                at_us: line.at_us.saturating_sub(house.began_us),
                state: line.state.clone(),
            });
    }
    changes
}

/// Whether `found` is `expected` with nothing added: states may be left out, as a repair goes to the
/// final state at once, but none may come that the other house does not show at that time, and both
/// must end alike.
fn is_thinned(found: &[Change], expected: &[Change]) -> bool {
    let mut rest = expected.iter();
    let each_is_expected = found.iter().all(|change| {
        rest.any(|e| e.state == change.state && e.at_us.abs_diff(change.at_us) <= APART_US_MAX)
    });
    each_is_expected && found.last().map(|c| &c.state) == expected.last().map(|c| &c.state)
}

/// Compares two states value by value; returns how many values that were.
fn compare(place: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) -> u64 {
    if let (Value::Object(expected), Value::Object(found)) = (expected, found) {
        return expected
            .iter()
            .filter(|(field, _)| !OF_THE_MOMENT.contains(&field.as_str()))
            .map(|(field, value)| {
                let other = found.get(field).unwrap_or(&Value::Null);
                compare(&format!("{place}.{field}"), value, other, differences)
            })
            .sum();
    }
    if expected != found {
        differences.push(format!("{place}: {found} instead of {expected}"));
    }
    1
}

fn counter_of(house: &Evidence, element: &str, counter: &str) -> u64 {
    house
        .states
        .get(element)
        .and_then(|state| state[counter].as_u64())
        .unwrap_or(0)
}

/// A promise, judged by these figures, which are an object.
pub(super) fn check(name: &'static str, held: bool, figures: Value) -> Check {
    let Value::Object(figures) = figures else {
        unreachable!("figures are written as an object")
    };
    Check {
        name,
        held,
        figures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evening_that_went_well_holds_in_every_check() {
        let failed = failed_after(|_| {});
        assert_eq!(failed, Vec::<&str>::new());
    }

    #[test]
    fn each_wrong_ending_fails_its_own_check() {
        type Spoil = fn(&mut Evidence);
        let cases: [(Spoil, &[&str]); 8] = [
            (
                |house| house.states.get_mut("node-hue-sense").unwrap()["reports"] = json!(1),
                &[
                    "no acknowledged event was lost",
                    "each event was handled once",
                ],
            ),
            (
                |house| house.states.get_mut("node-hue-sense").unwrap()["reports"] = json!(3),
                &["each event was handled once"],
            ),
            (
                |house| {
                    house.states.remove("node-hue-sense");
                },
                &[
                    "no acknowledged event was lost",
                    "each event was handled once",
                ],
            ),
            (
                |house| house.dead_letters = 1,
                &["no acknowledged event was lost"],
            ),
            (
                |house| {
                    let copy = line(1_300_000, "a/0.2.0", "OFF");
                    house.trace.push(copy);
                },
                &["no command was carried out twice", "no lamp blinked"],
            ),
            (
                |house| {
                    house.trace.push(line(1_400_000, "a/0.3.0", "ON"));
                    house.trace.push(line(1_500_000, "a/0.4.0", "OFF"));
                },
                &["no lamp blinked"],
            ),
            (
                |house| house.trace[1].id = None,
                &["no command was carried out twice"],
            ),
            (
                |house| house.left_running.push("4711 smart-home host".into()),
                &["nothing was left running"],
            ),
        ];
        for (number, (spoil, expected)) in cases.into_iter().enumerate() {
            assert_eq!(failed_after(spoil), expected, "case {number}");
        }
    }

    #[test]
    fn two_houses_that_cannot_tell_their_state_do_not_agree() {
        let mute = Evidence {
            states: [("orchestrator".to_owned(), json!("no answer"))].into(),
            ..Evidence::default()
        };
        let check = each_once(&mute, &mute);
        assert!(!check.held, "{check:?}");
    }

    #[test]
    fn a_fault_that_is_never_repaired_fails_and_no_fault_at_all_proves_nothing() {
        let never = Repair {
            repaired_ms: None,
            ..repaired()
        };
        assert!(!all_repaired(&[repaired(), never]).held);
        assert!(!all_repaired(&[]).held);
    }

    #[test]
    fn a_repair_may_skip_states_but_neither_add_nor_shift_nor_end_differently() {
        let change = |at_us, state: &str| Change {
            at_us,
            state: json!(state),
        };
        let expected = [
            change(0, "ON"),
            change(10, "OFF"),
            change(20, "ON"),
            change(9_000_000, "OFF"),
        ];
        assert!(is_thinned(&expected, &expected));
        assert!(is_thinned(
            &[change(30, "ON"), change(9_500_000, "OFF")],
            &expected
        ));
        assert!(!is_thinned(&[change(0, "ON")], &expected));
        assert!(!is_thinned(
            &[change(5_000_000, "ON"), change(9_000_000, "OFF")],
            &expected
        ));
        let blinked = [
            &expected[..],
            &[change(9_000_001, "ON"), change(9_000_002, "OFF")],
        ]
        .concat();
        assert!(!is_thinned(&blinked, &expected));
    }

    fn failed_after(spoil: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
        let untouched = Evidence {
            acknowledged: [("zigbee2mqtt/0x0017880100fa1007".to_owned(), 2)].into(),
            states: [(
                "node-hue-sense".to_owned(),
                json!({ "reports": 2, "presses": 1, "presence": 5 }),
            )]
            .into(),
            trace: vec![
                line(1_000_000, "a/0.1.0", "ON"),
                line(1_200_000, "a/0.2.0", "OFF"),
            ],
            ..Evidence::default()
        };
        let mut broken = untouched.clone();
        broken.states.get_mut("node-hue-sense").unwrap()["presence"] = json!(9);
        spoil(&mut broken);
        judge(&broken, &untouched, &[repaired()])
            .into_iter()
            .filter(|check| !check.held)
            .map(|check| check.name)
            .collect()
    }

    fn line(at_us: u64, id: &str, state: &str) -> TraceLine {
        TraceLine {
            at_us,
            device: "hue-lamp".into(),
            id: Some(id.into()),
            command: json!({ "state": state }),
            carried_out: true,
            state: json!({ "state": state }),
        }
    }

    fn repaired() -> Repair {
        Repair {
            fault: "kill -9 orchestrator".into(),
            element: "orchestrator".into(),
            at_ms: 5,
            repaired_ms: Some(40.0),
            phases: vec![],
        }
    }
}
