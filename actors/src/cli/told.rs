//! Who was told what of an entity, as the elements around it have it in their logs (paper, 4.2.3), and
//! what the running application last saw of its failure.

use std::fmt::Write;
use std::path::Path;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::notification::{EntityState, NoticeDecision};
use lamplighter_policies::protocol::appliances::{Reconfiguration, Served};
use lamplighter_runtime::clock;
use serde_json::{Value, json};

use super::status::last_failure;
use super::stored::{Kept, StoredError};
use crate::operator::Operator;

/// What is known of an entity besides its own recovery.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Per element that was told of it, what it goes by.
    by_element: Vec<(EntityId, String)>,
    /// Who serves in the places of the entity's own appliances.
    serving: Vec<String>,
    /// Its last failure, while the application runs.
    failure: Option<String>,
}

impl Told {
    /// Reads it from the logs of all elements, and from the manager if one runs.
    pub(super) async fn of(
        entity: &EntityId,
        kept: &Kept,
        directory: &Path,
    ) -> Result<Self, StoredError> {
        let mut told = Self::default();
        for element in kept.topology.elements.keys() {
            let saved = match kept.saved(element).await {
                Err(StoredError::NeverRan(_)) => continue,
                outcome => outcome?,
            };
            let table = crate::host::reconfiguration(element, &saved).map_err(|reason| {
                StoredError::Unrestorable {
                    element: element.clone(),
                    reason,
                }
            })?;
            if element == entity {
                told.serving = serving(&table);
            } else if let Some(what) = said(&table, entity) {
                told.by_element.push((element.clone(), what));
            }
        }
        told.failure = failure(entity, directory).await;
        Ok(told)
    }

    /// A line for each.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let failure = self.failure.iter().cloned();
        let told = self.by_element.iter();
        let told = told.map(|(element, what)| format!("told: {element}: {what}"));
        let lines = failure.chain(self.serving.iter().cloned()).chain(told);
        for line in lines {
            writeln!(text, "{line}").expect("writing to a string cannot fail");
        }
        text
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        let told = self.by_element.iter();
        let told = told.map(|(element, what)| json!({ "element": element, "goes_by": what }));
        json!({
            "last_failure": self.failure,
            "serving": self.serving,
            "told": told.collect::<Vec<_>>(),
        })
    }
}

/// What the running application last saw of an element's failure; nothing if it does not run.
async fn failure(entity: &EntityId, directory: &Path) -> Option<String> {
    let mut operator = Operator::find(directory).await.ok()?;
    let (_, elements) = operator.status().await.ok()?;
    let mut all = elements.into_iter().map(|placed| placed.status);
    let status = all.find(|status| status.element == *entity)?;
    let failure = status.last_failure?;
    Some(last_failure(&failure, clock::wall()))
}

/// Who serves in the places of the appliances of the element that has this table.
fn serving(table: &Reconfiguration) -> Vec<String> {
    let one = |(appliance, served): (&EntityId, &Served)| {
        let by = match served {
            Served::By(by) => by.as_str(),
            Served::Nobody => "nobody",
        };
        format!(
            "in the place of {appliance}: {by}, by decision {}",
            table.epoch
        )
    };
    let served = table.served.iter().map(one);
    let failed = table.application_failed.iter();
    let failed = failed.map(|why| format!("the application has failed: {why}"));
    served.chain(failed).collect()
}

/// What the element that has this table was told of an entity.
fn said(table: &Reconfiguration, entity: &EntityId) -> Option<String> {
    if let Some(served) = table.served.get(entity) {
        return Some(match served {
            Served::By(by) => format!("{by} serves in its place, by decision {}", table.epoch),
            Served::Nobody => format!("nobody serves in its place, by decision {}", table.epoch),
        });
    }
    let told = table.peers.peers.get(entity)?.told.as_ref()?;
    let state = match &told.state {
        EntityState::Up => "it works".to_owned(),
        EntityState::Failed => "it failed".to_owned(),
        EntityState::Recovering => "it is being recovered".to_owned(),
        EntityState::Replaced(by) => format!("{by} serves in its place"),
        EntityState::Degraded => "it works with less".to_owned(),
        EntityState::Suspended => "it lacks something".to_owned(),
        EntityState::Stopped => "it does nothing".to_owned(),
    };
    let to_do = match &told.decision {
        NoticeDecision::AwaitRecovery => "wait until it is back".to_owned(),
        NoticeDecision::ConnectTo(other) => format!("connect to {other}"),
        NoticeDecision::RunWithout => "go on without it".to_owned(),
        NoticeDecision::Resume => "go on as before".to_owned(),
    };
    Some(format!("{state}; {to_do}, by change {}", told.epoch))
}

#[cfg(test)]
mod tests {
    use lamplighter_policies::notification::{Notice, Table};

    use super::*;

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn table() -> Reconfiguration {
        let notice = Notice {
            term: 1,
            entity: id("relay"),
            epoch: 7,
            state: EntityState::Recovering,
            decision: NoticeDecision::AwaitRecovery,
        };
        Reconfiguration {
            epoch: 4,
            served: [
                (id("lamp"), Served::By(id("bedside"))),
                (id("siren"), Served::Nobody),
            ]
            .into(),
            application_failed: None,
            peers: Table::of(&notice),
        }
    }

    #[test]
    fn an_element_goes_by_the_last_that_it_was_told_of_an_entity() {
        let said = |entity: &str| said(&table(), &id(entity));
        assert_eq!(
            said("lamp").as_deref(),
            Some("bedside serves in its place, by decision 4")
        );
        assert_eq!(
            said("siren").as_deref(),
            Some("nobody serves in its place, by decision 4")
        );
        assert_eq!(
            said("relay").as_deref(),
            Some("it is being recovered; wait until it is back, by change 7")
        );
        assert_eq!(said("hall"), None);
    }

    #[test]
    fn what_is_in_force_and_who_was_told_stand_below_a_recovery() {
        let told = Told {
            by_element: vec![(id("hall"), "it failed".to_owned())],
            serving: serving(&table()),
            failure: Some("last failure 2.0 s ago: killed ()".to_owned()),
        };
        assert_eq!(
            told.text(),
            "last failure 2.0 s ago: killed ()\n\
             in the place of lamp: bedside, by decision 4\n\
             in the place of siren: nobody, by decision 4\n\
             told: hall: it failed\n"
        );
        assert_eq!(told.json()["told"][0]["goes_by"], "it failed");
    }
}
