//! `explain`: what the last recovery of an element did towards the physical world and why, what it did
//! about one appliance, or what the next would do (paper, 4.2.4).

use std::fmt::Write;
use std::path::Path;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Topology, Value as Plain};
use lamplighter_policies::physical_world::Kind;
use lamplighter_policies::protocol::cell::{Explanation, FlowExplanation, Held, TimerFate};
use lamplighter_policies::state_saving::Properties;
use lamplighter_policies::time::WallClock;
use serde_json::{Value, json};

use super::stored::{Kept, StoredError};
use super::told::Told;
use super::when::utc;
use super::{CommandError, RunDirectory, foresight, in_system, print};
use crate::operator::Operator;

/// Explain the last recovery, or the next.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The id of an element, or of an appliance
    #[arg(required_unless_present = "if_fails")]
    entity: Option<EntityId>,
    /// Instead: what would move where, what would degrade, who would be told and how long it would take
    /// if this server, channel, element or appliance failed now. Nothing is broken by asking
    #[arg(long, value_name = "ENTITY", conflicts_with = "entity")]
    if_fails: Option<EntityId>,
    #[command(flatten)]
    place: RunDirectory,
    /// For programs: one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// An element and its last recovery, if it has had one.
type Recovered = (EntityId, Option<Explanation>);

impl Explain {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let directory = self.place.find()?;
        if let Some(entity) = &self.if_fails {
            return self.foresee(&directory, entity);
        }
        let entity = self.entity.as_ref();
        let entity = entity.expect("the command line takes one of the two");
        self.look_back(&directory, entity)
    }

    fn foresee(&self, directory: &Path, entity: &EntityId) -> Result<(), CommandError> {
        let forecast = in_system(async {
            let mut operator = Operator::find(directory).await?;
            Ok(operator.if_fails(entity.clone()).await?)
        })?;
        print(&match self.json {
            true => format!("{:#}\n", foresight::as_json(&forecast)),
            false => foresight::as_page(&forecast),
        });
        Ok(())
    }

    fn look_back(&self, directory: &Path, entity: &EntityId) -> Result<(), CommandError> {
        let (is_appliance, recovered, told) = in_system(async {
            let kept = Kept::find(directory).await?;
            if !is_known(&kept.topology, entity) {
                return Err(kept.no_such_entity(entity).into());
            }
            let told = Told::of(entity, &kept, directory).await?;
            if kept.topology.elements.contains_key(entity) {
                let saved = kept.saved(entity).await?;
                let own = vec![(entity.clone(), recovery(entity, &saved)?)];
                return Ok((false, own, told));
            }
            let mut recovered = Vec::new();
            for owner in owners(&kept.topology, entity) {
                let saved = match kept.saved(&owner).await {
                    Err(StoredError::NeverRan(_)) => continue,
                    outcome => outcome?,
                };
                let last = recovery(&owner, &saved)?;
                recovered.push((owner, last));
            }
            Ok((true, recovered, told))
        })?;
        let with_told = |mut json: Value| {
            for (name, value) in told.json().as_object().into_iter().flatten() {
                json[name] = value.clone();
            }
            format!("{json:#}\n")
        };
        print(&match (is_appliance, self.json) {
            (false, false) => recovered.iter().map(element_text).collect::<String>() + &told.text(),
            (false, true) => recovered.iter().map(element_json).map(with_told).collect(),
            (true, false) => appliance_text(entity, &recovered) + &told.text(),
            (true, true) => with_told(appliance_json(entity, &recovered)),
        });
        Ok(())
    }
}

fn is_known(topology: &Topology, entity: &EntityId) -> bool {
    topology.elements.contains_key(entity) || topology.appliances.contains_key(entity)
}

fn recovery(
    element: &EntityId,
    saved: &lamplighter_runtime::store::Saved,
) -> Result<Option<Explanation>, StoredError> {
    crate::host::explanation(element, saved).map_err(|reason| StoredError::Unrestorable {
        element: element.clone(),
        reason,
    })
}

/// The elements that speak with an appliance, those that command it first.
fn owners(topology: &Topology, appliance: &EntityId) -> Vec<EntityId> {
    let commands = topology
        .flows()
        .filter(|flow| flow.target.appliance() == Some(appliance))
        .filter_map(|flow| flow.source.element());
    let hears = topology
        .flows()
        .filter(|flow| flow.source.appliance() == Some(appliance))
        .filter_map(|flow| flow.target.element());
    let mut owners: Vec<EntityId> = Vec::new();
    for element in commands.chain(hears) {
        if !owners.contains(element) {
            owners.push(element.clone());
        }
    }
    owners
}

