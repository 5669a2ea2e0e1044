//! `status`: how every server and element of a running application is.

use std::fmt::Write;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::notification::EntityState;
use lamplighter_policies::physical_world::Position;
use lamplighter_policies::protocol::control::{
    ElementState, Failure, ManagerStanding, PlacedStatus, RepairPhases, ServerState, ServerStatus,
};
use lamplighter_policies::protocol::messages::{ElementReport, UnknownCommand};
use lamplighter_policies::state_saving::{Lost, Orphaned};
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::clock;
use serde_json::json;

use super::{CommandError, RunDirectory, appliances, in_system, print};
use crate::cluster::BROKER_FILE;
use crate::operator::Operator;

/// How long before the end of an agent's certificate it is told of.
const CERTIFICATE_WARNING: Duration = Duration::from_secs(14 * 86_400);

/// Show how every element is.
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    place: RunDirectory,
    /// For programs: one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let directory = self.place.find()?;
        let (servers, elements, appliances, application, manager) = in_system(async {
            let mut operator = Operator::find(&directory).await?;
            let (servers, elements) = operator.status().await?;
            let (appliances, application) = operator.appliances().await?;
            let manager = operator.standing().await?;
            Ok((servers, elements, appliances, application, manager))
        })?;
        let now = clock::wall();
        if self.json {
            let broker = std::fs::read_to_string(directory.join(BROKER_FILE)).ok();
            let mut status = as_json(&servers, &elements, now);
            let more = appliances::as_json(&appliances, &application);
            status["appliances"] = more["appliances"].clone();
            status["application"] = more["application"].clone();
            status["manager"] = json!(manager);
            status["broker"] = json!(broker.as_deref().map(str::trim));
            print(&format!("{status:#}\n"));
        } else {
            print(&as_table(&servers, &elements, now));
            print(&of_manager(&manager));
            print(&appliances::as_table(&appliances, &application, now));
        }
        Ok(())
    }
}

fn as_table(servers: &[ServerStatus], elements: &[PlacedStatus], now: WallClock) -> String {
    let mut rows = vec![
        [
            "ELEMENT",
            "STATE",
            "SERVES",
            "SERVER",
            "PID",
            "EPOCH",
            "LOG",
            "CHECKPOINT",
            "RESTARTS",
        ]
        .map(str::to_owned),
    ];
    for PlacedStatus { server, status } in elements {
        let report = status.report.as_ref();
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let age = report
            .and_then(|report| report.checkpoint_at)
            .map(|at| now.since(at));
        rows.push([
            status.element.to_string(),
            state(&status.state).to_owned(),
            or_dash(report.map(|report| report.effective.to_string())),
            server.to_string(),
            or_dash(status.pid.map(|pid| pid.to_string())),
            status.epoch.to_string(),
            or_dash(report.map(|report| (report.head - report.checkpoint).to_string())),
            or_dash(age.map(|age| format!("{} ago", span(age)))),
            status.restarts.to_string(),
        ]);
    }
    let mut text = aligned(&rows);
    for PlacedStatus { status, .. } in elements {
        let mut line = |what: &str| writeln!(text, "{}: {what}", status.element);
        let report = status.report.as_ref();
        let trouble = report.and_then(|report| report.trouble.as_deref());
        let reason = match &status.state {
            ElementState::Failed { reason } => Some(format!("failed: {reason}")),
            ElementState::Unassigned
            | ElementState::Waiting
            | ElementState::Starting
            | ElementState::Running
            | ElementState::Suspected
            | ElementState::BackingOff
            | ElementState::Stopping
            | ElementState::Restored
            | ElementState::Stopped => None,
        };
        let failure = status
            .last_failure
            .as_ref()
            .map(|failure| last_failure(failure, now));
        let unknown = report.into_iter().flat_map(|report| &report.unknown);
        let unknown = unknown.map(|command| unknown_command(&status.element, command));
        let effective = report.and_then(effective);
        let notes = [reason, effective, trouble.map(str::to_owned), failure];
        let saving = report.into_iter().flat_map(saving);
        for note in notes.into_iter().flatten().chain(saving).chain(unknown) {
            line(&note).expect("writing to a string cannot fail");
        }
    }
    for status in servers {
        let lines = [server_line(status, now), certificate_line(status, now)];
        for line in lines.into_iter().flatten() {
            writeln!(text, "{line}").expect("writing to a string cannot fail");
        }
    }
    text
}

