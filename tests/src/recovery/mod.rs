//! One element on a real store, whose process can end at any point (paper, 4.2.1).
//!
//! The cell, the stored form and the store are those of production; the handler is a fold that tells
//! its whole state in each output. A process that ends leaves the store behind, and writes of its own
//! that may still arrive, before or after the next process has claimed the element.

mod element;
mod handler;
mod interrupted;
mod outside;
mod server;
mod writes;

use std::collections::VecDeque;
use std::fmt::Arguments;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::protocol::cell::{Cell, CellSettings, Effect, Input, Restored};
use lamplighter_policies::state_saving::{Fields, Record, Timing};
use lamplighter_policies::time::{Monotonic, Now, WallClock};
use lamplighter_runtime::clock;
use lamplighter_runtime::store::local::LocalFirst;
use lamplighter_runtime::store::{Fence, Nonce, Saved, StableStore, StoreError, codec};
use serde_bytes::ByteBuf;

use self::element::{meta_of, settings};
use self::interrupted::{Countdown, Interrupted};
pub use element::{id, law, outputs};
pub use outside::{Outside, READINGS};
pub use server::{LAG, Server};

/// What goes wrong.
pub trait Hazard {
    /// Whether the process ends here.
    fn cuts(&mut self, place: Arguments<'_>) -> bool;
    /// Whether the server is lost between two processes, with its storage.
    fn loses_the_server(&mut self) -> bool {
        false
    }
    /// A number that decides what else goes wrong; 255 is nothing.
    fn roll(&mut self) -> u8;
}

/// The process ended.
pub struct Cut;

type Write = Pin<Box<dyn Future<Output = (Input, Option<Fields>)>>>;

/// The element and its surroundings.
pub struct World<S, H> {
    element: EntityId,
    store: LocalFirst<Interrupted<S>>,
    /// When the process ends that claims the element.
    countdown: Countdown,
    /// What the element runs on.
    pub server: Server,
    hazard: H,
    /// No process ends before the device is known well enough.
    armed: bool,
    process: Option<Process>,
    /// What earlier processes were about to write.
    late: Vec<(Fence, Effect)>,
    /// Everything that does not crash.
    pub outside: Outside,
    now: Now,
    /// How many processes ended.
    pub cuts: u32,
}

/// What is lost with the process.
struct Process {
    cell: Cell,
    fence: Fence,
    state: Option<Fields>,
    committed: Fields,
    writes: Vec<Write>,
    answers: VecDeque<Input>,
}

impl<S: StableStore + 'static, H: Hazard> World<S, H> {
    /// An element that the store does not know yet. Processes end from the start if there is no
    /// device, and otherwise from its second reading on: before, nothing tells its repeats.
    pub fn new(element: EntityId, store: S, hazard: H, outside: Outside) -> Self {
        Self::on(Server::default(), element, store, hazard, outside)
    }

    /// The same, saved as the server's storage allows.
    pub fn on(server: Server, element: EntityId, store: S, hazard: H, outside: Outside) -> Self {
        let countdown = Countdown::default();
        let interrupted = Interrupted::new(store, Rc::clone(&countdown));
        let timing = match server.directory {
            Some(_) => Timing::Optimistic,
            None => Timing::Pessimistic,
        };
        Self {
            element,
            store: LocalFirst::new(interrupted, server.place(), timing),
            countdown,
            server,
            hazard,
            armed: false,
            process: None,
            late: Vec::new(),
            outside,
            now: Now {
                wall: clock::wall(),
                ..Now::default()
            },
            cuts: 0,
        }
    }

    /// Lets happen what happens until nothing is left; then ends the process once more, and lets the
    /// next one restore the state, which is returned.
    pub async fn run(&mut self) -> Fields {
        self.settle().await;
        let before = self.state();
        self.end_process(VecDeque::new());
        self.settle().await;
        assert_eq!(self.state(), before, "what the store restores");
        before
    }

    /// What went wrong, for the test's own questions.
    pub fn hazard(&self) -> &H {
        &self.hazard
    }

