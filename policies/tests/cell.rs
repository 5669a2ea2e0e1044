//! The law of the cell: whatever is repeated, reordered, lost or crashes, the state is the fold of the
//! source's events, each once, in its order, and so is what arrives downstream.

use std::collections::VecDeque;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::model::CheckpointPolicy;
use lamplighter_policies::physical_world::{Causes, Position};
use lamplighter_policies::protocol::cell::{
    Cause, Cell, CellSettings, Effect, Emitted, Handled, InboundLink, Input, Meta, OutboundLink,
    Restored, Source, Target, Task, TaskInput,
};
use lamplighter_policies::protocol::messages::Envelope;
use lamplighter_policies::restart::RestartPolicy;
use lamplighter_policies::state_saving::{Arrival, Batch, Inbound, Outbox};
use lamplighter_policies::time::{Monotonic, Now, WallClock};
use proptest::prelude::*;

fn id(name: &str) -> EntityId {
    EntityId::new(name).expect("a valid id")
}

fn settings() -> CellSettings {
    let inbound = InboundLink {
        id: id("in"),
        source: id("source"),
        kind: Source::Element,
    };
    let outbound = OutboundLink {
        id: "out".into(),
        port: "out".into(),
        prefix: vec![],
        target: Target::Element,
        valid_for: None,
    };
    CellSettings {
        inbound: vec![inbound],
        outbound: vec![outbound],
        checkpoint: CheckpointPolicy {
            every: 7,
            interval: std::time::Duration::from_secs(1),
        },
        restart: RestartPolicy {
            restarts_max: 1_000_000,
            ..RestartPolicy::default()
        },
        attempts_max: 1_000,
        records_max: 3,
        mailbox_max: 16,
        ..CellSettings::new(id("element"))
    }
}

/// The stable store, as far as the cell can tell.
#[derive(Default)]
struct Store {
    head: u64,
    checkpoint: u64,
    state: Vec<u8>,
    meta: Meta,
    log: Vec<Batch>,
}

impl Store {
    fn append(&mut self, batch: Batch) -> Result<(), Cause> {
        if batch.last() <= self.head {
            return Ok(());
        }
        if batch.first != self.head + 1 {
            return Err(Cause::Gap { head: self.head });
        }
        self.head = batch.last();
        self.log.push(batch);
        Ok(())
    }
}

struct World {
    cell: Cell,
    state: Option<Vec<u8>>,
    store: Store,
    /// Answers of the store on their way, lost with the process.
    answers: VecDeque<Input>,
    source: Outbox,
    /// What the network holds, in both directions of both bindings.
    to_cell: Vec<Vec<Envelope>>,
    downstream: Inbound,
    received: Vec<u8>,
    now: Now,
    /// What goes wrong next, from the test's seed.
    dice: VecDeque<u8>,
    crashes: u32,
}

impl World {
    fn new(count: u8, dice: Vec<u8>) -> Self {
        let mut source = Outbox::default();
        for n in 1..=count {
            source.put(
                Position::new(1, u64::from(n) * 3, 0),
                WallClock(0),
                None,
                &Causes::default(),
                vec![n],
            );
        }
        let mut world = Self {
            cell: Cell::new(settings()),
            state: None,
            store: Store::default(),
            answers: VecDeque::new(),
            source,
            to_cell: vec![],
            downstream: Inbound::default(),
            received: vec![],
            now: Now::default(),
            dice: dice.into(),
            crashes: 0,
        };
        let first = world.source.unsent(world.now.monotonic);
        world.to_cell.extend(first.into_iter().map(|e| vec![e]));
        world.start();
        world
    }

    fn roll(&mut self) -> u8 {
        self.dice.pop_front().unwrap_or(255)
    }

    fn start(&mut self) {
        self.cell = Cell::new(settings());
        self.answers.clear();
        self.restore();
        self.tell(Input::Connected);
    }

    fn crash(&mut self) {
        self.crashes += 1;
        self.start();
    }

    fn restore(&mut self) {
        self.state = Some(self.store.state.clone());
        let upto = self.store.checkpoint;
        let log = self
            .store
            .log
            .iter()
            .filter(|b| b.last() > upto)
            .cloned()
            .collect();
        let (head, meta) = (self.store.head, self.store.meta.clone());
        self.answers.push_back(Input::Restored(Restored {
            checkpoint: upto,
            head,
            meta,
            log,
            stable: head,
        }));
    }