fn element_text((element, explanation): &Recovered) -> String {
    let Some(explanation) = explanation else {
        return format!(
            "no recovery of {element} is known: it has had none, or its next checkpoint will tell\n"
        );
    };
    let Explanation {
        at,
        checkpoint,
        head,
        replayed,
        flows,
        timers,
    } = explanation;
    let mut text = format!(
        "{element} recovered at {}\nrestored: the checkpoint that covers its log up to {checkpoint}\n\
         replayed: {replayed} records, up to {head}\n",
        utc(*at)
    );
    for (link, flow) in flows {
        flow_text(&mut text, link, flow);
    }
    if !timers.is_empty() {
        text.push_str("timers\n");
    }
    for (name, fate) in timers {
        let fate = match fate {
            TimerFate::Armed(due) => format!("armed again for {}", utc(*due)),
            TimerFate::Late(due) => format!("was due {} and fired late", utc(*due)),
            TimerFate::Dropped(due) => format!("was due {} and is dropped", utc(*due)),
        };
        line(&mut text, name, &fate);
    }
    text
}

fn flow_text(text: &mut String, link: &str, flow: &FlowExplanation) {
    writeln!(text, "{} by {link}", flow.appliance).expect("writing to a string cannot fail");
    for held in &flow.held {
        line(text, "held", &held_text(held));
    }
    for held in &flow.expired {
        line(text, "dropped", &format!("{}: expired", held_text(held)));
    }
    for it in &flow.overridden {
        let what = format!("{} = {} of {}", it.property, it.value, it.event);
        line(text, "merged", &format!("{what}: overridden by {}", it.by));
    }
    for what in &flow.reverted {
        line(text, "went back", what);
    }
    for (property, at) in &flow.goes_back_at {
        line(text, "goes back", &format!("{property} at {}", utc(*at)));
    }
    for (id, finding) in &flow.doubtful {
        line(text, "in doubt", &format!("{id}: {finding}"));
    }
    line(text, "to show", &properties(&flow.target));
    if let Some(shown) = &flow.shown {
        line(text, "showed", &properties(shown));
    }
    let told = flow.command.as_ref().map(properties);
    let told = told.unwrap_or_else(|| "nothing".to_owned());
    line(text, "was told", &format!("{told}: {}", flow.why));
}

fn line(text: &mut String, what: &str, said: &str) {
    writeln!(text, "  {what:<10} {said}").expect("writing to a string cannot fail");
}

fn held_text(held: &Held) -> String {
    let how = match held.kind {
        Kind::Sensed => "sensed",
        Kind::Actuated => "commanded",
    };
    let until = match held.expires_at {
        Some(end) => format!("until {}", utc(end)),
        None => "until overridden".to_owned(),
    };
    let Held {
        property,
        value,
        event,
        occurred_at,
        ..
    } = held;
    let at: WallClock = *occurred_at;
    format!(
        "{property} = {value}, {how} {} by {event}, {until}",
        utc(at)
    )
}

