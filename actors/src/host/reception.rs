//! Messages from the broker become inputs of the cell.
//!
//! This runs in the MQTT library's receive thread, so it only decodes and hands over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::physical_world::{Validity, earliest};
use lamplighter_policies::protocol::cell::{Input, Sensed};
use lamplighter_policies::protocol::messages::Link;
use lamplighter_policies::time::{Now, WallClock};
use lamplighter_runtime::clock::Clock;
use lamplighter_runtime::message_pack;
use lamplighter_runtime::transport::mqtt::{
    Incoming, QualityOfService, Reception, Signature, receipt,
};
use tokio::sync::mpsc;

use super::json;
use super::links::{Route, Routes};
use super::stamp;
use crate::instance::Accepts;
use crate::shell::{NotTold, Role};

/// The version byte before every message between elements.
pub(super) const LINK_VERSION: u8 = 1;

/// A device's message that is no input of the element.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) topic: String,
    pub(super) reason: String,
    pub(super) payload: Vec<u8>,
}

/// What an appliance reports on its topic.
#[derive(Debug, PartialEq)]
pub(super) struct Report {
    pub(super) link: String,
    pub(super) payload: Vec<u8>,
}

impl Report {
    /// `None` for what the broker kept of old: nobody knows when it was true.
    fn of(link: &str, incoming: &Incoming) -> Option<Self> {
        (!incoming.retained).then(|| Self {
            link: link.to_owned(),
            payload: incoming.payload.to_vec(),
        })
    }
}

/// What the receive thread tells the host besides inputs.
#[derive(Debug)]
pub(super) enum Aside {
    Unusable(Unusable),
    Report(Report),
}

/// The receiving end of one element's bindings.
pub(super) struct Door {
    pub(super) routes: Arc<RwLock<Routes>>,
    pub(super) role: Role<Input>,
    pub(super) receipts: Receipts,
    pub(super) aside: mpsc::Sender<Aside>,
    pub(super) accepts: Accepts,
    pub(super) clock: Clock,
}

/// Devices' messages whose acknowledgement waits for the log.
#[derive(Clone, Default)]
pub(super) struct Receipts {
    next: Arc<AtomicU64>,
    open: Arc<Mutex<BTreeMap<u64, Signature>>>,
}

impl Receipts {
    fn open(&self, signature: Signature) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(number, signature);
        // The library hands over one message at a time, so more than a few are of dead connections.
        while open.len() > 1_024 {
            open.pop_first();
        }
        number
    }

    /// The message is in the log.
    pub(super) fn sign(&self, number: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signature) = open.remove(&number) {
            signature.sign();
        }
    }

    fn forget(&self, number: u64) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number);
    }
}

impl Door {
    pub(super) fn receive(&self, incoming: &Incoming) -> Reception {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let routes = routes.topics.get(&incoming.topic);
        self.all(routes.map_or(&[], Vec::as_slice), incoming)
    }

    /// Takes what an adapter reports of its appliance. Says whether that was taken; if not it is to be
    /// offered again.
    pub(super) fn reported(&self, appliance: &EntityId, payload: &[u8]) -> bool {
        let incoming = Incoming {
            topic: appliance.to_string(),
            payload: payload.to_vec().into(),
            quality: QualityOfService::AtLeastOnce,
            retained: false,
            expiry: None,
            user_properties: Vec::new(),
            connection: 0,
        };
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let routes = routes.adapters.get(appliance);
        match self.all(routes.map_or(&[], Vec::as_slice), &incoming) {
            // That it is in the log concerns brokers only: an adapter repeats nothing.
            Reception::Done | Reception::When(_) => true,
            Reception::Refused { .. } => false,
        }
    }

    fn all(&self, routes: &[Route], incoming: &Incoming) -> Reception {
        let mut reception = Reception::Done;
        for route in routes {
            match self.one(route, incoming) {
                Reception::Done => {}
                // A message that feeds several flows is done with when the last of them is.
                waiting @ (Reception::When(_) | Reception::Refused { .. }) => reception = waiting,
            }
        }
        reception
    }

