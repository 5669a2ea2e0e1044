//! The explanation as tables for people.

use std::collections::BTreeMap;

use lamplighter_policies::model::{ActuationClass, OnExpired};
use lamplighter_policies::state_saving::{Site, Strategy, Timing};

use super::{ApplianceExplained, Explained, FlowExplained, LossExplained};
use crate::table::{counted, section, table};

/// How wide a reason is before it goes on in the next line.
const REASON_COLUMNS: usize = 56;

/// How wide an outcome is before it goes on in the next line.
const LOSS_COLUMNS: usize = 72;

/// How many outcomes of one loss are shown.
const OUTCOMES_MAX: usize = 12;

pub(super) fn page(explained: &Explained) -> String {
    let Explained {
        application,
        flows,
        appliances,
        losses,
    } = explained;
    let mut page = format!(
        "application {application}: {}, {}\n",
        counted(flows.len(), "flow"),
        counted(appliances.len(), "appliance"),
    );
    section(
        &mut page,
        "how each flow is saved: the cell of the paper's Figure 4, who, what, where",
        &saved(flows),
    );
    section(
        &mut page,
        "how long what passes may act on the world, in a recovery too",
        &validities(flows),
    );
    section(
        &mut page,
        "what a command to an appliance does when it is repeated",
        &commands(appliances),
    );
    section(
        &mut page,
        "what leaves an appliance harmless, and how it shows what it did",
        &harmless(appliances),
    );
    section(
        &mut page,
        "how an appliance is known to be there",
        &liveness(appliances),
    );
    section(
        &mut page,
        "who would take the place of an appliance that failed alone",
        &substitutes(appliances),
    );
    section(
        &mut page,
        "what would become of everything if one server were lost",
        &lost(losses),
    );
    page
}

/// Under who keeps them: timing and reason are the same for all that one element keeps.
fn saved(flows: &[FlowExplained]) -> Vec<Vec<String>> {
    let mut kept: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    for flow in flows {
        let rows = kept
            .entry(flow.keeper.as_str())
            .or_insert_with(|| titles(flow));
        rows.push(vec![
            format!("    {}", flow.from),
            flow.to.clone(),
            flow.cell.to_string(),
            record(flow),
        ]);
    }
    let rows = kept.into_values().flatten();
    table(["    from", "to", "cell", "record"], rows)
}

fn titles(flow: &FlowExplained) -> Vec<Vec<String>> {
    let FlowExplained {
        keeper, because, ..
    } = flow;
    let mut titles = vec![match flow.when {
        Some(Timing::Pessimistic) => {
            format!("by {keeper} before delivery, because of {because}")
        }
        Some(Timing::Optimistic) => format!("by {keeper} after delivery, because of {because}"),
        None => format!("by nobody, because of {because} of {keeper}"),
    }];
    if flow.when.is_some() {
        titles.push(format!("  in {}", flow.storage));
    }
    if flow.on_expired == Some(OnExpired::Skip) {
        titles.push("  what had expired is left out of its state".to_owned());
    }
    titles.into_iter().map(|title| vec![title]).collect()
}

fn record(flow: &FlowExplained) -> String {
    let (Some(what), Some(site)) = (flow.what, flow.site) else {
        return "none".to_owned();
    };
    let what = match what {
        Strategy::MessageLog => "message",
        Strategy::CallRecord => "call",
    };
    let site = match site {
        Site::Emission => "emission",
        Site::Reception => "reception",
    };
    let reply = if flow.reply {
        ", its reply at the caller"
    } else {
        ""
    };
    format!("{what} at {site}{reply}")
}

fn validities(flows: &[FlowExplained]) -> Vec<Vec<String>> {
    let rows = flows.iter().map(|flow| {
        vec![
            flow.from.clone(),
            flow.to.clone(),
            flow.holds.clone(),
            flow.acts.clone(),
        ]
    });
    table(["from", "to", "holds", "acts until"], rows)
}

/// Under the appliance: what it takes, by name.
fn commands(appliances: &[ApplianceExplained]) -> Vec<Vec<String>> {
    let rows = appliances.iter().filter_map(|appliance| {
        let other = appliance.other?;
        let title = match appliance.model.as_str() {
            "" => appliance.appliance.to_string(),
            model => format!("{} ({model})", appliance.appliance),
        };
        let mut rows = vec![vec![title]];
        for it in &appliance.commands {
            let (name, class) = (format!("  {}", it.property), class(it.class));
            rows.push(vec![name, class.to_owned(), it.values.clone()]);
        }
        let (rest, what) = if appliance.commands.is_empty() {
            ("  every command", "whatever it is")
        } else {
            ("  all others", "what the model does not list")
        };
        rows.push(vec![
            rest.to_owned(),
            class(other).to_owned(),
            what.to_owned(),
        ]);
        Some(rows)
    });
    table(["  command", "class", "takes"], rows.flatten())
}

