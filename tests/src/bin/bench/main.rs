//! `make bench`: what Lamplighter costs, beside what the machine and its servers give without it.
//!
//! Each figure and its limit are measured in turn in the same run, because absolute figures drift
//! by a factor of two from hour to hour. Arguments choose groups of figures by name; none is all.

#![allow(clippy::print_stdout, reason = "a program for people")]

mod application;
mod brokers;
mod checkpoints;
mod driver;
mod floor;
mod flow;
mod footprint;
mod limits;
mod load;
mod load_and_fold;
mod raw_disk;
mod raw_mqtt;
mod raw_redis;
mod repair;
mod report;
mod saving;
mod servers;
mod stores;
mod system;

use std::io::{self, Write};
use std::process::ExitCode;

use report::Row;

/// What a measurement gives; whatever went wrong ends the run and is shown.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Measures a group of figures and adds their rows.
type Measure = fn(&mut Vec<Row>) -> Outcome<()>;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    // The roles that `up` starts are this program again.
    if wanted
        .first()
        .is_some_and(|word| ROLES.contains(&word.as_str()))
    {
        return match application::play() {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                eprintln!("{fault}");
                ExitCode::FAILURE
            }
        };
    }
    match run(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("bench: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Outcome<()> {
    let machine = machine();
    println!("{machine}\n\n{}", report::heading());
    let mut rows = Vec::new();
    for (name, measure) in GROUPS {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            let before = rows.len();
            measure(&mut rows).map_err(|fault| format!("{name}: {fault}"))?;
            for row in &rows[before..] {
                println!("{}", row.shown());
            }
            io::stdout().flush()?;
        }
    }
    if rows.is_empty() {
        let names: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
        return Err(format!("no figures of that name; there are: {}", names.join(", ")).into());
    }
    let summary = report::write(&rows, &machine)?;
    let page = report::write_page(&rows, &machine)?;
    println!("\nwritten to {} and {}", summary.display(), page.display());
    Ok(())
}

/// What to run, by name.
const GROUPS: [(&str, Measure); 10] = [
    ("redis", stores::redis),
    ("redis-always", stores::redis_always),
    ("embedded", stores::embedded),
    ("broker", brokers::alone),
    ("flow", flow::through_the_log),
    ("repair", repair::of_elements),
    ("fold", load_and_fold::rate),
    ("replay", repair::of_a_long_log),
    ("checkpoints", checkpoints::in_the_host),
    ("footprint", footprint::of_programs),
];

/// The subcommands of an application that this program plays.
const ROLES: [&str; 5] = ["up", "manager", "agent", "host", "broker"];

/// The machine, as far as it matters to the figures.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = read("/proc/cpuinfo");
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1))
        .unwrap_or("unknown processor");
    let kernel = read("/proc/sys/kernel/osrelease");
    let busy = read("/proc/loadavg");
    let busy = busy.split(' ').next().unwrap_or_default();
    let build = if cfg!(debug_assertions) {
        "debug build"
    } else {
        "release build"
    };
    let commit = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    let commit = commit.map_or_else(
        |_| "unknown".to_owned(),
        |said| String::from_utf8_lossy(&said.stdout).trim().to_owned(),
    );
    format!(
        "commit {commit}, {cores} cores of {processor}, Linux {}, load {busy} at the start, {build}",
        kernel.trim()
    )
}
