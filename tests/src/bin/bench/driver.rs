//! Whoever speaks with an element under measurement, as its devices do.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::Outcome;
use crate::raw_mqtt::{RawMqtt, WINDOW};
use crate::repair::event;

const BACK_WITHIN: Duration = Duration::from_secs(20);
/// The time between two events while an element is away.
const EVERY: Duration = Duration::from_millis(1);

/// Sends numbered events to an element and sees that each is answered, in order.
pub(crate) struct Driver {
    element: String,
    client: RawMqtt,
    sent: u64,
    back: u64,
    /// What was sent before the failure under measurement.
    before: u64,
    next_at: Instant,
}

#[derive(Deserialize)]
struct Answer {
    n: u64,
}

impl Driver {
    /// Speaks with `echo-N` through the broker at `url`.
    ///
    /// # Errors
    /// Those of the broker.
    pub(crate) fn of(url: &str, n: usize) -> Outcome<Self> {
        Ok(Self {
            element: format!("echo-{n}"),
            client: RawMqtt::connect(url, &format!("bench/{n}/in"), &format!("bench/{n}/out"))?,
            sent: 0,
            back: 0,
            before: 0,
            next_at: Instant::now(),
        })
    }

    pub(crate) fn element(&self) -> &str {
        &self.element
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn send(&mut self) {
        self.sent += 1;
        self.client.publish(event(self.sent), 1);
    }

    /// Sends so many events and waits for all answers.
    ///
    /// # Errors
    /// An answer is missing.
    pub(crate) fn log(&mut self, count: u64) -> Outcome<()> {
        let end = self.sent + count;
        while self.sent < end {
            while self.sent < end && self.sent - self.back < WINDOW as u64 {
                self.send();
            }
            self.receive(BACK_WITHIN)?;
        }
        self.settle()
    }

    /// Waits for all answers.
    ///
    /// # Errors
    /// An answer is missing.
    pub(crate) fn settle(&mut self) -> Outcome<()> {
        while self.back < self.sent {
            self.receive(BACK_WITHIN)?;
        }
        Ok(())
    }

    /// From here on answers to later events are new.
    pub(crate) fn begin(&mut self) {
        self.before = self.sent;
        self.next_at = Instant::now();
    }

    /// Sends the next event when it is time, waits a little, and says whether a new one was answered.
    ///
    /// # Errors
    /// Events were lost, or the element is away for too long since `begun`.
    pub(crate) fn has_new_answer(&mut self, begun: Instant) -> Outcome<bool> {
        if begun.elapsed() > BACK_WITHIN {
            return Err(format!("{} did not come back", self.element).into());
        }
        if self.next_at <= Instant::now() {
            self.send();
            self.next_at += EVERY;
        }
        match self.receive(EVERY / 4) {
            Ok(n) => Ok(n > self.before),
            Err(fault) if fault.is::<RecvTimeoutError>() => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Takes the next answer: the next number, or a copy of one from before.
    fn receive(&mut self, within: Duration) -> Outcome<u64> {
        let payload = self.client.next(within)?;
        let Answer { n } = serde_json::from_slice(&payload)?;
        if n > self.back + 1 {
            let (element, back) = (&self.element, self.back);
            return Err(format!("{element} answered {n} after {back}: events were lost").into());
        }
        self.back = self.back.max(n);
        Ok(n)
    }
}
