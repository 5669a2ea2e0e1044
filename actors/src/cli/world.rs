//! `world`: the state of the physical world as the application knows it: of each geographical space
//! the events that hold, and until when (paper, 3.2).

use std::collections::BTreeMap;
use std::fmt::Write;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Space, Topology};
use lamplighter_policies::physical_world::{Happened, Kind, World as Known, spaces};
use lamplighter_policies::time::{Now, WallClock};
use serde_json::{Value, json};

use super::stored::{Kept, StoredError};
use super::when::utc;
use super::{Application, CommandError, RunDirectory, complain, in_system, print};

/// Show the physical world.
#[derive(Debug, clap::Args)]
pub(super) struct World {
    /// Only this space [default: all spaces]
    #[arg(long)]
    space: Option<EntityId>,
    #[command(flatten)]
    place: RunDirectory,
    /// For programs: one JSON array instead of tables
    #[arg(long)]
    json: bool,
}

/// What is known of every space.
struct Shown<'a> {
    topology: &'a Topology,
    /// By space, the events that hold; those of no space last, under no name.
    events: Vec<(Option<EntityId>, Vec<Happened>)>,
}

impl World {
    pub(super) fn run(&self, application: &impl Application) -> Result<(), CommandError> {
        let directory = self.place.find()?;
        let (topology, worlds, wall) = in_system(async {
            let kept = Kept::find(&directory).await?;
            let named = self.space.iter();
            if let Some(unknown) = named.into_iter().find(|it| !is_space(&kept.topology, it)) {
                return Err(no_such_space(&kept.topology, unknown).into());
            }
            let (worlds, wall) = worlds(&kept, application).await?;
            Ok((kept.topology, worlds, wall))
        })?;
        let now = Now {
            wall,
            skew: topology.detection.skew_max,
            ..Now::default()
        };
        let shown = Shown {
            topology: &topology,
            events: events(&topology, &worlds, now, self.space.as_ref()),
        };
        print(&if self.json {
            format!("{:#}\n", shown.as_json())
        } else {
            shown.as_tables()
        });
        Ok(())
    }
}

/// What each element knows, and the store's clock. One whose code cannot restore it is left out, and
/// that is told.
async fn worlds(
    kept: &Kept,
    application: &impl Application,
) -> Result<(Vec<Known>, WallClock), StoredError> {
    let (mut worlds, mut wall) = (Vec::new(), WallClock::default());
    for element in kept.topology.elements.keys() {
        let saved = match kept.saved(element).await {
            Err(StoredError::NeverRan(_)) => continue,
            outcome => outcome?,
        };
        wall = wall.max(saved.read_at);
        match application.folded(&kept.spec(element)?, &saved) {
            Ok(folded) => worlds.push(folded.world),
            Err(reason) => complain(&format!("without what {element} knows: {reason}\n")),
        }
    }
    Ok((worlds, wall))
}

fn events(
    topology: &Topology,
    worlds: &[Known],
    now: Now,
    only: Option<&EntityId>,
) -> Vec<(Option<EntityId>, Vec<Happened>)> {
    let by_space: BTreeMap<EntityId, Vec<Happened>> = spaces(topology, worlds, now);
    let wanted = by_space
        .into_iter()
        .filter(|(space, _)| only.is_none_or(|only| only == space))
        .map(|(space, events)| (Some(space), events));
    let mut all: Vec<_> = wanted.collect();
    if only.is_none() {
        let somewhere = |happened: &Happened| {
            let appliance = topology.appliances.get(&happened.key.subject);
            appliance.is_some_and(|appliance| !appliance.spaces.is_empty())
        };
        let known = worlds.iter().flat_map(Known::entries);
        let nowhere = known.map(|(key, entry)| Happened {
            key,
            entry: entry.clone(),
        });
        let nowhere: Vec<_> = nowhere
            .filter(|happened| !somewhere(happened) && happened.entry.surely_holds(now))
            .collect();
        if !nowhere.is_empty() {
            all.push((None, nowhere));
        }
    }
    all
}

fn is_space(topology: &Topology, space: &EntityId) -> bool {
    topology.spaces.contains_key(space)
}

fn no_such_space(topology: &Topology, space: &EntityId) -> StoredError {
    let known: Vec<&str> = topology.spaces.keys().map(EntityId::as_str).collect();
    StoredError::NoSuchSpace {
        space: space.clone(),
        application: topology.application.name.clone(),
        known: match known.is_empty() {
            true => "none".to_owned(),
            false => known.join(", "),
        },
    }
}

impl Shown<'_> {
    fn as_tables(&self) -> String {
        let mut text = String::new();
        for (space, events) in &self.events {
            let title = match space {
                Some(space) => format!("{space}{}", self.region(space)),
                None => "in no space".to_owned(),
            };
            writeln!(text, "{title}").expect("writing to a string cannot fail");
            if events.is_empty() {
                text.push_str("  nothing is known to hold\n");
            }
            let rows: Vec<[String; 4]> = events.iter().map(row).collect();
            for line in super::status::aligned(&rows).lines() {
                writeln!(text, "  {line}").expect("writing to a string cannot fail");
            }
        }
        if self.events.is_empty() {
            text.push_str("the topology has no spaces, and nothing is known to hold\n");
        }
        text
    }

    fn region(&self, space: &EntityId) -> String {
        let Some(Space { min, max }) = self.topology.spaces.get(space) else {
            return String::new();
        };
        format!(", {min:?} to {max:?} m")
    }

    fn as_json(&self) -> Value {
        let space = |(space, events): &(Option<EntityId>, Vec<Happened>)| {
            let region = space.as_ref().and_then(|id| self.topology.spaces.get(id));
            json!({
                "space": space,
                "min": region.map(|region| region.min),
                "max": region.map(|region| region.max),
                "events": events.iter().map(event).collect::<Vec<_>>(),
            })
        };
        self.events.iter().map(space).collect()
    }
}

