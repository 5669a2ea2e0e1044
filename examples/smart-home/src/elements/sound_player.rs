//! Controls the loudspeaker of the living room and the plug that powers it.

use std::time::Duration;

use lamplighter::prelude::*;

use super::COMMAND_VALIDITY;
use crate::messages::{PlugCommand, Sound, SoundCommand, Switch};

/// The loudspeaker.
const SOUND: Output<SoundCommand> = Output::new("sound");
/// The plug that powers it.
const POWER: Output<PlugCommand> = Output::new("power");

/// What the element receives.
#[derive(Debug, Serialize, Deserialize)]
pub enum Input {
    /// Sound the alarm.
    Alarm(Sound),
    /// The alarm has sounded long enough: our own timer.
    AlarmOver,
}

/// Counts the alarms.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SoundPlayer {
    /// How long an alarm lasts, in milliseconds.
    alarm_ms: u64,
    /// 0 to 100.
    volume: u8,
    sounding: bool,
    alarms: u64,
}

impl Element for SoundPlayer {
    type Event = Input;

    fn handle(&mut self, event: Event<Input>, ctx: &mut Context<Self>) -> Outcome {
        match event.body {
            Input::Alarm(_) => {
                self.alarms += 1;
                self.sounding = true;
                power(ctx, Switch::On);
                let sound = SoundCommand {
                    play: "alarm".into(),
                    volume: self.volume,
                };
                ctx.emit(SOUND, sound).valid_for(COMMAND_VALIDITY);
                let length = Duration::from_millis(self.alarm_ms);
                ctx.set_timer("alarm", length, Input::AlarmOver);
            }
            Input::AlarmOver => {
                self.sounding = false;
                power(ctx, Switch::Off);
            }
        }
        Ok(())
    }
}

fn power(ctx: &mut Context<SoundPlayer>, state: Switch) {
    ctx.emit(POWER, PlugCommand { state })
        .valid_for(COMMAND_VALIDITY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_powers_the_loudspeaker_sounds_and_powers_it_down_again() {
        let state = json!({ "alarm_ms": 3_000, "volume": 60 });
        let mut player = TestElement::<SoundPlayer>::with_state(state);
        let reason = "the door opened while nobody was at home".into();
        player.event("orchestrator", Input::Alarm(Sound { reason }));
        player.crash();
        player.advance(Duration::from_secs(3));
        let sound = SoundCommand {
            play: "alarm".into(),
            volume: 60,
        };
        assert_eq!(player.emissions(SOUND), [(sound, Some(COMMAND_VALIDITY))]);
        let power = [Switch::On, Switch::Off].map(|state| PlugCommand { state });
        assert_eq!(player.emitted(POWER), power);
        player.check_replay();
        player.check_round_trip();
    }
}
