//! A checkpoint of one changed field of a large state beside that of a small one, as a host takes it.

use std::time::{Duration, Instant};

use lamplighter_policies::protocol::messages::ElementReport;

use crate::Outcome;
use crate::raw_mqtt::RawMqtt;
use crate::report::{Reach, Round, Row, Subject};
use crate::saving::{ROUNDS, micros};
use crate::servers::{Servers, on_each_store};

const CHANGES: usize = 15;
const FIELDS: u32 = 256;
const FIELD_BYTES: u32 = 4_096;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Encoding, comparing and writing in the host.
pub(crate) fn in_the_host(rows: &mut Vec<Row>) -> Outcome<()> {
    let element = |name| {
        format!(
            "[elements.{name}]\nkind = \"Shelf\"\nserver = \"here\"\nstate = {{}}\n\
             checkpoint = {{ every = 1, interval = \"1h\" }}\n\
             inputs = {{ \"bench/{name}/fill\" = \"Fill\", \"bench/{name}/in\" = \"Change\" }}\n\
             outputs = {{ done = {{ topic = \"bench/{name}/out\" }} }}\n"
        )
    };
    on_each_store(&(element("large") + &element("small")), |servers| {
        let mut large = Shelf::fill(servers, "large", FIELDS)?;
        let mut small = Shelf::fill(servers, "small", 1)?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS * CHANGES {
            let limit = Some(micros(small.change(servers, 0)?));
            let value = micros(large.change(servers, 7)?);
            rounds.push(Round { value, limit });
        }
        let subject = Subject {
            name: format!(
                "checkpoint of one field of 1 MB, in the host, {}",
                servers.name
            ),
            unit: "µs",
            limit_is: Some("the same of a state of one such field"),
            reach: Some(Reach::RatioAtMost(2.0)),
            conditions: format!(
                "{FIELDS} fields of {FIELD_BYTES} B, of which a handler changed one; encoding, comparing, sealing \
                 and the store's answer, as the host itself measured it; {} changes, in turn",
                rounds.len()
            ),
        };
        rows.push(Row::of(subject, &rounds));
        Ok(())
    })
}

/// An element with many fields, and its device.
struct Shelf {
    name: &'static str,
    client: RawMqtt,
    changes: u64,
    /// The end of its log when it was last looked at.
    head: u64,
}

impl Shelf {
    fn fill(servers: &mut Servers, name: &'static str, fields: u32) -> Outcome<Self> {
        let out = format!("bench/{name}/out");
        let filler = RawMqtt::connect(&servers.broker, &format!("bench/{name}/fill"), &out)?;
        let fill = format!("{{\"fields\":{fields},\"bytes\":{FIELD_BYTES}}}");
        filler.publish(fill.into_bytes(), 1);
        filler.next(ANSWER_WITHIN)?;
        drop(filler);
        let client = RawMqtt::connect(&servers.broker, &format!("bench/{name}/in"), &out)?;
        let mut shelf = Self {
            name,
            client,
            changes: 0,
            head: 0,
        };
        shelf.checkpointed(servers)?;
        Ok(shelf)
    }

    /// Changes a field; how long the checkpoint that followed took.
    fn change(&mut self, servers: &mut Servers, field: u32) -> Outcome<Duration> {
        self.changes += 1;
        let change = format!("{{\"field\":{field},\"n\":{}}}", self.changes);
        self.client.publish(change.into_bytes(), 1);
        self.client.next(ANSWER_WITHIN)?;
        let report = self.checkpointed(servers)?;
        Ok(report.checkpoint_took.ok_or("no checkpoint was taken")?)
    }

    /// Waits until a checkpoint covers what was logged after the last one waited for.
    fn checkpointed(&mut self, servers: &mut Servers) -> Outcome<ElementReport> {
        let begun = Instant::now();
        while begun.elapsed() < ANSWER_WITHIN {
            let report = servers.system.status(self.name)?.report;
            if let Some(report) = report.filter(|report| report.checkpoint > self.head) {
                self.head = report.head;
                return Ok(report);
            }
        }
        Err(format!("{} takes no checkpoint", self.name).into())
    }
}
