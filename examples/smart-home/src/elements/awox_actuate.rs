//! Controls the Awox StriimLight, a lamp with a loudspeaker inside: a chime, and a glow with it.

use std::time::Duration;

use lamplighter::prelude::*;

use super::COMMAND_VALIDITY;
use crate::messages::{AwoxCommand, Sound, Switch};

/// The lamp.
const AWOX: Output<AwoxCommand> = Output::new("awox");

/// What the element receives.
#[derive(Debug, Serialize, Deserialize)]
pub enum Input {
    /// Chime and glow.
    Chime(Sound),
    /// It has glowed long enough: our own timer.
    GlowOver,
}

/// Counts the chimes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AwoxActuate {
    /// How long the lamp glows after a chime, in milliseconds.
    glow_ms: u64,
    glows: bool,
    chimes: u64,
}

impl Element for AwoxActuate {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        let command = match event.body {
            Input::Chime(_) => {
                self.chimes += 1;
                self.glows = true;
                ctx.set_timer("glow", Duration::from_millis(self.glow_ms), Input::GlowOver);
                AwoxCommand {
                    state: Switch::On,
                    play: Some("chime".into()),
                }
            }
            Input::GlowOver => {
                self.glows = false;
                AwoxCommand {
                    state: Switch::Off,
                    play: None,
                }
            }
        };
        ctx.emit(AWOX, command).valid_for(COMMAND_VALIDITY);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chime_sounds_once_and_glows_for_a_while_whatever_fails() {
        let mut awox = TestElement::<AwoxActuate>::with_state(json!({ "glow_ms": 2_000 }));
        let reason = "the door opened".into();
        awox.event("orchestrator", Input::Chime(Sound { reason }));
        awox.crash();
        awox.advance(Duration::from_secs(2));
        let chime = AwoxCommand {
            state: Switch::On,
            play: Some("chime".into()),
        };
        let dark = AwoxCommand {
            state: Switch::Off,
            play: None,
        };
        assert_eq!(awox.emitted(AWOX), [chime, dark]);
        awox.check_replay();
        awox.check_round_trip();
    }
}
