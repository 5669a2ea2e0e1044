//! The part of the physical world that the element touches, as its log tells it (paper, 3.2 and 4.2.1):
//! what its devices said and what it commanded, each overriding what came before.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::explanation::Overridden;
use super::{Cell, CellSettings, Effect, OutboundLink, Target, Waiting};
use crate::ids::EntityId;
use crate::model::{ActuationClass, DeviceModel, Property, Reversion};
use crate::physical_world::{Entry, EventId, Key, Kind, Position, World};
use crate::state_saving::{Command, Properties, Record, Refused, Reverted, resolve};
use crate::time::{Now, WallClock};

/// The most overridden events that are kept of one appliance for the explanation of a recovery.
const OVERRIDDEN_MAX: usize = 32;

/// What a cell knows of the physical world, and of the devices in it.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    pub(super) world: World,
    /// What each device that the element is bound to is.
    devices: BTreeMap<EntityId, DeviceModel>,
    /// What a device is that nobody described.
    unknown: DeviceModel,
    /// What goes back by itself when the validity of its last command ends.
    reversions: Vec<(Key, Reversion)>,
    /// Reversions that are on their way to the log, with the event whose validity ended.
    reverting: BTreeMap<Key, EventId>,
    /// What was overridden in this replay.
    pub(super) overridden: BTreeMap<EntityId, Vec<Overridden>>,
    /// What went back since.
    reverted: BTreeMap<EntityId, BTreeSet<String>>,
}

impl Surroundings {
    pub(super) fn new(settings: &CellSettings) -> Self {
        let mut surroundings = Self {
            devices: settings.devices.clone(),
            ..Self::default()
        };
        for link in &settings.outbound {
            if let Target::Appliance(appliance) = &link.target {
                surroundings.watch(appliance);
            }
        }
        surroundings
    }

    /// Goes back to what a checkpoint saved.
    pub(super) fn restore(&mut self, world: World) {
        self.world = world;
        self.overridden.clear();
        self.reverted.clear();
    }

    /// From here on the element goes by what `appliance` does by itself.
    fn watch(&mut self, appliance: &EntityId) {
        let Some(model) = self.devices.get(appliance) else {
            return;
        };
        for (name, property) in &model.properties {
            let key = Key {
                subject: appliance.clone(),
                attribute: name.clone(),
            };
            let known = self.reversions.iter().any(|(known, _)| *known == key);
            if let Some(reversion) = property.reverts.clone().filter(|_| !known) {
                self.reversions.push((key, reversion));
            }
        }
    }

    /// What a device is; of one that nobody described nothing may be repeated.
    pub(super) fn model(&self, appliance: &EntityId) -> &DeviceModel {
        self.devices.get(appliance).unwrap_or(&self.unknown)
    }

    pub(super) fn property(&self, key: &Key) -> Option<&Property> {
        let model = self.devices.get(&key.subject)?;
        model.properties.get(&key.attribute)
    }

    /// A device said this; its model says what of it is a quantity. Returns the attributes of which
    /// it was news.
    fn sensed(
        &mut self,
        event: &EventId,
        occurred_at: WallClock,
        expires_at: Option<WallClock>,
        properties: Properties,
    ) -> Vec<String> {
        let mut news = Vec::new();
        for (attribute, value) in properties {
            let key = Key {
                subject: event.source.clone(),
                attribute,
            };
            let model = self.devices.get(&key.subject);
            let property = model.and_then(|model| model.properties.get(&key.attribute));
            let described = model.is_some_and(|model| !model.properties.is_empty());
            if described && !property.is_some_and(|property| property.access.is_shown()) {
                continue;
            }
            let entry = Entry {
                event: event.clone(),
                kind: Kind::Sensed,
                value,
                occurred_at,
                expires_at,
                done: false,
            };
            if !self.world.confirms(&key, &entry) {
                self.happened(&key, entry);
                news.push(key.attribute);
            }
        }
        news
    }

    /// The element commanded this. A step that leads nobody knows where says nothing of the world.
    fn actuated(&mut self, appliance: &EntityId, command: &Actuation<'_>) {
        for (attribute, value) in command.properties {
            let key = Key {
                subject: appliance.clone(),
                attribute: attribute.clone(),
            };
            let model = self.devices.get(appliance);
            let class = model.map_or(ActuationClass::Irreversible, |m| m.class_of(attribute));
            let is_step = self.property(&key).is_some_and(|p| p.relative.is_some());
            if is_step || class == ActuationClass::Delta {
                continue;
            }
            let entry = Entry {
                event: command.event.clone(),
                kind: Kind::Actuated,
                value: value.clone(),
                occurred_at: command.at,
                expires_at: command.expires_at,
                done: false,
            };
            self.happened(&key, entry);
        }
    }

