//! What an operator is shown of appliances and of the application that uses them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Appliances;
use crate::detection::{ApplianceVerdict, BridgeVerdict};
use crate::ids::EntityId;
use crate::protocol::appliances::{ApplianceState, ApplianceStatus, ApplicationState};
use crate::recovery::{Decision, capabilities};

/// How many rejected candidates a status names.
const REJECTED_MAX: usize = 16;

impl Appliances {
    /// How the application is, as far as its appliances go.
    pub(in super::super) fn application(&self) -> ApplicationState {
        if let Some(reason) = self.application_failed() {
            return ApplicationState::Failed { reason };
        }
        let mut reasons = Vec::new();
        for (of, decision) in &self.decisions {
            match decision {
                Decision::Nobody { .. } => {
                    reasons.push(format!("{of} failed and nothing can take its place"));
                }
                Decision::Substitute { by, .. } => {
                    let lost = self.lost_options(of, by);
                    if !lost.is_empty() {
                        let lost = lost.join(", ");
                        reasons.push(format!("{by} serves in the place of {of} without {lost}"));
                    }
                }
            }
        }
        for (bridge, verdict) in &self.bridges {
            if matches!(verdict, BridgeVerdict::Down(_)) {
                reasons.push(format!("the bridge that speaks on {bridge} is down"));
            }
        }
        if reasons.is_empty() {
            ApplicationState::Whole
        } else {
            ApplicationState::Degraded { reasons }
        }
    }

    fn lost_options(&self, of: &EntityId, by: &EntityId) -> Vec<String> {
        let able = |id| self.topology.appliances.get(id).map(capabilities);
        let (Some(before), Some(after)) = (able(of), able(by)) else {
            return Vec::new();
        };
        let lost = before.into_keys().filter(|name| !after.contains_key(name));
        lost.collect()
    }

    pub(super) fn status(&self, id: &EntityId) -> ApplianceStatus {
        let state = match (self.verdict(id), self.bridge_down(id)) {
            (ApplianceVerdict::Suspected { since, signal }, _) => ApplianceState::Failed {
                since,
                cause: signal.to_string(),
            },
            (_, Some((since, bridge))) => ApplianceState::Unreachable {
                since,
                bridge: bridge.clone(),
            },
            (ApplianceVerdict::Trusted, None) => ApplianceState::Alive,
            (ApplianceVerdict::Unheard, None) if self.watchers.contains_key(id) => {
                ApplianceState::Unheard
            }
            (ApplianceVerdict::Unheard, None) => ApplianceState::Unwatched,
        };
        let rejected = match self.decisions.get(id) {
            Some(Decision::Substitute { rejected, .. } | Decision::Nobody { rejected }) => {
                rejected.as_slice()
            }
            None => &[],
        };
        let named = |(id, rejection): &(EntityId, _)| (id.clone(), format!("{rejection}"));
        let replaced_by = self.standing.get(id).cloned();
        let places = self.standing.iter().filter(|(_, by)| *by == id);
        ApplianceStatus {
            appliance: id.clone(),
            state,
            watched_by: self.watchers.get(id).cloned(),
            degraded: replaced_by
                .as_ref()
                .map(|by| self.lost_options(id, by))
                .unwrap_or_default(),
            replaced_by,
            stands_in_for: places.map(|(of, _)| of.clone()).collect(),
            rejected: rejected.iter().take(REJECTED_MAX).map(named).collect(),
        }
    }
}
