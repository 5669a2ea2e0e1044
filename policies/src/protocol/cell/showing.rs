//! Recovery towards the world (paper, 4.2.4): an appliance is shown the final state of what was
//! commanded, once, and only as far as it does not show it already; what must not be repeated is
//! not, unless the device or a person says that it was never done.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::explanation::{FlowExplanation, Held};
use super::{Cell, Effect, Target, Waiting};
use crate::ids::EntityId;
use crate::model::{ActuationClass, Value};
use crate::physical_world::{Entry, EventId, Happened, Key, Kind, Position, recovered};
use crate::protocol::messages::UnknownCommand;
use crate::state_saving::{
    Commands, Desired, Finding, Judged, Lane, Properties, Record, Settled, Verdict,
};
use crate::time::{Now, WallClock};

/// The most commands of unknown fate that a report lists.
const UNKNOWN_REPORTED_MAX: usize = 16;
/// The most characters of a command that a report tells.
const DESCRIBED_MAX: usize = 200;

/// Which devices are being asked what they show, and which are not yet to be told anything.
#[derive(Debug, Default)]
pub(super) struct Showing {
    /// Per flow, what the answer is for.
    asked: BTreeMap<String, Purpose>,
    /// Flows whose device waits until the log knows that something of it goes back.
    unshown: Vec<String>,
}

/// What a device was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To be told only what differs, and to find out about a command in doubt.
    Target,
    /// To find out about a command in doubt.
    Doubt,
    /// To know what it counts before a command that must not be repeated.
    Before,
}

impl Showing {
    /// Whether a device may be told something.
    pub(super) fn is_open(&self, link: &str) -> bool {
        !self.asked.contains_key(link) && !self.unshown.iter().any(|waiting| waiting == link)
    }
}

impl Cell {
    /// Shows every appliance what it is to show after a recovery.
    pub(super) fn show_all(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let links: Vec<String> = self.commands.keys().cloned().collect();
        for link in links {
            let going_back = self
                .appliance_of(&link)
                .is_some_and(|appliance| self.surroundings.is_going_back(appliance, now));
            if going_back {
                self.showing.unshown.push(link);
            } else {
                self.show_target(now, &link, effects);
            }
        }
    }

    /// Makes an appliance show all that was commanded, still holds and was not overridden: at most
    /// one command, and none if it says that it shows it already. Whatever waited to be sent to it
    /// and is not part of that is dropped.
    pub fn show_target(&mut self, now: Now, link: &str, effects: &mut Vec<Effect>) {
        let Some(appliance) = self.appliance_of(link).cloned() else {
            return;
        };
        let (target, mut explained) = self.target(&appliance, now);
        let Some(commands) = self.commands.get_mut(link) else {
            return;
        };
        commands.show(target);
        let mut names: Vec<String> = commands.desired().keys().cloned().collect();
        let doubt = commands.doubt();
        names.extend(doubt.and_then(|doubt| doubt.evidence).map(String::from));
        let answers = commands.model().answers;
        explained.why = match (names.is_empty(), answers) {
            (true, _) => "nothing that was commanded holds".into(),
            (false, true) => "it was asked and did not answer in time".into(),
            (false, false) => "it cannot be asked what it shows".into(),
        };
        let explanation = self.explanation.get_or_insert_default();
        explanation.flows.insert(link.into(), explained);
        if answers && !names.is_empty() {
            self.ask(link, Purpose::Target, names, effects);
        } else {
            self.conclude(now, link, None, effects);
        }
    }

    /// What an appliance is to show: the state of the world as far as it was commanded and set, by
    /// events that surely hold.
    fn target(
        &self,
        appliance: &EntityId,
        now: Now,
    ) -> (BTreeMap<String, Desired>, FlowExplanation) {
        let mut explained = FlowExplanation::of(appliance);
        let known = self.surroundings.world.newest_of(appliance);
        let happened = |(attribute, entry): (&String, &Entry)| Happened {
            key: Key {
                subject: appliance.clone(),
                attribute: attribute.clone(),
            },
            entry: entry.clone(),
        };
        let known: Vec<Happened> = known.map(happened).collect();
        let holding = recovered(known.clone(), [], now, |_| false);
        let held = |h: &Happened| Held::new(&h.key.attribute, &h.entry);
        explained.held = holding.iter().map(held).collect();
        let expired = known.iter().filter(|h| !holding.contains(h));
        explained.expired = expired.map(held).collect();
        let overridden = self.surroundings.overridden.get(appliance);
        explained.overridden = overridden.cloned().unwrap_or_default();
        explained.reverted = self.surroundings.reverted(appliance);
        explained.goes_back_at = self.surroundings.goes_back_at(appliance);
        let model = self.surroundings.model(appliance);
        let mut target = BTreeMap::new();
        for Happened { key, entry } in holding {
            if entry.kind == Kind::Actuated && model.class_of(&key.attribute) == ActuationClass::Set
            {
                explained
                    .target
                    .insert(key.attribute.clone(), entry.value.clone());
                let desired = Desired {
                    position: entry.event.position,
                    expires_at: entry.expires_at,
                    value: entry.value,
                };
                target.insert(key.attribute, desired);
            }
        }
        (target, explained)
    }

