//! Plays a recording of MQTT traffic into a broker.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use lamplighter_runtime::broker::BrokerAddress;
use smart_home::recording::Recording;
use smart_home::replayer::{Played, Replayer};

/// Plays a recording into a broker, with its timing or faster, and says what the broker acknowledged.
#[derive(Parser)]
struct Arguments {
    /// The broker, as mqtt://host:port.
    #[arg(long)]
    broker: String,
    /// How many times as fast as it was recorded.
    #[arg(long, default_value_t = 1.0, value_parser = parse_speed)]
    speed: f64,
    /// The recording: one JSON object a line.
    recording: PathBuf,
}

#[expect(
    clippy::print_stdout,
    reason = "the outcome is for whoever typed the command"
)]
fn main() -> ExitCode {
    match replay(&Arguments::parse()) {
        Ok(played) => {
            let acknowledged: u64 = played.acknowledged.values().sum();
            println!(
                "{acknowledged} messages acknowledged, {} not",
                played.unacknowledged
            );
            ExitCode::from(u8::from(played.unacknowledged > 0))
        }
        Err(fault) => {
            eprintln!("replay: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn replay(arguments: &Arguments) -> Result<Played, Box<dyn std::error::Error>> {
    let recording = Recording::read(&arguments.recording)?;
    let broker = BrokerAddress {
        url: arguments.broker.clone(),
        user: None,
        password: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(async {
        let replayer = Replayer::connect(broker).await?;
        replayer.play(&recording, arguments.speed, |_| ()).await
    })?)
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed <= 1_000.0 => Ok(speed),
        Ok(_) | Err(_) => Err("a speed is a number above 0, at most 1000".into()),
    }
}
