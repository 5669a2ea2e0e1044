//! The cell told by name: whole effect lists.

mod blocking;
mod calling;
mod device_calls;
mod devices;
mod doubt;
mod flushing;
mod handing_over;
mod leasing;
mod logging;
mod recovering;
mod substituting;
mod unsure;
mod validity;
mod world;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::model::{ActuationClass, DeviceModel};
use crate::physical_world::{Causes, EventId};
use crate::protocol::messages::Envelope;
use crate::state_saving::{Batch, Begun, Command, Event, Lane, Properties, Settled};
use crate::time::WallClock;

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}

fn at(wall: i64) -> Now {
    let monotonic = Monotonic(u64::try_from(wall).unwrap() * 1_000);
    Now {
        monotonic,
        wall: WallClock(wall),
        skew: Duration::ZERO,
    }
}

fn settings() -> CellSettings {
    let link = |name: &str, target| OutboundLink {
        id: name.into(),
        port: name.into(),
        prefix: vec![0x81],
        target,
        valid_for: None,
    };
    CellSettings {
        inbound: vec![
            InboundLink {
                id: id("motion"),
                source: id("sense"),
                kind: Source::Element,
            },
            InboundLink {
                id: id("button"),
                source: id("device"),
                kind: Source::Device,
            },
        ],
        outbound: vec![
            link("next", Target::Element),
            link("lamp", Target::Appliance(id("lamp"))),
            link("pump", Target::Appliance(id("pump"))),
        ],
        places: [
            (id("lamp"), place_of("lamp")),
            (id("pump"), place_of("pump")),
        ]
        .into(),
        devices: [(id("lamp"), lamp()), (id("pump"), pump())].into(),
        ..CellSettings::new(id("cell"))
    }
}

fn place_of(link: &str) -> Place {
    let safe_state = [("state".into(), crate::model::Value::Integer(0))];
    Place {
        links: [link.into()].into(),
        outputs: [link.into()].into(),
        safe_state: Some(safe_state.into()),
    }
}

/// It says what it shows when it is asked.
fn lamp() -> DeviceModel {
    DeviceModel {
        answers: true,
        ..DeviceModel::unknown(ActuationClass::Set)
    }
}

fn pump() -> DeviceModel {
    DeviceModel::unknown(ActuationClass::Irreversible)
}

/// A cell with what it asked for last.
struct Told {
    cell: Cell,
    effects: Vec<Effect>,
}

impl Told {
    /// A cell that was restored from a checkpoint that says nothing, and is connected.
    fn live() -> Self {
        let mut told = Self::starting();
        let meta = Meta {
            lineage: 1,
            ..Meta::default()
        };
        told.tell(
            at(0),
            Input::Restored(Restored {
                meta,
                ..Restored::default()
            }),
        );
        told.tell(at(0), Input::Connected);
        told
    }

    fn starting() -> Self {
        Self {
            cell: Cell::new(settings()),
            effects: vec![],
        }
    }

    fn tell(&mut self, now: Now, mut input: Input) -> &[Effect] {
        self.number(&mut input);
        self.effects.clear();
        self.cell.handle(now, input, &mut self.effects);
        &self.effects
    }

    /// What is told without a number is said of the last sending, or the open question.
    fn number(&self, input: &mut Input) {
        if let Input::Settled { link, sending, .. }
        | Input::Doubted { link, sending, .. }
        | Input::Returned { link, sending } = input
            && *sending == 0
        {
            *sending = self.cell.commands[link.as_str()].sending();
        }
        if let Input::Compared { link, question, .. } = input
            && *question == 0
        {
            *question = self.cell.showing.question(link).unwrap_or(0);
        }
    }

    fn wake(&mut self, now: Now) -> &[Effect] {
        self.effects.clear();
        self.cell.wake(now, &mut self.effects);
        &self.effects
    }

    /// Receives, logs and offers the event at `index` of the source.
    fn offered(&mut self, now: Now, index: u64) {
        let first = self.cell.log.head + 1;
        self.tell(now, received(index, index - 1, None));
        self.tell(
            now,
            Input::Appended {
                last: first,
                logged_at: now.wall,
            },
        );
    }
}

fn place(index: u64) -> Position {
    if index == 0 {
        Position::default()
    } else {
        Position::new(1, index, 0)
    }
}

fn received(index: u64, after: u64, expires_at: Option<WallClock>) -> Input {
    let envelope = Envelope {
        position: place(index),
        after: place(after),
        occurred_at: WallClock(0),
        expires_at,
        causes: Causes::default(),
        payload: vec![7],
    };
    Input::Received {
        link: id("motion"),
        envelopes: vec![envelope],
    }
}

fn logged(index: u64, after: u64, expires_at: Option<WallClock>) -> Record {
    Record::Event(Event {
        binding: id("motion"),
        id: EventId {
            source: id("sense"),
            position: place(index),
        },
        after: place(after),
        occurred_at: WallClock(0),
        expires_at,
        causes: Causes::default(),
        payload: vec![7],
    })
}

fn task(index: u64, source_index: u64, logged_at: i64, expires_at: Option<WallClock>) -> Task {
    Task {
        index,
        logged_at: WallClock(logged_at),
        expired: expires_at.is_some(),
        left_out: false,
        replay: false,
        input: TaskInput::Event {
            id: EventId {
                source: id("sense"),
                position: place(source_index),
            },
            occurred_at: WallClock(0),
            expires_at,
            payload: vec![7],
            sensed: false,
        },
    }
}

fn batch(first: u64, record: Record) -> Batch {
    Batch {
        first,
        logged_at: WallClock(1),
        records: vec![record],
    }
}

fn begun(link: &str, index: u64) -> Record {
    Record::Begun(vec![Begun {
        link: link.into(),
        position: place(index),
        attempt: 0,
        counter: None,
        handed_over: 0,
    }])
}

fn done(link: &str, lane: Lane, index: u64) -> Record {
    Record::Done(vec![Settled {
        link: link.into(),
        lane,
        position: place(index),
        handed_over: 0,
    }])
}

/// What the store gives back when nothing was checkpointed but the beginning.
fn restored(log: Vec<Batch>) -> Input {
    let meta = Meta {
        lineage: 1,
        ..Meta::default()
    };
    let head = log.last().map_or(0, Batch::last);
    Input::Restored(Restored {
        head,
        meta,
        log,
        ..Restored::default()
    })
}

fn emitted(port: &str) -> Handled {
    let properties = [("state".into(), crate::model::Value::Integer(1))].into();
    let output = Emitted {
        port: port.into(),
        valid_for: None,
        payload: vec![9],
        properties,
    };
    Handled {
        emitted: vec![output],
        timers: vec![],
        sensed: Properties::new(),
        ..Handled::default()
    }
}

fn sensed(connection: u64, payload: u8, receipt: u64) -> Input {
    Input::Sensed(Sensed {
        link: id("button"),
        occurred_at: WallClock(0),
        expires_at: None,
        payload: vec![payload],
        receipt: Some(receipt),
        connection,
        identified: false,
    })
}
