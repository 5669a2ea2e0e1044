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

use device::Device;
use house::{House, Newest};

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
}

fn expired_actuated(device: &Device) -> usize {
    let expired = |deed: &&device::Deed| deed.command.expires_at.is_some_and(|end| end <= deed.at);
    device.trace.iter().filter(expired).count()
}

fn irreversible_repeated(device: &Device) -> usize {
    if device.class != ActuationClass::Irreversible {
        return 0;
    }
    let mut times: BTreeMap<Position, usize> = BTreeMap::new();
    for deed in &device.trace {
        *times.entry(deed.command.position).or_default() += 1;
    }
    times.values().filter(|times| **times > 1).count()
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
    house
        .unknown
        .len()
        .saturating_sub(crashes * house.devices.len())
}

/// A command that holds is shown, and one that held goes back where the device's model says so.
fn is_final(device: &Device, newest: &Newest) -> bool {
    let shows = device.shows.get(device.property);
    match newest {
        Newest::Commanded {
            value,
            expires_at: None,
            ..
        } => shows == Some(value),
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
        let device = &house.devices[**at];
        device.class == ActuationClass::Set && !is_final(device, newest)
    });
    let commands = house.state().iter().filter(|n| **n < 100);
    let touches = house.state().iter().filter(|n| **n >= 100);
    let lost = usize::from(!commands.eq(&events)) + usize::from(house.touches) - touches.count();
    Seen {
        crashes: house.crashes,
        sent_late: house.sent_late,
        overrode_hands: house.overrode_hands,
        needlessly_unknown: needlessly_unknown(&house),
        expired_actuated: count(expired_actuated),
        intermediate_shown: count(intermediate_shown),
        irreversible_repeated: count(irreversible_repeated),
        acknowledged_lost: lost + house.unacknowledged(),
        not_final: not_final.count(),
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