    async fn settle(&mut self) {
        for _ in 0..20_000 {
            let outcome = match self.process {
                Some(_) => self.step().await,
                None => self.start().await.map(|()| true),
            };
            match outcome {
                Ok(true) => {}
                Ok(false) => return,
                Err(Cut) => self.end_process(VecDeque::new()),
            }
        }
        panic!("it never comes to rest");
    }

    fn state(&self) -> Fields {
        let process = self.process.as_ref().expect("a process runs at rest");
        assert_eq!(
            process.cell.unacknowledged(),
            0,
            "outputs of {:?}",
            process.cell
        );
        assert_eq!(
            self.outside.source.unacknowledged(),
            0,
            "events of the source"
        );
        process.state.clone().expect("an instance at rest")
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("called by a process")
    }

    fn cut(&mut self, place: Arguments<'_>) -> Result<(), Cut> {
        self.armed = self.armed || self.outside.knows_the_device();
        if self.armed && self.hazard.cuts(place) {
            return Err(Cut);
        }
        Ok(())
    }

    /// What it was about to do may still be done, by a process that does not know that it is over.
    fn end_process(&mut self, undone: VecDeque<Effect>) {
        let Some(process) = self.process.take() else {
            return;
        };
        self.cuts += 1;
        let fence = process.fence;
        self.late
            .extend(undone.into_iter().map(|effect| (fence.clone(), effect)));
    }

    async fn start(&mut self) -> Result<(), Cut> {
        self.store.release().await;
        if self.server.directory.is_some() {
            // Half of the claims are the last act of a process.
            let interrupted = self.armed && self.hazard.roll() < 128;
            let fate = self.hazard.roll();
            let countdown = interrupted.then_some((fate % 8, fate > 127));
            self.countdown.set(countdown);
            if self.armed && self.hazard.loses_the_server() {
                self.server.lose();
            }
        } else if self.hazard.roll().is_multiple_of(2) {
            self.write_late().await;
        }
        self.cut(format_args!("before a claim"))?;
        let nonce = Nonce(rand::random());
        let (fence, saved) = self.claim(nonce).await?;
        self.cut(format_args!("after a claim"))?;
        self.refuse_the_late(&fence, &saved).await;
        self.process = Some(Process {
            cell: Cell::new(self.settings()),
            fence,
            state: None,
            committed: Fields::new(),
            writes: Vec::new(),
            answers: VecDeque::new(),
        });
        self.outside.reconnected();
        let restored = self.restored(saved);
        let inputs = match self.hazard.roll() % 2 {
            0 => [Input::Connected, restored],
            _ => [restored, Input::Connected],
        };
        self.process().answers.extend(inputs);
        Ok(())
    }

    async fn claim(&mut self, nonce: Nonce) -> Result<(Fence, Saved), Cut> {
        loop {
            let claimed = self.store.claim(&self.element, nonce, 0).await;
            match (claimed, self.countdown.get()) {
                (Err(StoreError::Unavailable { .. }), Some((0, _))) => {
                    self.countdown.take();
                    return Err(Cut);
                }
                // A process that ended has not quite closed its files.
                (Err(StoreError::Unavailable { .. }), _) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                (claimed, _) => {
                    self.countdown.take();
                    return Ok(claimed.expect("a claim"));
                }
            }
        }
    }

    fn settings(&self) -> CellSettings {
        CellSettings {
            lag: self.server.directory.as_ref().map(|_| LAG),
            ..settings(&self.element)
        }
    }

    /// Nobody has claimed the element yet: it is still that of the process that ended.
    async fn write_late(&mut self) {
        for (fence, effect) in core::mem::take(&mut self.late) {
            // Effects are performed in order: behind one that was not, none is.
            let Effect::Append { first, records } = effect else {
                return;
            };
            match self.append(&fence, first, &records).await {
                // Behind a write that was never made there is a gap; behind another owner nothing.
                Ok(_) | Err(StoreError::Gap { .. } | StoreError::Fenced { .. }) => {}
                Err(error) => panic!("a late write: {error}"),
            }
        }
    }

