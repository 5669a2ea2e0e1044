//! Commands that must not be repeated, when nobody knows whether they were carried out (paper, 4.2.4):
//! the device shows which, or a person says.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::showing::Purpose;
use super::{Cell, Effect, Waiting};
use crate::model::Value;
use crate::physical_world::{EventId, Position};
use crate::protocol::messages::UnknownCommand;
use crate::state_saving::{Command, Commands, Finding, Judged, Lane, Properties, Record, Verdict};
use crate::time::{Now, WallClock};

/// The most commands of unknown fate that a report lists.
const UNKNOWN_REPORTED_MAX: usize = 16;
/// The most characters of a command that a report tells.
const DESCRIBED_MAX: usize = 200;

impl Cell {
    /// A command that may or may not have been carried out: the device shows which, or a person has
    /// to say.
    pub(super) fn resolve_doubt(
        &mut self,
        link: &str,
        shown: Option<&Properties>,
        effects: &mut Vec<Effect>,
    ) {
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
                self.leave_to_people(link, command, effects);
                "nobody knows whether it was carried out: a person has to say"
            }
        };
        if let Some(explained) = self.explained(link) {
            explained.doubtful.insert(id.to_string(), found.into());
        }
    }

    /// What another device may have been sent, and nobody will find out: a person has to say. A replay
    /// finds the same in the log.
    pub(super) fn give_over(&mut self, link: &str, position: Position, effects: &mut Vec<Effect>) {
        let live = self.is_live();
        let Some(commands) = self.commands.get_mut(link) else {
            return;
        };
        match commands.command_at(position).cloned() {
            Some(command) if live => self.leave_to_people(link, command, effects),
            Some(_) | None => commands.give_over(position),
        }
    }

    fn leave_to_people(&mut self, link: &str, command: Command, effects: &mut Vec<Effect>) {
        if let Some(commands) = self.commands.get_mut(link) {
            commands.give_over(command.position);
        }
        self.log_judged(link, command.position, Verdict::Unknown);
        effects.push(Effect::ReportUnknown {
            link: link.into(),
            command,
        });
    }

    /// Nobody knows whether the command in flight reached the device.
    pub(super) fn doubted(
        &mut self,
        now: Now,
        link: &str,
        (position, sending): (Position, u64),
        effects: &mut Vec<Effect>,
    ) {
        let Some(commands) = self.commands.get_mut(link) else {
            return;
        };
        if !commands.doubted(position, sending) {
            return self.actuate(now, link, effects);
        }
        let doubt = commands.doubt();
        match doubt.and_then(|doubt| doubt.evidence).map(String::from) {
            Some(evidence) => self.ask(link, Purpose::Doubt, Vec::from([evidence]), effects),
            None => {
                self.resolve_doubt(link, None, effects);
                self.judge_calls(now, link, None, effects);
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
}

/// A command for people.
fn described(properties: &Properties) -> String {
    let one = |(name, value): (&String, &Value)| format!("{name} = {value}");
    let whole = properties.iter().map(one).collect::<Vec<_>>().join(", ");
    whole.chars().take(DESCRIBED_MAX).collect()
}
