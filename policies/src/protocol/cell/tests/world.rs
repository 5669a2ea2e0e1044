//! What is known of the physical world, and what a recovery makes of it.

use super::*;
use crate::model::{Access, Domain, Evidence, Property, Relative, Reversion, Value};
use crate::state_saving::Reverted;

pub(super) const SECOND: i64 = 1_000_000;

fn property(class: ActuationClass) -> Property {
    Property {
        capability: "x".into(),
        access: Access::Both,
        domain: Domain::Any,
        class,
        relative: None,
        reverts: None,
        accumulates: false,
    }
}

/// A door that locks itself again when an unlocking is over, and can be asked.
fn door() -> DeviceModel {
    let lock = Property {
        reverts: Some(Reversion {
            to: Value::Text("LOCK".into()),
            after: Duration::ZERO,
        }),
        ..property(ActuationClass::Set)
    };
    DeviceModel {
        properties: [("lock".into(), lock)].into(),
        answers: true,
        ..DeviceModel::default()
    }
}

/// A cell with one door, which also speaks, and one pump that shows how many doses it gave.
pub(super) fn house() -> CellSettings {
    let outbound = |name: &str| OutboundLink {
        id: name.into(),
        port: name.into(),
        prefix: vec![],
        target: Target::Appliance(id(name)),
        valid_for: None,
    };
    let pump = DeviceModel {
        properties: [("dose".into(), property(ActuationClass::Irreversible))].into(),
        evidence: Some(Evidence::Counter("doses".into())),
        answers: true,
        ..DeviceModel::default()
    };
    CellSettings {
        inbound: vec![
            InboundLink {
                id: id("motion"),
                source: id("sense"),
                kind: Source::Element,
            },
            InboundLink {
                id: id("knob"),
                source: id("door"),
                kind: Source::Device,
            },
        ],
        outbound: vec![outbound("door"), outbound("pump")],
        devices: [(id("door"), door()), (id("pump"), pump)].into(),
        ..CellSettings::new(id("cell"))
    }
}

pub(super) fn home() -> Told {
    let mut told = Told {
        cell: Cell::new(house()),
        effects: vec![],
    };
    told.tell(at(0), restored(vec![]));
    told.tell(at(0), Input::Connected);
    told
}

pub(super) fn asks(port: &str, name: &str, value: Value, valid_for: Option<i64>) -> Handled {
    Handled {
        emitted: vec![Emitted {
            port: port.into(),
            valid_for: valid_for.map(|micros| Duration::from_micros(micros.unsigned_abs())),
            payload: vec![],
            properties: [(name.into(), value)].into(),
        }],
        ..Handled::default()
    }
}

fn lock(word: &str) -> Properties {
    [("lock".into(), Value::Text(word.into()))].into()
}

pub(super) fn doses(count: i64) -> Properties {
    [("doses".into(), Value::Integer(count))].into()
}

impl Told {
    /// The next event of the element's source, handled with this outcome; the effects after it.
    pub(super) fn event(&mut self, now: Now, index: u64, handled: Handled) -> Vec<Effect> {
        self.offered(now, index);
        let index = self.cell.log.head;
        self.tell(now, Input::Handled { index, handled }).to_vec()
    }

    pub(super) fn logged(&mut self, now: Now) -> Vec<Effect> {
        let last = self.cell.log.head;
        let logged_at = now.wall;
        self.tell(now, Input::Appended { last, logged_at }).to_vec()
    }

    /// The door says something, and its handler wants nothing.
    fn knob(&mut self, now: Now, word: &str, expires_at: Option<WallClock>) {
        self.tell(
            now,
            Input::Sensed(Sensed {
                link: id("knob"),
                occurred_at: now.wall,
                expires_at,
                payload: word.into(),
                receipt: None,
                connection: 1,
                identified: true,
            }),
        );
        self.logged(now);
        let index = self.cell.log.head;
        let handled = Handled {
            sensed: lock(word),
            ..Handled::default()
        };
        self.tell(now, Input::Handled { index, handled });
    }

    fn settle(&mut self, now: Now, link: &str, index: u64) {
        let position = place(index);
        let link = link.into();
        self.tell(
            now,
            Input::Settled {
                link,
                position,
                sending: 0,
            },
        );
        self.logged(now);
    }
}

pub(super) fn actuated(effects: &[Effect]) -> Vec<(String, Properties)> {
    let mut actuated = Vec::new();
    for effect in effects {
        if let Effect::Actuate { link, command, .. } = effect {
            actuated.push((link.clone(), command.properties.clone()));
        }
    }
    actuated
}

