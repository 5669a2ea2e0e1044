//! What a heartbeat looks like on the wire: small, of fixed length, and of no use to whoever does not know
//! the application's secret.
//!
//! ```text
//! version 1 · kind 1 · application 4 · from 8 · to 8 · incarnation 8 · number 8 · code 32      (70 bytes)
//! ```
//! Servers and the application are named by the beginning of the SHA-256 of their ids. The code is the
//! HMAC-SHA-256 of all before it. A packet names the receiver too, so that what was sent to one
//! cannot be played to another; played again to the same, it is older than what that has heard.

use std::fmt;

use lamplighter_policies::detection::Heartbeat;
use lamplighter_policies::ids::EntityId;
use ring::{digest, hmac};

/// The version of the packets; both ends must speak the same.
pub const PACKET_VERSION: u8 = 1;
/// How long every packet is.
pub const PACKET_BYTES: usize = 70;
const SIGNED_BYTES: usize = PACKET_BYTES - 32;
/// Separates this use of the secret from every other.
const PURPOSE: &[u8] = b"lamplighter heartbeats";

const HEARTBEAT: u8 = 1;
const PROBE: u8 = 2;
const ANSWER: u8 = 3;

/// A server's name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(u64);

impl Tag {
    /// The name of a server.
    #[must_use]
    pub fn of(server: &EntityId) -> Self {
        Self(number(name(server).as_ref(), 0))
    }
}

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The sender is there.
    Heartbeat(Heartbeat),
    /// Is the receiver there?
    Probe {
        /// Given back in the answer.
        nonce: u64,
    },
    /// The sender is there, and was asked.
    Answer {
        /// That of the probe.
        nonce: u64,
    },
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sends it.
    pub from: Tag,
    /// To whom.
    pub to: Tag,
    /// What it says.
    pub content: Content,
}

/// Why what arrived is no packet of this application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It has another length.
    #[error("a heartbeat packet has {PACKET_BYTES} bytes")]
    Length,
    /// It speaks another version.
    #[error(
        "the heartbeat packet has version {0}, not {PACKET_VERSION}; run the same build everywhere"
    )]
    Version(u8),
    /// Whoever made it does not know the secret, or it was damaged on its way.
    #[error("the heartbeat packet is not signed with the application's secret")]
    Forged,
    /// It is of another application with the same secret.
    #[error("the heartbeat packet is of another application")]
    OtherApplication,
    /// It says what this version does not know.
    #[error("the heartbeat packet is of kind {0}, which is not known")]
    Kind(u8),
}

/// Packs and unpacks for one application.
#[derive(Clone)]
pub struct Codec {
    application: [u8; 4],
    key: hmac::Key,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codec(…)")
    }
}

impl Codec {
    /// A codec of an application with its secret.
    #[must_use]
    pub fn new(application: &EntityId, secret: &str) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let key = hmac::sign(&secret, PURPOSE);
        let mut named = [0; 4];
        named.copy_from_slice(&name(application).as_ref()[..4]);
        Self {
            application: named,
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
        }
    }

    /// The bytes of a packet.
    #[must_use]
    pub fn encode(&self, packet: &Packet) -> [u8; PACKET_BYTES] {
        let (kind, incarnation, number) = match packet.content {
            Content::Heartbeat(Heartbeat {
                incarnation,
                sequence,
            }) => (HEARTBEAT, incarnation, sequence),
            Content::Probe { nonce } => (PROBE, 0, nonce),
            Content::Answer { nonce } => (ANSWER, 0, nonce),
        };
        let mut bytes = [0; PACKET_BYTES];
        bytes[0] = PACKET_VERSION;
        bytes[1] = kind;
        bytes[2..6].copy_from_slice(&self.application);
        let numbers = [packet.from.0, packet.to.0, incarnation, number];
        for (place, number) in bytes[6..SIGNED_BYTES].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        let code = hmac::sign(&self.key, &bytes[..SIGNED_BYTES]);
        bytes[SIGNED_BYTES..].copy_from_slice(code.as_ref());
        bytes
    }

    /// Reads a packet. Nothing of it is looked at before its code is right.
    ///
    /// # Errors
    /// Why it is none of this application.
    pub fn decode(&self, bytes: &[u8]) -> Result<Packet, Rejected> {
        if bytes.len() != PACKET_BYTES {
            return Err(Rejected::Length);
        }
        if bytes[0] != PACKET_VERSION {
            return Err(Rejected::Version(bytes[0]));
        }
        let (signed, code) = bytes.split_at(SIGNED_BYTES);
        if hmac::verify(&self.key, signed, code).is_err() {
            return Err(Rejected::Forged);
        }
        if signed[2..6] != self.application {
            return Err(Rejected::OtherApplication);
        }
        let nonce = number(signed, 30);
        let content = match signed[1] {
            HEARTBEAT => Content::Heartbeat(Heartbeat {
                incarnation: number(signed, 22),
                sequence: nonce,
            }),
            PROBE => Content::Probe { nonce },
            ANSWER => Content::Answer { nonce },
            other => return Err(Rejected::Kind(other)),
        };
        Ok(Packet {
            from: Tag(number(signed, 6)),
            to: Tag(number(signed, 14)),
            content,
        })
    }
}

fn name(id: &EntityId) -> digest::Digest {
    digest::digest(&digest::SHA256, id.as_str().as_bytes())
}

/// The number at a place that is known to be within `bytes`.
fn number(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..at + 8].iter();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(name: &str) -> EntityId {
        EntityId::new(name).unwrap()
    }

    fn codec() -> Codec {
        Codec::new(&id("home"), "secret")
    }

    fn heartbeat() -> Packet {
        Packet {
            from: Tag::of(&id("rpi1")),
            to: Tag::of(&id("pc")),
            content: Content::Heartbeat(Heartbeat {
                incarnation: 3,
                sequence: 7,
            }),
        }
    }

    #[test]
    fn what_another_application_or_another_secret_made_is_rejected() {
        let bytes = codec().encode(&heartbeat());
        assert_eq!(codec().decode(&bytes), Ok(heartbeat()));
        let other_secret = Codec::new(&id("home"), "other");
        assert_eq!(other_secret.decode(&bytes), Err(Rejected::Forged));
        let other_application = Codec::new(&id("work"), "secret");
        assert_eq!(
            other_application.decode(&bytes),
            Err(Rejected::OtherApplication)
        );
    }

    proptest! {
        #[test]
        fn every_packet_is_read_as_it_was_written(from: u64, to: u64, kind in 0..3, incarnation: u64, number: u64) {
            let content = match kind {
                0 => Content::Heartbeat(Heartbeat { incarnation, sequence: number }),
                1 => Content::Probe { nonce: number },
                _ => Content::Answer { nonce: number },
            };
            let packet = Packet { from: Tag(from), to: Tag(to), content };
            prop_assert_eq!(codec().decode(&codec().encode(&packet)), Ok(packet));
        }

        #[test]
        fn no_bytes_are_read_that_nobody_wrote(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(codec().decode(&bytes).is_err());
        }

        #[test]
        fn one_changed_bit_or_a_cut_is_noticed(bit in 0..PACKET_BYTES * 8, length in 0..PACKET_BYTES) {
            let mut bytes = codec().encode(&heartbeat());
            prop_assert!(codec().decode(&bytes[..length]).is_err());
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(codec().decode(&bytes).is_err());
        }
    }
}
