//! `log`: what an element has received since its checkpoint, in the order in which it handles it.

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::physical_world::Position;
use lamplighter_policies::protocol::appliances::{Reconfiguration, Served};
use lamplighter_policies::state_saving::{
    Batch, Begun, CallOutcome, Event, Record, Reply, Request, Reverted, Settled, Timed, Verdict,
};
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::message_pack;
use lamplighter_runtime::store::codec;
use serde_json::{Value, json};

use super::stored::{Kept, StoredError};
use super::when::utc;
use super::{CommandError, RunDirectory, in_system, print};

/// Show the log of an element.
#[derive(Debug, clap::Args)]
pub(super) struct Log {
    /// The element's id
    element: EntityId,
    #[command(flatten)]
    place: RunDirectory,
    /// For programs: one JSON array instead of lines
    #[arg(long)]
    json: bool,
}

impl Log {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let directory = self.place.find()?;
        let saved =
            in_system(async { Ok(Kept::find(&directory).await?.saved(&self.element).await?) })?;
        let batches = saved
            .log
            .iter()
            .map(|stored| codec::decode_batch(&self.element, stored));
        let batches: Vec<Batch> = batches
            .collect::<Result<_, _>>()
            .map_err(StoredError::Store)?;
        let records: Vec<Entry> = batches
            .into_iter()
            .flat_map(entries)
            .filter(|entry| entry.index > saved.checkpoint)
            .collect();
        print(&if self.json {
            let all = Value::Array(records.iter().map(Entry::as_json).collect());
            format!("{all:#}\n")
        } else {
            records.iter().map(Entry::as_line).collect()
        });
        Ok(())
    }
}

/// A record and its place.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    index: u64,
    logged_at: WallClock,
    record: Record,
}

fn entries(batch: Batch) -> impl Iterator<Item = Entry> {
    let Batch {
        first,
        logged_at,
        records,
    } = batch;
    (first..).zip(records).map(move |(index, record)| Entry {
        index,
        logged_at,
        record,
    })
}

impl Entry {
    fn as_line(&self) -> String {
        let what = match &self.record {
            Record::Event(event) => {
                let Event {
                    binding,
                    id,
                    expires_at,
                    payload,
                    ..
                } = event;
                format!(
                    "event {id} on {binding}{}: {}",
                    until(*expires_at),
                    shown(payload)
                )
            }
            Record::Timer(timed) => {
                let Timed {
                    key,
                    due_at,
                    expires_at,
                    payload,
                } = timed;
                format!(
                    "timer {key:?} due {}{}: {}",
                    utc(*due_at),
                    until(*expires_at),
                    shown(payload)
                )
            }
            Record::Skipped { index, cause } => format!("skipped {index}: {cause}"),
            Record::Begun(commands) => format!("begun {}", listed(commands.iter().map(begun))),
            Record::Done(commands) => format!("done {}", listed(commands.iter().map(done))),
            Record::Judged(judged) => format!(
                "judged {} {}: {}",
                judged.link,
                place(judged.position),
                verdict(judged.verdict)
            ),
            Record::Reverted(reverted) => {
                let one = |it: &Reverted| {
                    let Reverted { key, event, to } = it;
                    format!("{} {} to {to} after {event}", key.subject, key.attribute)
                };
                let all: Vec<_> = reverted.iter().map(one).collect();
                format!("reverted {}", all.join(", "))
            }
            Record::CallEnded { call, outcome } => format!("call {call} ended: {outcome}"),
            Record::Answered { call, .. } => {
                format!("call {call} ended: answered by the appliance")
            }
            Record::Withdrawn { binding, call } => {
                format!("call {} on {binding} withdrawn", place(*call))
            }
            Record::Lost(lost) => format!(
                "lost from {} on, lineage {} from here: {}",
                lost.from, lost.lineage, lost.reason
            ),
            Record::Reconfigured(table) => told(table),
        };
        format!("{} {} {what}\n", self.index, utc(self.logged_at))
    }

