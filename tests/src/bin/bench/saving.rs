//! What saving costs on any stable store: throughput, latency, checkpoints (issue figures of
//! logging; paper, 4.2.1).

use std::time::{Duration, Instant};

use lamplighter_runtime::store::codec::encode_field;
use lamplighter_runtime::store::{Delta, StableStore};
use serde_bytes::ByteBuf;

use crate::Outcome;
use crate::limits::Limit;
use crate::load::{PAYLOAD_BYTES, Shape, Writer, events_per_second};
use crate::report::{Reach, Round, Row, Subject, median};

/// How often each figure and its limit are measured, in turn.
pub(crate) const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_millis(400);
const LATENCIES: usize = 150;
const FIELD_BYTES: usize = 4 << 10;
const FIELDS_OF_LARGE: usize = 256;

/// A store, what it is called, and what the same server or disk gives without Lamplighter.
pub(crate) struct Setting<S, L> {
    pub(crate) store: S,
    pub(crate) name: &'static str,
    pub(crate) limit: L,
    pub(crate) reach: [Option<Reach>; 2],
}

/// Logged events a second, of one element and of 64.
pub(crate) async fn throughput<S: StableStore + 'static, L: Limit>(
    setting: &mut Setting<S, L>,
    rows: &mut Vec<Row>,
) -> Outcome<()> {
    let shapes = [
        (
            1,
            Shape {
                batch: 64,
                in_flight: 4,
            },
        ),
        (
            64,
            Shape {
                batch: 64,
                in_flight: 1,
            },
        ),
    ];
    for (place, (elements, shape)) in shapes.into_iter().enumerate() {
        let mut writers = Vec::new();
        for number in 0..elements {
            writers
                .push(Writer::claim(&setting.store, &format!("load-{elements}-{number}")).await?);
        }
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let limit = setting.limit.rate(SPAN)?;
            let value = events_per_second(&setting.store, &mut writers, shape, SPAN).await?;
            rounds.push(Round {
                value,
                limit: Some(limit),
            });
        }
        let subject = Subject {
            name: format!("logged events, {}, {elements} element(s)", setting.name),
            unit: "events/s",
            limit_is: Some(L::RATE_IS),
            reach: setting.reach[place],
            conditions: format!(
                "{PAYLOAD_BYTES} B of payload, identity, times and checksum added; fenced; batches \
                 of {}, {} in flight per element; {ROUNDS} rounds of {} ms",
                shape.batch,
                shape.in_flight,
                SPAN.as_millis()
            ),
        };
        rows.push(Row::of(subject, &rounds));
    }
    Ok(())
}

/// How long one event waits for the log when nothing else is going on.
pub(crate) async fn latency<S: StableStore, L: Limit>(
    setting: &mut Setting<S, L>,
    rows: &mut Vec<Row>,
) -> Outcome<()> {
    let mut writer = Writer::claim(&setting.store, "latency").await?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (mut values, mut limits) = (Vec::new(), Vec::new());
        for _ in 0..LATENCIES {
            limits.push(micros(setting.limit.latency()?));
            let begun = Instant::now();
            writer.append(&setting.store, 1).await?;
            values.push(micros(begun.elapsed()));
        }
        rounds.push(Round {
            value: median(&values).expect("there are latencies"),
            limit: median(&limits),
        });
        writer.trim(&setting.store).await?;
    }
    let subject = Subject {
        name: format!("added latency of logging one event, {}", setting.name),
        unit: "µs",
        limit_is: Some(setting.limit.latency_is()),
        reach: Some(Reach::RatioAtMost(1.3)),
        conditions: format!(
            "p50 of {LATENCIES}, one at a time, in turn with the limit; {ROUNDS} rounds"
        ),
    };
    rows.push(Row::of(subject, &rounds));
    Ok(())
}

/// A checkpoint of one changed field: of a large state, beside that of a small one.
pub(crate) async fn checkpoint<S: StableStore, L>(
    setting: &Setting<S, L>,
    rows: &mut Vec<Row>,
) -> Outcome<()> {
    let mut large = Writer::claim(&setting.store, "large").await?;
    let mut small = Writer::claim(&setting.store, "small").await?;
    change(&setting.store, &mut large, 0..FIELDS_OF_LARGE).await?;
    change(&setting.store, &mut small, 0..1).await?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (mut values, mut limits) = (Vec::new(), Vec::new());
        for _ in 0..LATENCIES / 3 {
            limits.push(change(&setting.store, &mut small, 0..1).await?);
            values.push(change(&setting.store, &mut large, 7..8).await?);
        }
        rounds.push(Round {
            value: median(&values).expect("there are latencies"),
            limit: median(&limits),
        });
    }
    let subject = Subject {
        name: format!("checkpoint of one field of 1 MB, {}", setting.name),
        unit: "µs",
        limit_is: Some("the same of a state of 4 KB"),
        reach: Some(Reach::RatioAtMost(2.0)),
        conditions: format!(
            "{FIELDS_OF_LARGE} fields of {FIELD_BYTES} B; what the store does with the changed one; \
             p50 of {}, in turn; {ROUNDS} rounds",
            LATENCIES / 3
        ),
    };
    rows.push(Row::of(subject, &rounds));
    Ok(())
}

/// Logs one event and takes a checkpoint that changes these fields; the microseconds of the latter.
async fn change(
    store: &impl StableStore,
    writer: &mut Writer,
    fields: std::ops::Range<usize>,
) -> Outcome<f64> {
    writer.append(store, 1).await?;
    let fence = writer.fence().clone();
    let mut delta = Delta {
        upto: writer.head(),
        ..Delta::default()
    };
    for field in fields {
        let name = format!("field-{field:03}");
        let body = vec![rand::random::<u8>(); FIELD_BYTES];
        let sealed = encode_field(&fence.element, &name, &body);
        delta.set.push((name, ByteBuf::from(sealed)));
    }
    let begun = Instant::now();
    store.checkpoint(&fence, delta).await?;
    Ok(micros(begun.elapsed()))
}

/// A span as a figure.
pub(crate) fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}
