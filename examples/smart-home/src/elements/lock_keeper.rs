//! Opens the door for who is let in at the keypad, and only for a while.
//!
//! The element never locks the door after that: an unlocking holds for a while, and the door's model
//! says that it is locked again when that is over, whatever became of the element meanwhile.

use std::time::Duration;

use lamplighter::prelude::*;

use crate::messages::{Bolt, ButtonReport, LockCommand, LockReport};

/// The lock of the front door.
const LOCK: Output<LockCommand> = Output::new("lock");

/// What the element receives.
#[derive(Debug, Serialize, Deserialize)]
pub enum Input {
    /// What was done at the keypad.
    Keypad(ButtonReport),
    /// What the lock says of its bolt.
    LockShows(LockReport),
}

/// Who was let in, and how the door is.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LockKeeper {
    /// How long the door stays open, in seconds.
    open_seconds: u64,
    openings: u64,
    closings: u64,
    shown: Option<Bolt>,
}

impl Element for LockKeeper {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Input::Keypad(ButtonReport { action }) => match action.as_deref() {
                // Who asked too long ago has gone away.
                Some("unlock") if !event.expired => {
                    self.openings += 1;
                    let command = LockCommand {
                        state: Bolt::Unlock,
                    };
                    let open = Duration::from_secs(self.open_seconds);
                    ctx.emit(LOCK, command).valid_for(open);
                }
                Some("lock") => {
                    self.closings += 1;
                    let command = LockCommand { state: Bolt::Lock };
                    ctx.emit(LOCK, command);
                }
                Some(_) | None => {}
            },
            Input::LockShows(report) => self.shown = report.state,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_is_opened_for_a_while_and_closed_without_an_end() {
        let mut keeper = keeper();
        keeper.event("keypad", keyed("unlock"));
        keeper.event("keypad", keyed("lock"));
        keeper.event("keypad", keyed("hum"));
        let command = |state| LockCommand { state };
        assert_eq!(
            keeper.emissions(LOCK),
            [
                (command(Bolt::Unlock), Some(Duration::from_secs(6))),
                (command(Bolt::Lock), None),
            ]
        );
        let state = keeper.state();
        assert_eq!((state.openings, state.closings), (1, 1));
    }

    #[test]
    fn a_crash_opens_no_door_again_and_forgets_nobody() {
        let mut keeper = keeper();
        keeper.event("keypad", keyed("unlock"));
        let report = LockReport {
            state: Some(Bolt::Unlock),
        };
        keeper.event("lock", Input::LockShows(report));
        keeper.crash();
        keeper.advance(Duration::from_secs(7));
        keeper.crash();
        assert_eq!(keeper.emitted(LOCK).len(), 1);
        assert_eq!(keeper.state().openings, 1);
        assert_eq!(keeper.state().shown, Some(Bolt::Unlock));
        keeper.check_replay();
        keeper.check_round_trip();
    }

    fn keeper() -> TestElement<LockKeeper> {
        TestElement::with_state(json!({ "open_seconds": 6 }))
    }

    fn keyed(action: &str) -> Input {
        Input::Keypad(ButtonReport {
            action: Some(action.into()),
        })
    }
}