    fn one(&self, route: &Route, incoming: &Incoming) -> Reception {
        match route {
            Route::Device {
                link,
                variant,
                valid_for,
                identified_by,
                stamped_by,
                words,
            } => {
                let said = words.as_ref().map(|words| words.report(&incoming.payload));
                let said = said.as_deref().unwrap_or(&incoming.payload);
                let payload = json::to_input(variant, said);
                let payload =
                    payload.and_then(|payload| (self.accepts)(&payload).map(|()| payload));
                let payload = match payload {
                    Ok(payload) => payload,
                    Err(reason) => return self.unusable(incoming, variant, &reason),
                };
                // Nobody knows when a message that the broker kept was true.
                if incoming.retained {
                    return self.unusable(
                        incoming,
                        variant,
                        "it was retained by the broker, so its age is unknown",
                    );
                }
                let identified = identified_by
                    .as_deref()
                    .is_some_and(|property| json::has(&incoming.payload, property));
                let stamp = stamped_by.as_deref();
                let stamp =
                    stamp.and_then(|property| stamp::of_report(&incoming.payload, property));
                let (occurred_at, expires_at) =
                    occurrence(self.clock.received_at(), stamp, *valid_for, incoming.expiry);
                self.sensed(incoming, |receipt| Sensed {
                    link: link.clone(),
                    occurred_at,
                    expires_at,
                    payload,
                    receipt,
                    connection: incoming.connection,
                    identified,
                })
            }
            Route::Events { link } | Route::Answers { link } => {
                let link = link.clone();
                match decode_link(&incoming.payload) {
                    Ok(Link::Events(envelopes)) => self.tell(Input::Received { link, envelopes }),
                    Ok(Link::Acknowledged(upto)) => self.tell(Input::Acknowledged { link, upto }),
                    Ok(Link::Resume(mark)) => self.tell(Input::ResumeAsked { link, mark }),
                    Err(reason) => return self.unusable(incoming, "", &reason),
                }
                Reception::Done
            }
            Route::Report { link } => {
                if let Some(report) = Report::of(link, incoming) {
                    self.aside(Aside::Report(report));
                }
                Reception::Done
            }
        }
    }

    fn sensed(&self, incoming: &Incoming, sensed: impl FnOnce(Option<u64>) -> Sensed) -> Reception {
        if incoming.quality == QualityOfService::AtMostOnce {
            self.tell(Input::Sensed(sensed(None)));
            return Reception::Done;
        }
        let (signature, receipt) = receipt();
        let number = self.receipts.open(signature);
        match self.role.try_tell(Input::Sensed(sensed(Some(number)))) {
            Ok(()) => Reception::When(receipt),
            Err(NotTold::Full(_)) => {
                self.receipts.forget(number);
                Reception::Refused {
                    reason: "the element's mailbox is full".to_owned(),
                }
            }
            Err(NotTold::Stopped(_)) => {
                self.receipts.forget(number);
                Reception::Refused {
                    reason: "the element has stopped".to_owned(),
                }
            }
        }
    }

    /// Between elements nothing waits: what is not taken now is sent again by its sender.
    fn tell(&self, input: Input) {
        if let Err(refused) = self.role.try_tell(input) {
            tracing::debug!(%refused, "left for its sender to send again");
        }
    }

    fn unusable(&self, incoming: &Incoming, variant: &str, reason: &str) -> Reception {
        self.aside(Aside::Unusable(Unusable {
            topic: incoming.topic.clone(),
            reason: format!("it is no input {variant:?} of the element: {reason}"),
            payload: incoming.payload.to_vec(),
        }));
        Reception::Done
    }

    fn aside(&self, aside: Aside) {
        if let Err(lost) = self.aside.try_send(aside) {
            tracing::warn!(%lost, "too much at once; it is only in this trace");
        }
    }
}

/// When what a device tells of occurred, and until when that holds.
///
/// A report without a stamp may have waited in the broker, so that it is older than it seems; only a
/// device that stamps its reports is protected from that. A stamp ahead of our own clock tells
/// nothing more than that it is new. What the publisher gave an end holds no longer than that.
fn occurrence(
    received: Now,
    stamp: Option<WallClock>,
    valid_for: Option<Validity>,
    expiry: Option<Duration>,
) -> (WallClock, Option<WallClock>) {
    let fresh = stamp.is_none_or(|stamp| stamp >= received.earliest());
    let occurred_at = stamp.filter(|_| !fresh).unwrap_or(received.wall);
    // Counted from the earliest instant at which it can have occurred.
    let from = stamp.filter(|_| !fresh).unwrap_or(received.earliest());
    let declared = match valid_for {
        Some(Validity::Immediate) if fresh => Some(occurred_at),
        // It held only as it occurred, which is over.
        Some(Validity::Immediate) => Some(occurred_at - Duration::from_micros(1)),
        Some(validity @ (Validity::For(_) | Validity::Unbounded)) => validity.expires_at(from),
        None => None,
    };
    let of_use = expiry.map(|left| received.earliest() + left);
    match declared {
        Some(end) if end == occurred_at => (occurred_at, declared),
        declared => (occurred_at, earliest(declared, of_use)),
    }
}

