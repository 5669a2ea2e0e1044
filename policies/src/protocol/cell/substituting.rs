//! Who serves in the place of an appliance that failed, and how those around the element are, as its
//! log has it (paper, 4.2.3 and 4.2.4; the configurator).
//!
//! The element goes on in the words of its own appliance, and its log too: whoever serves there is
//! spoken to in its own words by the shell. The decision is logged before it acts, so that a replay
//! finds the same places filled at the same events.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::world::Asked;
use super::{Cell, Effect, Handling, InForce, Input, Phase, Place, TaskInput, Waiting};
use crate::ids::EntityId;
use crate::model::ActuationClass;
use crate::physical_world::{Entry, Kind, Position};
use crate::protocol::appliances::{PlaceChange, PlaceFate, Reconfiguration, Served};
use crate::state_saving::{Command, Commands, Properties, Record};
use crate::time::{Now, WallClock};

/// The first number of a command to a safe state among what follows from one record: far behind those
/// of the handler.
const SAFE_STATE_FIRST: u32 = 1 << 20;
/// How many commands that must not be merged may wait for an appliance in whose place nobody serves.
const WAITING_MAX: usize = 64;

/// Who serves where, and which decision is on its way to the log.
#[derive(Debug, Default)]
pub(super) struct Substituting {
    /// As the state has folded it.
    pub(super) table: Reconfiguration,
    /// The place in the log of the last record that changed it; 0 if there was none.
    pub(super) version: u64,
    /// All that is in the log or on its way there.
    newest: Reconfiguration,
    /// The newest version that appliances and whoever asks were shown.
    shown: u64,
    /// Whether somebody asked for what is in force before it was known.
    asked: bool,
    /// The places of decisions that were folded in a mend and are shown when it is over.
    unshown: BTreeSet<EntityId>,
}

impl Substituting {
    pub(super) fn in_force(&self) -> InForce {
        InForce {
            version: self.version,
            table: self.table.clone(),
        }
    }

    pub(super) fn restore(&mut self, InForce { version, table }: InForce) {
        self.newest.join(&table);
        self.table = table;
        self.version = version;
    }

    /// All that is in the log or on its way there.
    pub(super) fn newest(&self) -> &Reconfiguration {
        &self.newest
    }

    /// The appliances were all shown what they are to show.
    pub(super) fn all_shown(&mut self) {
        self.unshown.clear();
    }

    pub(super) fn is_logged(&mut self, reconfiguration: &Reconfiguration) {
        self.newest.join(reconfiguration);
    }

    /// Who serves in the place of an appliance; `None` if it does itself.
    fn served(&self, appliance: &EntityId) -> Option<&Served> {
        self.table.served.get(appliance)
    }
}

impl Cell {
    /// It was decided who serves in whose place: first to the log.
    pub(super) fn reconfigured(
        &mut self,
        now: Now,
        reconfiguration: Reconfiguration,
        effects: &mut Vec<Effect>,
    ) {
        if self.stop_requested {
            return;
        }
        if self.phase == Phase::Starting {
            // What the log says of it is not read yet.
            self.held.push(Input::Reconfigured(reconfiguration));
            return;
        }
        if !self.substituting.newest.join(&reconfiguration) {
            return;
        }
        // What was carried out before stands before it in the log.
        self.note_settled();
        self.log.waiting.push_back(Waiting {
            record: Record::Reconfigured(reconfiguration),
            receipts: Vec::new(),
        });
        self.append(now, effects);
    }

    /// The log says who serves in whose place: flows are re-pointed, the appliance that serves now is
    /// shown what it is to show, and the element is told.
    pub(super) fn fold_reconfigured(
        &mut self,
        now: Now,
        (index, logged_at): (u64, WallClock),
        reconfiguration: &Reconfiguration,
        effects: &mut Vec<Effect>,
    ) {
        self.log.handled = index;
        let before = self.substituting.table.clone();
        if !self.substituting.table.join(reconfiguration) {
            return;
        }
        self.substituting.version = index;
        let changed = self.changed_since(&before);
        if self.substituting.table.epoch > before.epoch {
            effects.push(Effect::Reroute(self.substituting.table.clone()));
            for appliance in &changed {
                self.give_over_doubts(appliance, &before, effects);
                self.give_place(appliance, logged_at);
            }
            self.bring_to_safety(now, (index, logged_at), &before, effects);
        }
        if index > self.substituting.shown {
            self.substituting.unshown.extend(changed.iter().cloned());
        }
        self.block_anew(now, effects);
        if self.is_live() {
            self.show_unshown(now, effects);
        }
        let mut changes = self.changes_for_author(&changed);
        changes.extend(self.peer_changes(&before));
        if changes.is_empty() || self.skipped.contains(&index) {
            return;
        }
        let handling = Handling {
            index,
            logged_at,
            what: "a reconfiguration".into(),
            ..Handling::default()
        };
        self.hand_over(handling, TaskInput::Reconfigured { changes }, effects);
    }

