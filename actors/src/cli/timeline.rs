//! `timeline`: what was decided and repaired, from the manager's journal, phase by phase.

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::notification::{EntityState, NoticeDecision};
use lamplighter_policies::protocol::control::Failure;
use lamplighter_policies::protocol::global_manager::ledger::{Change, Entry};
use lamplighter_policies::recovery::plan::{Plan, Progress, Step};
use serde_json::json;

use super::status::{aligned, phases, phases_as_json, span};
use super::{CommandError, RunDirectory, in_system, print, when};
use crate::operator::Operator;

/// Show what was decided and repaired.
#[derive(Debug, clap::Args)]
pub(super) struct Timeline {
    /// Only what concerns this element or server
    entity: Option<EntityId>,
    #[command(flatten)]
    place: RunDirectory,
    /// For programs: one JSON array instead of a table
    #[arg(long)]
    json: bool,
}

impl Timeline {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let directory = self.place.find()?;
        let entries = in_system(async {
            let mut operator = Operator::find(&directory).await?;
            Ok(operator.timeline(self.entity).await?)
        })?;
        if self.json {
            let entries: Vec<_> = entries.iter().map(as_json).collect();
            print(&format!("{:#}\n", json!(entries)));
        } else {
            print(&as_table(&entries));
        }
        Ok(())
    }
}

fn as_table(entries: &[Entry]) -> String {
    let mut rows = vec![["WHEN", "WHO", "WHAT"].map(str::to_owned)];
    for entry in entries {
        let (who, what) = told(&entry.change);
        rows.push([when::utc(entry.at), who, what]);
    }
    aligned(&rows)
}

/// Whom an entry tells of, and what, for people.
fn told(change: &Change) -> (String, String) {
    match change {
        Change::Entity { notice, cause } => {
            let state = state(&notice.state);
            let decision = decision(&notice.decision);
            (
                notice.entity.to_string(),
                format!("{state}{decision}: {cause}"),
            )
        }
        Change::PlanBegun(plan) => (format!("plan {}", plan.number), begun(plan)),
        Change::Stepped {
            plan,
            element,
            progress,
        } => (
            element.to_string(),
            format!("{} (plan {plan})", progressed(progress)),
        ),
        Change::PlanEnded(plan) => (format!("plan {plan}"), "ended".into()),
        Change::Repaired {
            element,
            server,
            failure,
        } => (element.to_string(), repaired(server, failure)),
        Change::Drained { server, drained } => (
            server.to_string(),
            match drained {
                true => "drained".into(),
                false => "takes elements again".into(),
            },
        ),
        Change::Struck { server, reason } => (
            server.to_string(),
            format!("could not start an element: {reason}"),
        ),
    }
}

fn begun(plan: &Plan) -> String {
    let roots = plan
        .roots
        .iter()
        .map(|(root, cause)| format!("{root} ({cause})"));
    let steps = plan.steps.iter().map(|(element, step)| {
        let Step { from, to, .. } = step;
        match to {
            Some(to) if to != from => format!("{element} from {from} to {to}"),
            Some(to) => format!("{element} on {to}"),
            None => format!("{element} nowhere"),
        }
    });
    let (roots, steps): (Vec<_>, Vec<_>) = (roots.collect(), steps.collect());
    format!("because of {}: {}", roots.join(", "), steps.join(", "))
}

fn repaired(server: &EntityId, failure: &Failure) -> String {
    let phases = phases(&failure.phases).into_iter();
    let phases = phases.filter_map(|(name, took)| Some(format!("{name} {}", span(took?))));
    let phases: Vec<String> = phases.collect();
    format!(
        "repaired on {server} ({}): {}",
        phases.join(", "),
        failure.cause
    )
}

fn progressed(progress: &Progress) -> String {
    match progress {
        Progress::Decided => "decided".into(),
        Progress::Deployed => "deployed".into(),
        Progress::Restored => "restored, waits for what it requires".into(),
        Progress::Resumed => "resumed".into(),
        Progress::GivenUp { reason } => format!("runs nowhere: {reason}"),
        Progress::Superseded => "decided about anew".into(),
    }
}

fn state(state: &EntityState) -> String {
    match state {
        EntityState::Up => "up".into(),
        EntityState::Failed => "failed".into(),
        EntityState::Recovering => "recovering".into(),
        EntityState::Replaced(by) => format!("replaced by {by}"),
        EntityState::Degraded => "degraded".into(),
        EntityState::Suspended => "suspended".into(),
        EntityState::Stopped => "stopped".into(),
    }
}

fn decision(decision: &NoticeDecision) -> &'static str {
    match decision {
        NoticeDecision::AwaitRecovery => ", its dependents wait",
        NoticeDecision::ConnectTo(_) => ", its dependents connect to another",
        NoticeDecision::RunWithout => ", its dependents go on without it",
        NoticeDecision::Resume => "",
    }
}

fn as_json(entry: &Entry) -> serde_json::Value {
    let (who, what) = told(&entry.change);
    let mut json = json!({ "at_us": entry.at.0, "who": who, "what": what });
    match &entry.change {
        Change::Entity { notice, cause } => {
            json["kind"] = json!("changed");
            json["state"] = json!(state(&notice.state));
            json["epoch"] = json!(notice.epoch);
            json["term"] = json!(notice.term);
            json["cause"] = json!(cause);
        }
        Change::PlanBegun(plan) => {
            json["kind"] = json!("plan-begun");
            json["plan"] = json!(plan);
        }
        Change::Stepped { plan, progress, .. } => {
            json["kind"] = json!("stepped");
            json["plan"] = json!(plan);
            json["progress"] = json!(progressed(progress));
        }
        Change::PlanEnded(plan) => {
            json["kind"] = json!("plan-ended");
            json["plan"] = json!(plan);
        }
        Change::Repaired {
            server, failure, ..
        } => {
            json["kind"] = json!("repaired");
            json["server"] = json!(server);
            json["cause"] = json!(failure.cause);
            json["seen_at_us"] = json!(failure.seen_at.0);
            json["decided_by"] = json!(failure.decided_by);
            json["phases"] = phases_as_json(&failure.phases);
        }
        Change::Drained { .. } => json["kind"] = json!("drained"),
        Change::Struck { .. } => json["kind"] = json!("struck"),
    }
    json
}
