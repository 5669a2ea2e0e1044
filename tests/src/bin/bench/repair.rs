//! How soon elements handle new events after their processes were killed, or after a panic, and how
//! fast a log is folded meanwhile.

use std::time::{Duration, Instant};

use lamplighter_policies::protocol::control::Failure;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::clock;

use crate::Outcome;
use crate::driver::Driver;
use crate::floor::floor_of_a_restart;
use crate::load_and_fold::Shadow;
use crate::report::{Reach, Round, Row, Subject, percentile};
use crate::saving::ROUNDS;
use crate::servers::{Servers, on_each_store};

const KILLS: usize = 25;
const KILLS_OF_FOUR: usize = 10;
const PANICS: usize = 25;
const LOGGED: u64 = 1_000;
const LOGGED_LONG: u64 = 20_000;
/// Long enough that the next failure counts as a first one, and that a spare has started.
const REST: Duration = Duration::from_millis(150);

/// Kills one element and four at once, and makes handlers panic.
pub(crate) fn of_elements(rows: &mut Vec<Row>) -> Outcome<()> {
    on_each_store(&topology_of_echoes(4, 1_000_000), |servers| {
        let mut drivers = drivers(servers, 4)?;
        for driver in &mut drivers {
            driver.log(LOGGED)?;
        }
        kill_one(servers, &mut drivers[0], rows)?;
        kill_four(servers, &mut drivers, rows)?;
        panic_in_one(servers, &mut drivers[1], rows)
    })
}

/// Events folded a second when an element with a long log is started again.
pub(crate) fn of_a_long_log(rows: &mut Vec<Row>) -> Outcome<()> {
    on_each_store(&topology_of_echoes(1, 1_000_000), |servers| {
        let mut driver = drivers(servers, 1)?.remove(0);
        driver.log(LOGGED_LONG)?;
        let mut rounds = Vec::new();
        let mut restored = Vec::new();
        for _ in 0..ROUNDS {
            std::thread::sleep(REST);
            kill_and_see(servers, &mut driver)?;
            let failure = last_failure(servers, &driver)?;
            let host = failure.phases.host.ok_or("the failure has no phases")?;
            if host.replayed.is_zero() {
                return Err("the time of the replay was not measured".into());
            }
            restored.push(milliseconds(host.restored));
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            rounds.push(Round {
                value: host.records_replayed as f64 / host.replayed.as_secs_f64(),
                limit: None,
            });
        }
        let subject = Subject {
            name: format!("records folded at replay, in the host, {}", servers.name),
            unit: "records/s",
            limit_is: None,
            reach: Some(Reach::AtLeast(500_000.0)),
            conditions: format!(
                "an element with {LOGGED_LONG} logged events and as many records of commands carried out is \
                 killed; claiming and reading the log took {:.0} ms (median); {ROUNDS} kills",
                percentile(&restored, 50)
            ),
        };
        rows.push(Row::of(subject, &rounds));
        Ok(())
    })
}

/// Elements `echo-0` and so on, each with a device's topic for input and one for output.
pub(crate) fn topology_of_echoes(count: usize, checkpoint_every: u64) -> String {
    let element = |n| {
        format!(
            "[elements.echo-{n}]\nkind = \"Echo\"\nserver = \"here\"\n\
             checkpoint = {{ every = {checkpoint_every}, interval = \"1h\" }}\n\
             restart = {{ max = 1000, within = \"100ms\" }}\n\
             inputs = {{ \"bench/{n}/in\" = \"Tick\" }}\n\
             outputs = {{ out = {{ topic = \"bench/{n}/out\" }} }}\n"
        )
    };
    (0..count).map(element).collect()
}

/// A device's message of 128 B.
pub(crate) fn event(number: u64) -> Vec<u8> {
    let head = format!("{{\"n\":{number},\"text\":\"");
    let text = "x".repeat(128_usize.saturating_sub(head.len() + 2));
    format!("{head}{text}\"}}").into_bytes()
}

fn drivers(servers: &Servers, count: usize) -> Outcome<Vec<Driver>> {
    (0..count).map(|n| Driver::of(&servers.broker, n)).collect()
}

