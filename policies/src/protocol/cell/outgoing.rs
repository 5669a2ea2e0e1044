//! What leaves: events to elements until they are acknowledged, commands to appliances once.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::world::{Asked, Surroundings};
use super::{Cell, CellSettings, Effect, Emitted, Handling, OutboundLink, Phase, Target, Waiting};
use crate::ids::EntityId;
use crate::physical_world::Position;
use crate::state_saving::{Begun, Commands, NextCommand, Outbox, Record};
use crate::time::Now;

impl Cell {
    /// Puts a handler's outputs where they will be sent from, under ids that follow from the log.
    pub(super) fn emit(
        &mut self,
        handling: &Handling,
        emitted: Vec<Emitted>,
        effects: &mut Vec<Effect>,
    ) {
        let replay = matches!(self.phase, Phase::Replaying { .. });
        for (k, emitted) in (0..).zip(emitted) {
            let position = Position::new(self.lineage, handling.index, k);
            for at in 0..self.settings.outbound.len() {
                let link = &self.settings.outbound[at];
                if link.port != emitted.port {
                    continue;
                }
                let declared = emitted.valid_for.or(link.valid_for);
                let expires_at = match declared {
                    Some(span) => Some(handling.logged_at + span),
                    None if handling.immediate => Some(handling.logged_at),
                    // What follows from an event holds as long as the event and all its causes.
                    None => handling.causes.or_sooner(handling.expires_at),
                };
                match &link.target {
                    Target::Element => {
                        let payload = [link.prefix.as_slice(), &emitted.payload].concat();
                        if let Some(outbox) = self.outboxes.get_mut(link.id.as_str()) {
                            let causes = &handling.causes;
                            outbox.put(position, handling.logged_at, expires_at, causes, payload);
                        }
                    }
                    Target::Appliance(appliance) if self.is_out_of_service(appliance) => {}
                    Target::Appliance(appliance) => {
                        let now_or_never = handling.immediate && declared.is_none();
                        let asked = Asked {
                            position,
                            at: handling.logged_at,
                            holds_until: expires_at,
                            expires_at: expires_at.filter(|_| !now_or_never),
                            properties: emitted.properties.clone(),
                            // What an immediate event asks of the world is never made up for.
                            leaves: !(replay && now_or_never),
                        };
                        let (link, appliance) = (link.id.clone(), appliance.clone());
                        self.command(&link, &appliance, asked, effects);
                        self.limit_waiting(&link, effects);
                    }
                }
            }
        }
    }

    /// Sends what was put in since the last time.
    pub(super) fn send(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let (connected, calling) = (self.connected, &self.calling);
        for (link, outbox) in &mut self.outboxes {
            if outbox.is_held() || !connected && !calling.is_direct(link) {
                continue;
            }
            let envelopes = outbox.unsent(now.monotonic);
            if !envelopes.is_empty() {
                effects.push(Effect::Send {
                    link: link.clone(),
                    envelopes,
                });
            }
        }
        if !connected {
            return;
        }
        let waiting = self
            .commands
            .iter()
            .filter(|(_, commands)| commands.waiting() > 0);
        let links: Vec<String> = waiting.map(|(link, _)| link.clone()).collect();
        for link in links {
            self.actuate(now, &link, effects);
        }
    }

    /// Sends the next command to an appliance, if none is on its way.
    pub(super) fn actuate(&mut self, now: Now, link: &str, effects: &mut Vec<Effect>) {
        let shown = self.showing.is_open(link) && !self.unsure.is_unshown(link);
        let open = shown && !self.is_unserved(link) && !self.unreached.waits(link, now);
        if !self.is_live() || !self.connected || !open {
            return;
        }
        let waits = self.commands.get(link).is_some_and(|c| c.waiting() > 0);
        if !waits || !self.may_act(now, effects) {
            return;
        }
        // What can be sent beside a beginning that is on its way to the log is sent; each step either
        // waits for something or is the last.
        while let Some(next) = self.commands.get_mut(link).and_then(|c| c.next(now)) {
            match next {
                // It stays in flight until it may leave.
                NextCommand::Send(command) if self.withholds(link, &command) => return,
                NextCommand::Send(command) => {
                    self.calls_leave(link, &command);
                    let sending = self.commands.get(link).map_or(0, Commands::sending);
                    effects.push(Effect::Actuate {
                        link: link.into(),
                        command,
                        sending,
                    });
                }
                NextCommand::Read(property) => {
                    return self.read_before(link, property, effects);
                }
                NextCommand::Begin {
                    position,
                    attempt,
                    counter,
                } => {
                    let begun = Begun {
                        link: link.into(),
                        position,
                        attempt,
                        counter,
                        handed_over: self.handed_over(link),
                    };
                    self.begin(now, begun, effects);
                }
            }
        }
    }

