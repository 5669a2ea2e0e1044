//! `ack` and `redo`: a person says what became of a command that must not be repeated and of which
//! nobody knows whether it was carried out.

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::state_saving::Verdict;

use super::stored::{StoredError, hint};
use super::{CommandError, RunDirectory, in_system, print};
use crate::operator::Operator;

/// Judge a command of unknown fate.
#[derive(Debug, clap::Args)]
pub(super) struct Judge {
    /// The id of the element that sent it
    element: EntityId,
    /// The command, as `status` names it: element/1.10.0, or 1.10.0 for short
    command: String,
    #[command(flatten)]
    place: RunDirectory,
}

impl Judge {
    /// It was carried out, or is not wanted any more.
    pub(super) fn acknowledge(&self) -> Result<(), CommandError> {
        self.say(
            Verdict::CarriedOut,
            "is taken as carried out and never sent again",
        )
    }

    /// It was not carried out, and is still wanted.
    pub(super) fn redo(&self) -> Result<(), CommandError> {
        self.say(Verdict::Redo, "is sent again")
    }

    fn say(&self, verdict: Verdict, outcome: &str) -> Result<(), CommandError> {
        let directory = self.place.find()?;
        let element = &self.element;
        let command = whole(element, &self.command);
        let judged = in_system(async {
            let mut operator = Operator::find(&directory).await?;
            let (_, elements) = operator.status().await?;
            let known: Vec<EntityId> = elements.into_iter().map(|it| it.status.element).collect();
            if !known.contains(element) {
                let hint = hint(element, known.iter());
                let element = element.clone();
                return Err(StoredError::NotRunning { element, hint }.into());
            }
            Ok(operator.judge(element, &command, verdict).await?)
        })?;
        let to = judged.appliance;
        let to = to.map_or_else(|| judged.link.clone(), |appliance| appliance.to_string());
        print(&format!("{} to {to} {outcome}\n", judged.text));
        Ok(())
    }
}

/// The whole identity of a command that may be named without its element.
fn whole(element: &EntityId, command: &str) -> String {
    match command.contains('/') {
        true => command.to_owned(),
        false => format!("{element}/{command}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_be_named_without_its_element() {
        let giver = EntityId::new("giver").unwrap();
        assert_eq!(whole(&giver, "1.10.0"), "giver/1.10.0");
        assert_eq!(whole(&giver, "giver/1.10.0"), "giver/1.10.0");
    }
}
