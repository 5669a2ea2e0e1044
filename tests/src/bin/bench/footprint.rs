//! What programs cost that do nothing yet: start, memory, size, processor.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::report::{Reach, Round, Row, Subject, folder, median};
use crate::saving::ROUNDS;
use crate::system::System;

const IDLE: Duration = Duration::from_secs(3);

/// The examples, started; the smaller one, idle.
pub(crate) fn of_programs(rows: &mut Vec<Row>) -> Outcome<()> {
    let (mut hello, mut smart_home) = (Vec::new(), Vec::new());
    let (mut memory, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (system, _folder) = start("hello")?;
        hello.push(system.ready_after.as_secs_f64() * 1e3);
        // Until the spare has started too; then nothing is going on.
        std::thread::sleep(Duration::from_millis(500));
        memory.push(Memory::of(&system)?);
        busy.push(processor(&system)?);
        drop(system);
        let (system, _folder) = start("smart-home")?;
        smart_home.push(system.ready_after.as_secs_f64() * 1e3);
    }
    let conditions = format!(
        "from the start of the process to its ready line; embedded store and broker, new store; {ROUNDS} rounds"
    );
    let name = "`up` of hello until ready";
    rows.push(row(name, "ms", None, &conditions, &hello));
    let (name, reach) = (
        "`up` of the smart home until ready",
        Some(Reach::AtMost(300.0)),
    );
    rows.push(row(name, "ms", reach, &conditions, &smart_home));
    rows.extend(memory_of_roles(&memory));
    let conditions = format!(
        "all processes of hello together, broker and embedded store included, over {} s",
        IDLE.as_secs()
    );
    rows.push(row(
        "processor when idle",
        "% of core",
        None,
        &conditions,
        &busy,
    ));
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let size = fs::metadata(program("hello")?)?.len() as f64 / 1e6;
    let conditions = "hello, release build with line tables, all linked in but the C library";
    rows.push(row("size of a program", "MB", None, conditions, &[size]));
    Ok(())
}

fn memory_of_roles(memory: &[Memory]) -> Vec<Row> {
    let roles = [
        ("agent", "an idle agent", Some(Reach::AtMost(10.0))),
        (
            "host",
            "an idle host of a small element",
            Some(Reach::AtMost(6.0)),
        ),
        ("manager", "an idle manager with the embedded store", None),
    ];
    let of = |(role, what, reach)| {
        let all: Vec<f64> = memory.iter().filter_map(|one| one.resident(role)).collect();
        let own: Vec<f64> = memory.iter().filter_map(|one| one.own(role)).collect();
        let conditions = format!(
            "VmRSS, of hello; of that {:.1} MB of its own, the rest mapped from files (RssAnon)",
            median(&own).unwrap_or(0.0)
        );
        row(
            &format!("resident memory of {what}"),
            "MB",
            reach,
            &conditions,
            &all,
        )
    };
    roles.into_iter().map(of).collect()
}

fn row(
    name: &str,
    unit: &'static str,
    reach: Option<Reach>,
    conditions: &str,
    values: &[f64],
) -> Row {
    let subject = Subject {
        name: name.to_owned(),
        unit,
        limit_is: None,
        reach,
        conditions: conditions.to_owned(),
    };
    let rounds: Vec<_> = values
        .iter()
        .map(|&value| Round { value, limit: None })
        .collect();
    Row::of(subject, &rounds)
}

fn start(example: &str) -> Outcome<(System, tempfile::TempDir)> {
    let folder = tempfile::tempdir_in(folder()?)?;
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../examples/{example}/{example}.toml"))
        .canonicalize()?;
    let system = System::of(&program(example)?, &file, folder.path())?;
    Ok((system, folder))
}

/// An example, built beside this program.
fn program(example: &str) -> Outcome<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(example);
    if !program.exists() {
        return Err(format!("{} is not built; run `make bench`", program.display()).into());
    }
    Ok(program)
}

/// The memory of each process, in MB, with its role: resident, and what it has alone.
struct Memory(Vec<(String, f64, f64)>);

impl Memory {
    fn of(system: &System) -> Outcome<Self> {
        let mut all = Vec::new();
        for (role, process) in system.processes()? {
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            let of = |name: &str| -> Option<f64> {
                let line = status.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_whitespace().next()?.parse().ok()
            };
            let (Some(resident), Some(own)) = (of("VmRSS:"), of("RssAnon:")) else {
                return Err(format!("no memory in the status of {role}").into());
            };
            all.push((role, resident * 1_024.0 / 1e6, own * 1_024.0 / 1e6));
        }
        Ok(Self(all))
    }

    fn largest(&self, role: &str, of: impl Fn(&(String, f64, f64)) -> f64) -> Option<f64> {
        let mine = self.0.iter().filter(|(name, ..)| name == role).map(of);
        mine.reduce(f64::max)
    }

    /// Of hosts the one with the element, which is the largest.
    fn resident(&self, role: &str) -> Option<f64> {
        self.largest(role, |(_, resident, _)| *resident)
    }

    fn own(&self, role: &str) -> Option<f64> {
        self.largest(role, |(.., own)| *own)
    }
}

/// The share of a core, in hundredths, that all processes of an application use while idle.
fn processor(system: &System) -> Outcome<f64> {
    let used = || -> Outcome<f64> {
        let mut nanoseconds = 0.0;
        let mut processes = system.processes()?;
        processes.push(("up".to_owned(), system.up.id()));
        for (_, process) in processes {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let spent = fs::read_to_string(thread?.path().join("schedstat"))?;
                let spent: Option<f64> = spent.split(' ').next().and_then(|n| n.parse().ok());
                nanoseconds += spent.ok_or("no times of a thread")?;
            }
        }
        Ok(nanoseconds)
    };
    let (begun, before) = (Instant::now(), used()?);
    std::thread::sleep(IDLE);
    let spent = used()? - before;
    Ok(spent / 1e9 / begun.elapsed().as_secs_f64() * 100.0)
}
