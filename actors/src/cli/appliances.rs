//! How the appliances of a running application are: their part of `status`.

use lamplighter_policies::protocol::appliances::{
    ApplianceState, ApplianceStatus, ApplicationState,
};
use lamplighter_policies::time::WallClock;
use serde_json::{Value, json};

use super::status::{aligned, span};

/// The appliances and the application, for people. Nothing where there is no appliance.
pub(super) fn as_table(
    appliances: &[ApplianceStatus],
    application: &ApplicationState,
    now: WallClock,
) -> String {
    if appliances.is_empty() {
        return String::new();
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let names = |ids: &[lamplighter_policies::ids::EntityId]| {
        let names: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let mut rows = vec![
        [
            "APPLIANCE",
            "STATE",
            "WATCHED BY",
            "REPLACED BY",
            "STANDS IN FOR",
        ]
        .map(str::to_owned),
    ];
    rows.extend(appliances.iter().map(|it| {
        [
            it.appliance.to_string(),
            state(&it.state).to_owned(),
            or_dash(it.watched_by.as_ref().map(ToString::to_string)),
            or_dash(it.replaced_by.as_ref().map(ToString::to_string)),
            or_dash(names(&it.stands_in_for)),
        ]
    }));
    let mut text = format!("\n{}", aligned(&rows));
    for it in appliances {
        for note in notes(it, now) {
            text.push_str(&format!("{}: {note}\n", it.appliance));
        }
    }
    match application {
        ApplicationState::Whole => {}
        ApplicationState::Degraded { reasons } => {
            for reason in reasons {
                text.push_str(&format!("degraded: {reason}\n"));
            }
        }
        ApplicationState::Failed { reason } => {
            text.push_str(&format!("the application failed: {reason}\n"));
        }
    }
    text
}

fn notes(it: &ApplianceStatus, now: WallClock) -> Vec<String> {
    let mut notes = Vec::new();
    match &it.state {
        ApplianceState::Failed { since, cause } => {
            notes.push(format!("failed {} ago: {cause}", span(now.since(*since))));
        }
        ApplianceState::Unreachable { since, bridge } => {
            let ago = span(now.since(*since));
            notes.push(format!("its bridge ({bridge}) is down since {ago}"));
        }
        ApplianceState::Unwatched | ApplianceState::Unheard | ApplianceState::Alive => {}
    }
    if !it.degraded.is_empty() {
        let lost = it.degraded.join(", ");
        notes.push(format!("its substitute has no {lost}"));
    }
    if it.replaced_by.is_none() {
        let rejected = it.rejected.iter();
        notes.extend(rejected.map(|(id, why)| format!("{id} cannot take its place: {why}")));
    }
    notes
}

/// The same for programs.
pub(super) fn as_json(appliances: &[ApplianceStatus], application: &ApplicationState) -> Value {
    let appliance = |it: &ApplianceStatus| {
        let (since, cause) = match &it.state {
            ApplianceState::Failed { since, cause } => (Some(since.0), Some(cause.clone())),
            ApplianceState::Unreachable { since, bridge } => {
                (Some(since.0), Some(format!("{bridge} is down")))
            }
            ApplianceState::Unwatched | ApplianceState::Unheard | ApplianceState::Alive => {
                (None, None)
            }
        };
        let rejected = it.rejected.iter();
        let rejected = rejected.map(|(id, why)| json!({ "appliance": id, "reason": why }));
        json!({
            "appliance": it.appliance,
            "state": state(&it.state),
            "since_us": since,
            "cause": cause,
            "watched_by": it.watched_by,
            "replaced_by": it.replaced_by,
            "stands_in_for": it.stands_in_for,
            "degraded": it.degraded,
            "rejected": rejected.collect::<Vec<_>>(),
        })
    };
    let application = match application {
        ApplicationState::Whole => json!({ "state": "whole" }),
        ApplicationState::Degraded { reasons } => {
            json!({ "state": "degraded", "reasons": reasons })
        }
        ApplicationState::Failed { reason } => json!({ "state": "failed", "reason": reason }),
    };
    json!({
        "appliances": appliances.iter().map(appliance).collect::<Vec<_>>(),
        "application": application,
    })
}

fn state(state: &ApplianceState) -> &'static str {
    match state {
        ApplianceState::Unwatched => "unwatched",
        ApplianceState::Unheard => "unheard",
        ApplianceState::Alive => "alive",
        ApplianceState::Unreachable { .. } => "unreachable",
        ApplianceState::Failed { .. } => "failed",
    }
}