    /// Appliances in whose places somebody else serves now than before.
    fn changed_since(&self, before: &Reconfiguration) -> BTreeSet<EntityId> {
        let places = self.settings.places.keys();
        let changed = places.filter(|appliance| {
            before.served.get(*appliance) != self.substituting.served(appliance)
        });
        changed.cloned().collect()
    }

    fn changes_for_author(&self, changed: &BTreeSet<EntityId>) -> Vec<PlaceChange> {
        let mut changes = Vec::new();
        for appliance in changed {
            let fate = match self.substituting.served(appliance) {
                None => PlaceFate::Recovered,
                Some(Served::Nobody) => PlaceFate::Failed,
                Some(Served::By(by)) => PlaceFate::Replaced(by.clone()),
            };
            let place = self.settings.places.get(appliance);
            let outputs = place.into_iter().flat_map(|place| &place.outputs);
            changes.extend(outputs.map(|output| PlaceChange {
                output: output.clone(),
                fate: fate.clone(),
            }));
        }
        changes
    }

    /// Says again who serves where, to a shell that may not know.
    pub(super) fn reroute(&self, effects: &mut Vec<Effect>) {
        if self.substituting.table.epoch > 0 {
            effects.push(Effect::Reroute(self.substituting.table.clone()));
        }
    }

    /// Shows what was decided since the last time.
    fn show_unshown(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.substituting.asked || self.substituting.version > self.substituting.shown {
            self.show_reconfiguration(effects);
        }
        for appliance in core::mem::take(&mut self.substituting.unshown) {
            self.show_place(now, &appliance, effects);
        }
    }

    /// After a mend: what was decided meanwhile, and what appliances were being shown when the
    /// instance was lost. The replay makes again what handlers commanded, and not what was to be
    /// shown besides.
    pub(super) fn show_after_mend(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let unshown = &self.substituting.unshown;
        let decided = |link: &String| {
            self.appliance_of(link)
                .is_some_and(|appliance| unshown.contains(appliance))
        };
        let owing = self.commands.iter();
        let owing = owing.filter(|(link, commands)| commands.owes_showing() && !decided(link));
        let owing: Vec<String> = owing.map(|(link, _)| link.clone()).collect();
        self.show_unshown(now, effects);
        for link in owing {
            self.show_target(now, &link, effects);
        }
    }

    /// Tells whoever asks for it who serves where, and how those around are. Before the element is live
    /// it is not known.
    pub(super) fn show_reconfiguration(&mut self, effects: &mut Vec<Effect>) {
        self.substituting.asked = !self.is_live();
        if self.substituting.asked {
            return;
        }
        self.substituting.shown = self.substituting.version;
        effects.push(Effect::ShowReconfiguration {
            version: self.substituting.version,
            reconfiguration: self.substituting.table.clone(),
        });
    }

    /// Whether nobody is there to take what goes over this flow: it waits.
    pub(super) fn is_unserved(&self, link: &str) -> bool {
        let mut places = self.settings.places.iter();
        let place = places.find(|(_, place)| place.links.contains(link));
        place.is_some_and(|(appliance, _)| {
            self.substituting.served(appliance) == Some(&Served::Nobody)
        })
    }

    /// Whether what handlers command to an appliance does not leave, because the application has failed.
    /// A topic of nobody's is no actuator and is told values as before.
    pub(super) fn is_out_of_service(&self, appliance: &EntityId) -> bool {
        let failed = self.substituting.table.application_failed.is_some();
        failed && self.settings.places.contains_key(appliance)
    }

    /// The appliance that serves in a place now is shown what it is to show: the state of what served
    /// there before, as far as it still holds.
    fn show_place(&mut self, now: Now, appliance: &EntityId, effects: &mut Vec<Effect>) {
        for link in self.links_of(appliance) {
            self.show_target(now, &link, effects);
        }
    }

    /// What is on its way to the appliance that served until now, and must not be repeated, waits for a
    /// person's word: what another device counts says nothing of it.
    fn give_over_doubts(
        &mut self,
        appliance: &EntityId,
        before: &Reconfiguration,
        effects: &mut Vec<Effect>,
    ) {
        let served = before.served.get(appliance) != Some(&Served::Nobody);
        for link in self.links_of(appliance) {
            self.forget_question(&link);
            self.unreached.reached(&link);
            self.calls_handed_over(&link);
            let Some(commands) = self.commands.get_mut(&link) else {
                continue;
            };
            commands.returned();
            let keys = commands.known_to_device_only();
            for position in keys.into_iter().filter(|_| served) {
                self.give_over(&link, position, effects);
            }
            if self.is_live() {
                self.resolve_doubt(&link, None, effects);
                continue;
            }
            let doubt = self.commands.get(&link).and_then(Commands::doubt);
            if let Some(position) = doubt.map(|doubt| doubt.command.position) {
                self.give_over(&link, position, effects);
            }
        }
    }

