//! The drill itself: two houses live through the same evening, one is left alone, one is broken.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter::scenario::{PlayError, Played, Player, Scenario, ScenarioError};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::checks::{Check, Evidence, Repair, judge};
use super::faults::{ELEMENTS, PlannedFault, plan};
use super::house::{House, HouseError};
use super::injection::break_and_watch;
use super::processes::{Running, adopt_orphans, descendants, kill, terminate};
use super::report::Report;
use super::scenes::{self, SceneError};
use super::screen::{Screen, check_in_words, fault_in_words};
use super::topology::{Adaptation, AdaptationError};
use crate::evening::read_evening;
use crate::simulator::{PhysicalTrace, TraceError};

/// The topology of the house.
const TOPOLOGY: &str = include_str!("../../smart-home.toml");

/// The longest timer of the house, which is what still happens after the recording.
const LONGEST_TIMER: Duration = Duration::from_secs(5);

/// How often a house is asked whether it has come to rest.
const REST_INTERVAL: Duration = Duration::from_millis(200);

/// How long a house may take to come to rest after the evening.
const REST_WITHIN: Duration = Duration::from_secs(20);

/// How long what still runs at the end may take to end in order.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether it has ended.
const END_INTERVAL: Duration = Duration::from_millis(50);

/// What is drilled, and how.
#[derive(Clone, Debug)]
pub struct Drill {
    /// Store, broker and speed.
    pub adaptation: Adaptation,
    /// From which all faults follow.
    pub seed: u64,
    /// The recording of the evening.
    pub recording: PathBuf,
    /// The folder of the binaries `smart-home` and `devices`.
    pub programs: PathBuf,
    /// Where the houses keep their files; nothing may be there that is still needed.
    pub folder: PathBuf,
}