fn row(happened: &Happened) -> [String; 4] {
    let (key, entry) = (&happened.key, &happened.entry);
    let how = match entry.kind {
        Kind::Sensed => "sensed",
        Kind::Actuated => "commanded",
    };
    let until = match entry.expires_at {
        Some(end) => format!("until {}", utc(end)),
        None => "until overridden".to_owned(),
    };
    [
        key.subject.to_string(),
        format!("{} = {}", key.attribute, entry.value),
        format!("{how} {} by {}", utc(entry.occurred_at), entry.event),
        until,
    ]
}

fn event(happened: &Happened) -> Value {
    let (key, entry) = (&happened.key, &happened.entry);
    json!({
        "appliance": key.subject,
        "property": key.attribute,
        "value": entry.value,
        "kind": entry.kind,
        "event": entry.event.to_string(),
        "occurred_at_us": entry.occurred_at.0,
        "expires_at_us": entry.expires_at.map(|end| end.0),
    })
}

#[cfg(test)]
mod tests {
    use lamplighter_policies::physical_world::{Entry, EventId, Key, Position};

    use super::*;

    const TOPOLOGY: &str = r#"
        [application]
        name = "house"
        [servers.pc]
        storage = "volatile"
        [elements.e]
        kind = "E"
        server = "pc"
        [spaces.hall]
        min = [0, 0, 0]
        max = [4, 3.5, 2]
        [spaces.attic]
        min = [0, 0, 2]
        max = [4, 3, 4]
        [appliances.lamp]
        api = "simulated"
        role = "both"
        model = "light"
        spaces = ["hall"]
        [appliances.plug]
        api = "simulated"
        role = "both"
        model = "switch"
        [detection]
        clock_skew = "1ms"
    "#;

    fn known() -> (Topology, Known) {
        let id = |name: &str| EntityId::new(name).unwrap();
        let mut world = Known::default();
        let mut happened = |subject: &str, kind, second: i64, end: Option<i64>| {
            let key = Key {
                subject: id(subject),
                attribute: "state".into(),
            };
            let entry = Entry {
                event: EventId {
                    source: id("e"),
                    position: Position::new(1, 7, 0),
                },
                kind,
                value: lamplighter_policies::model::Value::Text("ON".into()),
                occurred_at: WallClock(second * 1_000_000),
                expires_at: end.map(|second| WallClock(second * 1_000_000)),
                done: true,
            };
            world.happened(&key, entry, None);
        };
        happened("lamp", Kind::Actuated, 1, Some(9));
        happened("plug", Kind::Sensed, 2, None);
        let topology = lamplighter_config::parse("house.toml", TOPOLOGY);
        (topology.unwrap().topology, world)
    }

    fn shown(at: i64, only: Option<&str>) -> (String, Value) {
        let (topology, world) = known();
        let now = Now {
            wall: WallClock(at),
            skew: topology.detection.skew_max,
            ..Now::default()
        };
        let only = only.map(|name| EntityId::new(name).unwrap());
        let shown = Shown {
            topology: &topology,
            events: events(&topology, &[world], now, only.as_ref()),
        };
        (shown.as_tables(), shown.as_json())
    }

    #[test]
    fn a_space_has_its_region_and_what_surely_holds_in_it() {
        let (text, json) = shown(8_000_000, None);
        let expected = "attic, [0.0, 0.0, 2.0] to [4.0, 3.0, 4.0] m\n  \
             nothing is known to hold\n\
             hall, [0.0, 0.0, 0.0] to [4.0, 3.5, 2.0] m\n  \
             lamp  state = \"ON\"  commanded 1970-01-01T00:00:01.000000Z by e/1.7.0  until \
             1970-01-01T00:00:09.000000Z\n\
             in no space\n  \
             plug  state = \"ON\"  sensed 1970-01-01T00:00:02.000000Z by e/1.7.0  until overridden\n";
        assert_eq!(text, expected);
        let lamp = json!({
            "appliance": "lamp", "property": "state", "value": "ON", "kind": "actuated",
            "event": "e/1.7.0", "occurred_at_us": 1_000_000, "expires_at_us": 9_000_000,
        });
        assert_eq!(
            json[1],
            json!({
                "space": "hall", "min": [0.0, 0.0, 0.0], "max": [4.0, 3.5, 2.0], "events": [lamp],
            })
        );
    }

    #[test]
    fn what_may_have_ended_by_some_clock_is_not_shown_and_a_space_can_be_asked_for_alone() {
        let (text, json) = shown(8_999_500, Some("hall"));
        let expected = "hall, [0.0, 0.0, 0.0] to [4.0, 3.5, 2.0] m\n  nothing is known to hold\n";
        assert_eq!(text, expected);
        assert_eq!(json.as_array().unwrap().len(), 1);
    }
}