    /// From the claim on no earlier process writes anything, not even where it would fit.
    async fn refuse_the_late(&mut self, fence: &Fence, saved: &Saved) {
        let old = Fence {
            epoch: fence.epoch - 1,
            ..fence.clone()
        };
        let mut late: Vec<(Fence, u64, Vec<Record>)> = Vec::new();
        for (owner, effect) in core::mem::take(&mut self.late) {
            if let Effect::Append { first, records } = effect {
                late.push((owner.clone(), first, records.clone()));
                late.push((owner, saved.head + 1, records));
            }
        }
        late.push((old, saved.head + 1, vec![Record::Done(Vec::new())]));
        for (owner, first, records) in late {
            let last = first + records.len() as u64 - 1;
            let bytes = codec::encode_batch(&self.element, first, &records);
            let stable = self.store.stable();
            let refused = stable.append(&owner, first - 1, last, bytes).await;
            assert!(
                matches!(refused, Err(StoreError::Fenced { .. })),
                "a late write at {first}: {refused:?}"
            );
        }
    }

    fn append(
        &self,
        fence: &Fence,
        first: u64,
        records: &[Record],
    ) -> Pin<Box<dyn Future<Output = Result<WallClock, StoreError>>>> {
        let last = first + records.len() as u64 - 1;
        let bytes = codec::encode_batch(&self.element, first, records);
        Box::pin(self.store.append(fence, first - 1, last, bytes))
    }

    fn restored(&mut self, saved: Saved) -> Input {
        let element = &self.element;
        let open = |(name, sealed): (&String, &ByteBuf)| {
            let body = codec::decode_field(element, name, sealed).expect("a whole field");
            (name.clone(), body.to_vec())
        };
        let fields: Fields = saved.fields.iter().map(open).collect();
        let log = saved.log.iter();
        let log = log.map(|batch| codec::decode_batch(element, batch).expect("a whole batch"));
        let log = log.collect();
        let meta = meta_of(&fields);
        let process = self.process.as_mut().expect("called by a process");
        let state = fields.iter().filter(|(name, _)| name.starts_with('.'));
        process.state = Some(state.map(|(n, b)| (n.clone(), b.clone())).collect());
        process.committed = fields;
        Input::Restored(Restored {
            checkpoint: saved.checkpoint,
            head: saved.head,
            meta,
            log,
            stable: saved.head.min(self.store.flushed()),
        })
    }

    /// One thing happens; false when nothing is left to happen.
    async fn step(&mut self) -> Result<bool, Cut> {
        let fate = self.hazard.roll();
        if let Some(answer) = self.process().answers.pop_front() {
            self.tell(answer).await?;
        } else if !self.process().writes.is_empty() && fate % 5 != 1 {
            let at = usize::from(fate / 5) % self.process().writes.len();
            // Nothing but a lost answer comes out of turn, and most come in turn.
            let at = if (200..255).contains(&fate) { at } else { 0 };
            let (answer, committed) = self.process().writes.remove(at).await;
            self.cut(format_args!("between an answer of the store and the cell"))?;
            if let Some(committed) = committed {
                self.process().committed = committed;
            }
            self.tell(answer).await?;
        } else if let Some(answer) = self.outside.answers.pop_front() {
            self.tell(answer).await?;
        } else if fate.is_multiple_of(2)
            && let Some(reading) = self.outside.reading()
        {
            self.tell(reading).await?;
        } else if !self.outside.to_element.is_empty() {
            let at = usize::from(fate) % self.outside.to_element.len();
            let envelopes = self.outside.to_element.swap_remove(at);
            if (31..=60).contains(&fate) {
                self.outside.to_element.push(envelopes.clone());
            }
            if !(10..=30).contains(&fate) {
                let link = id("in");
                self.tell(Input::Received { link, envelopes }).await?;
            }
        } else if let Some(reading) = self.outside.reading() {
            self.tell(reading).await?;
        } else if self.process().writes.is_empty() {
            return self.pass_time().await;
        }
        Ok(true)
    }

