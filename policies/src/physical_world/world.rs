//! What one element knows of the physical world (paper, 3.2 and 4.2.1): of every quantity the newest
//! event that was sensed or actuated, and until when it holds.
//!
//! Newest is by the order of the owner's log and not by any clock. What is overridden is gone for
//! ever, also when the event that overrode it expires first: an expired *lock* leaves no *unlock*.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::EventId;
use crate::ids::EntityId;
use crate::model::{Property, Value};
use crate::time::{Now, WallClock};

/// How long an expired entry is kept, so that what another element knows of the same quantity is
/// still overridden by it.
pub const GRACE: Duration = Duration::from_secs(60);
/// The most quantities that are known of one subject; the one that occurred first gives way.
pub const ATTRIBUTES_MAX: usize = 128;
/// The most events that are kept of a quantity whose events add up; the oldest gives way.
pub const ACCUMULATED_MAX: usize = 64;
/// A device says what it showed before a command a little after the command left.
const CROSSED: Duration = Duration::from_secs(1);

/// A quantity of the physical world.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The appliance that it belongs to; the binding where the device has no name.
    pub subject: EntityId,
    /// The property that shows it.
    pub attribute: String,
}

/// How an event came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A device said so.
    Sensed,
    /// An element commanded it.
    Actuated,
}

/// One event and until when it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Which event.
    pub event: EventId,
    /// How it came about.
    pub kind: Kind,
    /// The value that the quantity has by it.
    pub value: Value,
    /// When it occurred; when it was logged, for a command.
    pub occurred_at: WallClock,
    /// Until when it holds; `None` is until overridden.
    pub expires_at: Option<WallClock>,
    /// Of a command, whether the log says that the device took it.
    pub done: bool,
}

/// The events of one quantity, in the order of the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Quantity {
    entries: VecDeque<Entry>,
    /// Whether something is still to be done when the newest has expired, so that it is kept.
    reverts: bool,
    /// The value before the newest command: what a device may still say just after it.
    before: Option<Value>,
}

/// What one element knows of the physical world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct World {
    subjects: BTreeMap<EntityId, BTreeMap<String, Quantity>>,
}

impl World {
    /// Takes the next event of the log and returns what it overrides. `property` is what the device
    /// model says of the quantity, if it says anything.
    pub fn happened(
        &mut self,
        key: &Key,
        entry: Entry,
        property: Option<&Property>,
    ) -> Option<Entry> {
        let attributes = self.subjects.entry(key.subject.clone()).or_default();
        let present = entry.occurred_at;
        attributes.retain(|name, quantity| {
            *name == key.attribute || quantity.reverts || quantity.is_of_use(present)
        });
        if attributes.len() >= ATTRIBUTES_MAX && !attributes.contains_key(&key.attribute) {
            give_way(attributes);
        }
        let quantity = attributes.entry(key.attribute.clone()).or_default();
        quantity.reverts = property.is_some_and(|property| property.reverts.is_some());
        if property.is_some_and(|property| property.accumulates) {
            quantity.entries.retain(|entry| is_of_use(entry, present));
            if quantity.entries.len() >= ACCUMULATED_MAX {
                quantity.entries.pop_front();
            }
            quantity.entries.push_back(entry);
            return None;
        }
        let overridden = quantity.entries.pop_back();
        quantity.before = overridden.as_ref().map(|entry| entry.value.clone());
        quantity.entries.clear();
        quantity.entries.push_back(entry);
        overridden
    }

    /// Whether what a device says now is no news: it shows what it was told and says nothing of how
    /// long that holds, or it was on its way when the command left. Devices are known to repeat their
    /// old state once after they took a command.
    #[must_use]
    pub fn confirms(&self, key: &Key, sensed: &Entry) -> bool {
        let told = |entry: &&Entry| entry.kind == Kind::Actuated && sensed.kind == Kind::Sensed;
        let before = self.quantity(key).and_then(|it| it.before.as_ref());
        self.newest(key).filter(told).is_some_and(|command| {
            let as_told = command.value.means(&sensed.value) && sensed.expires_at.is_none();
            let holds = command.holds_at(sensed.occurred_at);
            let just_now = sensed.occurred_at < command.occurred_at + CROSSED;
            let as_before = before.is_some_and(|before| before.means(&sensed.value));
            (as_told && holds) || (just_now && (!command.done || as_before))
        })
    }

