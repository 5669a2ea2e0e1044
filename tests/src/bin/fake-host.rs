//! A program whose hosts hold no element: they answer their agent as a host does, and fail as the
//! topology tells them to. A test double for the process layer only.

use std::time::Duration;

use lamplighter::cli::{self, Application, FoldedState, HostPlace};
use lamplighter::spec::ElementSpec;
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Value;
use lamplighter_policies::notification::EntityState;
use lamplighter_policies::protocol::messages::{
    ElementReport, FromHost, PROTOCOL_VERSION, StartPhases, ToHost,
};
use lamplighter_runtime::process::HostLink;
use lamplighter_runtime::store::Saved;

struct Fake;

impl Application for Fake {
    fn kinds(&self) -> Vec<String> {
        vec!["Fake".into()]
    }

    fn folded(&self, _: &ElementSpec, _: &Saved) -> Result<FoldedState, String> {
        Err("its elements have no state".into())
    }

    async fn run_host(&self, _: HostPlace, mut link: HostLink) -> Result<(), String> {
        let outbox = link.outbox();
        let mut elements: Vec<(EntityId, u64)> = Vec::new();
        let hello = FromHost::Hello {
            pid: std::process::id(),
            version: PROTOCOL_VERSION,
        };
        assert!(outbox.send(hello));
        while let Some(told) = link.next().await.map_err(|error| error.to_string())? {
            let answer = match told {
                ToHost::Assign {
                    element,
                    epoch_floor,
                    spec,
                    resume_awaited,
                    ..
                } => {
                    let spec = ElementSpec::decode(&spec).map_err(|error| error.to_string())?;
                    let epoch = epoch_floor + 1;
                    elements.push((element.clone(), epoch));
                    match resume_awaited {
                        true => FromHost::Restored { element, epoch },
                        false => started(&spec, element, epoch),
                    }
                }
                ToHost::Ping { number } => FromHost::Pong {
                    number,
                    within: Duration::from_secs(1),
                },
                ToHost::Prepare { .. } | ToHost::Judge(_) | ToHost::Reach(_) => continue,
                // It has no log to write this to.
                ToHost::Reconfigure { .. } | ToHost::Between(_) | ToHost::Digest(_) => continue,
                ToHost::Report { request } => {
                    for (element, epoch) in &elements {
                        assert!(outbox.send(report(request, element, *epoch)));
                    }
                    continue;
                }
                ToHost::Resume { element } => {
                    let known = elements.iter().find(|(known, _)| *known == element);
                    resumed(element.clone(), known.map_or(0, |(_, epoch)| *epoch))
                }
                ToHost::Stop { element } => FromHost::Stopped { element },
                ToHost::Panic { element } => FromHost::Mended {
                    element,
                    cause: "a drill".into(),
                    took: Duration::from_millis(1),
                },
            };
            assert!(outbox.send(answer));
        }
        outbox.drained(Duration::from_secs(1)).await;
        Ok(())
    }
}

fn started(spec: &ElementSpec, element: EntityId, epoch: u64) -> FromHost {
    if spec.element.state.get("damaged") == Some(&Value::Bool(true)) {
        return FromHost::GivenUp {
            element,
            cause: "record 7 fails its checksum".into(),
            restart_may_help: false,
        };
    }
    resumed(element, epoch)
}

fn resumed(element: EntityId, epoch: u64) -> FromHost {
    FromHost::Ready {
        element,
        epoch,
        phases: StartPhases::default(),
    }
}

fn report(request: u64, element: &EntityId, epoch: u64) -> FromHost {
    FromHost::Report {
        request,
        element: element.clone(),
        report: ElementReport {
            epoch,
            head: 12,
            checkpoint: 10,
            checkpoint_at: None,
            checkpoint_took: None,
            panics: 0,
            dead_letters: 0,
            duplicates: 0,
            unacknowledged: 0,
            queued: 0,
            trouble: None,
            unknown: Vec::new(),
            behind: 0,
            losses: Vec::new(),
            orphaned: Vec::new(),
            effective: EntityState::Up,
            because: Vec::new(),
        },
    }
}

fn main() -> std::process::ExitCode {
    match cli::run(&Fake) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            writeln!(std::io::stderr(), "{error}").expect("standard error is open");
            std::process::ExitCode::FAILURE
        }
    }
}