    async fn pass_time(&mut self) -> Result<bool, Cut> {
        let deadlines = [
            self.process().cell.next_deadline(),
            self.outside.source.next_deadline(),
        ];
        let Some(deadline) = deadlines.into_iter().flatten().min() else {
            return Ok(false);
        };
        let until = deadline.max(self.now.monotonic);
        self.now.wall = self.now.wall + (until - self.now.monotonic);
        self.now.monotonic = Monotonic(until.0);
        let again = self.outside.source.due(self.now.monotonic);
        if !again.is_empty() {
            self.outside.to_element.push(again);
        }
        let (now, mut effects) = (self.now, Vec::new());
        self.process().cell.wake(now, &mut effects);
        self.perform_all(effects).await?;
        Ok(true)
    }

    /// The handler's answers go before anything else.
    async fn tell(&mut self, input: Input) -> Result<(), Cut> {
        let (now, mut next) = (self.now, Some(input));
        while let Some(input) = next {
            let mut effects = Vec::new();
            self.process().cell.handle(now, input, &mut effects);
            next = self.perform_all(effects).await?;
        }
        Ok(())
    }

    async fn perform_all(&mut self, effects: Vec<Effect>) -> Result<Option<Input>, Cut> {
        let mut effects = VecDeque::from(effects);
        let mut answer = None;
        while let Some(effect) = effects.pop_front() {
            let performed = effect.clone();
            let mut outcome = self.cut(format_args!("before {effect:?}"));
            if outcome.is_ok() {
                outcome = self.perform(effect, &mut answer).await;
                outcome = outcome.and_then(|()| self.cut(format_args!("after {performed:?}")));
            } else {
                effects.push_front(effect);
            }
            if let Err(cut) = outcome {
                self.end_process(effects);
                return Err(cut);
            }
        }
        Ok(answer)
    }

    async fn perform(&mut self, effect: Effect, answer: &mut Option<Input>) -> Result<(), Cut> {
        match effect {
            Effect::Restore => {
                let fence = self.process().fence.clone();
                self.cut(format_args!("before a load"))?;
                let saved = self.store.load(&fence).await.expect("a load");
                self.cut(format_args!("after a load"))?;
                let restored = self.restored(saved);
                self.process().answers.push_back(restored);
            }
            Effect::Append { first, records } => {
                self.server.noted(first, &records);
                self.start_append(first, &records);
            }
            Effect::Flush => self.start_flush(),
            Effect::ReportLost(lost) => self.server.reported(lost),
            Effect::Handle(task) => *answer = Some(self.handle(task)),
            Effect::Checkpoint { upto, meta } => self.start_checkpoint(upto, &meta),
            Effect::Acknowledge { upto, .. } => {
                if self.hazard.roll() > 20 {
                    self.outside.source.acknowledged(self.now.monotonic, upto);
                }
            }
            Effect::Resume { mark, .. } => {
                let again = self.outside.source.resume(self.now.monotonic, mark);
                self.outside.to_element.push(again);
            }
            Effect::Release { receipt } => self.outside.release(receipt),
            Effect::Send { envelopes, .. } => {
                let hazard = &mut self.hazard;
                self.outside.deliver(envelopes, || hazard.roll() <= 20);
            }
            Effect::Actuate {
                link,
                command,
                sending,
            } => {
                let settled = self.outside.carry_out(link, command.position, sending);
                self.process().answers.push_back(settled);
            }
            Effect::ReportUnknown { command, .. } => {
                self.outside.unknown.insert(command.position);
            }
            Effect::Compare { link, question, .. } => {
                let silent = self.outside.is_silent(link, question);
                self.process().answers.push_back(silent);
            }
            Effect::GiveUp { cause, .. } => panic!("gave up: {cause}"),
            Effect::Ready { .. } | Effect::Mended { .. } => {}
            Effect::Reroute(_) | Effect::ShowReconfiguration { .. } => {}
            unexpected @ (Effect::Bury { .. }
            | Effect::Report { .. }
            | Effect::ReportOrphaned(_)
            | Effect::Prove
            | Effect::Stop
            | Effect::ShowRestored) => panic!("{unexpected:?}"),
        }
        Ok(())
    }
}