/// Reads a message between elements.
fn decode_link(bytes: &[u8]) -> Result<Link, String> {
    match bytes.split_first() {
        Some((&LINK_VERSION, body)) => message_pack::decode(body).map_err(|e| e.to_string()),
        Some((version, _)) => Err(format!(
            "it has version {version}, and this is {LINK_VERSION}"
        )),
        None => Err("it is empty".to_owned()),
    }
}

/// Writes a message between elements.
pub(super) fn encode_link(link: &Link) -> Vec<u8> {
    let mut bytes = vec![LINK_VERSION];
    message_pack::encode_into(&mut bytes, link).expect("links hold nothing that cannot be encoded");
    bytes
}

/// How long something surely holds from now on; `None` is for ever.
pub(super) fn remaining(now: Now, expires_at: Option<WallClock>) -> Option<Duration> {
    expires_at.map(|end| end.since(now.latest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn received() -> Now {
        Now {
            wall: WallClock(100_000_000),
            skew: Duration::from_millis(10),
            ..Now::default()
        }
    }

    fn ends(
        stamp: Option<i64>,
        valid_for: Option<Validity>,
        expiry: Option<Duration>,
    ) -> (i64, Option<i64>) {
        let stamp = stamp.map(WallClock);
        let (occurred_at, expires_at) = occurrence(received(), stamp, valid_for, expiry);
        (occurred_at.0, expires_at.map(|end| end.0))
    }

    #[test]
    fn a_report_holds_from_the_earliest_instant_at_which_it_can_have_occurred() {
        let ten = Some(Validity::For(10 * SECOND));
        assert_eq!(ends(None, ten, None), (100_000_000, Some(109_990_000)));
        assert_eq!(
            ends(Some(40_000_000), ten, None),
            (40_000_000, Some(50_000_000))
        );
        assert_eq!(ends(None, Some(Validity::Unbounded), None).1, None);
        assert_eq!(ends(None, None, None).1, None);
    }

    #[test]
    fn a_stamp_from_the_future_is_taken_for_now() {
        let ten = Some(Validity::For(10 * SECOND));
        assert_eq!(
            ends(Some(900_000_000), ten, None),
            (100_000_000, Some(109_990_000))
        );
    }

    #[test]
    fn what_holds_only_as_it_occurs_is_over_when_its_stamp_is_old() {
        let immediate = Some(Validity::Immediate);
        assert_eq!(
            ends(None, immediate, None),
            (100_000_000, Some(100_000_000))
        );
        assert_eq!(
            ends(Some(40_000_000), immediate, None),
            (40_000_000, Some(39_999_999))
        );
    }

    #[test]
    fn what_the_broker_kept_of_old_answers_no_question() {
        let incoming = |retained| Incoming {
            topic: "home/pump".to_owned(),
            payload: (&b"{\"doses\":5}"[..]).into(),
            quality: QualityOfService::AtLeastOnce,
            retained,
            expiry: None,
            user_properties: Vec::new(),
            connection: 1,
        };
        let report = Report {
            link: "pump".to_owned(),
            payload: b"{\"doses\":5}".to_vec(),
        };
        assert_eq!(Report::of("pump", &incoming(true)), None);
        assert_eq!(Report::of("pump", &incoming(false)), Some(report));
    }

    #[test]
    fn what_its_publisher_gave_an_end_holds_no_longer() {
        assert_eq!(
            ends(None, None, Some(SECOND)),
            (100_000_000, Some(100_990_000))
        );
        assert_eq!(
            ends(None, Some(Validity::For(SECOND / 2)), Some(SECOND)).1,
            Some(100_490_000)
        );
    }
}
