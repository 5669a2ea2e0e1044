//! `make demo`: the smart home runs as real processes, is broken, and comes back with its state.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use smart_home::demo::drill::{Drill, DrillError, end_everything, programs};
use smart_home::demo::report::Report;
use smart_home::demo::screen::Screen;
use smart_home::demo::topology::{Adaptation, Broker, SPEED_MAX, Store};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the smart home twice through a recorded evening, once undisturbed and once with faults, and
/// checks that the broken house did what the other one did.
#[derive(Parser)]
struct Arguments {
    /// Where the state is saved: embedded or redis.
    #[arg(long, env = "STORE", default_value = "embedded")]
    store: Store,
    /// What carries the events: embedded or mosquitto.
    #[arg(long, env = "BROKER", default_value = "embedded")]
    broker: Broker,
    /// How many times as fast as recorded the evening is played.
    #[arg(long, env = "SPEED", default_value_t = 3.0, value_parser = parse_speed)]
    speed: f64,
    /// From which all faults follow; the same seed gives the same faults.
    #[arg(long, env = "SEED")]
    seed: Option<u64>,
    /// Where the report goes.
    #[arg(long, default_value = "target/demo/report.json")]
    report: PathBuf,
    /// Keep the files of the houses in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("demo: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all promises were kept.
fn start(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let drill = Drill {
        adaptation: Adaptation {
            store: arguments.store,
            broker: arguments.broker,
            speed: arguments.speed,
        },
        seed: arguments.seed.unwrap_or_else(rand::random),
        recording: PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/data/zigbee2mqtt-evening.jsonl"
        )),
        programs: programs()?,
        folder: arguments
            .keep
            .clone()
            .unwrap_or_else(|| temporary.path().to_owned()),
    };
    let mut screen = Screen::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let outcome = run_or_stop(&drill, &mut screen).await;
        screen.finish();
        end_everything().await?;
        std::io::Result::Ok(outcome)
    })?;
    let report = outcome?;
    report.write(&arguments.report)?;
    screen.line(&format!("report: {}", arguments.report.display()));
    screen.line(&format!(
        "demo: {} held, {} failed",
        report.held, report.failed
    ));
    Ok(report.failed == 0)
}

/// Runs the drill until it is over, or until somebody wants it to end.
async fn run_or_stop(
    drill: &Drill,
    screen: &mut Screen,
) -> Result<Report, Box<dyn std::error::Error>> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let outcome: Result<Report, DrillError> = tokio::select! {
        outcome = drill.run(screen) => outcome,
        _ = interrupted.recv() => return Err("interrupted; everything it started is stopped".into()),
        _ = terminated.recv() => return Err("terminated; everything it started is stopped".into()),
    };
    Ok(outcome?)
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed <= SPEED_MAX => Ok(speed),
        Ok(_) | Err(_) => Err(format!(
            "a speed is a number above 0, at most {SPEED_MAX}: beyond it, repairs take longer than \
             the gaps between events"
        )),
    }
}
