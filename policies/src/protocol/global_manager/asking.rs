//! What operators ask of the global manager.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{ConnectionId, Effect, GlobalManager, Query, STATUS_TIMEOUT};
use crate::ids::EntityId;
use crate::protocol::control::{Answer, Ask, ElementState, Injection, ToAgent};
use crate::time::Now;

impl GlobalManager {
    pub(super) fn asked(
        &mut self,
        now: Now,
        by: ConnectionId,
        ask: Ask,
        effects: &mut Vec<Effect>,
    ) {
        match ask {
            Ask::Status => {
                self.last_query += 1;
                let request = self.last_query;
                let awaited: BTreeSet<_> = self.connections().collect();
                let ask = |agent: &_| Effect::TellAgent(*agent, ToAgent::Report { request });
                effects.extend(awaited.iter().map(ask));
                let query = Query {
                    asked_by: by,
                    awaited,
                    deadline: now.monotonic + STATUS_TIMEOUT,
                };
                self.queries.insert(request, query);
                self.answer_queries(None, effects);
            }
            Ask::Judge(judgement) => self.judge(by, judgement, effects),
            Ask::Appliances => self.answer_appliances(by, effects),
            Ask::AwaitReady => {
                self.awaiting_ready.insert(by);
                self.answer_ready(effects);
            }
            Ask::Inject { element, injection } => {
                let answer = match self.inject(&element, injection, effects) {
                    Ok(()) => Answer::Injected,
                    Err(reason) => Answer::Refused { reason },
                };
                effects.push(Effect::Answer(by, answer));
            }
            Ask::DeclareLost { server } => {
                let answer = match self.declare_lost(now, &server, effects) {
                    Ok(()) => Answer::Done {
                        outcomes: Vec::new(),
                    },
                    Err(reason) => Answer::Refused { reason },
                };
                effects.push(Effect::Answer(by, answer));
            }
            Ask::Move { element, server } => {
                if let Err(reason) = self.move_element(now, by, &element, &server, effects) {
                    effects.push(Effect::Answer(by, Answer::Refused { reason }));
                }
            }
            Ask::Drain { server, drained } => {
                if let Err(reason) = self.drain(now, by, &server, drained, effects) {
                    effects.push(Effect::Answer(by, Answer::Refused { reason }));
                }
            }
            Ask::Timeline { entity } => self.answer_timeline(by, entity.as_ref(), effects),
            Ask::IfFails(entity) => {
                let answer = match self.foresee(now, &entity) {
                    Ok(forecast) => Answer::Foreseen(Box::new(forecast)),
                    Err(reason) => Answer::Refused { reason },
                };
                effects.push(Effect::Answer(by, answer));
            }
            Ask::Standing => self.answer_standing(now, by, effects),
            Ask::Stop => {
                self.stop(now, effects);
                if let Some(stopping) = &mut self.stopping {
                    stopping.asked_by.insert(by);
                }
                self.stop_further(effects);
            }
        }
    }

    fn inject(
        &self,
        element: &EntityId,
        injection: Injection,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        if !self.allow_inject {
            return Err(
                "faults may not be injected into this application; set allow_inject".into(),
            );
        }
        let placed = self.elements.get(element);
        let placed = placed.ok_or_else(|| format!("the topology has no element {element}"))?;
        if placed.status.state != ElementState::Running {
            return Err(format!(
                "{element} does not run now, so nothing can break it"
            ));
        }
        let agent = self.servers.get(&placed.server).and_then(Option::as_ref);
        let agent = agent.ok_or_else(|| format!("the agent of {} is away", placed.server))?;
        let inject = ToAgent::Inject {
            element: element.clone(),
            injection,
        };
        effects.push(Effect::TellAgent(agent.connection, inject));
        Ok(())
    }
}
