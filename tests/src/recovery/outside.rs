//! What surrounds an element in these tests: a sender, a device, a receiver and an appliance, which do
//! not crash, and the ways between them, which lose, repeat and reorder.

use std::collections::{BTreeSet, VecDeque};

use lamplighter_policies::physical_world::{Causes, Position};
use lamplighter_policies::protocol::cell::{Input, Sensed};
use lamplighter_policies::protocol::messages::Envelope;
use lamplighter_policies::state_saving::{Arrival, Inbound, Outbox};
use lamplighter_policies::time::{Now, WallClock};

use super::id;

/// The payload of a device's first reading; those of elements are below it.
pub const READINGS: u8 = 128;
/// How many unanswered messages a broker sends to a client.
const UNANSWERED_MAX: u8 = 4;

/// All that is outside the process of the element.
pub struct Outside {
    /// The sending element: it keeps what is not acknowledged.
    pub source: Outbox,
    /// What the network holds on the way to the element.
    pub to_element: Vec<Vec<Envelope>>,
    /// What the network holds of the receiver's answers.
    pub answers: VecDeque<Input>,
    /// The payloads that the receiver accepted, in order.
    pub received: Vec<Vec<u8>>,
    /// Where they came from.
    pub positions: Vec<Position>,
    /// The commands that the appliance carried out, in order.
    pub carried_out: Vec<Position>,
    /// The commands that people were told nobody knows about.
    pub unknown: BTreeSet<Position>,
    receiver: Inbound,
    readings: u8,
    /// The newest reading that was answered, and the newest that was sent on this connection.
    answered: u8,
    sent: u8,
    connection: u64,
}

impl Outside {
    /// The appliance takes a command, and says so.
    pub(super) fn carry_out(&mut self, link: String, position: Position, sending: u64) -> Input {
        self.carried_out.push(position);
        Input::Settled {
            link,
            position,
            sending,
        }
    }

    /// The appliance does not answer.
    pub(super) fn is_silent(&self, link: String, question: u64) -> Input {
        Input::Compared {
            link,
            question,
            shown: None,
        }
    }

    /// A sender with `events` events and a device with `readings` readings.
    #[must_use]
    pub fn new(events: u8, readings: u8) -> Self {
        let mut source = Outbox::default();
        for n in 1..=events {
            let position = Position::new(1, u64::from(n) * 3, 0);
            source.put(position, WallClock(0), None, &Causes::default(), vec![n]);
        }
        let first = source.unsent(Now::default().monotonic);
        Self {
            source,
            to_element: first.into_iter().map(|event| vec![event]).collect(),
            answers: VecDeque::new(),
            received: Vec::new(),
            positions: Vec::new(),
            carried_out: Vec::new(),
            unknown: BTreeSet::new(),
            receiver: Inbound::default(),
            readings,
            answered: 0,
            sent: 0,
            connection: 0,
        }
    }

    /// The element's process is another one: the broker sends again what was not answered.
    pub fn reconnected(&mut self) {
        self.connection += 1;
        self.sent = self.answered;
    }

    /// The device's next reading, if the broker may send one.
    pub fn reading(&mut self) -> Option<Input> {
        if self.sent >= self.readings || self.sent >= self.answered + UNANSWERED_MAX {
            return None;
        }
        self.sent += 1;
        Some(Input::Sensed(Sensed {
            link: id("device"),
            occurred_at: WallClock(0),
            expires_at: None,
            payload: vec![READINGS + self.sent],
            receipt: Some(u64::from(self.sent)),
            connection: self.connection,
            identified: true,
        }))
    }

    /// Whether enough readings were heard to tell a repeated one from a new one.
    #[must_use]
    pub fn knows_the_device(&self) -> bool {
        self.answered >= self.readings.min(2)
    }

    /// The log has this reading.
    pub fn release(&mut self, receipt: u64) {
        let receipt = u8::try_from(receipt).expect("a receipt of this device");
        self.answered = self.answered.max(receipt);
    }

    /// Events leave the element; `lost` says of each whether it is lost.
    pub fn deliver(&mut self, envelopes: Vec<Envelope>, mut lost: impl FnMut() -> bool) {
        for envelope in envelopes {
            if lost() {
                continue;
            }
            match self.receiver.arrived(envelope) {
                Arrival::Accepted(accepted) => {
                    self.positions
                        .extend(accepted.iter().map(|event| event.position));
                    let payloads = accepted.into_iter().map(|event| event.payload);
                    self.received.extend(payloads);
                }
                Arrival::Early => {
                    let (link, mark) = (id("out"), self.receiver.mark());
                    self.answers.push_back(Input::ResumeAsked { link, mark });
                }
                Arrival::Duplicate | Arrival::Diverged => {}
            }
        }
        if !lost() {
            let (link, upto) = (id("out"), self.receiver.mark());
            self.answers.push_back(Input::Acknowledged { link, upto });
        }
    }
}