fn class(class: ActuationClass) -> &'static str {
    match class {
        ActuationClass::Set => "set",
        ActuationClass::Delta => "delta",
        ActuationClass::Irreversible => "irreversible",
        ActuationClass::Keyed => "keyed",
        ActuationClass::Alarm => "alarm",
    }
}

fn harmless(appliances: &[ApplianceExplained]) -> Vec<Vec<String>> {
    let acting = appliances.iter().filter(|it| it.other.is_some());
    let rows = acting.map(|appliance| {
        let safe = match appliance.safe_state.as_str() {
            "" => "nothing",
            safe => safe,
        };
        let (id, evidence) = (appliance.appliance.to_string(), appliance.evidence.clone());
        vec![id, safe.to_owned(), evidence]
    });
    table(
        ["appliance", "left harmless by", "shows what it did by"],
        rows,
    )
}

/// A row for each signal.
fn liveness(appliances: &[ApplianceExplained]) -> Vec<Vec<String>> {
    let rows = appliances.iter().flat_map(|appliance| {
        let signals = match appliance.liveness.is_empty() {
            true => vec!["is not watched".to_owned()],
            false => appliance.liveness.clone(),
        };
        let rows = signals.into_iter().enumerate().map(|(index, signal)| {
            let first = match index {
                0 => appliance.appliance.to_string(),
                _ => String::new(),
            };
            vec![first, signal]
        });
        rows.collect::<Vec<_>>()
    });
    table(["appliance", "signals"], rows)
}

/// Who would, who could too, and who comes near and could not, with the reason.
fn substitutes(appliances: &[ApplianceExplained]) -> Vec<Vec<String>> {
    let rows = appliances.iter().flat_map(|appliance| {
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut row = |who: String, why: &str| {
            for line in wrapped(why, REASON_COLUMNS) {
                let [name, who] = match rows.last() {
                    None => [appliance.appliance.to_string(), who.clone()],
                    Some(last) if last[1] == who || line.1 => Default::default(),
                    Some(_) => [String::new(), who.clone()],
                };
                rows.push(vec![name, who, line.0]);
            }
        };
        match &appliance.substitute {
            Some(by) => row(
                by.to_string(),
                &format!("has {}", appliance.needs.join(", ")),
            ),
            None => row("nobody".to_owned(), ""),
        }
        let others = appliance.others.iter();
        let mut far = appliance.others_omitted;
        for other in others {
            match &other.rejected {
                None => row(format!("or {}", other.appliance), "could too"),
                Some(why) if other.comes_near => row(format!("not {}", other.appliance), why),
                Some(_) => far += 1,
            }
        }
        if far > 0 {
            let what = if far == 1 { "other" } else { "others" };
            row(format!("not {far} {what}"), "nothing of what is needed");
        }
        rows
    });
    table(["appliance", "substitute", "why"], rows)
}

/// Under the server: what becomes of each entity, then of the application.
fn lost(losses: &[LossExplained]) -> Vec<Vec<String>> {
    let rows = losses.iter().flat_map(|loss| {
        let LossExplained {
            server,
            outcomes,
            application,
            because,
        } = loss;
        let mut rows = vec![vec![format!(
            "without {server} the application is {application}"
        )]];
        let mut row = |who: &str, what: &str| {
            let mut who = who;
            for (line, _) in wrapped(what, LOSS_COLUMNS) {
                rows.push(vec![format!("  {who}"), line]);
                who = "";
            }
        };
        let more = outcomes.len().saturating_sub(OUTCOMES_MAX);
        for outcome in outcomes.iter().take(OUTCOMES_MAX) {
            row(outcome.entity.as_str(), &outcome.becomes);
        }
        if more > 0 {
            row("…", &format!("and {more} more"));
        }
        for reason in because.iter().take(OUTCOMES_MAX) {
            row("because", reason);
        }
        rows
    });
    table(["  who", "what becomes of it"], rows)
}

/// A text in lines, each with whether it goes on from the one before.
fn wrapped(text: &str, columns: usize) -> Vec<(String, bool)> {
    let mut lines = vec![(String::new(), false)];
    for word in text.split_whitespace() {
        let (line, _) = lines.last_mut().expect("there is one from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= columns {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push((word.to_owned(), true));
        }
    }
    lines
}
