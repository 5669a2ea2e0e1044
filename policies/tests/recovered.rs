//! E_rec, the state of the physical world that a recovery goes by, against a plain reading of its
//! definition.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    ActuationClass, Appliance, ApplianceApi, Application, Broker, CommandMethod, Detection,
    DeviceModel, Durability, Liveness, Role, Space, Store, StoreKind, Substitution, Topology,
    Value,
};
use lamplighter_policies::physical_world::{
    Entry, EventId, Happened, Key, Kind, Position, World, recovered, spaces,
};
use lamplighter_policies::time::{Now, WallClock};
use proptest::prelude::*;

/// The instant of the failure; the recovery commits at some later one.
const FAILED_AT: i64 = 100;

fn happened(quantity: u8, occurred_at: i64, valid_for: Option<i64>, index: u64) -> Happened {
    let subject = EntityId::new("room").expect("a valid id");
    let event = EventId {
        source: subject.clone(),
        position: Position::new(1, index, 0),
    };
    Happened {
        key: Key {
            subject,
            attribute: format!("q{quantity}"),
        },
        entry: Entry {
            event,
            kind: Kind::Sensed,
            value: Value::Integer(0),
            occurred_at: WallClock(occurred_at),
            expires_at: valid_for.map(|span| WallClock(occurred_at + span)),
            done: false,
        },
    }
}

/// Before the failure, during the repair, and when that ends.
fn histories() -> impl Strategy<Value = (Vec<Happened>, Vec<Happened>, i64)> {
    let event = |span: std::ops::Range<i64>| (0_u8..4, span, proptest::option::of(0_i64..80));
    let before = proptest::collection::vec(event(0..FAILED_AT), 0..12);
    let since = proptest::collection::vec(event(FAILED_AT..FAILED_AT + 40), 0..12);
    (before, since, 0_i64..60).prop_map(|(before, since, repair)| {
        let mut index = 0;
        let mut with_ids = |events: Vec<(u8, i64, Option<i64>)>| -> Vec<Happened> {
            let mut event = |(quantity, occurred_at, valid_for)| {
                index += 1;
                happened(quantity, occurred_at, valid_for, index)
            };
            events.into_iter().map(&mut event).collect()
        };
        let (before, since) = (with_ids(before), with_ids(since));
        (before, since, FAILED_AT + repair)
    })
}

fn at(wall: i64) -> Now {
    Now {
        wall: WallClock(wall),
        ..Now::default()
    }
}

fn ids<'a>(events: impl IntoIterator<Item = &'a Happened>) -> BTreeSet<EventId> {
    let ids = events.into_iter().map(|happened| &happened.entry.event);
    ids.cloned().collect()
}

fn live(happened: &Happened, at: i64) -> bool {
    let end = happened.entry.expires_at;
    end.is_none_or(|end| end > WallClock(at))
}

fn overrides(later: &Happened, earlier: &Happened) -> bool {
    let place = |h: &Happened| (h.entry.occurred_at, h.entry.event.clone());
    later.key == earlier.key && place(later) > place(earlier)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_what_has_not_expired_and_nothing_at_all_overrides(
        (before, since, commits_at) in histories()
    ) {
        let all: Vec<&Happened> = before.iter().chain(&since).collect();
        let naive = all.iter().copied().filter(|event| {
            live(event, commits_at) && !all.iter().any(|later| overrides(later, event))
        });
        let found = recovered(before.clone(), since.clone(), at(commits_at), |_| false);
        prop_assert_eq!(ids(&found), ids(naive));
    }

    #[test]
    fn it_is_the_papers_equation_where_nothing_overrides_and_nothing_of_the_repair_expires(
        (before, since, commits_at) in histories()
    ) {
        let mut quantities = BTreeSet::new();
        let mut alone: Vec<Happened> = Vec::new();
        for (n, mut event) in before.iter().chain(&since).cloned().enumerate() {
            // As many quantities as there are events: no two speak of the same.
            event.key.attribute = format!("alone{n}");
            quantities.insert(event.key.clone());
            if event.entry.occurred_at >= WallClock(FAILED_AT) {
                event.entry.expires_at = None;
            }
            alone.push(event);
        }
        let (since, before): (Vec<_>, Vec<_>) =
            alone.into_iter().partition(|e| e.entry.occurred_at >= WallClock(FAILED_AT));
        let kept = before.iter().filter(|event| live(event, commits_at));
        let printed: BTreeSet<EventId> = ids(kept).union(&ids(&since)).cloned().collect();
        let found = recovered(before, since, at(commits_at), |_| false);
        prop_assert_eq!(ids(&found), printed);
    }

    #[test]
    fn events_that_add_up_are_all_kept_until_they_expire((before, since, commits_at) in histories()) {
        let naive = before.iter().chain(&since).filter(|event| live(event, commits_at));
        let naive = ids(naive);
        let found = recovered(before.clone(), since.clone(), at(commits_at), |_| true);
        prop_assert_eq!(ids(&found), naive);
    }
}