    fn tell(&mut self, input: Input) {
        let mut effects = Vec::new();
        let crashes = self.crashes;
        self.cell.handle(self.now, input, &mut effects);
        for effect in effects {
            // One in a hundred effects is the last of its process, done or not.
            let fate = self.roll();
            if fate == 0 {
                return self.crash();
            }
            self.perform(effect);
            if fate == 1 {
                return self.crash();
            }
            if self.crashes != crashes {
                return;
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Restore => self.restore(),
            Effect::Append { first, records } => {
                let batch = Batch {
                    first,
                    logged_at: self.now.wall,
                    records,
                };
                let last = batch.last();
                let cause = || Cause::Unavailable("no answer".into());
                let answer = match self.roll() {
                    2..=4 => Err(cause()),
                    5..=7 => self.store.append(batch).and(Err(cause())),
                    _ => self.store.append(batch),
                };
                self.answers.push_back(match answer {
                    Ok(()) => Input::Appended {
                        last,
                        logged_at: self.now.wall,
                    },
                    Err(cause) => Input::AppendFailed { last, cause },
                });
            }
            Effect::Handle(task) => self.handle(task),
            Effect::Checkpoint { upto, meta } => {
                self.store.checkpoint = upto;
                self.store.meta = meta;
                self.store.state = self.state.clone().expect("an instance");
                self.store.log.retain(|batch| batch.last() > upto);
                self.answers.push_back(Input::Checkpointed { upto });
            }
            Effect::Acknowledge { upto, .. } => {
                if self.roll() > 20 {
                    self.source.acknowledged(self.now.monotonic, upto);
                }
            }
            Effect::Resume { mark, .. } => {
                let again = self.source.resume(self.now.monotonic, mark);
                self.to_cell.push(again);
            }
            Effect::Send { envelopes, .. } => self.deliver_downstream(envelopes),
            Effect::GiveUp { cause, .. } => panic!("gave up: {cause}"),
            Effect::Ready { .. } | Effect::Mended { .. } => {}
            Effect::Reroute(_) | Effect::ShowReconfiguration { .. } | Effect::ShowRestored => {}
            unexpected @ (Effect::Release { .. }
            | Effect::Actuate { .. }
            | Effect::Compare { .. }
            | Effect::Bury { .. }
            | Effect::ReportUnknown { .. }
            | Effect::Report { .. }
            | Effect::Flush
            | Effect::ReportLost(_)
            | Effect::ReportOrphaned(_)
            | Effect::Prove
            | Effect::Stop) => panic!("{unexpected:?}"),
        }
    }

    fn handle(&mut self, task: Task) {
        let index = task.index;
        if self.roll() == 8 {
            self.state = None;
            return self.tell(Input::HandlerFailed {
                index,
                cause: "panic".into(),
            });
        }
        let TaskInput::Event { payload, .. } = task.input else {
            panic!("no timers here")
        };
        let state = self.state.as_mut().expect("an instance");
        state.extend(&payload);
        // The output tells all of the state, so that a replay that differs is seen downstream.
        let sum = state
            .iter()
            .fold(0_u8, |sum, n| sum.wrapping_mul(31).wrapping_add(*n));
        let payload = vec![payload[0], sum];
        let properties = Default::default();
        let emitted = vec![Emitted {
            port: "out".into(),
            valid_for: None,
            payload,
            properties,
        }];
        self.tell(Input::Handled {
            index,
            handled: Handled {
                emitted,
                ..Handled::default()
            },
        });
    }

    fn deliver_downstream(&mut self, envelopes: Vec<Envelope>) {
        for envelope in envelopes {
            if self.roll() <= 20 {
                continue;
            }
            if let Arrival::Accepted(accepted) = self.downstream.arrived(envelope) {
                self.received
                    .extend(accepted.into_iter().flat_map(|e| e.payload));
            }
        }
        if self.roll() > 20 {
            let (link, upto) = (id("out"), self.downstream.mark());
            self.answers.push_back(Input::Acknowledged { link, upto });
        }
    }

    /// One thing happens; false when nothing is left to happen.
    fn step(&mut self) -> bool {
        let fate = self.roll();
        if fate == 9 {
            self.crash();
        } else if let Some(answer) = self.answers.pop_front() {
            self.tell(answer);
        } else if !self.to_cell.is_empty() {
            let at = usize::from(fate) % self.to_cell.len();
            let envelopes = self.to_cell.swap_remove(at);
            match fate {
                10..=30 => {}
                31..=60 => {
                    self.to_cell.push(envelopes.clone());
                    self.tell(Input::Received {
                        link: id("in"),
                        envelopes,
                    });
                }
                _ => self.tell(Input::Received {
                    link: id("in"),
                    envelopes,
                }),
            }
        } else {
            return self.pass_time();
        }
        true
    }

    fn pass_time(&mut self) -> bool {
        let deadlines = [self.cell.next_deadline(), self.source.next_deadline()];
        let Some(deadline) = deadlines.into_iter().flatten().min() else {
            return false;
        };
        let until = deadline.max(self.now.monotonic);
        self.now.wall = self.now.wall + (until - self.now.monotonic);
        self.now.monotonic = Monotonic(until.0);
        let again = self.source.due(self.now.monotonic);
        if !again.is_empty() {
            self.to_cell.push(again);
        }
        let mut effects = Vec::new();
        self.cell.wake(self.now, &mut effects);
        for effect in effects {
            self.perform(effect);
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_state_and_what_arrives_downstream_are_the_fold_of_the_events_each_once(
        count in 1_u8..60,
        dice in proptest::collection::vec(any::<u8>(), 0..2_500),
    ) {
        let mut world = World::new(count, dice);
        let mut steps = 0;
        while world.step() {
            steps += 1;
            prop_assert!(steps < 20_000, "it never comes to rest");
        }
        let events: Vec<u8> = (1..=count).collect();
        let mut state = Vec::new();
        let mut outputs = Vec::new();
        for n in &events {
            state.push(*n);
            outputs.push(*n);
            outputs.push(state.iter().fold(0_u8, |s, n| s.wrapping_mul(31).wrapping_add(*n)));
        }
        prop_assert_eq!(world.state.clone(), Some(state));
        prop_assert_eq!(&world.received, &outputs);
        prop_assert_eq!(world.source.unacknowledged(), 0);
        prop_assert_eq!(world.cell.unacknowledged(), 0);
    }
}
