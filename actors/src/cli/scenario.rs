//! `scenario` and `record`: play traffic into a broker, and record what goes over one.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use lamplighter_config::{parse_duration, read_secret};
use lamplighter_policies::model::Broker;
use lamplighter_runtime::broker::BrokerAddress;
use serde_json::json;

use super::roles::signed_in;
use super::{CommandError, RunDirectory, complain, in_system, print};
use crate::access::Access;
use crate::cluster::BROKER_FILE;
use crate::fog_agent::stop_requested;
use crate::scenario::{Player, Recorder, SPEED_MAX, Scenario};

/// How often a bar is drawn anew.
const DRAWN_PER_SECOND: u8 = 8;

/// Play a scenario into a broker.
#[derive(Debug, clap::Args)]
pub(super) struct Play {
    /// The scenario: a recording (.jsonl) or a description (.toml), see docs/scenarios.md
    file: PathBuf,
    /// How many times as fast as the scenario says
    #[arg(long, default_value_t = 1.0, value_parser = parse_speed)]
    speed: f64,
    /// What the drawn parts follow from, unless the file names its own
    /// [default: drawn, and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Leave out topics that this MQTT filter takes; may be given several times
    #[arg(long, value_name = "FILTER")]
    leave_out: Vec<String>,
    /// Print what would be played, one JSON object a line, and play nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: WhichBroker,
}

/// Record what goes over a broker, until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(super) struct Record {
    /// The file to write, one JSON object a line; `scenario` plays it
    file: PathBuf,
    /// Record the topics that this MQTT filter takes; may be given several times
    #[arg(long, value_name = "FILTER", default_value = "#")]
    topic: Vec<String>,
    /// Stop after so long, such as 90s
    #[arg(long = "for", value_name = "SPAN", value_parser = parse_span)]
    span: Option<Duration>,
    /// Stop after so many messages
    #[arg(long, value_name = "NUMBER")]
    count: Option<usize>,
    #[command(flatten)]
    broker: WhichBroker,
}

#[derive(Debug, clap::Args)]
struct WhichBroker {
    /// The broker, as mqtt://host:port [default: that of the running application]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// The user's name at that broker
    #[arg(long, requires = "broker")]
    broker_user: Option<String>,
    /// A file with the password
    #[arg(long, requires = "broker_user")]
    broker_password_file: Option<PathBuf>,
    #[command(flatten)]
    place: RunDirectory,
}

impl Play {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let seed = self.seed.unwrap_or_else(rand::random);
        let scenario = Scenario::read(&self.file, seed)?.without(&self.leave_out);
        if self.dry_run {
            for message in &scenario.messages {
                let payload = String::from_utf8_lossy(&message.payload);
                let at = message.at.as_micros();
                let line = json!({"t_us": at, "topic": message.topic, "payload": payload});
                print(&format!("{line}\n"));
            }
            return Ok(());
        }
        let broker = self.broker.find()?;
        let bar = bar(
            scenario.length(),
            self.json,
            "{elapsed_precise} [{bar:32}] {msg} ({eta} left)",
        );
        let speed = self.speed;
        let played = in_system(async {
            let player = Player::connect(broker).await?;
            let mut number = 0;
            let heard = |at: Duration| {
                number += 1;
                bar.set_position(milliseconds(at));
                bar.set_message(format!("{number} messages"));
            };
            Ok(player.play(&scenario, speed, heard).await?)
        })?;
        bar.finish_and_clear();
        let acknowledged: u64 = played.acknowledged.values().sum();
        let outcome = json!({
            "seed": seed, "speed": speed, "acknowledged": acknowledged,
            "unacknowledged": played.unacknowledged, "left_out": scenario.left_out,
            "late_ms": milliseconds(played.late), "topics": played.acknowledged,
        });
        if self.json {
            print(&format!("{outcome}\n"));
        } else {
            print(&format!(
                "{acknowledged} messages on {} topics acknowledged, {} not, {} left out; seed {seed}; \
                 the latest left {} ms after it was due\n",
                played.acknowledged.len(),
                played.unacknowledged,
                scenario.left_out,
                milliseconds(played.late),
            ));
        }
        if played.unacknowledged > 0 {
            let count = played.unacknowledged;
            return Err(CommandError::Service(format!(
                "the broker did not acknowledge {count} messages; whether they arrived is not known"
            )));
        }
        Ok(())
    }
}