fn properties(properties: &Properties) -> String {
    let one = |(name, value): (&String, &Plain)| format!("{name} = {value}");
    match properties.is_empty() {
        true => "nothing".to_owned(),
        false => properties.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

fn appliance_text(appliance: &EntityId, recovered: &[Recovered]) -> String {
    let mut text = String::new();
    for (owner, explanation) in recovered {
        let Some(explanation) = explanation else {
            writeln!(
                text,
                "no recovery of {owner}, which speaks with {appliance}, is known: it has had none, or \
                 its next checkpoint will tell"
            )
            .expect("writing to a string cannot fail");
            continue;
        };
        let at = utc(explanation.at);
        writeln!(text, "{owner} recovered at {at}").expect("writing to a string cannot fail");
        let mut mine = of_appliance(explanation, appliance).peekable();
        if mine.peek().is_none() {
            line(&mut text, "was told", "nothing: it never tells it anything");
        }
        for (link, flow) in mine {
            flow_text(&mut text, link, flow);
        }
    }
    if recovered.is_empty() {
        writeln!(text, "no element that ever ran speaks with {appliance}")
            .expect("writing to a string cannot fail");
    }
    text
}

fn of_appliance<'e>(
    explanation: &'e Explanation,
    appliance: &'e EntityId,
) -> impl Iterator<Item = (&'e String, &'e FlowExplanation)> {
    let flows = explanation.flows.iter();
    flows.filter(move |(_, flow)| flow.appliance == appliance.as_str())
}

fn element_json((element, explanation): &Recovered) -> Value {
    json!({ "element": element, "recovery": explanation })
}

fn appliance_json(appliance: &EntityId, recovered: &[Recovered]) -> Value {
    let owner = |(owner, explanation): &Recovered| {
        let flows = explanation.as_ref().map(|explanation| {
            let flows = of_appliance(explanation, appliance);
            let flows = flows.map(|(link, flow)| (link.clone(), json!(flow)));
            flows.collect::<serde_json::Map<_, _>>()
        });
        let at = explanation.as_ref().map(|explanation| explanation.at);
        json!({ "element": owner, "recovered_at_us": at, "flows": flows })
    };
    let owners: Vec<Value> = recovered.iter().map(owner).collect();
    json!({ "appliance": appliance, "owners": owners })
}

#[cfg(test)]
mod tests {
    use lamplighter_policies::protocol::cell::Overridden;

    use super::*;

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn word(word: &str) -> Plain {
        Plain::Text(word.into())
    }

    fn at(second: i64) -> WallClock {
        WallClock(second * 1_000_000)
    }

    fn explanation() -> Explanation {
        let held = |property: &str, value: &str, end| Held {
            property: property.into(),
            value: word(value),
            kind: Kind::Actuated,
            event: "hall/1.7.0".into(),
            occurred_at: at(1),
            expires_at: end,
        };
        let flow = FlowExplanation {
            appliance: "lock".into(),
            held: vec![held("mode", "night", None)],
            expired: vec![held("state", "UNLOCK", Some(at(3)))],
            overridden: vec![Overridden {
                property: "state".into(),
                value: word("LOCK"),
                event: "hall/1.6.0".into(),
                by: "hall/1.7.0".into(),
            }],
            target: [("state".into(), word("LOCK"))].into(),
            shown: Some([("state".into(), word("UNLOCK"))].into()),
            command: Some([("state".into(), word("LOCK"))].into()),
            why: "it showed something else".into(),
            ..FlowExplanation::default()
        };
        Explanation {
            at: at(4),
            checkpoint: 5,
            head: 9,
            replayed: 4,
            flows: [("door/lock".into(), flow)].into(),
            timers: [("off".into(), TimerFate::Dropped(at(2)))].into(),
        }
    }

    const FLOW: &str = "lock by door/lock\n  \
        held       mode = \"night\", commanded 1970-01-01T00:00:01.000000Z by hall/1.7.0, until \
        overridden\n  \
        dropped    state = \"UNLOCK\", commanded 1970-01-01T00:00:01.000000Z by hall/1.7.0, until \
        1970-01-01T00:00:03.000000Z: expired\n  \
        merged     state = \"LOCK\" of hall/1.6.0: overridden by hall/1.7.0\n  \
        to show    state = \"LOCK\"\n  \
        showed     state = \"UNLOCK\"\n  \
        was told   state = \"LOCK\": it showed something else\n";

    #[test]
    fn a_recovery_is_told_part_by_part() {
        let text = element_text(&(id("hall"), Some(explanation())));
        let expected = format!(
            "hall recovered at 1970-01-01T00:00:04.000000Z\n\
             restored: the checkpoint that covers its log up to 5\n\
             replayed: 4 records, up to 9\n\
             {FLOW}\
             timers\n  off        was due 1970-01-01T00:00:02.000000Z and is dropped\n"
        );
        assert_eq!(text, expected);
        let text = element_text(&(id("hall"), None));
        let none =
            "no recovery of hall is known: it has had none, or its next checkpoint will tell\n";
        assert_eq!(text, none);
    }

    #[test]
    fn an_appliance_is_told_of_by_those_that_speak_with_it() {
        let recovered = [
            (id("hall"), Some(explanation())),
            (id("door"), None),
            (id("eye"), Some(Explanation::default())),
        ];
        let text = appliance_text(&id("lock"), &recovered);
        let expected = format!(
            "hall recovered at 1970-01-01T00:00:04.000000Z\n{FLOW}\
             no recovery of door, which speaks with lock, is known: it has had none, or its next \
             checkpoint will tell\n\
             eye recovered at 1970-01-01T00:00:00.000000Z\n  \
             was told   nothing: it never tells it anything\n"
        );
        assert_eq!(text, expected);
        let json = appliance_json(&id("lock"), &recovered);
        let flow = json!(explanation().flows);
        assert_eq!(
            json["owners"][0],
            json!({ "element": "hall", "recovered_at_us": 4_000_000, "flows": flow })
        );
        assert_eq!(
            json["owners"][1],
            json!({ "element": "door", "recovered_at_us": null, "flows": null })
        );
        let nobody = appliance_text(&id("lock"), &[]);
        assert_eq!(nobody, "no element that ever ran speaks with lock\n");
    }
}