    fn happened(&mut self, key: &Key, entry: Entry) {
        let property = self.devices.get(&key.subject);
        let property = property.and_then(|model| model.properties.get(&key.attribute));
        let by = entry.event.clone();
        if let Some(overridden) = self.world.happened(key, entry, property) {
            let notes = self.overridden.entry(key.subject.clone()).or_default();
            if notes.len() >= OVERRIDDEN_MAX {
                notes.remove(0);
            }
            notes.push(Overridden::new(key, overridden, by));
        }
    }

    /// When a quantity goes back by itself, and to what: the validity of its newest event ends then.
    fn reverts_at<'a>(
        &'a self,
        (key, reversion): &'a (Key, Reversion),
    ) -> Option<(WallClock, &'a Entry)> {
        let newest = self.world.newest(key)?;
        let ends_at = newest.expires_at?;
        let there = newest.value.means(&reversion.to);
        (!there).then(|| (ends_at + reversion.after, newest))
    }

    /// When the next quantity goes back by itself.
    pub(super) fn next_reversion_at(&self) -> Option<WallClock> {
        let open = |(key, _): &&(Key, Reversion)| !self.is_reverting(key);
        let due = self.reversions.iter().filter(open);
        due.filter_map(|it| Some(self.reverts_at(it)?.0)).min()
    }

    fn is_reverting(&self, key: &Key) -> bool {
        let newest = self.world.newest(key).map(|entry| &entry.event);
        newest.is_some() && newest == self.reverting.get(key)
    }

    /// The quantities that go back by `now`; each comes out once.
    fn due(&mut self, now: Now) -> Vec<Reverted> {
        let mut due = Vec::new();
        for it in &self.reversions {
            let (key, reversion) = it;
            if self.is_reverting(key) {
                continue;
            }
            if let Some((_, newest)) = self.reverts_at(it).filter(|(at, _)| *at <= now.wall) {
                due.push(Reverted {
                    key: key.clone(),
                    event: newest.event.clone(),
                    to: reversion.to.clone(),
                });
            }
        }
        for Reverted { key, event, .. } in &due {
            self.reverting.insert(key.clone(), event.clone());
        }
        due
    }

    /// The properties of an appliance that went back since the recovery.
    pub(super) fn reverted(&self, appliance: &EntityId) -> Vec<String> {
        let names = self.reverted.get(appliance).into_iter().flatten();
        names.cloned().collect()
    }

    /// When the properties of an appliance that hold for a while go back.
    pub(super) fn goes_back_at(&self, appliance: &EntityId) -> BTreeMap<String, WallClock> {
        let own = self.reversions.iter();
        let own = own.filter(|(key, _)| key.subject == *appliance);
        own.filter_map(|it| Some((it.0.attribute.clone(), self.reverts_at(it)?.0)))
            .collect()
    }

    /// Whether an appliance is about to be told to go back, and the log does not know yet.
    pub(super) fn is_going_back(&self, appliance: &EntityId, now: Now) -> bool {
        let mut own = self
            .reversions
            .iter()
            .filter(|(key, _)| key.subject == *appliance);
        own.any(|it| {
            let due = self.reverts_at(it).is_some_and(|(at, _)| at <= now.wall);
            due || self.is_reverting(&it.0)
        })
    }
}

/// A command as it is emitted, before it is known what becomes of it.
struct Actuation<'a> {
    event: EventId,
    at: WallClock,
    expires_at: Option<WallClock>,
    properties: &'a Properties,
}

/// What a handler asks of an appliance, when, and until when it holds.
pub(super) struct Asked {
    pub(super) position: Position,
    pub(super) at: WallClock,
    /// Until when what it says of the world holds.
    pub(super) holds_until: Option<WallClock>,
    /// Until when it may be sent.
    pub(super) expires_at: Option<WallClock>,
    pub(super) properties: Properties,
    /// Whether it leaves; what an immediate event asked for before a crash does not.
    pub(super) leaves: bool,
}

