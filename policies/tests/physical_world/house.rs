//! One element, its store, a source of events and its devices, in virtual time: everything arrives
//! late, some of it never, and the process may end at any effect.

mod described;
mod misfortunes;
mod performing;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::model::{ActuationClass, Value};
use lamplighter_policies::physical_world::{Causes, Position};
use lamplighter_policies::protocol::cell::{Cell, Effect, Input, Meta, Restored, Sensed};
use lamplighter_policies::protocol::messages::Envelope;
use lamplighter_policies::state_saving::{Batch, Outbox};
use lamplighter_policies::time::{Monotonic, Now, WallClock};

use self::described::{devices, settings, spare};
use self::misfortunes::Misfortunes;
pub(crate) use self::misfortunes::{counts_by_itself, timer_of};
use super::device::{Deed, Device};
use super::dice::Dice;

const MS: i64 = 1_000;

/// How far this machine's clock may be from the store's.
pub(crate) const SKEW: Duration = Duration::from_millis(2);

/// How many commands of unknown fate a report lists.
const UNKNOWN_REPORTED: usize = 16;

/// A change by hand so long after a command has nothing to do with it.
const APART: Duration = Duration::from_millis(1_100);

/// What is on its way.
#[derive(Debug)]
enum Happening {
    /// For the process that was alive when it left; to another one it means nothing.
    Told(u32, Box<Input>),
    /// A message of the source; it outlives every process.
    Arrived(Vec<Envelope>),
    /// A command on its way to a device.
    Reached(usize, u64, Deed),
    /// The process is there again.
    Started,
    /// The source has something to say.
    Said(u8),
    /// Somebody changes a device by hand.
    Touched(usize),
    /// The broker brings what a device said.
    Reported(usize),
    /// It is decided who serves in the place of a device.
    Decided(usize),
    /// Somebody sets a clock.
    ClockSet,
}

/// What the world made of a device last, in the order of the log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Newest {
    Commanded {
        value: Value,
        at: WallClock,
        expires_at: Option<WallClock>,
    },
    /// Somebody changed it by hand; `apart` if that was long after the last command.
    Touched { apart: bool },
}

/// What a device said, kept by the broker until it is logged.
#[derive(Debug)]
struct Report {
    device: usize,
    value: i64,
    logged: bool,
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

pub(crate) struct House {
    /// The devices that the element is bound to, and then for each another that may take its place.
    pub(crate) devices: Vec<Device>,
    pub(crate) misfortunes: Misfortunes,
    pub(crate) events: u8,
    pub(crate) crashes: u32,
    /// Commands that had expired when they were sent.
    pub(crate) sent_late: usize,
    /// Commands of unknown fate that a person was told of.
    pub(crate) unknown: Vec<Position>,
    pub(crate) newest: BTreeMap<usize, Newest>,
    /// Commands by a recovery to a device that was changed by hand long after the last command.
    pub(crate) overrode_hands: usize,
    pub(crate) touches: u8,
    /// Commands that count by themselves and hold until they are carried out.
    pub(crate) counted: BTreeSet<Position>,
    reports: Vec<Report>,
    dice: Dice,
    cell: Option<Cell>,
    state: Vec<u8>,
    store: Store,
    source: Outbox,
    now: Now,
    process: u32,
    /// Where the log ended when this process found it.
    found: u64,
    /// What handlers returned.
    answers: VecDeque<Input>,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    count: u64,
    crashes_left: u32,
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).expect("a valid id")
}

