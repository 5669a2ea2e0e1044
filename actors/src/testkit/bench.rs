//! A cell with its instance, virtual time and a store in memory.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::model::CheckpointPolicy;
use lamplighter_policies::protocol::cell::{
    Cell, CellSettings, Effect, Emitted, Handled, InboundLink, Input, Meta, Restored, Sensed,
    Source, Task,
};
use lamplighter_policies::state_saving::{Batch, CallId, CallOutcome};
use lamplighter_policies::time::{Monotonic, Now, WallClock};

use super::calls::{Heard, Links};
use super::reconfiguring::Prerequisites;
use crate::author::{Change, Element};
use crate::instance::{Hosted, Instance, SavedFields, Serve};

/// The saved state, in memory, and everything that was ever logged.
#[derive(Clone, Default)]
pub(super) struct Memory {
    checkpoint: u64,
    head: u64,
    fields: SavedFields,
    meta: Meta,
    history: Vec<Batch>,
    sources: BTreeSet<EntityId>,
    /// How often it is checkpointed, from the next start on.
    pub(super) policy: CheckpointPolicy,
    links: Links,
    prerequisites: Prerequisites,
}

/// An output as the handler emitted it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taken {
    port: String,
    index: u64,
    pub(super) payload: Vec<u8>,
    pub(super) valid_for: Option<Duration>,
}

pub(super) struct Bench<E: Element> {
    id: EntityId,
    cell: Cell,
    instance: Instance<E>,
    store: Memory,
    now: Now,
    inputs: VecDeque<Input>,
    emitted: Vec<Taken>,
    replayed: Vec<Taken>,
    /// Up to where outputs were taken, so that a replay does not show them again.
    taken_upto: u64,
    dead_letters: Vec<String>,
    gave_up: Option<String>,
    heard: Heard,
    serve: Option<Serve<E>>,
}

impl<E: Element> Bench<E> {
    pub(super) fn new(
        id: &EntityId,
        initial: Vec<u8>,
        store: Memory,
        wall: WallClock,
        serve: Option<Serve<E>>,
    ) -> Self {
        let mut bench = Self {
            id: id.clone(),
            cell: cell(id, &store),
            instance: Instance::new(id.clone(), initial, BTreeSet::new()).served_by(serve),
            store,
            now: Now {
                monotonic: Monotonic(0),
                wall,
                skew: Duration::ZERO,
            },
            inputs: VecDeque::new(),
            emitted: Vec::new(),
            replayed: Vec::new(),
            taken_upto: 0,
            dead_letters: Vec::new(),
            gave_up: None,
            heard: Heard::default(),
            serve,
        };
        bench.begin();
        bench
    }

    /// A new process: nothing is left but what the store holds and what the test has seen.
    pub(super) fn restart(&mut self, initial: Vec<u8>) {
        self.cell = cell(&self.id, &self.store);
        self.instance =
            Instance::new(self.id.clone(), initial, BTreeSet::new()).served_by(self.serve);
        self.inputs.clear();
        self.begin();
    }

    fn begin(&mut self) {
        self.inputs.push_back(Input::Connected);
        self.perform(Effect::Restore);
        self.run();
    }

    pub(super) fn give(
        &mut self,
        source: EntityId,
        expires_at: Option<WallClock>,
        payload: Vec<u8>,
    ) {
        if self.store.sources.insert(source.clone()) {
            self.cell.add_source(InboundLink {
                id: source.clone(),
                source: source.clone(),
                kind: Source::Device,
            });
        }
        let occurred_at = self.now.wall;
        let sensed = Sensed {
            link: source,
            occurred_at,
            expires_at,
            payload,
            receipt: None,
            connection: 0,
            identified: false,
        };
        self.inputs.push_back(Input::Sensed(sensed));
        self.run();
    }

    pub(super) fn reconfigured(&mut self, change: &Change) {
        let told = self.store.prerequisites.changed(&mut self.cell, change);
        self.inputs.push_back(told);
        self.run();
    }

    /// Lets it take calls.
    pub(super) fn serve(&mut self, serve: Serve<E>) {
        if self.serve.is_none() {
            self.serve = Some(serve);
            self.instance.serve(serve);
        }
    }

    pub(super) fn serves(&self) -> Option<Serve<E>> {
        self.serve
    }

    pub(super) fn bind_call(&mut self, port: &str, reply_prefix: Vec<u8>) {
        self.store.links.bind(&mut self.cell, port, reply_prefix);
    }

    /// Calls it, and gives what it answered, if it did.
    pub(super) fn call(&mut self, caller: &EntityId, payload: Vec<u8>) -> Option<CallOutcome> {
        let links = &mut self.store.links;
        let (call, input) = links.call(&mut self.cell, caller, payload, self.now.wall);
        self.inputs.push_back(input);
        self.run();
        self.heard.take_reply(call)
    }

    /// Answers a call of its own.
    pub(super) fn answer(&mut self, port: &str, call: CallId, outcome: CallOutcome) {
        let links = &mut self.store.links;
        let answer = links.answer(port, call, outcome, self.now.wall);
        self.inputs
            .push_back(answer.expect("the port is bound with `calling`"));
        self.run();
    }

    pub(super) fn heard(&mut self) -> &mut Heard {
        &mut self.heard
    }

    pub(super) fn advance(&mut self, span: Duration) {
        let end = self.now.monotonic + span;
        while let Some(deadline) = self.cell.next_deadline().filter(|at| *at <= end) {
            self.wake_at(deadline);
        }
        self.pass(end);
    }

    fn wake_at(&mut self, deadline: Monotonic) {
        self.pass(deadline);
        let mut effects = Vec::new();
        self.cell.wake(self.now, &mut effects);
        self.perform_all(effects);
        self.drain();
    }