fn unlock(valid_for: i64) -> Handled {
    asks(
        "door",
        "lock",
        Value::Text("UNLOCK".into()),
        Some(valid_for),
    )
}

#[test]
fn what_a_device_says_overrides_what_it_was_told() {
    let mut told = home();
    told.event(
        at(SECOND),
        1,
        asks("door", "lock", Value::Text("LOCK".into()), None),
    );
    told.settle(at(SECOND), "door", 1);
    told.knob(at(5 * SECOND), "UNLOCK", Some(WallClock(15 * SECOND)));
    let known: Vec<_> = told
        .cell
        .world()
        .entries()
        .map(|(_, entry)| (entry.kind, entry.value.clone(), entry.expires_at))
        .collect();
    let unlocked = Value::Text("UNLOCK".into());
    let sensed = crate::physical_world::Kind::Sensed;
    assert_eq!(known, [(sensed, unlocked, Some(WallClock(15 * SECOND)))]);
}

#[test]
fn what_was_unlocked_for_a_while_is_locked_again_through_the_log() {
    let mut told = home();
    told.event(at(0), 1, unlock(10 * SECOND));
    told.settle(at(0), "door", 1);
    let due = at(10 * SECOND).monotonic;
    let deadlines = told.cell.next_deadline();
    assert!(deadlines.is_some_and(|deadline| deadline <= due));
    let effects = told.wake(at(10 * SECOND)).to_vec();
    let key = crate::physical_world::Key {
        subject: id("door"),
        attribute: "lock".into(),
    };
    let event = EventId {
        source: id("cell"),
        position: place(1),
    };
    let to = Value::Text("LOCK".into());
    let reverted = Record::Reverted(vec![Reverted { key, event, to }]);
    let appended = Effect::Append {
        first: 3,
        records: vec![reverted],
    };
    assert_eq!(effects[..1], [appended]);
    let effects = told.logged(at(10 * SECOND));
    assert_eq!(actuated(&effects), [("door".into(), lock("LOCK"))]);
    assert!(
        told.wake(at(60 * SECOND))
            .iter()
            .all(|effect| !matches!(effect, Effect::Actuate { .. }))
    );
}

#[test]
fn a_lock_cancels_the_locking_again_that_an_unlock_would_have_brought() {
    let mut told = home();
    told.event(at(0), 1, unlock(10 * SECOND));
    told.settle(at(0), "door", 1);
    told.event(
        at(SECOND),
        2,
        asks("door", "lock", Value::Text("LOCK".into()), None),
    );
    assert_eq!(told.cell.surroundings.next_reversion_at(), None);
}

/// A new process finds what the old one logged and checkpointed, and has connected.
pub(super) fn recovered_from(old: &Told, now: Now, log: Vec<Batch>) -> (Told, Vec<Effect>) {
    let mut told = Told {
        cell: Cell::new(house()),
        effects: vec![],
    };
    let meta = Meta {
        lineage: 1,
        world: old.cell.world().clone(),
        commands: old
            .cell
            .commands
            .iter()
            .map(|(link, commands)| (link.clone(), commands.saved()))
            .collect(),
        ..Meta::default()
    };
    let checkpoint = old.cell.log.handled;
    let head = log.last().map_or(checkpoint, Batch::last);
    told.tell(
        now,
        Input::Restored(Restored {
            checkpoint,
            head,
            meta,
            log,
            stable: head,
        }),
    );
    let effects = told.tell(now, Input::Connected).to_vec();
    (told, effects)
}

#[test]
fn a_recovery_after_the_end_of_an_unlocking_locks_once_if_the_door_is_open() {
    let mut old = home();
    old.event(at(0), 1, unlock(10 * SECOND));
    old.settle(at(0), "door", 1);
    for (shown, told_at_last) in [
        ("UNLOCK", vec![("door".into(), lock("LOCK"))]),
        ("LOCK", vec![]),
    ] {
        let (mut told, effects) = recovered_from(&old, at(14 * SECOND), vec![]);
        assert_eq!(actuated(&effects), [], "nothing before the log knows");
        let effects = told.logged(at(14 * SECOND));
        let asked = Effect::Compare {
            link: "door".into(),
            properties: vec!["lock".into()],
            question: 1,
        };
        assert!(effects.contains(&asked), "{effects:?}");
        let shown = Input::Compared {
            link: "door".into(),
            shown: Some(lock(shown)),
            question: 0,
        };
        let effects = told.tell(at(14 * SECOND), shown).to_vec();
        assert_eq!(actuated(&effects), told_at_last);
    }
}