impl Record {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let broker = self.broker.find()?;
        let bar = bar(Duration::ZERO, false, "{elapsed_precise} {msg}");
        let span = self.span;
        let recorded = in_system(async {
            let asked = stop_requested(false).map_err(|source| CommandError::System {
                attempted: "watch for signals".into(),
                source,
            })?;
            let over = async {
                match span {
                    Some(span) => tokio::time::sleep(span).await,
                    None => std::future::pending().await,
                }
            };
            let stop = async {
                tokio::select! {
                    () = asked => {}
                    () = over => {}
                }
            };
            let recorder = Recorder::connect(broker, &self.topic).await?;
            let heard = |count: usize| bar.set_message(format!("{count} messages"));
            complain(&format!("recording {}\n", self.topic.join(", ")));
            let count_max = self.count.unwrap_or(usize::MAX);
            Ok(recorder.record(&self.file, count_max, stop, heard).await?)
        })?;
        bar.finish_and_clear();
        let full = if recorded.full {
            "; that is as many as a scenario may have"
        } else {
            ""
        };
        print(&format!(
            "{} messages in {}{full}\n",
            recorded.written,
            self.file.display()
        ));
        if recorded.missed > 0 {
            return Err(CommandError::Service(format!(
                "{} messages came faster than they could be written and are not in the file; record \
                 fewer topics",
                recorded.missed
            )));
        }
        Ok(())
    }
}

impl WhichBroker {
    /// The broker that was named, or that of the application that runs.
    fn find(&self) -> Result<BrokerAddress, CommandError> {
        if let Some(url) = &self.broker {
            let password = self.broker_password_file.as_deref().map(password_of);
            return Ok(BrokerAddress {
                url: url.clone(),
                user: self.broker_user.clone(),
                password: password.transpose()?,
            });
        }
        let directory = self.place.find()?;
        let nowhere = || {
            CommandError::Service(format!(
                "nothing says where the broker of {} is; start the application, or give --broker",
                directory.display()
            ))
        };
        let access = Access::read(&directory)?.ok_or_else(nowhere)?;
        let told = std::fs::read_to_string(directory.join(BROKER_FILE)).ok();
        let told = told.map(|url| url.trim().to_owned());
        let (url, credentials) = match access.topology.broker {
            Broker::External { url, credentials } => (told.unwrap_or(url), credentials),
            Broker::Embedded | Broker::Mosquitto => (told.ok_or_else(nowhere)?, Default::default()),
        };
        let (user, password) = signed_in(&credentials)?;
        Ok(BrokerAddress {
            url,
            user,
            password,
        })
    }
}

fn password_of(file: &Path) -> Result<String, CommandError> {
    let source = lamplighter_policies::model::SecretSource::File(file.display().to_string());
    let secret = read_secret(&source).map_err(|error| CommandError::Service(error.to_string()))?;
    Ok(secret.expose().to_owned())
}

/// A bar on a terminal, nothing elsewhere.
fn bar(length: Duration, hidden: bool, style: &str) -> ProgressBar {
    if hidden || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(style).expect("the templates of this file are right");
    let target = indicatif::ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND);
    ProgressBar::with_draw_target(Some(milliseconds(length)), target).with_style(style)
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed <= SPEED_MAX => Ok(speed),
        Ok(_) | Err(_) => Err(format!("a speed is a number above 0, at most {SPEED_MAX}")),
    }
}

fn parse_span(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "write a number and one of us, ms, s, m, h, d, such as 90s".to_owned())
}
