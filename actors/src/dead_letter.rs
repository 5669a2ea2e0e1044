//! An input that was given up, kept for people.

use lamplighter_runtime::message_pack::{self, MessagePackError};
use serde::{Deserialize, Serialize};

/// The longest description that is kept, in characters.
const TEXT_MAX: usize = 4_096;

/// What was given up, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its index in the element's log; 0 if it never got there.
    pub index: u64,
    /// Which input.
    pub what: String,
    /// Why.
    pub cause: String,
    /// When, in microseconds since 1970 UTC.
    pub at: i64,
}

impl DeadLetter {
    /// The stored form; long texts are cut.
    #[must_use]
    pub fn encode(mut self) -> Vec<u8> {
        for text in [&mut self.what, &mut self.cause] {
            if let Some((end, _)) = text.char_indices().nth(TEXT_MAX) {
                text.truncate(end);
            }
        }
        let mut bytes = Vec::new();
        message_pack::encode_into(&mut bytes, &self).expect("numbers and text encode");
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessagePackError> {
        message_pack::decode(bytes)
    }
}