    fn as_json(&self) -> Value {
        let mut entry = match &self.record {
            Record::Event(event) => json!({
                "kind": "event",
                "binding": event.binding.as_str(),
                "source": event.id.source.as_str(),
                "position": place(event.id.position),
                "occurred_at_us": event.occurred_at.0,
                "expires_at_us": event.expires_at.map(|at| at.0),
                "payload": shown(&event.payload),
            }),
            Record::Timer(timed) => json!({
                "kind": "timer",
                "timer": timed.key,
                "due_at_us": timed.due_at.0,
                "expires_at_us": timed.expires_at.map(|at| at.0),
                "payload": shown(&timed.payload),
            }),
            Record::Skipped { index, cause } => {
                json!({ "kind": "skipped", "skipped": index, "cause": cause })
            }
            Record::Begun(commands) => {
                json!({ "kind": "begun", "commands": places(commands.iter().map(begun)) })
            }
            Record::Done(commands) => {
                json!({ "kind": "done", "commands": places(commands.iter().map(done)) })
            }
            Record::Judged(judged) => json!({
                "kind": "judged",
                "flow": judged.link,
                "position": place(judged.position),
                "verdict": verdict(judged.verdict),
            }),
            Record::Reverted(reverted) => {
                let one = |it: &Reverted| {
                    let (subject, property) = (it.key.subject.as_str(), &it.key.attribute);
                    let event = it.event.to_string();
                    json!({ "appliance": subject, "property": property, "to": it.to, "event": event })
                };
                json!({ "kind": "reverted", "properties": reverted.iter().map(one).collect::<Value>() })
            }
            Record::CallEnded { call, outcome } => json!({
                "kind": "call-ended",
                "call": call,
                "outcome": outcome.to_string(),
            }),
            Record::Answered { call, shown } => json!({
                "kind": "answered",
                "call": call,
                "shown": shown,
            }),
            Record::Withdrawn { binding, call } => json!({
                "kind": "withdrawn",
                "binding": binding.as_str(),
                "call": place(*call),
            }),
            Record::Lost(lost) => json!({
                "kind": "lost",
                "from": lost.from,
                "lineage": lost.lineage,
                "reason": lost.reason,
            }),
            Record::Reconfigured(table) => reconfigured(table),
        };
        entry["index"] = json!(self.index);
        entry["logged_at_us"] = json!(self.logged_at.0);
        entry
    }
}

/// Who serves in whose place and how others are, in one line.
fn told(table: &Reconfiguration) -> String {
    let one = |(of, served): (&EntityId, &Served)| match served {
        Served::By(by) => format!("{by} serves in the place of {of}"),
        Served::Nobody => format!("nobody serves in the place of {of}"),
    };
    let failed = table.application_failed.iter();
    let failed = failed.map(|reason| format!("the application failed: {reason}"));
    let peers = table.peers.peers.iter();
    let peers = peers.map(|(entity, view)| format!("{entity} is {}", view.state()));
    let served = table.served.iter().map(one);
    let all: Vec<_> = served.chain(failed).chain(peers).collect();
    format!("reconfigured (epoch {}) {}", table.epoch, all.join(", "))
}

/// Who serves in whose place, for programs.
fn reconfigured(table: &Reconfiguration) -> Value {
    let by = |served: &Served| match served {
        Served::By(by) => json!(by.as_str()),
        Served::Nobody => Value::Null,
    };
    let places = table.served.iter();
    let places = places.map(|(of, served)| (of.to_string(), by(served)));
    json!({
        "kind": "reconfigured",
        "epoch": table.epoch,
        "served_by": places.collect::<serde_json::Map<_, _>>(),
        "application_failed": table.application_failed,
        "entities": table.peers.peers.iter().map(|(entity, view)| {
            (entity.to_string(), json!(view.state().to_string()))
        }).collect::<serde_json::Map<_, _>>(),
    })
}

/// An encoded input as JSON, or its bytes where JSON has no form for it. Calls and their replies
/// begin with a byte with which no encoded input of an element does.
fn shown(payload: &[u8]) -> Value {
    if let Some(Request::Call(asked)) = Request::from_bytes(payload)
        && asked.first() != Some(&0)
    {
        return json!({ "call": shown(&asked) });
    }
    if let Some(Request::Cancel(call)) = Request::from_bytes(payload) {
        return json!({ "cancel": place(call) });
    }
    if let Some(Reply { call, outcome }) = Reply::from_bytes(payload).filter(|_| payload[0] == 0) {
        let outcome = if let CallOutcome::Answered(reply) = &outcome {
            shown(reply)
        } else {
            json!(outcome.to_string())
        };
        return json!({ "reply_to": place(call), "outcome": outcome });
    }
    message_pack::decode(payload).unwrap_or_else(|_| {
        let digits = payload.iter().map(|byte| format!("{byte:02x}"));
        json!({ "bytes": digits.collect::<String>() })
    })
}

fn until(expires_at: Option<WallClock>) -> String {
    expires_at.map_or_else(String::new, |at| format!(" until {}", utc(at)))
}

fn place(Position { lineage, index, k }: Position) -> String {
    format!("{lineage}.{index}.{k}")
}