/// What is to be said of an element whose log is local first: what is only there, and what was lost.
fn saving(report: &ElementReport) -> Vec<String> {
    let mut told = Vec::new();
    if report.behind > 0 {
        let behind = report.behind;
        told.push(format!("the stable store is {behind} records behind"));
    }
    for Lost {
        lineage,
        from,
        reason,
        ..
    } in &report.losses
    {
        told.push(format!(
            "LOST records from {from} on, before lineage {lineage}: {reason}"
        ));
    }
    for Orphaned {
        binding,
        source,
        after,
        upto,
    } in &report.orphaned
    {
        let place = |at: &Position| format!("{}.{}.{}", at.lineage, at.index, at.k);
        let (after, upto) = (place(after), place(upto));
        told.push(format!(
            "ORPHANS of {source} on {binding}, after {after} up to {upto}: it lost what led to them"
        ));
    }
    told
}

/// What is to be said of a server that is not simply there.
fn server_line(status: &ServerStatus, now: WallClock) -> Option<String> {
    let server = &status.server;
    let state = match status.state {
        ServerState::Awaited | ServerState::Up => {
            let away = status.agent.is_none();
            return away.then(|| format!("{server}: its agent is not connected"));
        }
        ServerState::Suspected => "suspected",
        ServerState::Failed => "failed",
        ServerState::Returned => "returned",
    };
    let since = status
        .since
        .map(|since| format!(" {} ago", span(now.since(since))));
    let cause = status.cause.as_ref().map(|cause| format!(": {cause}"));
    let (since, cause) = (since.unwrap_or_default(), cause.unwrap_or_default());
    Some(format!("server {server} {state}{since}{cause}"))
}

/// What a person must know of the manager itself; nothing while all is well.
fn of_manager(manager: &ManagerStanding) -> String {
    let mut text = String::new();
    let mut line = |what: String| {
        writeln!(text, "{what}").expect("writing to a string cannot fail");
    };
    if manager.term.is_none() {
        line("manager: it decides nothing yet: it waits for its journal".into());
    }
    if let Some(trouble) = &manager.journal {
        line(format!("manager: {trouble}"));
    }
    for (server, reason) in &manager.servers {
        line(format!("{server}: nothing is placed there: {reason}"));
    }
    if manager.plans > 0 {
        line(format!(
            "manager: {} plans are being carried out",
            manager.plans
        ));
    }
    text
}

/// What is to be said of a server whose agent is connected by a certificate that ends soon.
fn certificate_line(status: &ServerStatus, now: WallClock) -> Option<String> {
    let (server, until) = (&status.server, status.certificate_until?);
    let left = until.since(now);
    (left < CERTIFICATE_WARNING).then(|| {
        let when = match left.is_zero() {
            true => "has ended; the next connection of its agent will be refused".to_owned(),
            false => format!("ends in {} hours", left.as_secs() / 3_600),
        };
        format!(
            "server {server}: its certificate {when}; run `certificate {server} --out DIRECTORY` \
             and copy identity.pem over that of its agent, which takes it up without a restart"
        )
    })
}

/// How an element serves others, and why, if not as it should.
fn effective(report: &ElementReport) -> Option<String> {
    let because = report.because.iter();
    let because: Vec<_> = because
        .map(|(entity, state)| format!("{entity} is {state}"))
        .collect();
    let effective = &report.effective;
    (*effective != EntityState::Up).then(|| format!("{effective}: {}", because.join(", ")))
}

