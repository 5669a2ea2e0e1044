//! The appliances of the smart home, simulated, as a process of their own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use lamplighter_runtime::broker::BrokerAddress;
use smart_home::simulator::{PhysicalTrace, SimulatorError, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Simulates lamps, plug, loudspeakers and a motion sensor on an MQTT broker, until standard input
/// ends or SIGTERM comes.
#[derive(Parser)]
struct Arguments {
    /// The broker, as mqtt://host:port.
    #[arg(long)]
    broker: String,
    /// Where to write down every command that reached a device, and what it did.
    #[arg(long)]
    trace: PathBuf,
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("devices: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(simulate(arguments))?)
}

async fn simulate(arguments: Arguments) -> Result<(), SimulatorError> {
    let trace = PhysicalTrace::open(&arguments.trace)?;
    let broker = BrokerAddress {
        url: arguments.broker,
        user: None,
        password: None,
    };
    run(broker, trace, say_ready, stopped()).await
}

#[expect(
    clippy::print_stdout,
    reason = "whoever started the devices waits for this line"
)]
fn say_ready() {
    println!("devices: ready");
}

/// Waits until whoever started us is gone or wants us gone.
async fn stopped() {
    let mut terminated = signal(SignalKind::terminate()).ok();
    let mut interrupted = signal(SignalKind::interrupt()).ok();
    tokio::select! {
        () = input_ended() => {}
        Some(()) = async { terminated.as_mut()?.recv().await } => {}
        Some(()) = async { interrupted.as_mut()?.recv().await } => {}
    }
}

/// A thread of its own waits for the end of standard input: a blocking read cannot be called off.
async fn input_ended() {
    let (tell, ended) = oneshot::channel();
    std::thread::spawn(move || {
        // What is written to us means nothing; an error means as much as the end.
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).ok();
        // Nobody listens if a signal came first.
        tell.send(()).ok();
    });
    ended.await.ok();
}