    fn pass(&mut self, until: Monotonic) {
        let span = until - self.now.monotonic;
        self.now.monotonic = self.now.monotonic + span;
        self.now.wall = self.now.wall + span;
    }

    /// Does all that needs no time, and waits out backoffs until the element is live again.
    fn run(&mut self) {
        self.drain();
        while !self.cell.is_live() && self.gave_up.is_none() {
            let Some(deadline) = self.cell.next_deadline() else {
                return;
            };
            self.wake_at(deadline.max(self.now.monotonic));
        }
    }

    fn drain(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            let mut effects = Vec::new();
            self.cell.handle(self.now, input, &mut effects);
            self.perform_all(effects);
        }
    }

    fn perform_all(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.perform(effect);
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
                self.store.head = batch.last();
                let (last, logged_at) = (batch.last(), batch.logged_at);
                self.store.history.push(batch);
                self.inputs.push_back(Input::Appended { last, logged_at });
            }
            Effect::Handle(task) => {
                let answer = self.handle(task);
                self.inputs.push_front(answer);
            }
            Effect::Checkpoint { upto, meta } => {
                self.store.fields = self.save();
                self.store.meta = meta;
                self.store.checkpoint = upto;
                self.inputs.push_back(Input::Checkpointed { upto });
            }
            Effect::Bury { cause, .. } => self.dead_letters.push(cause),
            Effect::GiveUp { cause, .. } => self.gave_up = Some(cause),
            Effect::Send { link, envelopes } => {
                self.heard.sent(&link, &envelopes);
                if let Some(last) = envelopes.last() {
                    let upto = last.position;
                    self.inputs.push_back(Input::Acknowledged { link, upto });
                }
            }
            // No element and no appliance is at the other end of a bench.
            Effect::Acknowledge { .. }
            | Effect::Resume { .. }
            | Effect::Release { .. }
            | Effect::Actuate { .. }
            | Effect::Compare { .. }
            | Effect::ReportUnknown { .. }
            | Effect::Report { .. }
            | Effect::Ready { .. }
            | Effect::ShowRestored
            | Effect::Mended { .. }
            | Effect::Reroute(_)
            | Effect::ShowReconfiguration { .. }
            | Effect::Stop
            | Effect::Prove
            | Effect::Flush
            | Effect::ReportLost(_)
            | Effect::ReportOrphaned(_) => {}
        }
    }

    fn restore(&mut self) {
        self.instance
            .make(&self.store.fields)
            .unwrap_or_else(|fault| panic!("{fault}"));
        let upto = self.store.checkpoint;
        let log = self
            .store
            .history
            .iter()
            .filter(|batch| batch.last() > upto)
            .cloned()
            .collect();
        self.inputs.push_front(Input::Restored(Restored {
            checkpoint: upto,
            head: self.store.head,
            meta: self.store.meta.clone(),
            log,
            stable: self.store.head,
        }));
    }

    fn handle(&mut self, task: Task) -> Input {
        let index = task.index;
        let expired = task.expired;
        match self.instance.handle(task) {
            Ok(handled) => {
                if !expired {
                    self.take(index, &handled);
                }
                Input::Handled { index, handled }
            }
            Err(cause) => Input::HandlerFailed { index, cause },
        }
    }

    fn take(&mut self, index: u64, handled: &Handled) {
        let emitted = &handled.emitted;
        let take = |emitted: &Emitted| Taken {
            port: emitted.port.clone(),
            index,
            payload: emitted.payload.clone(),
            valid_for: emitted.valid_for,
        };
        if index > self.taken_upto {
            self.taken_upto = index;
            self.emitted.extend(emitted.iter().map(take));
            self.heard.note(index, &handled.calls);
        } else {
            self.replayed.extend(emitted.iter().map(take));
        }
    }

    pub(super) fn take_emitted(&mut self, port: &str) -> Vec<Taken> {
        let all = std::mem::take(&mut self.emitted).into_iter();
        let (mine, others) = all.partition(|taken| taken.port == port);
        self.emitted = others;
        mine
    }

    /// All outputs of a bench that has only replayed.
    pub(super) fn take_replayed(&mut self) -> Vec<Taken> {
        std::mem::take(&mut self.emitted)
    }

    /// The store as it would be had nothing ever been checkpointed.
    pub(super) fn whole_history(&self) -> Memory {
        let Memory {
            head,
            history,
            sources,
            links,
            prerequisites,
            ..
        } = self.store.clone();
        Memory {
            head,
            history,
            sources,
            links,
            prerequisites,
            ..Memory::default()
        }
    }

    pub(super) fn save(&mut self) -> SavedFields {
        self.instance
            .save()
            .unwrap_or_else(|fault| panic!("{fault}"))
    }

    pub(super) fn element(&self) -> Option<&E> {
        self.instance.element()
    }

    pub(super) fn now(&self) -> Now {
        self.now
    }

    pub(super) fn dead_letters(&self) -> &[String] {
        &self.dead_letters
    }

    pub(super) fn gave_up(&self) -> Option<&str> {
        self.gave_up.as_deref()
    }

    pub(super) fn panic_at_next_event(&mut self) {
        self.instance.panic_next();
    }
}

fn cell(id: &EntityId, store: &Memory) -> Cell {
    let mut cell = Cell::new(settings(id, store));
    store.links.tell(&mut cell);
    store.prerequisites.tell(&mut cell);
    cell
}

fn settings(id: &EntityId, store: &Memory) -> CellSettings {
    let link = |id: &EntityId| InboundLink {
        id: id.clone(),
        source: id.clone(),
        kind: Source::Device,
    };
    CellSettings {
        inbound: store.sources.iter().map(link).collect(),
        checkpoint: store.policy,
        ..CellSettings::new(id.clone())
    }
}
