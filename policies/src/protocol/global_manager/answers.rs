//! What the global manager answers operators.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{ConnectionId, Effect, GlobalManager, Query};
use crate::protocol::control::{
    Answer, ElementState, PlacedStatus, STATUS_ENTITIES_MAX, ServerStatus, ToAgent,
};
use crate::protocol::messages::Judgement;
use crate::time::Monotonic;

impl GlobalManager {
    pub(super) fn answer_ready(&mut self, effects: &mut Vec<Effect>) {
        let mut running = 0;
        let mut failed = Vec::new();
        for (element, placed) in &self.elements {
            match &placed.status.state {
                ElementState::Running => running += 1,
                ElementState::Failed { reason } => failed.push((element.clone(), reason.clone())),
                ElementState::Unassigned
                | ElementState::Waiting
                | ElementState::Starting
                | ElementState::Suspected
                | ElementState::BackingOff
                | ElementState::Stopping
                | ElementState::Restored
                | ElementState::Stopped => return,
            }
        }
        let answer = Answer::Ready { running, failed };
        let waiting = core::mem::take(&mut self.awaiting_ready);
        effects.extend(
            waiting
                .into_iter()
                .map(|to| Effect::Answer(to, answer.clone())),
        );
    }

    /// Passes a person's word about a command on to whoever runs the element.
    pub(super) fn judge(&self, by: ConnectionId, judgement: Judgement, effects: &mut Vec<Effect>) {
        let answer = match self.runs_at(&judgement) {
            Ok(agent) => {
                effects.push(Effect::TellAgent(agent, ToAgent::Judge(judgement)));
                Answer::Judged
            }
            Err(reason) => Answer::Refused { reason },
        };
        effects.push(Effect::Answer(by, answer));
    }

    fn runs_at(&self, Judgement { element, .. }: &Judgement) -> Result<ConnectionId, String> {
        let placed = self.elements.get(element);
        let placed = placed.ok_or_else(|| format!("the topology has no element {element}"))?;
        if placed.status.state != ElementState::Running {
            return Err(format!(
                "{element} does not run now; say it again when it does"
            ));
        }
        let agent = self.servers.get(&placed.server).and_then(Option::as_ref);
        let agent = agent.ok_or_else(|| format!("the agent of {} is away", placed.server))?;
        Ok(agent.connection)
    }

    /// Answers the queries that are complete, or due at `now`.
    pub(super) fn answer_queries(&mut self, now: Option<Monotonic>, effects: &mut Vec<Effect>) {
        let is_due = |query: &Query| now.is_some_and(|now| query.deadline <= now);
        let done: Vec<(u64, ConnectionId)> = self
            .queries
            .iter()
            .filter(|(_, query)| query.awaited.is_empty() || is_due(query))
            .map(|(request, query)| (*request, query.asked_by))
            .collect();
        for (request, to) in done {
            self.queries.remove(&request);
            self.answer_status(to, effects);
        }
    }

    pub(super) fn answer_status(&self, to: ConnectionId, effects: &mut Vec<Effect>) {
        let elements: Vec<PlacedStatus> = self.elements.values().cloned().collect();
        let servers: Vec<ServerStatus> = self
            .servers
            .iter()
            .map(|(server, agent)| {
                let standing = self.standings.get(server).cloned().unwrap_or_default();
                ServerStatus {
                    server: server.clone(),
                    agent: agent.as_ref().map(|agent| agent.pid),
                    state: standing.state,
                    since: standing.since,
                    cause: standing.cause,
                    observers: self.suspecting.observers_of(server),
                    // Whoever holds the connections adds it.
                    certificate_until: None,
                }
            })
            .collect();
        let mut elements = elements.chunks(STATUS_ENTITIES_MAX);
        let mut servers = servers.chunks(STATUS_ENTITIES_MAX);
        loop {
            let answer = Answer::Status {
                elements: elements.next().unwrap_or_default().to_vec(),
                servers: servers.next().unwrap_or_default().to_vec(),
                more: elements.len() + servers.len() > 0,
            };
            effects.push(Effect::Answer(to, answer));
            if elements.len() + servers.len() == 0 {
                return;
            }
        }
    }
}