    /// The log knows of what goes back on an appliance: it may be shown what it is to show.
    pub(super) fn gone_back(&mut self, now: Now, appliance: &EntityId, effects: &mut Vec<Effect>) {
        let (ready, waiting) = core::mem::take(&mut self.showing.unshown)
            .into_iter()
            .partition(|link| self.appliance_of(link) == Some(appliance));
        self.showing.unshown = waiting;
        let ready: Vec<String> = ready;
        for link in &ready {
            self.show_target(now, link, effects);
        }
        if ready.is_empty() && self.is_live() {
            self.send(now, effects);
        }
    }

    fn ask(
        &mut self,
        link: &str,
        purpose: Purpose,
        properties: Vec<String>,
        effects: &mut Vec<Effect>,
    ) {
        self.showing.asked.insert(link.into(), purpose);
        effects.push(Effect::Compare {
            link: link.into(),
            properties,
        });
    }

    /// Asks a device what it counts, before a command that must not be repeated.
    pub(super) fn read_before(&mut self, link: &str, property: String, effects: &mut Vec<Effect>) {
        self.ask(link, Purpose::Before, Vec::from([property]), effects);
    }

    /// The appliance was asked what it shows; `None` is no answer.
    pub(super) fn compared(
        &mut self,
        now: Now,
        link: &str,
        shown: Option<&Properties>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(purpose) = self.showing.asked.remove(link) else {
            return;
        };
        match purpose {
            Purpose::Target => self.conclude(now, link, shown, effects),
            Purpose::Doubt => {
                self.resolve_doubt(link, shown, effects);
                self.append(now, effects);
                self.actuate(now, link, effects);
            }
            Purpose::Before => {
                if let Some(commands) = self.commands.get_mut(link) {
                    let counter = shown.and_then(|shown| commands.counter_in(shown));
                    commands.read(counter);
                }
                self.actuate(now, link, effects);
            }
        }
    }

    /// What the device shows is known, or will not be: it is told what differs.
    fn conclude(
        &mut self,
        now: Now,
        link: &str,
        shown: Option<&Properties>,
        effects: &mut Vec<Effect>,
    ) {
        self.resolve_doubt(link, shown, effects);
        let Some(commands) = self.commands.get_mut(link) else {
            return;
        };
        let settled = shown.and_then(|shown| commands.shown(shown));
        let left: Properties = commands
            .desired()
            .iter()
            .map(|(name, desired)| (name.clone(), desired.value.clone()))
            .collect();
        if let Some(explained) = self.explained(link) {
            explained.shown = shown.cloned();
            if shown.is_some() {
                explained.why = match left.is_empty() {
                    true => "it shows all of it already".into(),
                    false => "it shows something else".into(),
                };
            }
            explained.command = (!left.is_empty()).then_some(left);
        }
        if let Some(position) = settled {
            self.log_settled(link, Lane::Merged, position);
        }
        self.append(now, effects);
        self.actuate(now, link, effects);
    }

    /// A command that may or may not have been carried out: the device shows which, or a person has
    /// to say.
    fn resolve_doubt(&mut self, link: &str, shown: Option<&Properties>, effects: &mut Vec<Effect>) {
        let Some(commands) = self.commands.get_mut(link) else {
            return;
        };
        let Some(doubt) = commands.doubt() else {
            return;
        };
        let command = doubt.command.clone();
        let position = command.position;
        let id = EventId {
            source: self.settings.element.clone(),
            position,
        };
        let finding = doubt.finding(shown, &id.to_string());
        let found = match finding {
            Finding::CarriedOut => {
                commands.settle_in_doubt(position);
                self.log_settled(link, Lane::Queued, position);
                "the device shows that it was carried out"
            }
            Finding::NotCarriedOut => {
                "the device shows that it was not carried out: it is sent if it is still valid"
            }
            Finding::Nothing => {
                commands.give_over(position);
                self.log_judged(link, position, Verdict::Unknown);
                effects.push(Effect::ReportUnknown {
                    link: link.into(),
                    command,
                });
                "nobody knows whether it was carried out: a person has to say"
            }
        };
        if let Some(explained) = self.explained(link) {
            explained.doubtful.insert(id.to_string(), found.into());
        }
    }