    /// The newest event of a quantity, expired or not.
    #[must_use]
    pub fn newest(&self, key: &Key) -> Option<&Entry> {
        self.quantity(key)?.entries.back()
    }

    fn quantity(&self, key: &Key) -> Option<&Quantity> {
        self.subjects.get(&key.subject)?.get(&key.attribute)
    }

    /// The value that a quantity has at an instant of the log, if that is known.
    #[must_use]
    pub fn value_at(&self, key: &Key, instant: WallClock) -> Option<&Value> {
        let newest = self.newest(key)?;
        newest.holds_at(instant).then_some(&newest.value)
    }

    /// The log says that the device took the commands of `source` up to `event`.
    pub fn done(&mut self, subject: &EntityId, event: &EventId) {
        let quantities = self.subjects.get_mut(subject).into_iter();
        let entries = quantities.flat_map(BTreeMap::values_mut);
        for entry in entries.flat_map(|quantity| &mut quantity.entries) {
            let covered = entry.event.source == event.source && entry.event <= *event;
            if entry.kind == Kind::Actuated && covered {
                entry.done = true;
            }
        }
    }

    /// Every event that is known, by quantity, then in the order of the log.
    pub fn entries(&self) -> impl Iterator<Item = (Key, &Entry)> {
        self.subjects.iter().flat_map(|(subject, attributes)| {
            attributes.iter().flat_map(move |(attribute, quantity)| {
                quantity.entries.iter().map(move |entry| {
                    let (subject, attribute) = (subject.clone(), attribute.clone());
                    (Key { subject, attribute }, entry)
                })
            })
        })
    }

    /// The events of one subject: each attribute with its newest.
    pub fn newest_of(&self, subject: &EntityId) -> impl Iterator<Item = (&String, &Entry)> {
        let attributes = self.subjects.get(subject).into_iter().flatten();
        attributes.filter_map(|(name, quantity)| Some((name, quantity.entries.back()?)))
    }
}

impl Quantity {
    fn is_of_use(&self, present: WallClock) -> bool {
        self.entries.iter().any(|entry| is_of_use(entry, present))
    }
}

fn is_of_use(entry: &Entry, present: WallClock) -> bool {
    entry.expires_at.is_none_or(|end| present < end + GRACE)
}

/// Forgets the quantity whose newest event occurred first.
fn give_way(attributes: &mut BTreeMap<String, Quantity>) {
    let occurred_at = |quantity: &Quantity| quantity.entries.back().map(|entry| entry.occurred_at);
    let oldest = attributes
        .iter()
        .min_by_key(|(_, quantity)| occurred_at(quantity))
        .map(|(name, _)| name.clone());
    if let Some(oldest) = oldest {
        attributes.remove(&oldest);
    }
}

impl Entry {
    /// Whether it holds at an instant of the log, whose one clock stamps all of it.
    #[must_use]
    pub fn holds_at(&self, instant: WallClock) -> bool {
        self.expires_at.is_none_or(|end| instant < end)
    }