    fn begin(&mut self, now: Now, begun: Begun, effects: &mut Vec<Effect>) {
        // What was carried out before stands before it in the log, or a crash between the two would leave
        // both in doubt.
        self.note_settled();
        self.log.waiting.push_back(Waiting {
            record: Record::Begun(alloc::vec![begun]),
            receipts: Vec::new(),
        });
        self.append(now, effects);
    }

    /// A receiver has logged everything up to here.
    pub(super) fn acknowledged(&mut self, now: Now, link: &EntityId, upto: Position) {
        if let Some(outbox) = self.outboxes.get_mut(link) {
            outbox.acknowledged(now.monotonic, upto);
        }
    }

    /// A receiver is back, or misses something.
    pub(super) fn resume_asked(
        &mut self,
        now: Now,
        link: &EntityId,
        mark: Position,
        effects: &mut Vec<Effect>,
    ) {
        let live = self.is_live();
        let Some(outbox) = self.outboxes.get_mut(link) else {
            return;
        };
        // During a replay nothing leaves; the receiver is served when the element is live.
        if !live || outbox.is_held() {
            return;
        }
        let envelopes = outbox.resume(now.monotonic, mark);
        if !envelopes.is_empty() {
            effects.push(Effect::Send {
                link: link.clone(),
                envelopes,
            });
        }
    }

    /// Sends again what nobody acknowledged in time.
    pub(super) fn resend(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.is_live() {
            return;
        }
        let (connected, calling) = (self.connected, &self.calling);
        for (link, outbox) in &mut self.outboxes {
            if outbox.is_held() || !connected && !calling.is_direct(link) {
                continue;
            }
            let envelopes = outbox.due(now.monotonic);
            if !envelopes.is_empty() {
                effects.push(Effect::Send {
                    link: link.clone(),
                    envelopes,
                });
            }
        }
    }

    /// An appliance took the commands up to here, or they are given up.
    pub(super) fn settled(
        &mut self,
        now: Now,
        link: &str,
        (position, sending): (Position, u64),
        effects: &mut Vec<Effect>,
    ) {
        if !self.take(link, (position, sending)) {
            return;
        }
        self.append(now, effects);
        self.actuate(now, link, effects);
        self.stop_if_drained(effects);
    }

    /// Says whether the command in flight is this sending, which is settled now.
    pub(super) fn take(&mut self, link: &str, (position, sending): (Position, u64)) -> bool {
        let commands = self.commands.get_mut(link);
        let Some(lane) = commands.and_then(|commands| commands.taken(position, sending)) else {
            return false;
        };
        self.unreached.reached(link);
        self.log_settled(link, lane, position);
        true
    }

    /// The transport is up: both ends of every binding find out what the other misses.
    pub(super) fn connected(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.connected = true;
        if self.is_live() {
            self.announce(now, effects);
        }
    }

    /// Asks senders for what is missing and serves receivers.
    pub(super) fn announce(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for link in self
            .settings
            .inbound
            .iter()
            .filter(|link| link.kind == super::Source::Element && !self.is_blocked(&link.id))
        {
            let mark = self
                .inbound
                .get(&link.id)
                .map_or(Position::default(), |i| i.mark());
            self.acknowledge(&link.id, effects);
            effects.push(Effect::Resume {
                link: link.id.clone(),
                mark,
            });
        }
        let free = |(_, outbox): &(&EntityId, &mut Outbox)| !outbox.is_held();
        for (link, outbox) in self.outboxes.iter_mut().filter(free) {
            let mark = outbox.last_acknowledged();
            let envelopes = outbox.resume(now.monotonic, mark);
            if !envelopes.is_empty() {
                effects.push(Effect::Send {
                    link: link.clone(),
                    envelopes,
                });
            }
        }
        if !self.announced {
            self.announced = true;
            if let Some(explanation) = &mut self.explanation {
                explanation.at = now.wall;
            }
            self.show_all(now, effects);
            let (replayed, took) = self.replayed;
            effects.push(Effect::Ready { replayed, took });
            self.substituting.all_shown();
            self.show_reconfiguration(effects);
        }
        self.send(now, effects);
    }
}

/// The sending ends towards elements.
pub(super) fn outboxes(settings: &CellSettings) -> BTreeMap<EntityId, Outbox> {
    let links = settings.outbound.iter();
    let to_elements = links.filter(|link| matches!(link.target, Target::Element));
    let ids = to_elements.filter_map(|link| EntityId::new(&link.id).ok());
    let ids = ids.chain(super::calling::outgoing(settings));
    ids.map(|id| (id, Outbox::default())).collect()
}

/// The sending ends towards appliances.
pub(super) fn commands(
    settings: &CellSettings,
    surroundings: &Surroundings,
) -> BTreeMap<String, Commands> {
    let to_appliance = |link: &OutboundLink| match &link.target {
        Target::Element => None,
        Target::Appliance(appliance) => {
            let model = surroundings.model(appliance);
            Some((link.id.clone(), Commands::new(model.clone())))
        }
    };
    settings.outbound.iter().filter_map(to_appliance).collect()
}