#[test]
fn an_expired_event_of_the_repair_still_overrides_what_was_before() {
    let unlock = happened(0, 97, Some(600), 1);
    let lock = happened(0, 102, Some(1), 2);
    assert_eq!(recovered([unlock], [lock], at(104), |_| false), []);
}

#[test]
fn only_what_surely_holds_is_recovered() {
    let event = happened(0, 97, Some(10), 1);
    let now = Now {
        skew: std::time::Duration::from_micros(3),
        ..at(104)
    };
    assert_eq!(recovered([event.clone()], [], now, |_| false), []);
    assert_eq!(recovered([event.clone()], [], at(104), |_| false), [event]);
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).expect("a valid id")
}

fn appliance(spaces: &[&str]) -> Appliance {
    Appliance {
        api: ApplianceApi::Mqtt,
        role: Role::Both,
        functions: BTreeSet::new(),
        spaces: spaces.iter().map(|space| id(space)).collect(),
        position: None,
        zone: None,
        topic: None,
        class: ActuationClass::Set,
        report_period: None,
        identified_by: None,
        stamped_by: None,
        safe_state: None,
        model: DeviceModel::default(),
        liveness: Liveness::default(),
        substitution: Substitution::default(),
        essential: false,
        address: None,
        method: CommandMethod::default(),
        adapter: None,
    }
}

/// A door between hall and kitchen, and a lamp in the hall.
fn house() -> Topology {
    let room = Space {
        min: [0.0; 3],
        max: [3.0; 3],
    };
    Topology {
        application: Application { name: id("house") },
        servers: BTreeMap::new(),
        channels: BTreeMap::new(),
        spaces: [(id("hall"), room), (id("kitchen"), room)].into(),
        appliances: [
            (id("door"), appliance(&["hall", "kitchen"])),
            (id("lamp"), appliance(&["hall"])),
        ]
        .into(),
        elements: BTreeMap::new(),
        bindings: BTreeMap::new(),
        store: Store {
            kind: StoreKind::Embedded,
            durability: Durability::Required,
            lease: Store::LEASE,
        },
        broker: Broker::Embedded,
        detection: Detection::default(),
    }
}

#[test]
fn a_space_has_what_holds_of_each_of_its_appliances_whoever_knows_it() {
    let of = |appliance: &str, occurred_at, valid_for, index| {
        let mut event = happened(0, occurred_at, valid_for, index);
        event.key.subject = id(appliance);
        event
    };
    let unlocked = of("door", 90, Some(60), 1);
    let locked = of("door", 95, Some(60), 2);
    let lit = of("lamp", 50, Some(10), 3);
    let known = |events: &[&Happened]| {
        let mut world = World::default();
        for event in events {
            world.happened(&event.key, event.entry.clone(), None);
        }
        world
    };
    // Each is known to another element, and the lamp's event is over.
    let worlds = [known(&[&locked]), known(&[&unlocked, &lit])];
    let found = spaces(&house(), &worlds, at(100));
    let expected = [
        (id("hall"), vec![locked.clone()]),
        (id("kitchen"), vec![locked]),
    ];
    assert_eq!(found, expected.into());
}