    /// Whether it holds now whatever the clock error within the skew bound.
    #[must_use]
    pub fn surely_holds(&self, now: Now) -> bool {
        now.surely_before(self.expires_at)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::model::{Access, ActuationClass, Domain};
    use crate::physical_world::Position;

    fn key(attribute: &str) -> Key {
        Key {
            subject: EntityId::new("door").unwrap(),
            attribute: attribute.into(),
        }
    }

    fn entry(kind: Kind, value: i64, second: u64, expires: Option<u64>) -> Entry {
        let source = if kind == Kind::Sensed { "door" } else { "hall" };
        Entry {
            event: EventId {
                source: EntityId::new(source).unwrap(),
                position: Position::new(1, second, 0),
            },
            kind,
            value: Value::Integer(value),
            occurred_at: at(second),
            expires_at: expires.map(at),
            done: false,
        }
    }

    fn at(second: u64) -> WallClock {
        WallClock(0) + Duration::from_secs(second)
    }

    fn property(accumulates: bool) -> Property {
        Property {
            capability: "x".into(),
            access: Access::Both,
            domain: Domain::Any,
            class: ActuationClass::Set,
            relative: None,
            reverts: None,
            accumulates,
        }
    }

    #[test]
    fn an_expired_lock_leaves_no_unlock() {
        let mut world = World::default();
        let unlock = entry(Kind::Actuated, 0, 1, Some(1_000));
        world.happened(&key("lock"), unlock.clone(), None);
        let overridden = world.happened(&key("lock"), entry(Kind::Actuated, 1, 2, Some(10)), None);
        assert_eq!(overridden, Some(unlock));
        assert_eq!(
            world.value_at(&key("lock"), at(9)),
            Some(&Value::Integer(1))
        );
        assert_eq!(world.value_at(&key("lock"), at(10)), None);
    }

    #[test]
    fn the_newest_is_the_last_of_the_log_whatever_its_clock_said() {
        let mut world = World::default();
        world.happened(&key("t"), entry(Kind::Sensed, 21, 50, None), None);
        world.happened(&key("t"), entry(Kind::Sensed, 22, 40, None), None);
        assert_eq!(world.value_at(&key("t"), at(60)), Some(&Value::Integer(22)));
    }

    #[test]
    fn doses_are_counted_one_by_one_and_none_overrides_another() {
        let mut world = World::default();
        let doses = property(true);
        for second in 0..100 {
            world.happened(
                &key("dose"),
                entry(Kind::Actuated, 2, second, None),
                Some(&doses),
            );
        }
        let kept: Vec<_> = world
            .entries()
            .map(|(_, entry)| entry.occurred_at)
            .collect();
        assert_eq!(kept.len(), ACCUMULATED_MAX);
        assert_eq!((kept[0], kept[63]), (at(36), at(99)));
    }

    #[test]
    fn a_report_that_crosses_a_command_or_confirms_it_is_no_news_and_any_other_is() {
        let mut world = World::default();
        world.happened(&key("lock"), entry(Kind::Actuated, 1, 10, Some(20)), None);
        let report = |value, second: u64, expires| entry(Kind::Sensed, value, second, expires);
        assert!(world.confirms(&key("lock"), &report(1, 15, None)));
        assert!(world.confirms(&key("lock"), &report(0, 10, None)));
        assert!(!world.confirms(&key("lock"), &report(0, 15, None)));
        assert!(!world.confirms(&key("lock"), &report(1, 15, Some(40))));
        assert!(!world.confirms(&key("lock"), &report(1, 25, None)));
        world.done(
            &key("lock").subject,
            &entry(Kind::Actuated, 1, 10, None).event,
        );
        assert!(!world.confirms(&key("lock"), &report(0, 10, None)));
    }

    #[test]
    fn a_device_that_repeats_its_old_state_after_a_command_was_not_changed_by_hand() {
        let mut world = World::default();
        world.happened(&key("dim"), entry(Kind::Actuated, 7, 1, None), None);
        world.happened(&key("dim"), entry(Kind::Actuated, 9, 10, None), None);
        let taken = entry(Kind::Actuated, 9, 10, None).event;
        world.done(&key("dim").subject, &taken);
        let report = |value, second| entry(Kind::Sensed, value, second, None);
        assert!(world.confirms(&key("dim"), &report(7, 10)));
        assert!(!world.confirms(&key("dim"), &report(8, 10)));
        assert!(!world.confirms(&key("dim"), &report(7, 12)));
    }

    #[test]
    fn what_a_device_makes_up_without_end_takes_bounded_room_and_the_oldest_gives_way() {
        let mut world = World::default();
        for second in 0..300_u64 {
            let attribute = alloc::format!("p{second}");
            world.happened(&key(&attribute), entry(Kind::Sensed, 1, second, None), None);
        }
        assert_eq!(world.entries().count(), ATTRIBUTES_MAX);
        assert!(world.newest(&key("p299")).is_some() && world.newest(&key("p0")).is_none());
    }

    #[test]
    fn what_has_expired_is_kept_for_a_while_and_then_forgotten() {
        let mut world = World::default();
        world.happened(&key("t"), entry(Kind::Sensed, 21, 1, Some(2)), None);
        world.happened(&key("u"), entry(Kind::Sensed, 1, 61, None), None);
        assert!(world.newest(&key("t")).is_some());
        world.happened(&key("u"), entry(Kind::Sensed, 1, 62, None), None);
        assert!(world.newest(&key("t")).is_none());
    }
}
