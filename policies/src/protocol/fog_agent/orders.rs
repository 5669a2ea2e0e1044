//! What operators have a fog agent do to its elements.

use alloc::vec::Vec;

use super::hosted::Phase;
use super::{Effect, FogAgent};
use crate::ids::EntityId;
use crate::protocol::control::Injection;
use crate::protocol::messages::{Judgement, ToHost};
use crate::time::Now;

impl FogAgent {
    pub(super) fn inject(
        &mut self,
        now: Now,
        element: &EntityId,
        how: Injection,
        effects: &mut Vec<Effect>,
    ) {
        let Some(hosted) = self.elements.get_mut(element) else {
            return;
        };
        let Phase::Running(host) = hosted.phase else {
            return;
        };
        effects.push(match how {
            Injection::Kill => {
                hosted.injected_at = Some(now.monotonic);
                Effect::Kill(host)
            }
            Injection::Hang => {
                hosted.injected_at = Some(now.monotonic);
                Effect::Hang(host)
            }
            Injection::Panic => Effect::Tell {
                host,
                message: ToHost::Panic {
                    element: element.clone(),
                },
            },
        });
    }

    pub(super) fn judge(&self, judgement: Judgement, effects: &mut Vec<Effect>) {
        let hosted = self.elements.get(&judgement.element);
        if let Some(Phase::Running(host)) = hosted.map(|hosted| &hosted.phase) {
            let host = *host;
            effects.push(Effect::Tell {
                host,
                message: ToHost::Judge(judgement),
            });
        }
    }
}
