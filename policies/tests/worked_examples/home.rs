//! An element, its store, its broker and its devices, in virtual seconds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::machine::Machine;
use lamplighter_policies::model::{CheckpointPolicy, Value};
use lamplighter_policies::physical_world::{Causes, Position};
use lamplighter_policies::protocol::cell::{
    Cell, CellSettings, Effect, Emitted, Explanation, Handled, InboundLink, Input, Meta,
    OutboundLink, Restored, Sensed, Source, Target, Task, TaskInput,
};
use lamplighter_policies::protocol::messages::Envelope;
use lamplighter_policies::state_saving::{Batch, Command, Verdict};
use lamplighter_policies::time::{Monotonic, Now, WallClock};

use super::device::{Device, word};

/// The stable store, as far as the cell can tell.
#[derive(Default)]
struct Store {
    head: u64,
    checkpoint: u64,
    state: State,
    meta: Meta,
    log: Vec<Batch>,
}

/// What the element knows: what was said last of what.
type State = BTreeMap<String, i64>;

pub(crate) struct Home {
    devices: Vec<Device>,
    /// What a person or another element asks for, by number: to which device, what, for how long.
    wishes: Vec<(&'static str, Value, Option<u64>)>,
    /// What devices said by themselves, by number.
    said: Vec<(&'static str, Value)>,
    cell: Option<Cell>,
    state: State,
    store: Store,
    now: Now,
    inputs: VecDeque<Input>,
    /// What arrives at an instant yet to come.
    later: Vec<(WallClock, Input)>,
    /// What the broker keeps for the element while that is away.
    kept: VecDeque<Input>,
    source: Position,
    asked_for: BTreeMap<String, Vec<Position>>,
    /// The process ends when this device is next told something; whether that reaches it.
    ends_at: Option<(&'static str, bool)>,
    alarms: usize,
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).expect("a valid id")
}

fn second(second: i64) -> WallClock {
    WallClock(second * 1_000_000)
}

impl Home {
    pub(crate) fn with(devices: impl IntoIterator<Item = Device>) -> Self {
        let mut home = Self {
            devices: devices.into_iter().collect(),
            wishes: Vec::new(),
            said: Vec::new(),
            cell: None,
            state: State::new(),
            store: Store::default(),
            now: Now::default(),
            inputs: VecDeque::new(),
            later: Vec::new(),
            kept: VecDeque::new(),
            source: Position::default(),
            asked_for: BTreeMap::new(),
            ends_at: None,
            alarms: 0,
        };
        home.start();
        home.run();
        home
    }

    pub(crate) fn device(&mut self, name: &str) -> &mut Device {
        let mut devices = self.devices.iter_mut();
        devices
            .find(|device| device.name == name)
            .expect("one of its devices")
    }

    pub(crate) fn at(&mut self, at: i64) -> &mut Self {
        self.until(at);
        self
    }

    /// Somebody asks for something, which the element passes on to the device.
    pub(crate) fn ask(&mut self, device: &'static str, value: Value, valid_for: Option<u64>) {
        self.wishes.push((device, value, valid_for));
        let after = self.source;
        self.source = Position::new(1, after.index + 1, 0);
        let envelope = Envelope {
            position: self.source,
            after,
            occurred_at: self.now.wall,
            expires_at: None,
            causes: Causes::default(),
            payload: vec![u8::try_from(self.wishes.len() - 1).expect("few")],
        };
        self.inputs.push_back(Input::Received {
            link: id("wishes"),
            envelopes: vec![envelope],
        });
        self.run();
    }

    /// A device is turned by hand, or measures something; the broker tells the element when it is
    /// there.
    pub(crate) fn turned_by_hand(
        &mut self,
        at: i64,
        device: &'static str,
        value: Value,
        valid_for: Option<i64>,
    ) {
        self.until(at);
        self.device(device).shows_by_itself(value.clone());
        self.said.push((device, value));
        let sensed = Input::Sensed(Sensed {
            link: id(&format!("{device}-reports")),
            occurred_at: self.now.wall,
            expires_at: valid_for.map(|span| second(at + span)),
            payload: vec![u8::try_from(self.said.len() - 1).expect("few")],
            receipt: None,
            connection: 1,
            identified: true,
        });
        match self.cell {
            Some(_) => self.inputs.push_back(sensed),
            None => self.kept.push_back(sensed),
        }
        self.run();
    }

    /// The process ends after it sent this command, which reaches the device or not.
    pub(crate) fn fails_while_asking(
        &mut self,
        device: &'static str,
        value: Value,
        valid_for: u64,
        reached: bool,
    ) {
        self.ends_at = Some((device, reached));
        self.ask(device, value, Some(valid_for));
        assert!(self.cell.is_none(), "the command was sent");
    }

    pub(crate) fn fails_at(&mut self, at: i64) {
        self.until(at);
        self.end();
    }

    fn end(&mut self) {
        self.cell = None;
        self.inputs.clear();
        self.later.clear();
    }

    /// The recovery commits: the element is connected and its devices are asked.
    pub(crate) fn recovers_at(&mut self, at: i64) {
        self.until(at);
        self.start();
        // What the broker kept comes as soon as the connection is there: before any answer.
        let kept = std::mem::take(&mut self.kept);
        self.inputs.extend(kept);
        self.run();
    }

    fn start(&mut self) {
        let mut cell = Cell::new(settings(&self.devices));
        let mut effects = Vec::new();
        cell.handle(self.now, Input::Connected, &mut effects);
        assert_eq!(effects, [], "nothing before the log is read");
        self.cell = Some(cell);
        self.restore();
    }

    pub(crate) fn until(&mut self, at: i64) {
        let end = second(at);
        while let Some(next) = self.next_instant().filter(|next| *next <= end) {
            self.advance(next);
            let now = self.now.wall;
            let (due, later) = std::mem::take(&mut self.later)
                .into_iter()
                .partition(|(at, _)| *at <= now);
            self.later = later;
            let due: Vec<(WallClock, Input)> = due;
            self.inputs.extend(due.into_iter().map(|(_, input)| input));
            self.run();
            self.wake();
        }
        self.advance(end);
        self.run();
    }

    fn next_instant(&self) -> Option<WallClock> {
        let deadline = self.cell.as_ref().and_then(Machine::next_deadline);
        let deadline = deadline.map(|at| {
            let left = at - self.now.monotonic;
            self.now.wall + left.max(Duration::from_micros(1))
        });
        let later = self.later.iter().map(|(at, _)| *at).min();
        [deadline, later].into_iter().flatten().min()
    }

    fn advance(&mut self, to: WallClock) {
        let span = to.since(self.now.wall);
        self.now.wall = self.now.wall + span;
        self.now.monotonic = Monotonic(self.now.monotonic.0) + span;
        let whole = self.now.wall.0 / 1_000_000;
        for device in &mut self.devices {
            device.now = whole;
        }
    }

    fn wake(&mut self) {
        let mut effects = Vec::new();
        if let Some(cell) = &mut self.cell {
            cell.wake(self.now, &mut effects);
        }
        self.perform_all(effects);
        self.run();
    }

    fn run(&mut self) {
        if self.cell.is_some() {
            self.run_until_idle();
        }
    }

    fn run_until_idle(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            self.tell(input);
        }
    }

    fn tell(&mut self, input: Input) {
        let mut effects = Vec::new();
        if let Some(cell) = &mut self.cell {
            cell.handle(self.now, input, &mut effects);
        }
        self.perform_all(effects);
    }

    fn perform_all(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if self.cell.is_some() {
                self.perform(effect);
            }
        }
    }