impl Cell {
    /// What the element knows of the physical world.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.surroundings.world
    }

    /// A device's event is folded into what is known of the world. What was commanded before it and
    /// still waits is overridden.
    pub(super) fn fold_sensed(
        &mut self,
        event: &EventId,
        occurred_at: WallClock,
        expires_at: Option<WallClock>,
        properties: Properties,
    ) {
        let news = self
            .surroundings
            .sensed(event, occurred_at, expires_at, properties);
        let of_device = |link: &&OutboundLink| matches!(&link.target, Target::Appliance(appliance) if *appliance == event.source);
        for link in self.settings.outbound.iter().filter(of_device) {
            if let Some(commands) = self.commands.get_mut(&link.id) {
                commands.overridden(&news);
            }
        }
    }

    /// A command of a handler: steps become where they lead, the world is changed by it, and it
    /// waits to be sent. One that the device does not take is kept for people.
    pub(super) fn command(
        &mut self,
        link: &str,
        appliance: &EntityId,
        asked: Asked,
        effects: &mut Vec<Effect>,
    ) {
        let position = asked.position;
        if let Err(refused) = self.commanded(link, appliance, asked) {
            self.refuse(position, link, &format!("{refused}"), effects);
        }
    }

    /// The same; returns what the device is to show or do.
    ///
    /// # Errors
    /// What of it the device does not take: nothing is changed.
    pub(super) fn commanded(
        &mut self,
        link: &str,
        appliance: &EntityId,
        asked: Asked,
    ) -> Result<Properties, Refused> {
        let Asked {
            position,
            at,
            holds_until,
            expires_at,
            properties,
            leaves,
        } = asked;
        let model = self.surroundings.model(appliance);
        let known = |attribute: &str| {
            let key = Key {
                subject: appliance.clone(),
                attribute: attribute.into(),
            };
            self.surroundings.world.value_at(&key, at).cloned()
        };
        let properties = resolve(model, properties, known)?;
        let event = EventId {
            source: self.settings.element.clone(),
            position,
        };
        let actuation = Actuation {
            event,
            at,
            expires_at: holds_until,
            properties: &properties,
        };
        self.surroundings.actuated(appliance, &actuation);
        if let Some(commands) = self.commands.get_mut(link).filter(|_| leaves) {
            commands.emitted(Command {
                position,
                expires_at,
                properties: properties.clone(),
            });
        }
        Ok(properties)
    }

    fn refuse(&mut self, position: Position, link: &str, reason: &str, effects: &mut Vec<Effect>) {
        // A replay makes the same command again, and people were told of it the first time.
        if self.is_live() {
            self.counters.dead_letters += 1;
            effects.push(Effect::Bury {
                index: position.index,
                what: format!("command {position:?} on {link}"),
                cause: reason.into(),
            });
        }
    }

    /// What was commanded for a while and is over goes back: first to the log.
    pub(super) fn revert_due(&mut self, now: Now) {
        let due = self.surroundings.due(now);
        if !due.is_empty() {
            self.log.waiting.push_back(Waiting {
                record: Record::Reverted(due),
                receipts: Vec::new(),
            });
        }
    }

    /// The log says that something goes back. What was overridden meanwhile does not.
    pub(super) fn fold_reverted(
        &mut self,
        now: Now,
        (index, logged_at): (u64, WallClock),
        reverted: Vec<Reverted>,
        effects: &mut Vec<Effect>,
    ) {
        let mut appliances: Vec<EntityId> = Vec::new();
        for (k, Reverted { key, event, to }) in (0..).zip(reverted) {
            self.surroundings.reverting.remove(&key);
            appliances.push(key.subject.clone());
            let noted = &mut self.surroundings.reverted;
            let noted = noted.entry(key.subject.clone()).or_default();
            noted.insert(key.attribute.clone());
            let newest = self.surroundings.world.newest(&key);
            if newest.is_none_or(|newest| newest.event != event) {
                continue;
            }
            let Some(link) = self.link_to(&key.subject) else {
                continue;
            };
            let asked = Asked {
                position: Position::new(self.lineage, index, k),
                at: logged_at,
                holds_until: None,
                expires_at: None,
                properties: [(key.attribute, to)].into(),
                leaves: true,
            };
            self.command(&link, &key.subject, asked, effects);
        }
        for appliance in appliances {
            self.gone_back(now, &appliance, effects);
        }
    }

    /// The flow by which an appliance is told something that no handler asked for.
    fn link_to(&self, appliance: &EntityId) -> Option<String> {
        let is_it = |target: &Target| matches!(target, Target::Appliance(id) if id == appliance);
        let mut links = self.settings.outbound.iter();
        let link = links.find(|link| is_it(&link.target))?;
        Some(link.id.clone())
    }
}