/// Why a drill came to no verdict.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// A house does not do what it should.
    #[error("{house} house: {source}")]
    House {
        /// Which house.
        house: &'static str,
        /// What is wrong with it.
        source: HouseError,
    },
    /// The recording cannot be read.
    #[error(transparent)]
    Recording(#[from] ScenarioError),
    /// The recording cannot be played.
    #[error(transparent)]
    Replay(#[from] PlayError),
    /// The devices left no trace that can be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A scene could not be played.
    #[error("a scene could not be played: {0}")]
    Scene(#[from] SceneError),
    /// The topology does not fit the drill.
    #[error(transparent)]
    Topology(#[from] AdaptationError),
    /// The system refuses something.
    #[error("cannot {attempted}: {source}")]
    System {
        /// What was attempted.
        attempted: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

impl Drill {
    /// Runs the drill and judges it. What it started may still run if this fails or is called off:
    /// [`end_everything`] sees to that.
    ///
    /// # Errors
    /// The drill could not be carried through, so that nothing can be said about the promises.
    pub async fn run(&self, screen: &mut Screen) -> Result<Report, DrillError> {
        adopt_orphans().map_err(|source| DrillError::System {
            attempted: "become the parent of orphaned processes",
            source,
        })?;
        let recording = read_evening(&self.recording)?;
        let faults = plan(self.seed, &recording);
        self.introduce(screen, &recording, &faults);

        let began = Instant::now();
        let (mut untouched, mut broken) =
            tokio::try_join!(self.start("the untouched"), self.start("the broken"))?;
        screen.line(&format!(
            "both houses are ready after {:.1} s; the evening begins",
            began.elapsed().as_secs_f64()
        ));
        let (quiet, (played, repairs)) = tokio::try_join!(
            self.live(&untouched, &recording),
            self.live_through(&broken, &recording, &faults, screen)
        )?;
        screen.finish();

        let mut undisturbed = self.evidence("the untouched", &untouched, quiet).await?;
        self.stop("the untouched", &mut untouched, &mut undisturbed)
            .await;
        screen.line("the evening is over; what follows is where a mistake hurts");
        let mut evidence = self.evidence("the broken", &broken, played).await?;
        let scenes = scenes::play(&broken, screen).await?;
        self.stop("the broken", &mut broken, &mut evidence).await;
        let running = still_running().await?;
        let running = running.iter().map(|r| format!("{} {}", r.pid, r.command));
        evidence.left_running.extend(running);
        let mut checks = judge(&evidence, &undisturbed, &repairs);
        checks.extend(scenes);
        Ok(self.report(screen, checks, repairs))
    }

    fn introduce(&self, screen: &mut Screen, recording: &Scenario, faults: &[PlannedFault]) {
        let Adaptation {
            store,
            broker,
            speed,
        } = self.adaptation;
        screen.line(&format!(
            "The smart home of the paper (Figure 6), twice: one house is left alone, one is broken.\n\
             {} messages of a recorded evening of {:.0} s, {speed} times as fast; store {store}, broker \
             {broker};\n{} faults from seed {}",
            recording.messages.len(),
            recording.length().as_secs_f64(),
            faults.len(),
            self.seed,
        ));
    }

    async fn start(&self, house: &'static str) -> Result<House, DrillError> {
        let topology = self.adaptation.apply(TOPOLOGY)?;
        let folder = self.folder.join(house.replace(' ', "-"));
        House::start(&folder, &topology, &self.programs)
            .await
            .map_err(|source| DrillError::House { house, source })
    }

    /// One undisturbed evening.
    async fn live(&self, house: &House, recording: &Scenario) -> Result<Played, DrillError> {
        let player = Player::connect(house.broker()).await?;
        let played = player
            .play(recording, self.adaptation.speed, |_| ())
            .await?;
        self.rest("the untouched", house).await?;
        Ok(played)
    }

    /// One evening with faults.
    async fn live_through(
        &self,
        house: &House,
        recording: &Scenario,
        faults: &[PlannedFault],
        screen: &mut Screen,
    ) -> Result<(Played, Vec<Repair>), DrillError> {
        let failed = |source| DrillError::House {
            house: "the broken",
            source,
        };
        let screen = RefCell::new(screen);
        let speed = self.adaptation.speed;
        let player = Player::connect(house.broker()).await?;
        let began = Instant::now();
        let progress = |at| {
            screen
                .borrow_mut()
                .progress(at, recording.length(), "events flow");
        };
        let playing = async { Ok(player.play(recording, speed, progress).await?) };
        let breaking = async {
            let mut repairs = Vec::new();
            let mut latest = house.status().await.map_err(failed)?;
            for planned in faults {
                sleep_until(began + planned.due(speed)).await;
                let outcome = break_and_watch(house, planned, speed, began, &mut latest).await;
                let outcome = outcome.map_err(failed)?;
                for line in fault_in_words(&outcome) {
                    screen.borrow_mut().line(&line);
                }
                repairs.extend(outcome);
            }
            Ok(repairs)
        };
        let outcome: Result<_, DrillError> = tokio::try_join!(playing, breaking);
        let outcome = outcome?;
        self.rest("the broken", house).await?;
        Ok(outcome)
    }

    /// Waits until the last timer has fired, and then until nothing moves in the house.
    async fn rest(&self, name: &'static str, house: &House) -> Result<(), DrillError> {
        sleep(LONGEST_TIMER.div_f64(self.adaptation.speed)).await;
        let resting = async {
            let mut before = None;
            loop {
                let at_rest = house.status().await?.at_rest();
                if at_rest.is_some() && at_rest == before {
                    return Ok(());
                }
                before = at_rest;
                sleep(REST_INTERVAL).await;
            }
        };
        // A house that never comes to rest is judged as it is: the checks say what is wrong with it.
        timeout(REST_WITHIN, resting)
            .await
            .unwrap_or(Ok(()))
            .map_err(|source| DrillError::House {
                house: name,
                source,
            })
    }

    /// Takes the evidence of the evening.
    async fn evidence(
        &self,
        name: &'static str,
        house: &House,
        played: Played,
    ) -> Result<Evidence, DrillError> {
        let failed = |source| DrillError::House {
            house: name,
            source,
        };
        let mut evidence = Evidence {
            began_us: played.began_at.0.unsigned_abs(),
            acknowledged: played.acknowledged,
            dead_letters: house.status().await.map_err(failed)?.dead_letters(),
            trace: PhysicalTrace::read(&house.trace())?,
            ..Evidence::default()
        };
        for element in ELEMENTS {
            // Whoever has no state has another one than the untouched house, and this is why.
            let state = house.state(element).await;
            let state = state.unwrap_or_else(|fault| json!(fault.to_string()));
            evidence.states.insert(element.to_owned(), state);
        }
        Ok(evidence)
    }

    /// Stops a house. One that does not stop has left something running.
    async fn stop(&self, name: &'static str, house: &mut House, evidence: &mut Evidence) {
        if let Err(fault) = house.stop().await {
            evidence.left_running.push(format!("{name} house: {fault}"));
        }
    }

    fn report(&self, screen: &mut Screen, checks: Vec<Check>, repairs: Vec<Repair>) -> Report {
        for check in &checks {
            screen.line(&check_in_words(check));
        }
        let held = checks.iter().filter(|check| check.held).count();
        Report {
            seed: self.seed,
            speed: self.adaptation.speed,
            store: self.adaptation.store.to_string(),
            broker: self.adaptation.broker.to_string(),
            held,
            failed: checks.len() - held,
            checks,
            repairs,
        }
    }
}

/// Ends whatever runs below this process: in order at first, then by force.
///
/// # Errors
/// The processes cannot be listed.
pub async fn end_everything() -> io::Result<()> {
    for running in descendants()? {
        // One that has ended by itself in the meantime is what is wanted.
        terminate(running.pid.unsigned_abs()).ok();
    }
    if !still_running_within(END_WITHIN).await?.is_empty() {
        for running in descendants()? {
            kill(running.pid.unsigned_abs()).ok();
        }
    }
    Ok(())
}

async fn still_running() -> Result<Vec<Running>, DrillError> {
    still_running_within(END_WITHIN)
        .await
        .map_err(|source| DrillError::System {
            attempted: "list what still runs",
            source,
        })
}

/// What still runs below this process after it had some time to end.
async fn still_running_within(limit: Duration) -> io::Result<Vec<Running>> {
    let until = Instant::now() + limit;
    loop {
        let running = descendants()?;
        if running.is_empty() || Instant::now() >= until {
            return Ok(running);
        }
        sleep(END_INTERVAL).await;
    }
}

/// The folder in which the binaries of this program stand.
///
/// # Errors
/// The system does not say where this program is.
pub fn programs() -> io::Result<PathBuf> {
    let myself = std::env::current_exe()?;
    Ok(myself.parent().unwrap_or(Path::new(".")).to_owned())
}