    /// Nobody knows whether the command in flight reached the device.
    pub(super) fn doubted(
        &mut self,
        now: Now,
        link: &str,
        position: Position,
        effects: &mut Vec<Effect>,
    ) {
        let Some(commands) = self.commands.get_mut(link) else {
            return;
        };
        if !commands.doubted(position) {
            return self.actuate(now, link, effects);
        }
        let doubt = commands.doubt();
        match doubt.and_then(|doubt| doubt.evidence).map(String::from) {
            Some(evidence) => self.ask(link, Purpose::Doubt, Vec::from([evidence]), effects),
            None => {
                self.resolve_doubt(link, None, effects);
                self.append(now, effects);
                self.actuate(now, link, effects);
            }
        }
    }

    /// A person says what became of a command of unknown fate: first to the log.
    pub(super) fn judged(
        &mut self,
        now: Now,
        link: &str,
        position: Position,
        verdict: Verdict,
        effects: &mut Vec<Effect>,
    ) {
        let commands = self.commands.get(link);
        let known = commands.is_some_and(|commands| {
            let mut unknown = commands.unknown();
            unknown.any(|unknown| unknown.command.position == position)
        });
        if known && self.is_live() && verdict != Verdict::Unknown {
            self.log_judged(link, position, verdict);
            self.append(now, effects);
        }
    }

    pub(super) fn fold_judged(
        &mut self,
        now: Now,
        logged_at: WallClock,
        judged: &Judged,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(commands) = self.commands.get_mut(&judged.link) {
            commands.judged(judged.position, judged.verdict, logged_at);
            self.actuate(now, &judged.link, effects);
        }
    }

    fn log_judged(&mut self, link: &str, position: Position, verdict: Verdict) {
        // What was carried out before stands before it in the log.
        self.note_settled();
        self.log.waiting.push_back(Waiting {
            record: Record::Judged(Judged {
                link: link.into(),
                position,
                verdict,
            }),
            receipts: Vec::new(),
        });
    }

    pub(super) fn log_settled(&mut self, link: &str, lane: Lane, position: Position) {
        self.log.settled.push(Settled {
            link: link.into(),
            lane,
            position,
        });
    }

    /// The log says that commands are settled.
    pub(super) fn fold_settled(&mut self, settled: &Settled) {
        if let Some(commands) = self.commands.get_mut(&settled.link) {
            commands.settle(settled.lane, settled.position);
        }
        if let Some(appliance) = self.appliance_of(&settled.link).cloned() {
            let event = self.id_of(settled.position);
            self.surroundings.world.done(&appliance, &event);
        }
    }

    /// The appliance at the other end of a flow.
    pub(super) fn appliance_of(&self, link: &str) -> Option<&EntityId> {
        let mut links = self.settings.outbound.iter();
        links.find_map(|known| match &known.target {
            Target::Appliance(appliance) if known.id == link => Some(appliance),
            Target::Appliance(_) | Target::Element => None,
        })
    }

    /// The commands that a person has to judge, over all flows.
    pub(super) fn unknown_count(&self) -> u64 {
        let all = self
            .commands
            .values()
            .flat_map(|commands| commands.unknown());
        u64::try_from(all.count()).unwrap_or(u64::MAX)
    }

    /// The same one by one, as far as a report has room.
    #[must_use]
    pub fn unknown_commands(&self) -> Vec<UnknownCommand> {
        let of_link = |(link, commands): (&'_ String, &'_ Commands)| {
            let appliance = self.appliance_of(link).cloned();
            let reported = commands.unknown().map(|unknown| {
                let position = unknown.command.position;
                UnknownCommand {
                    link: link.clone(),
                    appliance: appliance.clone(),
                    position,
                    id: self.id_of(position).to_string(),
                    text: described(&unknown.command.properties),
                }
            });
            reported.collect::<Vec<_>>()
        };
        let all = self.commands.iter().flat_map(of_link);
        all.take(UNKNOWN_REPORTED_MAX).collect()
    }

    fn id_of(&self, position: Position) -> EventId {
        EventId {
            source: self.settings.element.clone(),
            position,
        }
    }
}

/// A command for people.
fn described(properties: &Properties) -> String {
    let one = |(name, value): (&String, &Value)| format!("{name} = {value}");
    let whole = properties.iter().map(one).collect::<Vec<_>>().join(", ");
    whole.chars().take(DESCRIBED_MAX).collect()
}
