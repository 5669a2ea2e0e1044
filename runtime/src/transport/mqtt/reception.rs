//! What happens to a message that arrives: the handler's view of it, and when the broker may forget it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use paho_mqtt::{Message, PropertyCode};

use super::QualityOfService;

/// A message from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Where it was published.
    pub topic: String,
    /// What was published.
    pub payload: Bytes,
    /// How it reached us: the lower of how it was published and how we subscribed.
    pub quality: QualityOfService,
    /// The broker had kept it: nobody knows when it was true.
    pub retained: bool,
    /// How long it is still of use, if the publisher said so.
    pub expiry: Option<Duration>,
    /// What the publisher attached.
    pub user_properties: Vec<(String, String)>,
    /// Which connection of this process brought it. First thing on a new one, a broker sends again
    /// what was not answered on the last.
    pub connection: u64,
}

/// The handler's answer: when may the broker forget the message?
#[derive(Debug)]
pub enum Reception {
    /// At once: it is done with, or it will be asked for again end to end.
    Done,
    /// When the receipt is signed. If it is not signed in time, or never will be, the connection is
    /// cut, and the broker sends the message again on the next one.
    When(Receipt),
    /// Not yet, because it cannot be taken at present. The connection is cut as above.
    Refused {
        /// Why, for the trace.
        reason: String,
    },
}

/// Waits for its [`Signature`].
#[derive(Debug)]
pub struct Receipt(Receiver<()>);

/// Says that a message is logged; not saying so before it is dropped refuses the message.
#[derive(Clone, Debug)]
pub struct Signature(SyncSender<()>);

/// Makes a receipt with its signature: the receipt goes into [`Reception::When`], the signature
/// travels with the message to whoever logs it.
pub fn receipt() -> (Signature, Receipt) {
    let (signature, receipt) = sync_channel(1);
    (Signature(signature), Receipt(receipt))
}

impl Signature {
    /// The message is logged: the broker may forget it. A receipt that nobody waits for any more is
    /// left alone; the broker sends that message again.
    pub fn sign(self) {
        self.0.try_send(()).ok();
    }
}

/// What to do with the messages that arrive. It runs in Paho's receive thread, of which there is one
/// in a process.
pub type Handler = Arc<dyn Fn(Incoming) -> Reception + Send + Sync>;

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotTaken(pub(super) String);

/// Hands `message` to the handler and waits, at most `within`, until the broker may forget it.
pub(super) fn receive(
    handler: &Handler,
    message: &Message,
    connection: u64,
    within: Duration,
) -> Result<(), NotTaken> {
    let incoming = incoming(message, connection);
    // An unwinding panic would leave a C function, which ends the process.
    match catch_unwind(AssertUnwindSafe(|| handler(incoming))) {
        Ok(Reception::Done) => Ok(()),
        Ok(Reception::When(Receipt(signed))) => match signed.recv_timeout(within) {
            Ok(()) => Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                Err(NotTaken(format!("it was not logged within {within:?}")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(NotTaken(
                "its receiver ended before it was logged".to_owned(),
            )),
        },
        Ok(Reception::Refused { reason }) => Err(NotTaken(reason)),
        Err(panic) => {
            let words = panic
                .downcast_ref::<&str>()
                .map(ToString::to_string)
                .or_else(|| panic.downcast_ref::<String>().cloned());
            let words = words.unwrap_or_else(|| "no words".to_owned());
            Err(NotTaken(format!("the handler panicked: {words}")))
        }
    }
}

fn incoming(message: &Message, connection: u64) -> Incoming {
    let properties = message.properties();
    let expiry = properties.get_int(PropertyCode::MessageExpiryInterval);
    Incoming {
        topic: message.topic().to_owned(),
        payload: Bytes::copy_from_slice(message.payload()),
        quality: QualityOfService::from_paho(message.qos()),
        retained: message.retained(),
        expiry: expiry.map(|seconds| Duration::from_secs(u64::from(seconds.cast_unsigned()))),
        user_properties: properties.user_iter().collect(),
        connection,
    }
}