    fn restore(&mut self) {
        self.state = self.store.state.clone();
        let after = |batch: &&Batch| batch.last() > self.store.checkpoint;
        self.inputs.push_back(Input::Restored(Restored {
            checkpoint: self.store.checkpoint,
            head: self.store.head,
            meta: self.store.meta.clone(),
            log: self.store.log.iter().filter(after).cloned().collect(),
            stable: self.store.head,
        }));
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Restore => self.restore(),
            Effect::Append { first, records } => {
                let logged_at = self.now.wall;
                let batch = Batch {
                    first,
                    logged_at,
                    records,
                };
                let last = batch.last();
                self.store.head = last;
                self.store.log.push(batch);
                self.inputs.push_back(Input::Appended { last, logged_at });
            }
            Effect::Handle(task) => {
                let index = task.index;
                let handled = self.handle(task);
                self.tell(Input::Handled { index, handled });
            }
            Effect::Checkpoint { upto, meta } => {
                self.store.checkpoint = upto;
                self.store.meta = meta;
                self.store.state = self.state.clone();
                self.inputs.push_back(Input::Checkpointed { upto });
            }
            Effect::Actuate {
                link,
                command,
                sending,
            } => self.actuate(link, &command, sending),
            Effect::Compare { link, question, .. } => match self.device(&link).answer() {
                Some(shown) => {
                    let shown = Some(shown);
                    self.inputs.push_back(Input::Compared {
                        link,
                        question,
                        shown,
                    });
                }
                None => {
                    let at = self.now.wall + Duration::from_millis(200);
                    let answer = Input::Compared {
                        link,
                        question,
                        shown: None,
                    };
                    self.later.push((at, answer));
                }
            },
            Effect::ReportUnknown { .. } => self.alarms += 1,
            Effect::Acknowledge { .. }
            | Effect::Resume { .. }
            | Effect::Ready { .. }
            | Effect::ShowReconfiguration { .. } => {}
            unexpected @ (Effect::Release { .. }
            | Effect::Send { .. }
            | Effect::Bury { .. }
            | Effect::Report { .. }
            | Effect::Mended { .. }
            | Effect::GiveUp { .. }
            | Effect::Flush
            | Effect::ReportLost(_)
            | Effect::ReportOrphaned(_)
            | Effect::Prove
            | Effect::Reroute(_)
            | Effect::ShowRestored
            | Effect::Stop) => panic!("{unexpected:?}"),
        }
    }

    fn actuate(&mut self, link: String, command: &Command, sending: u64) {
        let ends = self.ends_at.take_if(|(device, _)| *device == link);
        let position = command.position;
        let reaches = ends.is_none_or(|(_, reached)| reached);
        if self.device(&link).out_of_reach {
            return self.inputs.push_back(Input::Returned { link, sending });
        }
        let over = command.expires_at.is_some_and(|end| end <= self.now.wall);
        assert!(!over, "an expired command left: {command:?}");
        if reaches {
            self.device(&link).take(command);
        }
        if ends.is_some() {
            return self.end();
        }
        self.inputs.push_back(Input::Settled {
            link,
            position,
            sending,
        });
    }

    /// The author's code: it passes wishes on, and heats while it is colder than it should be.
    fn handle(&mut self, task: Task) -> Handled {
        let TaskInput::Event {
            payload, sensed, ..
        } = &task.input
        else {
            panic!("no timers here")
        };
        let number_of = usize::from(payload[0]);
        let position = Position::new(1, task.index, 0);
        if !sensed {
            let (device, value, valid_for) = self.wishes[number_of].clone();
            let asked = self.asked_for.entry(device.to_owned()).or_default();
            if !asked.contains(&position) {
                asked.push(position);
            }
            let emitted = self.emits(device, value, valid_for.map(Duration::from_secs));
            return Handled {
                emitted: vec![emitted],
                ..Handled::default()
            };
        }
        let (device, value) = self.said[number_of].clone();
        let property = self.device(device).property;
        if let Value::Integer(value) = value {
            self.state.insert(property.to_owned(), value);
        }
        let known = |name| self.state.get(name).copied();
        let heats = match (property, known("temperature"), known("setpoint")) {
            ("temperature", Some(is), Some(wanted)) if !task.expired => is < wanted,
            _ => false,
        };
        // It holds as long as the temperature that it follows from.
        let emitted = heats.then(|| self.emits("heater", word("ON"), None));
        Handled {
            emitted: emitted.into_iter().collect(),
            sensed: [(property.to_owned(), value)].into(),
            ..Handled::default()
        }
    }

    fn emits(&mut self, device: &str, value: Value, valid_for: Option<Duration>) -> Emitted {
        let property = self.device(device).property;
        Emitted {
            port: device.into(),
            valid_for,
            payload: vec![],
            properties: [(property.to_owned(), value)].into(),
        }
    }

    /// How many commands wait for a person's word; a person was told of each.
    pub(crate) fn unknown(&mut self) -> usize {
        let unknown = self.live().unknown_commands().len();
        assert!(self.alarms >= unknown, "nobody was told");
        unknown
    }

    pub(crate) fn judge(&mut self, link: &str, verdict: Verdict) {
        let unknown = self.live().unknown_commands();
        let position = unknown[0].position;
        let link = link.to_owned();
        self.inputs.push_back(Input::Judged {
            link,
            position,
            verdict,
        });
        self.run();
    }

    /// The identities of all that was asked of a device.
    pub(crate) fn asked_for(&self, device: &str) -> Vec<Position> {
        self.asked_for.get(device).cloned().unwrap_or_default()
    }

    pub(crate) fn explanation(&self) -> Explanation {
        let explanation = self.cell.as_ref().and_then(Cell::explanation);
        explanation.cloned().expect("it was recovered")
    }

    pub(crate) fn saved_explanation(&self) -> Option<Explanation> {
        self.store.meta.explanation.as_deref().cloned()
    }

    fn live(&self) -> &Cell {
        self.cell.as_ref().expect("it runs")
    }
}

fn settings(devices: &[Device]) -> CellSettings {
    let heard = devices.iter().filter(|device| device.heard);
    let inbound = heard.map(|device| InboundLink {
        id: id(&format!("{}-reports", device.name)),
        source: id(device.name),
        kind: Source::Device,
    });
    let wishes = InboundLink {
        id: id("wishes"),
        source: id("people"),
        kind: Source::Element,
    };
    let outbound = devices.iter().map(|device| OutboundLink {
        id: device.name.into(),
        port: device.name.into(),
        prefix: vec![],
        target: Target::Appliance(id(device.name)),
        valid_for: None,
    });
    let models = devices.iter();
    let models = models.map(|device| (id(device.name), device.model()));
    CellSettings {
        inbound: inbound.chain([wishes]).collect(),
        outbound: outbound.collect(),
        devices: models.collect(),
        checkpoint: CheckpointPolicy {
            every: 1_000,
            interval: Duration::from_secs(60),
        },
        ..CellSettings::new(id("element"))
    }
}
