//! Recovery towards the world (paper, 4.2.4): an appliance is shown the final state of what was
//! commanded, once, and only as far as it does not show it already; what must not be repeated is
//! not, unless the device or a person says that it was never done.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::explanation::{FlowExplanation, Held};
use super::{Cell, Effect, Source, Target};
use crate::ids::EntityId;
use crate::model::ActuationClass;
use crate::physical_world::{Entry, EventId, Happened, Key, Kind, Position, recovered};
use crate::state_saving::{Commands, Desired, Lane, Properties, Settled};
use crate::time::{Monotonic, Now};

/// How long a device that answers nobody is listened to before it is told what it is to show.
const LISTEN_FOR: Duration = Duration::from_millis(200);

/// Which devices are being asked what they show, and which are not yet to be told anything.
#[derive(Debug, Default)]
pub(super) struct Showing {
    /// Per flow, what the answer is for, and which question it answers.
    asked: BTreeMap<String, (Purpose, u64)>,
    /// How many questions were asked.
    questions: u64,
    /// Flows whose device waits until the log knows that something of it goes back.
    unshown: Vec<String>,
    /// Flows whose device answers nobody, and until when what it says by itself is awaited.
    listening: BTreeMap<String, Monotonic>,
    /// Flows whose device has answered, up to where the log is folded first, and the answer.
    concluding: BTreeMap<String, (u64, Option<Properties>)>,
}

/// What a device was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be told only what differs, and to find out about a command in doubt.
    Target,
    /// To find out about a command in doubt.
    Doubt,
    /// To know what it counts before a command that must not be repeated.
    Before,
}

impl Showing {
    /// The question that is open on a flow.
    #[cfg(test)]
    pub(super) fn question(&self, link: &str) -> Option<u64> {
        Some(self.asked.get(link)?.1)
    }

    /// Whether a device may be told something.
    pub(super) fn is_open(&self, link: &str) -> bool {
        !self.asked.contains_key(link)
            && !self.concluding.contains_key(link)
            && !self.unshown.iter().any(|waiting| waiting == link)
    }
}

impl Cell {
    /// Shows every appliance what it is to show after a recovery.
    pub(super) fn show_all(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let links: Vec<String> = self.commands.keys().cloned().collect();
        for link in links {
            self.show_when_gone_back(now, link, effects);
        }
    }

    /// Shows an appliance what it is to show, as soon as the log knows what of it goes back.
    pub(super) fn show_when_gone_back(
        &mut self,
        now: Now,
        link: String,
        effects: &mut Vec<Effect>,
    ) {
        let going_back = self
            .appliance_of(&link)
            .is_some_and(|appliance| self.surroundings.is_going_back(appliance, now));
        if going_back && now.is_sure() {
            self.showing.unshown.push(link);
        } else {
            self.show_target(now, &link, effects);
        }
    }

    /// Whether an appliance answered and is not told yet what it is to show.
    pub(super) fn concludes(&self) -> bool {
        !self.showing.concluding.is_empty()
    }

    /// Makes an appliance show all that was commanded, still holds and was not overridden: at most
    /// one command, and none if it says that it shows it already. Whatever waited to be sent to it
    /// and is not part of that is dropped.
    pub fn show_target(&mut self, now: Now, link: &str, effects: &mut Vec<Effect>) {
        if self.is_unserved(link) || self.puts_off(link, now) {
            return;
        }
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
        for name in self.asked_for_calls(link) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        explained.why = match (names.is_empty(), answers) {
            (true, _) => "nothing that was commanded holds".into(),
            (false, true) => "it was asked and did not answer in time".into(),
            (false, false) => "it cannot be asked what it shows".into(),
        };
        let explanation = self.explanation.get_or_insert_default();
        explanation.flows.insert(link.into(), explained);
        if answers && !names.is_empty() {
            self.ask(link, Purpose::Target, names, effects);
        } else if !names.is_empty() && self.hears(&appliance) {
            self.ask_nobody(link);
            let until = now.monotonic + LISTEN_FOR;
            self.showing.listening.insert(link.into(), until);
        } else {
            self.conclude(now, link, None, effects);
        }
    }

    /// Whether what an appliance says by itself reaches the element.
    fn hears(&self, appliance: &EntityId) -> bool {
        let mut inbound = self.settings.inbound.iter();
        inbound.any(|link| link.kind == Source::Device && link.source == *appliance)
    }

    /// When the next device has been listened to for long enough.
    pub(super) fn listens_until(&self) -> Option<Monotonic> {
        self.showing.listening.values().min().copied()
    }