fn kill_one(servers: &mut Servers, driver: &mut Driver, rows: &mut Vec<Row>) -> Outcome<()> {
    let mut rounds = Vec::new();
    let mut repairs = Vec::new();
    for _ in 0..KILLS {
        let limit = Some(milliseconds(floor_of_a_restart()?));
        std::thread::sleep(REST);
        let (killed_at, took) = kill_and_see(servers, driver)?;
        repairs.push((killed_at, took, last_failure(servers, driver)?));
        let value = milliseconds(took);
        rounds.push(Round { value, limit });
    }
    let values: Vec<f64> = rounds.iter().map(|round| round.value).collect();
    let conditions = format!(
        "manager in the loop, {LOGGED} to {} logged events and as many records of commands carried out, \
         folded at each restart; one new event each ms from the kill on; JSON of 128 B, QoS 1, Mosquitto; \
         until the first new answer is back; {KILLS} kills",
        driver.sent()
    );
    let subject = |name: &str, reach| Subject {
        name: format!("kill -9 → first new event, {name}, {}", servers.name),
        unit: "ms",
        limit_is: Some("kill -9, wait, respawn of cat until its first byte is back"),
        reach: Some(reach),
        conditions: conditions.clone(),
    };
    rows.push(Row::of(subject("p50", Reach::RatioAtMost(3.0)), &rounds));
    let value = percentile(&values, 95);
    let slowest = [Round { value, limit: None }];
    rows.push(Row::of(subject("p95", Reach::AtMost(20.0)), &slowest));
    rows.extend(phases(servers.name, &repairs));
    Ok(())
}

/// Where the time between a kill and the first new event went.
fn phases(store: &str, repairs: &[(WallClock, Duration, Failure)]) -> Vec<Row> {
    type Part = fn(WallClock, Duration, &Failure) -> Option<Duration>;
    let parts: [(&str, &str, Part); 8] = [
        (
            "seen by the agent",
            "the pidfd wakes the agent",
            |killed, _, f| Some(f.seen_at.since(killed)),
        ),
        (
            "decided by the manager",
            "reported, decided, back",
            |_, _, f| f.phases.decided,
        ),
        ("given to the spare", "backoff included", |_, _, f| {
            f.phases.started
        }),
        (
            "restored",
            "store connected, element claimed, log read and decoded",
            |_, _, f| Some(f.phases.host?.restored),
        ),
        ("replayed", "log folded", |_, _, f| {
            Some(f.phases.host?.replayed)
        }),
        (
            "resumed",
            "broker connected and subscribed, as far as not over before",
            |_, _, f| Some(f.phases.host?.resumed),
        ),
        (
            "repaired (all of the above but seen)",
            "seen to ready",
            |_, _, f| f.phases.repaired,
        ),
        (
            "ready to first answer",
            "delivered, logged, handled, sent, back",
            |killed, took, f| {
                let ready = f.seen_at.since(killed) + f.phases.repaired?;
                Some(took.saturating_sub(ready))
            },
        ),
    ];
    let row = |(name, what, part): (&str, &str, Part)| {
        let rounds: Vec<Round> = repairs
            .iter()
            .filter_map(|(killed, took, failure)| part(*killed, *took, failure))
            .map(|took| Round {
                value: milliseconds(took),
                limit: None,
            })
            .collect();
        let subject = Subject {
            name: format!("· of that: {name}, {store}"),
            unit: "ms",
            limit_is: None,
            reach: None,
            conditions: format!("{what}; median of {} kills", rounds.len()),
        };
        (!rounds.is_empty()).then(|| Row::of(subject, &rounds))
    };
    parts.into_iter().filter_map(row).collect()
}