fn begun(begun: &Begun) -> (&str, Position) {
    (&begun.link, begun.position)
}

fn done(settled: &Settled) -> (&str, Position) {
    (&settled.link, settled.position)
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "unknown",
        Verdict::CarriedOut => "carried out",
        Verdict::Redo => "to be sent again",
    }
}

fn places<'a>(commands: impl Iterator<Item = (&'a str, Position)>) -> Value {
    let command = |(flow, at)| json!({ "flow": flow, "position": place(at) });
    commands.map(command).collect()
}

fn listed<'a>(commands: impl Iterator<Item = (&'a str, Position)>) -> String {
    let command = |(flow, at)| format!("{flow} {}", place(at));
    commands.map(command).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use lamplighter_policies::physical_world::{Causes, EventId};
    use lamplighter_policies::state_saving::{Lane, Lost};

    use super::*;

    fn batch() -> Batch {
        let event = Event {
            binding: EntityId::new("button").unwrap(),
            id: EventId {
                source: EntityId::new("hue").unwrap(),
                position: Position::new(1, 4, 0),
            },
            after: Position::new(1, 3, 0),
            occurred_at: WallClock(1_000_000),
            expires_at: Some(WallClock(3_000_000)),
            causes: Causes::default(),
            payload: rmp_serde::to_vec_named(&json!({ "Pressed": null })).unwrap(),
        };
        let timed = Timed {
            key: "off".into(),
            due_at: WallClock(5_000_000),
            expires_at: None,
            payload: vec![0xc1],
        };
        let link = "lamp/light".to_owned();
        let position = Position::new(1, 7, 2);
        Batch {
            first: 7,
            logged_at: WallClock(2_500_000),
            records: vec![
                Record::Event(event),
                Record::Timer(timed),
                Record::Skipped {
                    index: 7,
                    cause: "it panics".into(),
                },
                Record::Begun(vec![Begun {
                    link: link.clone(),
                    position,
                    attempt: 0,
                    counter: None,
                    handed_over: 0,
                }]),
                Record::Done(vec![Settled {
                    link,
                    lane: Lane::Queued,
                    position,
                    handed_over: 0,
                }]),
                Record::Lost(Lost {
                    lineage: 2,
                    log: 9,
                    from: 12,
                    reason: "it is gone".into(),
                }),
            ],
        }
    }

    #[test]
    fn a_record_has_a_line() {
        let lines: String = entries(batch()).map(|entry| entry.as_line()).collect();
        assert_eq!(
            lines,
            "7 1970-01-01T00:00:02.500000Z event hue/1.4.0 on button until \
             1970-01-01T00:00:03.000000Z: {\"Pressed\":null}\n\
             8 1970-01-01T00:00:02.500000Z timer \"off\" due 1970-01-01T00:00:05.000000Z: \
             {\"bytes\":\"c1\"}\n\
             9 1970-01-01T00:00:02.500000Z skipped 7: it panics\n\
             10 1970-01-01T00:00:02.500000Z begun lamp/light 1.7.2\n\
             11 1970-01-01T00:00:02.500000Z done lamp/light 1.7.2\n\
             12 1970-01-01T00:00:02.500000Z lost from 12 on, lineage 2 from here: it is gone\n"
        );
    }

    #[test]
    fn a_record_has_a_form_for_programs() {
        let all: Vec<Value> = entries(batch()).map(|entry| entry.as_json()).collect();
        let commands = json!([{ "flow": "lamp/light", "position": "1.7.2" }]);
        let expected = [
            json!({
                "index": 7, "logged_at_us": 2_500_000, "kind": "event", "binding": "button",
                "source": "hue", "position": "1.4.0", "occurred_at_us": 1_000_000,
                "expires_at_us": 3_000_000, "payload": { "Pressed": null },
            }),
            json!({
                "index": 8, "logged_at_us": 2_500_000, "kind": "timer", "timer": "off",
                "due_at_us": 5_000_000, "expires_at_us": null, "payload": { "bytes": "c1" },
            }),
            json!({
                "index": 9, "logged_at_us": 2_500_000, "kind": "skipped", "skipped": 7,
                "cause": "it panics",
            }),
            json!({
                "index": 10, "logged_at_us": 2_500_000, "kind": "begun", "commands": commands,
            }),
            json!({
                "index": 11, "logged_at_us": 2_500_000, "kind": "done", "commands": commands,
            }),
            json!({
                "index": 12, "logged_at_us": 2_500_000, "kind": "lost", "from": 12, "lineage": 2,
                "reason": "it is gone",
            }),
        ];
        assert_eq!(all, expected);
    }
}
