//! The law of the physical world: whatever crashes, whenever, no device does what has expired, shows
//! what is over, or does twice what must be done once; and nothing acknowledged is lost.

#[path = "physical_world/device.rs"]
mod device;
#[path = "physical_world/dice.rs"]
mod dice;
#[path = "physical_world/house.rs"]
mod house;

use std::collections::BTreeMap;

use lamplighter_policies::model::{ActuationClass, Value};
use lamplighter_policies::physical_world::Position;
use lamplighter_policies::time::WallClock;

use device::Device;
use house::{House, Newest, counts_by_itself, timer_of};

/// How many houses one run of the test tells; each has up to eight crashes.
const HOUSES: u64 = 1_000;

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    crashes: u32,
    sent_late: usize,
    overrode_hands: usize,
    needlessly_unknown: usize,
    expired_actuated: usize,
    intermediate_shown: usize,
    irreversible_repeated: usize,
    acknowledged_lost: usize,
    not_final: usize,
    sent_unsure: usize,
    uncounted: usize,
    timers_lost: usize,
}

fn expired_actuated(device: &Device) -> usize {
    let expired = |deed: &&device::Deed| deed.command.expires_at.is_some_and(|end| end <= deed.at);
    device.trace.iter().filter(expired).count()
}

/// Whoever does it: what counts by itself is done once by a device and the one in its place together.
fn irreversible_repeated(house: &House) -> usize {
    let mut times: BTreeMap<Position, usize> = BTreeMap::new();
    let counting = house.devices.iter().filter(|it| counts_by_itself(it));
    for deed in counting.flat_map(|device| &device.trace) {
        *times.entry(deed.command.position).or_default() += 1;
    }
    times.values().filter(|times| **times > 1).count()
}

/// What counts by itself and holds is done, or a person knows that nobody knows, or nobody is there.
fn uncounted(house: &House) -> usize {
    let away = (0..house.devices.len() / 2).any(|at| house.serving(at).is_none());
    let deeds = house.devices.iter().flat_map(|device| &device.trace);
    let done: Vec<Position> = deeds.map(|deed| deed.command.position).collect();
    let unknown = house.unknown();
    let known = |at: &&Position| done.contains(at) || unknown.contains(at);
    let missing = house.counted.iter().filter(|at| !known(at));
    missing
        .filter(|_| !away && !house.shows_some_unknown())
        .count()
}

/// What warns people, and what is to be done by a key until an end that has not come, is done by
/// whoever serves at the end; `None` where it need not be.
fn still_asked<'a>(house: &'a House, at: usize, newest: &'a Newest) -> Option<&'a Value> {
    let device = &house.devices[at];
    let Newest::Commanded {
        value, expires_at, ..
    } = newest
    else {
        return None;
    };
    let holds = expires_at.is_none_or(|end| house.now().wall < end);
    let asked = match device.class {
        ActuationClass::Alarm => true,
        ActuationClass::Keyed => expires_at.is_some() && !device.accumulates,
        ActuationClass::Set | ActuationClass::Delta | ActuationClass::Irreversible => false,
    };
    (asked && holds).then_some(value)
}

/// A process that recovered tells a device of which only the newest counts one thing at most.
fn intermediate_shown(device: &Device) -> usize {
    if device.class != ActuationClass::Set {
        return 0;
    }
    let mut told: BTreeMap<u32, usize> = BTreeMap::new();
    for deed in device.trace.iter().filter(|deed| deed.recovering) {
        *told.entry(deed.process).or_default() += 1;
    }
    let back = device.trace.windows(2);
    let back = back.filter(|pair| pair[1].command.position < pair[0].command.position);
    told.values().filter(|times| **times > 1).count() + back.count()
}

/// One command at a time is on its way to a device, so a crash leaves one in doubt at most.
fn needlessly_unknown(house: &House) -> usize {
    let crashes = usize::try_from(house.crashes).expect("few");
    let by_key = house.devices.iter().filter(|it| it.accumulates);
    if by_key.count() > 0 {
        // Only its device knows a key, so all that waited for it is in doubt when another takes over.
        return 0;
    }
    house
        .unknown
        .len()
        .saturating_sub(crashes * house.devices.len() + house.misfortunes.hand_overs)
}

/// A command that holds is shown, and one that held goes back where the device's model says so.
fn is_final(device: &Device, newest: &Newest, now: WallClock) -> bool {
    let shows = device.shows.get(device.property);
    match newest {
        Newest::Commanded {
            value, expires_at, ..
        } if expires_at.is_none_or(|end| now < end) => shows == Some(value),
        Newest::Commanded { .. } if device.reverts => shows == Some(&Value::Integer(0)),
        Newest::Commanded { .. } | Newest::Touched { .. } => true,
    }
}

fn lived(seed: u64) -> Seen {
    let mut house = House::new(seed);
    house.run();
    let events: Vec<u8> = (1..=house.events).collect();
    let count = |of: fn(&Device) -> usize| house.devices.iter().map(of).sum();
    let not_final = house.newest.iter().filter(|(at, newest)| {
        let Some(serving) = house.serving(**at) else {
            return false;
        };
        let device = &house.devices[serving];
        let asked = still_asked(&house, **at, newest);
        let shows = device.shows.get(device.property);
        device.class == ActuationClass::Set && !is_final(device, newest, house.now().wall)
            || asked.is_some_and(|value| shows != Some(value))
    });
    let set = (1..=house.events).filter_map(timer_of);
    let timers_lost = set.filter(|timer| {
        let fired = house.state().iter().filter(|n| *n == timer);
        fired.count() != 1
    });
    let commands = house.state().iter().filter(|n| **n <= house.events);
    let touches = house.state().iter().filter(|n| **n >= 100);
    let lost = usize::from(!commands.eq(&events)) + usize::from(house.touches) - touches.count();
    Seen {
        crashes: house.crashes,
        sent_late: house.sent_late,
        overrode_hands: house.overrode_hands,
        needlessly_unknown: needlessly_unknown(&house),
        expired_actuated: count(expired_actuated),
        intermediate_shown: count(intermediate_shown),
        irreversible_repeated: irreversible_repeated(&house),
        acknowledged_lost: lost + house.unacknowledged(),
        not_final: not_final.count(),
        sent_unsure: house.misfortunes.sent_unsure,
        uncounted: uncounted(&house),
        timers_lost: timers_lost.count(),
    }
}

#[test]
fn no_device_does_what_is_over_or_twice_what_is_done_once_and_nothing_is_lost() {
    let mut crashes = 0;
    for seed in 0..HOUSES {
        let seen = lived(seed);
        crashes += seen.crashes;
        let expected = Seen {
            crashes: seen.crashes,
            ..Seen::default()
        };
        assert_eq!(seen, expected, "seed {seed}");
    }
    assert!(crashes >= 1_000, "only {crashes} crashes");
}
