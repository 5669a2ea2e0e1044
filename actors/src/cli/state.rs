//! `state`: what an element remembers, as its host would restore it now.

use lamplighter_policies::ids::EntityId;
use serde_json::Value;

use super::stored::{Kept, StoredError};
use super::{Application, CommandError, RunDirectory, complain, in_system, print};

/// Show the state of an element.
#[derive(Debug, clap::Args)]
pub(super) struct State {
    /// The element's id
    element: EntityId,
    #[command(flatten)]
    place: RunDirectory,
    /// For programs: one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

impl State {
    pub(super) fn run(&self, application: &impl Application) -> Result<(), CommandError> {
        let directory = self.place.find()?;
        let (spec, saved) = in_system(async {
            let kept = Kept::find(&directory).await?;
            let spec = kept.spec(&self.element)?;
            Ok((spec, kept.saved(&self.element).await?))
        })?;
        let folded = application.folded(&spec, &saved);
        let folded = folded.map_err(|reason| StoredError::Unrestorable {
            element: self.element.clone(),
            reason,
        })?;
        for (index, cause) in &folded.left_out {
            complain(&format!("without input {index}: {cause}\n"));
        }
        print(&if self.json {
            format!("{}\n", folded.state)
        } else {
            as_lines(&folded.state)
        });
        Ok(())
    }
}

/// A field a line, the values below each other.
fn as_lines(state: &Value) -> String {
    let Some(fields) = state.as_object() else {
        return format!("{state}\n");
    };
    let longest = fields.keys().map(|name| name.chars().count()).max();
    let width = longest.unwrap_or(0) + 1;
    let line = |(name, value): (&String, &Value)| {
        let name = format!("{name}:");
        format!("{name:<width$} {value}\n")
    };
    fields.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_has_a_field_a_line_with_its_values_below_each_other() {
        let state = json!({ "on": true, "brightness": 110, "name": "hall" });
        assert_eq!(
            as_lines(&state),
            "brightness: 110\nname:       \"hall\"\non:         true\n"
        );
        assert_eq!(as_lines(&json!(7)), "7\n");
        assert_eq!(as_lines(&json!({})), "");
    }
}