impl House {
    /// A house whose devices, events and misfortunes follow from the seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut devices = devices(&mut dice);
        for at in 0..devices.len() {
            let spare = spare(&mut dice, &devices[at]);
            devices.push(spare);
        }
        let events = 5 + u8::try_from(dice.below(40)).expect("few");
        let mut house = Self {
            misfortunes: Misfortunes::new(devices.len()),
            devices,
            events,
            crashes: 0,
            sent_late: 0,
            unknown: Vec::new(),
            newest: BTreeMap::new(),
            overrode_hands: 0,
            touches: 0,
            counted: BTreeSet::new(),
            reports: Vec::new(),
            crashes_left: 1 + u32::try_from(dice.below(8)).expect("few"),
            dice,
            cell: None,
            state: Vec::new(),
            store: Store::default(),
            source: Outbox::default(),
            now: Now {
                wall: WallClock(1_000_000 * MS),
                monotonic: Monotonic(0),
                skew: SKEW,
            },
            process: 0,
            found: 0,
            answers: VecDeque::new(),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            count: 0,
        };
        let mut at = 10;
        for n in 1..=events {
            at += 1 + i64::try_from(house.dice.below(120)).expect("small");
            house.later(at, Happening::Said(n));
            if house.dice.one_in(4) {
                let device = usize::try_from(house.dice.below(4)).expect("small");
                let after = i64::try_from(house.dice.below(3_000)).expect("small");
                house.later(at + after, Happening::Touched(device));
            }
            house.foresee(at);
        }
        house.start();
        house
    }

    /// Lets everything happen until nothing is left; the number of things is bounded.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// The commands of unknown fate that a person was told of, or is shown on asking.
    pub(crate) fn unknown(&self) -> BTreeSet<Position> {
        let shown = self.cell.iter().flat_map(Cell::unknown_commands);
        let shown = shown.map(|unknown| unknown.position);
        shown.chain(self.unknown.iter().copied()).collect()
    }

    /// Whether there are more commands of unknown fate than a report has room for.
    pub(crate) fn shows_some_unknown(&self) -> bool {
        let mut cell = self.cell.iter();
        cell.any(|cell| cell.unknown_commands().len() >= UNKNOWN_REPORTED)
    }

    pub(crate) fn now(&self) -> Now {
        self.now
    }

    pub(crate) fn state(&self) -> &[u8] {
        &self.state
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        self.source.unacknowledged() + self.cell.as_ref().map_or(0, Cell::unacknowledged)
    }

    fn later(&mut self, after_ms: i64, happening: Happening) {
        self.count += 1;
        self.queue
            .push(Reverse((self.now.wall.0 + after_ms * MS, self.count)));
        self.happenings.insert(self.count, happening);
    }

    fn delay(&mut self, upto_ms: u64) -> i64 {
        1 + i64::try_from(self.dice.below(upto_ms)).expect("small")
    }

    fn step(&mut self) -> bool {
        let next = self.queue.peek().map(|Reverse((at, _))| *at);
        let deadline = [
            self.cell.as_ref().and_then(Machine::next_deadline),
            self.source.next_deadline(),
        ];
        let deadline = deadline.into_iter().flatten().min();
        let deadline = deadline.map(|at| {
            let span = at - self.now.monotonic;
            // Rounded up, or the clock would stand still just before a deadline.
            (self.now.wall + span + Duration::from_micros(1)).0
        });
        match (next, deadline) {
            (None, None) => false,
            (next, Some(deadline)) if next.is_none_or(|next| deadline < next) => {
                self.advance(deadline);
                let due = self.source.due(self.now.monotonic);
                self.transmit(due);
                let mut effects = Vec::new();
                let seen = self.seen();
                if let Some(cell) = &mut self.cell {
                    cell.wake(seen, &mut effects);
                }
                self.perform_all(effects);
                true
            }
            (_, _) => {
                let Some(Reverse((at, number))) = self.queue.pop() else {
                    return false;
                };
                self.advance(at);
                let happening = self.happenings.remove(&number).expect("queued together");
                self.happen(happening);
                true
            }
        }
    }

    fn advance(&mut self, wall: i64) {
        let span = WallClock(wall).since(self.now.wall);
        self.now.wall = self.now.wall + span;
        self.now.monotonic = self.now.monotonic + span;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Told(process, input) if process == self.process => self.tell(*input),
            Happening::Told(..) => {}
            Happening::Arrived(envelopes) => self.tell(Input::Received {
                link: id("in"),
                envelopes,
            }),
            Happening::Reached(device, sending, deed) => self.reach(device, sending, deed),
            Happening::Started => self.start(),
            Happening::Touched(device) => self.touch(device),
            Happening::Reported(number) => self.report(number),
            Happening::Decided(device) => self.decide(device),
            Happening::ClockSet => self.set_clock(),
            Happening::Said(n) => {
                let wall = self.now.wall;
                self.source.put(
                    Position::new(1, u64::from(n), 0),
                    wall,
                    None,
                    &Causes::default(),
                    vec![n],
                );
                let unsent = self.source.unsent(self.now.monotonic);
                self.transmit(unsent);
            }
        }
    }

    /// Messages of the source, some of them twice, some never.
    fn transmit(&mut self, envelopes: Vec<Envelope>) {
        if envelopes.is_empty() || self.dice.one_in(10) {
            return;
        }
        if self.dice.one_in(10) {
            let delay = self.delay(50);
            self.later(delay, Happening::Arrived(envelopes.clone()));
        }
        let delay = self.delay(10);
        self.later(delay, Happening::Arrived(envelopes));
    }

    fn start(&mut self) {
        self.process += 1;
        self.cell = Some(Cell::new(settings(self.bound())));
        self.routed_anew();
        self.restore();
        let delay = self.delay(10);
        self.answer(delay, Input::Connected);
        self.tell_decision();
        for number in 0..self.reports.len() {
            let after = delay + self.delay(10);
            self.later(after, Happening::Reported(number));
        }
    }

    /// Somebody switches a device whose properties are set, and it says so.
    fn touch(&mut self, device: usize) {
        let number = self.reports.len();
        let value = 100 + i64::from(self.touches);
        let Some(serving) = self.serving(device) else {
            return;
        };
        let touched = &mut self.devices[serving];
        if touched.class != ActuationClass::Set {
            return;
        }
        touched
            .shows
            .insert(touched.property.into(), Value::Integer(value));
        self.touches += 1;
        self.reports.push(Report {
            device,
            value,
            logged: false,
        });
        let delay = self.delay(10);
        self.later(delay, Happening::Reported(number));
    }

    fn report(&mut self, number: usize) {
        let Report {
            device,
            value,
            logged,
        } = self.reports[number];
        if logged {
            return;
        }
        let payload = vec![
            u8::try_from(value).expect("few"),
            u8::try_from(device).expect("few"),
        ];
        self.tell(Input::Sensed(Sensed {
            link: id(&format!("from-{}", self.devices[device].name)),
            occurred_at: self.now.wall,
            expires_at: None,
            payload,
            receipt: Some(number as u64),
            connection: u64::from(self.process),
            identified: true,
        }));
    }

    fn restore(&mut self) {
        let checkpoint = self.store.checkpoint;
        self.found = self.store.head;
        let log = self.store.log.iter();
        let log = log.filter(|b| b.last() > checkpoint).cloned().collect();
        self.state = self.store.state.clone();
        let restored = Restored {
            checkpoint,
            head: self.store.head,
            meta: self.store.meta.clone(),
            log,
            stable: self.store.head,
        };
        let delay = self.delay(5);
        self.answer(delay, Input::Restored(restored));
    }

    fn answer(&mut self, after_ms: i64, input: Input) {
        self.later(after_ms, Happening::Told(self.process, Box::new(input)));
    }

    /// The process is gone. A command that it had sent may still arrive, soon: its connection is
    /// closed before another one is opened under its name.
    fn crash(&mut self) {
        self.crashes += 1;
        self.crashes_left -= 1;
        self.cell = None;
        self.process += 1;
        let sent: Vec<u64> = self
            .happenings
            .iter()
            .filter(|(_, happening)| matches!(happening, Happening::Reached(..)))
            .map(|(number, _)| *number)
            .collect();
        for number in sent {
            if self.dice.one_in(2) {
                self.happenings
                    .insert(number, Happening::Told(0, Box::new(Input::Connected)));
            }
        }
        let outage = match self.dice.below(3) {
            0 => 25,
            1 => 200,
            _ => 3_000,
        };
        let delay = 25 + self.delay(outage);
        self.later(delay, Happening::Started);
    }

    fn tell(&mut self, input: Input) {
        let mut effects = Vec::new();
        let seen = self.seen();
        if let Some(cell) = &mut self.cell {
            cell.handle(seen, input, &mut effects);
        }
        self.perform_all(effects);
    }

    fn perform_all(&mut self, effects: Vec<Effect>) {
        let process = self.process;
        let mut waiting = VecDeque::from(effects);
        while let Some(effect) = waiting.pop_front() {
            // Some effects are the last of their process, done or not.
            let last = self.crashes_left > 0 && self.dice.one_in(40);
            if last && self.dice.one_in(2) {
                return self.crash();
            }
            self.perform(effect);
            if self.process != process {
                return;
            }
            // What follows from an answer comes after what was asked for before it.
            while let Some(answer) = self.answers.pop_front() {
                let mut effects = Vec::new();
                let seen = self.seen();
                if let Some(cell) = &mut self.cell {
                    cell.handle(seen, answer, &mut effects);
                }
                waiting.extend(effects);
            }
            if last {
                return self.crash();
            }
        }
    }
}