/// A command that a person has to judge, and how.
fn unknown_command(element: &EntityId, unknown: &UnknownCommand) -> String {
    let UnknownCommand {
        link,
        appliance,
        id,
        text,
        ..
    } = unknown;
    let to = appliance.as_ref().map_or(link.as_str(), EntityId::as_str);
    format!(
        "UNKNOWN whether {id} was carried out: {text} to {to}; look, then say `ack {element} {id}` \
         or `redo {element} {id}`"
    )
}

/// Rows with their columns below each other.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn last_failure(failure: &Failure, now: WallClock) -> String {
    let ago = span(now.since(failure.seen_at));
    let phases: Vec<String> = phases(&failure.phases)
        .into_iter()
        .filter_map(|(name, took)| Some(format!("{name} {}", span(took?))))
        .collect();
    let cause = &failure.cause;
    format!("last failure {ago} ago: {cause} ({})", phases.join(", "))
}

/// The parts of a repair, in their order.
pub(super) fn phases(repair: &RepairPhases) -> [(&'static str, Option<Duration>); 8] {
    [
        ("seen", repair.seen),
        ("decided", repair.decided),
        ("started", repair.started),
        ("restored", repair.host.map(|host| host.restored)),
        ("replayed", repair.host.map(|host| host.replayed)),
        ("resumed", repair.host.map(|host| host.resumed)),
        ("repaired", repair.repaired),
        ("first event", repair.first_event),
    ]
}

/// The same for programs: the spans in milliseconds, by name.
pub(super) fn phases_as_json(repair: &RepairPhases) -> serde_json::Value {
    let named = |(name, took): (&str, Option<Duration>)| {
        let name = format!("{}_ms", name.replace(' ', "_"));
        (name, json!(took.map(milliseconds)))
    };
    let phases = phases(repair).into_iter().map(named);
    phases.collect::<serde_json::Map<_, _>>().into()
}

fn as_json(
    servers: &[ServerStatus],
    elements: &[PlacedStatus],
    now: WallClock,
) -> serde_json::Value {
    let elements: Vec<_> = elements
        .iter()
        .map(|PlacedStatus { server, status }| {
            let failure = status.last_failure.as_ref().map(|failure| {
                let phases = phases_as_json(&failure.phases);
                json!({
                    "number": failure.number,
                    "cause": failure.cause,
                    "seen_at_us": failure.seen_at.0,
                    "decided_by": failure.decided_by,
                    "records_replayed": failure.phases.host.map(|host| host.records_replayed),
                    "phases": phases,
                })
            });
            let report = status.report.as_ref();
            let age = report
                .and_then(|report| report.checkpoint_at)
                .map(|at| now.since(at));
            let reason = match &status.state {
                ElementState::Failed { reason } => Some(reason),
                ElementState::Unassigned
                | ElementState::Waiting
                | ElementState::Starting
                | ElementState::Running
                | ElementState::Suspected
                | ElementState::BackingOff
                | ElementState::Stopping
                | ElementState::Restored
                | ElementState::Stopped => None,
            };
            json!({
                "element": status.element,
                "state": state(&status.state),
                "reason": reason,
                "server": server,
                "pid": status.pid,
                "epoch": status.epoch,
                "restarts": status.restarts,
                "serves": report.map(|report| report.effective.to_string()),
                "because": report.and_then(effective),
                "log_length": report.map(|report| report.head - report.checkpoint),
                "checkpoint_age_ms": age.map(milliseconds),
                "report": status.report,
                "last_failure": failure,
            })
        })
        .collect();
    json!({ "elements": elements, "servers": servers })
}

fn state(state: &ElementState) -> &'static str {
    match state {
        ElementState::Unassigned => "unassigned",
        ElementState::Waiting => "waiting",
        ElementState::Starting => "starting",
        ElementState::Running => "running",
        ElementState::Suspected => "suspected",
        ElementState::BackingOff => "backing off",
        ElementState::Stopping => "stopping",
        ElementState::Stopped => "stopped",
        ElementState::Failed { .. } => "failed",
        ElementState::Restored => "restored",
    }
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}

pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{:.1} ms", milliseconds(span)),
        1..=119 => format!("{:.1} s", span.as_secs_f64()),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}
