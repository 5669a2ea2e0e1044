//! `dead-letters`: the inputs that were given up, and why.

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::store::StableStore;
use serde_json::{Value, json};

use super::stored::{Kept, out_of_reach};
use super::when::utc;
use super::{CommandError, RunDirectory, in_system, print};
use crate::dead_letter::DeadLetter;

/// Show dead letters.
#[derive(Debug, clap::Args)]
pub(super) struct DeadLetters {
    /// The element's id [default: all elements]
    element: Option<EntityId>,
    #[command(flatten)]
    place: RunDirectory,
    /// For programs: one JSON array instead of lines
    #[arg(long)]
    json: bool,
}

impl DeadLetters {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let directory = self.place.find()?;
        let named = self.element;
        let letters = in_system(async {
            let kept = Kept::find(&directory).await?;
            let mut letters = Vec::new();
            for element in kept.elements(named)? {
                let stored = kept.store.dead_letters(&element).await;
                for letter in stored.map_err(out_of_reach)? {
                    let letter = DeadLetter::decode(&letter).map_err(|error| error.to_string());
                    letters.push((element.clone(), letter));
                }
            }
            Ok(letters)
        })?;
        print(&if self.json {
            let all = Value::Array(letters.iter().map(as_json).collect());
            format!("{all:#}\n")
        } else if letters.is_empty() {
            "no dead letters\n".to_owned()
        } else {
            letters.iter().map(as_line).collect()
        });
        Ok(())
    }
}

/// A letter, or why it cannot be read, and whose it is.
type Found = (EntityId, Result<DeadLetter, String>);

fn as_line((element, letter): &Found) -> String {
    match letter {
        Ok(DeadLetter {
            index,
            what,
            cause,
            at,
        }) => {
            let at = utc(WallClock(*at));
            format!("{element} {index} {at} {what}: {cause}\n")
        }
        Err(reason) => format!("{element}: a letter that cannot be read: {reason}\n"),
    }
}

fn as_json((element, letter): &Found) -> Value {
    match letter {
        Ok(DeadLetter {
            index,
            what,
            cause,
            at,
        }) => json!({
            "element": element.as_str(),
            "index": index,
            "at_us": at,
            "what": what,
            "cause": cause,
        }),
        Err(reason) => json!({ "element": element.as_str(), "unreadable": reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_has_a_line_and_a_form_for_programs() {
        let lamp = EntityId::new("lamp").unwrap();
        let letter = DeadLetter {
            index: 7,
            what: "event hue/1.4.0 on button".into(),
            cause: "panic".into(),
            at: 2_500_000,
        };
        let found = (lamp.clone(), Ok(letter));
        let line = "lamp 7 1970-01-01T00:00:02.500000Z event hue/1.4.0 on button: panic\n";
        assert_eq!(as_line(&found), line);
        let expected = json!({
            "element": "lamp", "index": 7, "at_us": 2_500_000,
            "what": "event hue/1.4.0 on button", "cause": "panic",
        });
        assert_eq!(as_json(&found), expected);
        let strange = (lamp, Err("it ends before it is complete".to_owned()));
        assert_eq!(
            as_json(&strange),
            json!({ "element": "lamp", "unreadable": "it ends before it is complete" })
        );
    }
}