    /// What waits is for whoever serves now, and what the one before was told and still holds it is
    /// told too: it shows no state that could be compared.
    fn give_place(&mut self, appliance: &EntityId, at: WallClock) {
        let table = &self.substituting.table;
        let nobody = table.served.get(appliance) == Some(&Served::Nobody);
        let harmless = nobody || table.application_failed.is_some();
        let again = match harmless {
            true => Vec::new(),
            false => self.still_asked(appliance, at),
        };
        let epoch = table.epoch;
        // One flow tells it, as one does of what goes back by itself.
        let mut again = Some(again);
        for link in self.links_of(appliance) {
            if let Some(commands) = self.commands.get_mut(&link) {
                commands.hand_over(epoch, again.take().unwrap_or_default());
            }
        }
    }

    /// What an appliance was told that is no state, holds at an instant of the log and is to be done by
    /// whoever takes its place: that people are warned, as long as they are; what it knew by a key, as
    /// long as its author said. What counts by itself, or must not be repeated, never.
    fn still_asked(&self, appliance: &EntityId, at: WallClock) -> Vec<Command> {
        let model = self.surroundings.model(appliance);
        let place = self.settings.places.get(appliance);
        let safe = place.and_then(|place| place.safe_state.as_ref());
        let is_safe = |name: &String, entry: &Entry| {
            let value = safe.and_then(|safe| safe.get(name));
            value.is_some_and(|value| value.means(&entry.value))
        };
        let counts = |name: &String| model.properties.get(name).is_some_and(|p| p.accumulates);
        let mut asked: BTreeMap<Position, Command> = BTreeMap::new();
        for (name, entry) in self.surroundings.world.newest_of(appliance) {
            let again = match model.class_of(name) {
                ActuationClass::Alarm => !is_safe(name, entry),
                ActuationClass::Keyed => entry.expires_at.is_some() && !counts(name),
                ActuationClass::Set | ActuationClass::Delta | ActuationClass::Irreversible => false,
            };
            if !again || entry.kind != Kind::Actuated || !entry.holds_at(at) {
                continue;
            }
            let position = entry.event.position;
            let command = asked.entry(position).or_insert_with(|| Command {
                position,
                expires_at: entry.expires_at,
                properties: Properties::new(),
            });
            command.properties.insert(name.clone(), entry.value.clone());
        }
        asked.into_values().collect()
    }

    /// When the application fails its actuators are left harmless, and so they stay until they are
    /// commanded again.
    fn bring_to_safety(
        &mut self,
        now: Now,
        (index, logged_at): (u64, WallClock),
        before: &Reconfiguration,
        effects: &mut Vec<Effect>,
    ) {
        let failed = |table: &Reconfiguration| table.application_failed.is_some();
        if failed(before) || !failed(&self.substituting.table) {
            return;
        }
        self.drop_waiting(effects);
        let safe = |(appliance, place): (&EntityId, &Place)| {
            let link = place.links.first()?.clone();
            Some((appliance.clone(), link, place.safe_state.clone()?))
        };
        let safe: Vec<_> = self.settings.places.iter().filter_map(safe).collect();
        for (k, (appliance, link, properties)) in (SAFE_STATE_FIRST..).zip(safe) {
            if self.is_unserved(&link) {
                continue;
            }
            let asked = Asked {
                position: Position::new(self.lineage, index, k),
                at: logged_at,
                holds_until: None,
                expires_at: None,
                properties,
                leaves: true,
            };
            self.command(&link, &appliance, asked, effects);
            self.actuate(now, &link, effects);
        }
    }

    /// Nothing that was commanded before an application failed is begun any more; what must not be
    /// merged is kept for people.
    fn drop_waiting(&mut self, effects: &mut Vec<Effect>) {
        let live = self.is_live();
        let places = self.settings.places.values();
        for link in places.flat_map(|place| &place.links) {
            let Some(commands) = self.commands.get_mut(link) else {
                continue;
            };
            commands.show(BTreeMap::new());
            for dropped in commands.keep_newest(0).into_iter().filter(|_| live) {
                effects.push(Effect::Bury {
                    index: dropped.position.index,
                    what: format!("command {:?} on {link}", dropped.position),
                    cause: "the application failed before it was known to be carried out".into(),
                });
            }
        }
    }

    /// What nobody takes waits within a limit; the oldest of it is kept for people.
    pub(super) fn limit_waiting(&mut self, link: &str, effects: &mut Vec<Effect>) {
        if !self.is_unserved(link) {
            return;
        }
        let live = self.is_live();
        let Some(commands) = self.commands.get_mut(link) else {
            return;
        };
        for dropped in commands.keep_newest(WAITING_MAX) {
            if live {
                effects.push(Effect::Bury {
                    index: dropped.position.index,
                    what: format!("command {:?} on {link}", dropped.position),
                    cause:
                        "its appliance failed, nobody serves in its place, and too many commands \
                            wait for it"
                            .into(),
                });
            }
        }
    }

    fn links_of(&self, appliance: &EntityId) -> Vec<String> {
        let place = self.settings.places.get(appliance);
        place
            .into_iter()
            .flat_map(|place| &place.links)
            .cloned()
            .collect()
    }
}
