//! Messages from the broker become inputs of the cell.
//!
//! This runs in the MQTT library's receive thread, so it only decodes and hands over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lamplighter_policies::protocol::cell::{Input, Sensed};
use lamplighter_policies::protocol::messages::Link;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::clock;
use lamplighter_runtime::message_pack;
use lamplighter_runtime::transport::mqtt::{
    Incoming, QualityOfService, Reception, Signature, receipt,
};
use tokio::sync::mpsc;

use super::json;
use super::links::Route;
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
#[derive(Debug)]
pub(super) struct Report {
    pub(super) link: String,
    pub(super) payload: Vec<u8>,
}

/// What the receive thread tells the host besides inputs.
#[derive(Debug)]
pub(super) enum Aside {
    Unusable(Unusable),
    Report(Report),
}

/// The receiving end of one element's bindings.
pub(super) struct Door {
    pub(super) routes: BTreeMap<String, Vec<Route>>,
    pub(super) role: Role<Input>,
    pub(super) receipts: Receipts,
    pub(super) aside: mpsc::Sender<Aside>,
    pub(super) accepts: Accepts,
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
        let mut reception = Reception::Done;
        for route in self.routes.get(&incoming.topic).into_iter().flatten() {
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
            } => {
                let payload = json::to_input(variant, &incoming.payload);
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
                let occurred_at = clock::wall();
                let expires_at = valid_for.and_then(|validity| validity.expires_at(occurred_at));
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
                let report = Report {
                    link: link.clone(),
                    payload: incoming.payload.to_vec(),
                };
                self.aside(Aside::Report(report));
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

/// How long something holds from now on; `None` is for ever.
pub(super) fn remaining(expires_at: Option<WallClock>) -> Option<std::time::Duration> {
    expires_at.map(|end| end.since(clock::wall()))
}