    /// Devices that were listened to for long enough are told what they are to show, and those that
    /// answered as soon as all that arrived before the answer is folded: what happened during the
    /// repair counts (E_rpf), also where it was read from the broker only now.
    pub(super) fn conclude_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due =
            |(link, until): (&String, &Monotonic)| (*until <= now.monotonic).then(|| link.clone());
        let due: Vec<String> = self.showing.listening.iter().filter_map(due).collect();
        for link in due {
            self.compared(now, &link, None, effects);
        }
        if !now.is_sure() {
            return;
        }
        let folded = self.log.handled;
        let ready =
            |(link, (upto, _)): (&String, &(u64, _))| (*upto <= folded).then(|| link.clone());
        let ready: Vec<String> = self.showing.concluding.iter().filter_map(ready).collect();
        for link in ready {
            if let Some((_, shown)) = self.showing.concluding.remove(&link) {
                self.conclude(now, &link, shown.as_ref(), effects);
            }
        }
    }

    /// The index of the last record that has arrived, in the log or on its way there.
    fn last_arrived(&self) -> u64 {
        self.log.head + u64::try_from(self.log.waiting.len()).unwrap_or(u64::MAX)
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

    pub(super) fn ask(
        &mut self,
        link: &str,
        purpose: Purpose,
        properties: Vec<String>,
        effects: &mut Vec<Effect>,
    ) {
        self.showing.questions += 1;
        let question = self.showing.questions;
        self.showing.asked.insert(link.into(), (purpose, question));
        effects.push(Effect::Compare {
            link: link.into(),
            question,
            properties,
        });
    }

    /// Listens to a device that answers nobody.
    fn ask_nobody(&mut self, link: &str) {
        self.showing.questions += 1;
        let question = self.showing.questions;
        let asked = (Purpose::Target, question);
        self.showing.asked.insert(link.into(), asked);
    }

    /// What was asked of the device that served before is answered by nobody any more.
    pub(super) fn forget_question(&mut self, link: &str) {
        self.showing.asked.remove(link);
        self.showing.listening.remove(link);
        self.showing.concluding.remove(link);
    }

    /// Asks a device what it counts, before a command that must not be repeated.
    pub(super) fn read_before(&mut self, link: &str, property: String, effects: &mut Vec<Effect>) {
        self.ask(link, Purpose::Before, Vec::from([property]), effects);
    }

    /// The appliance was asked what it shows; `None` is no answer. What answers an older question says
    /// nothing: another appliance may serve since.
    pub(super) fn answered(
        &mut self,
        now: Now,
        link: &str,
        question: u64,
        shown: Option<&Properties>,
        effects: &mut Vec<Effect>,
    ) {
        let asked = self.showing.asked.get(link);
        if asked.is_some_and(|(_, asked)| *asked == question) {
            self.compared(now, link, shown, effects);
        }
    }

    fn compared(
        &mut self,
        now: Now,
        link: &str,
        shown: Option<&Properties>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((purpose, _)) = self.showing.asked.remove(link) else {
            return;
        };
        self.showing.listening.remove(link);
        match purpose {
            Purpose::Target => {
                let hears = self.appliance_of(link).is_some_and(|it| self.hears(it));
                let upto = if hears { self.last_arrived() } else { 0 };
                let concluding = (upto, shown.cloned());
                self.showing.concluding.insert(link.into(), concluding);
                self.conclude_due(now, effects);
            }
            Purpose::Doubt => {
                self.resolve_doubt(link, shown, effects);
                self.judge_calls(now, link, shown, effects);
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
        commands.forget_reading();
        let settled = shown.and_then(|shown| commands.shown(shown));
        let left: Properties = commands
            .desired()
            .iter()
            .map(|(name, desired)| (name.clone(), desired.value.clone()))
            .collect();
        self.explain_command(now, link, shown, left);
        if let Some(position) = settled {
            self.log_settled(link, Lane::Merged, position);
        }
        self.judge_calls(now, link, shown, effects);
        self.append(now, effects);
        self.actuate(now, link, effects);
    }

    /// Says what a device is told after all, and why.
    fn explain_command(
        &mut self,
        now: Now,
        link: &str,
        shown: Option<&Properties>,
        left: Properties,
    ) {
        let Some(appliance) = self.appliance_of(link).cloned() else {
            return;
        };
        // What arrived while it was asked counts as well.
        let (_, known) = self.target(&appliance, now);
        let Some(explained) = self.explained(link) else {
            return;
        };
        let why = match (left.is_empty(), shown) {
            (true, Some(_)) if !known.target.is_empty() => "it shows all of it already".into(),
            (true, _) => "nothing that was commanded holds".into(),
            (false, Some(_)) => "it shows something else".into(),
            (false, None) => core::mem::take(&mut explained.why),
        };
        *explained = FlowExplanation {
            why,
            doubtful: core::mem::take(&mut explained.doubtful),
            shown: shown.cloned(),
            command: (!left.is_empty()).then_some(left),
            ..known
        };
    }

    pub(super) fn log_settled(&mut self, link: &str, lane: Lane, position: Position) {
        self.log.settled.push(Settled {
            link: link.into(),
            lane,
            position,
            handed_over: self.handed_over(link),
        });
    }

    /// By which decision the device serves that is spoken to on a flow.
    pub(super) fn handed_over(&self, link: &str) -> u64 {
        self.commands.get(link).map_or(0, Commands::handed_over)
    }

    /// The log says that commands are settled.
    pub(super) fn fold_settled(&mut self, settled: &Settled) {
        let Some(commands) = self.commands.get_mut(&settled.link) else {
            return;
        };
        let is_it = commands.settle(settled.lane, settled.position, settled.handed_over);
        if !is_it {
            return;
        }
        self.calls_settled(settled);
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

    pub(super) fn id_of(&self, position: Position) -> EventId {
        EventId {
            source: self.settings.element.clone(),
            position,
        }
    }
}