fn kill_four(servers: &mut Servers, drivers: &mut [Driver], rows: &mut Vec<Row>) -> Outcome<()> {
    let mut rounds = Vec::new();
    for _ in 0..KILLS_OF_FOUR {
        std::thread::sleep(REST);
        let mut pids = Vec::new();
        for driver in drivers.iter_mut() {
            driver.settle()?;
            pids.push(
                servers
                    .system
                    .status(driver.element())?
                    .pid
                    .ok_or("no process")?,
            );
        }
        let begun = Instant::now();
        for (pid, driver) in pids.into_iter().zip(drivers.iter_mut()) {
            kill(pid)?;
            driver.begin();
        }
        // All are asked in turn, so that the slowest counts.
        let mut away: Vec<&mut Driver> = drivers.iter_mut().collect();
        while !away.is_empty() {
            let mut still = Vec::new();
            for driver in away {
                if !driver.has_new_answer(begun)? {
                    still.push(driver);
                }
            }
            away = still;
        }
        let value = milliseconds(begun.elapsed());
        rounds.push(Round { value, limit: None });
        for driver in drivers.iter_mut() {
            driver.settle()?;
        }
    }
    let values: Vec<f64> = rounds.iter().map(|round| round.value).collect();
    let slow = percentile(&values, 95);
    let subject = |name: &str, reach| Subject {
        name: format!("four killed at once → all back, {name}, {}", servers.name),
        unit: "ms",
        limit_is: None,
        reach,
        conditions: format!(
            "four elements of one server, one spare host, {LOGGED} and more logged events each; until each has \
             answered a new event; {KILLS_OF_FOUR} times"
        ),
    };
    rows.push(Row::of(subject("p50", None), &rounds));
    let slowest = [Round {
        value: slow,
        limit: None,
    }];
    rows.push(Row::of(subject("p95", Some(Reach::AtMost(50.0))), &slowest));
    Ok(())
}

fn panic_in_one(servers: &mut Servers, driver: &mut Driver, rows: &mut Vec<Row>) -> Outcome<()> {
    // As many records as the element has: its events and the commands that were carried out.
    let count = 2 * driver.sent();
    let store = servers.store()?;
    let shadow = servers.runtime().block_on(Shadow::log(store, count))?;
    let mut rounds = Vec::new();
    for _ in 0..PANICS {
        let limit = servers.runtime().block_on(shadow.load_and_fold())?;
        let limit = milliseconds(limit);
        std::thread::sleep(REST);
        driver.settle()?;
        servers.system.inject_panic(driver.element())?;
        let begun = Instant::now();
        driver.send();
        driver.settle()?;
        let value = milliseconds(begun.elapsed());
        rounds.push(Round {
            value,
            limit: Some(limit),
        });
    }
    let subject = |name: &str, reach| Subject {
        name: format!(
            "panic in a handler → its event handled, {name}{}",
            servers.name
        ),
        unit: "ms",
        limit_is: Some(
            "a log of as many records loaded from the same store, decoded and folded by a cell",
        ),
        reach: Some(reach),
        conditions: format!(
            "from the publication of the event whose handler panics until the answer of the handler that \
             was run again is back: the broker twice and the log included; {count} records; {PANICS} panics"
        ),
    };
    rows.push(Row::of(subject("", Reach::AtMost(3.0)), &rounds));
    rows.push(Row::of(
        subject("beside its log, ", Reach::RatioAtMost(2.0)),
        &rounds,
    ));
    Ok(())
}

/// Kills the element's process; when, and how long it took until a new event was answered.
fn kill_and_see(servers: &mut Servers, driver: &mut Driver) -> Outcome<(WallClock, Duration)> {
    driver.settle()?;
    let pid = servers
        .system
        .status(driver.element())?
        .pid
        .ok_or("no process")?;
    let (begun, killed_at) = (Instant::now(), clock::wall());
    kill(pid)?;
    driver.begin();
    while !driver.has_new_answer(begun)? {}
    let took = begun.elapsed();
    driver.settle()?;
    Ok((killed_at, took))
}

fn last_failure(servers: &mut Servers, driver: &Driver) -> Outcome<Failure> {
    let status = servers.system.status(driver.element())?;
    Ok(status.last_failure.ok_or("there was no failure")?)
}

fn kill(pid: u32) -> Outcome<()> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).ok_or("no process id")?;
    Ok(rustix::process::kill_process(
        pid,
        rustix::process::Signal::KILL,
    )?)
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