#[test]
fn a_validity_that_ends_after_the_recovery_is_armed_for_what_is_left_of_it() {
    let mut old = home();
    old.event(at(0), 1, unlock(10 * SECOND));
    old.settle(at(0), "door", 1);
    let (told, effects) = recovered_from(&old, at(4 * SECOND), vec![]);
    let reversion = told.cell.surroundings.next_reversion_at();
    assert_eq!(reversion, Some(WallClock(10 * SECOND)));
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Compare { .. }))
    );
}

#[test]
fn the_validity_is_checked_again_at_the_instant_of_sending() {
    let mut old = home();
    old.event(at(0), 1, unlock(10 * SECOND));
    let (mut told, effects) = recovered_from(&old, at(9 * SECOND), vec![]);
    assert_eq!(actuated(&effects), []);
    // The device was slow to answer: what was to be shown is over by now.
    let shown = Input::Compared {
        link: "door".into(),
        shown: None,
        question: 0,
    };
    let effects = told.tell(at(10 * SECOND), shown).to_vec();
    assert_eq!(actuated(&effects), []);
}

#[test]
fn a_report_newer_than_the_last_command_leaves_nothing_to_be_commanded() {
    let mut old = home();
    old.event(
        at(0),
        1,
        asks("door", "lock", Value::Text("LOCK".into()), None),
    );
    old.settle(at(0), "door", 1);
    old.knob(at(5 * SECOND), "UNLOCK", Some(WallClock(90 * SECOND)));
    let (told, effects) = recovered_from(&old, at(9 * SECOND), vec![]);
    assert_eq!(actuated(&effects), []);
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Compare { .. }))
    );
    let explained = told.cell.explanation().unwrap().flows["door"].clone();
    assert_eq!(explained.target, Properties::new());
    assert_eq!(explained.held.len(), 1);
    assert_eq!(
        explained.goes_back_at,
        [("lock".into(), WallClock(90 * SECOND))].into()
    );
}

#[test]
fn a_value_that_no_device_takes_is_a_dead_letter_and_the_others_go_on() {
    let mut settings = house();
    let brightness = Property {
        domain: Domain::Number {
            min: 0.0,
            max: 254.0,
        },
        ..property(ActuationClass::Set)
    };
    let step = Property {
        relative: Some(Relative::Adds("brightness".into())),
        ..property(ActuationClass::Delta)
    };
    let door = settings.devices.get_mut("door").unwrap();
    door.properties.insert("brightness".into(), brightness);
    door.properties.insert("step".into(), step);
    let mut told = home();
    told.cell = Cell::new(settings);
    told.tell(at(0), restored(vec![]));
    told.tell(at(0), Input::Connected);
    let effects = told.event(
        at(0),
        1,
        asks("door", "brightness", Value::Integer(300), None),
    );
    let [
        Effect::Bury {
            index: 1, cause, ..
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert!(cause.contains("a number from 0 to 254"), "{cause}");
    told.event(
        at(0),
        2,
        asks("door", "brightness", Value::Integer(250), None),
    );
    told.settle(at(0), "door", 2);
    let effects = told.event(at(0), 3, asks("door", "step", Value::Integer(10), None));
    let brighter: Properties = [("brightness".into(), Value::Integer(254))].into();
    assert_eq!(actuated(&effects), [("door".into(), brighter)]);
}

#[test]
fn what_a_device_said_overrides_what_it_was_told_though_the_element_skips_it() {
    let settings = CellSettings {
        on_expired: crate::model::OnExpired::Skip,
        ..house()
    };
    let mut told = Told {
        cell: Cell::new(settings),
        effects: vec![],
    };
    told.tell(at(0), restored(vec![]));
    told.event(at(1), 1, unlock(9 * SECOND));
    // Nothing can be sent yet; what the door says holds for so short that it is over when logged.
    let said = Sensed {
        link: id("knob"),
        occurred_at: WallClock(2 * SECOND),
        expires_at: Some(WallClock(3 * SECOND)),
        payload: vec![1],
        receipt: None,
        connection: 1,
        identified: true,
    };
    told.tell(at(2 * SECOND), Input::Sensed(said));
    let effects = told.logged(at(4 * SECOND));
    let left_out = |effect: &Effect| {
        let Effect::Handle(task) = effect else {
            return None;
        };
        Some((task.index, task.left_out))
    };
    let tasks = effects.iter().filter_map(left_out);
    assert_eq!(tasks.collect::<Vec<_>>(), [(2, true)]);
    let handled = Handled {
        sensed: lock("LOCK"),
        ..Handled::default()
    };
    told.tell(at(4 * SECOND), Input::Handled { index: 2, handled });
    let effects = told.tell(at(5 * SECOND), Input::Connected).to_vec();
    assert_eq!(actuated(&effects), []);
    assert!(told.cell.commands["door"].desired().is_empty());
}
