//! Stored state on its way to a new shape.

use std::collections::BTreeMap;

use lamplighter_runtime::message_pack;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use crate::encoding::Encoded;

/// The fields of a stored state, by name, for [`Element::migrate`](super::Element::migrate).
///
/// ```
/// use lamplighter::prelude::*;
///
/// fn seconds_to_millis(state: &mut Fields) -> Outcome {
///     let seconds: u64 = state.take("hold_secs")?.unwrap_or(30);
///     state.put("hold_ms", &(seconds * 1_000))
/// }
///
/// let mut state = Fields::default();
/// state.put("hold_secs", &2_u64).unwrap();
/// seconds_to_millis(&mut state).unwrap();
/// assert_eq!(state.take::<u64>("hold_ms").unwrap(), Some(2_000));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub(crate) BTreeMap<String, Vec<u8>>);

impl Fields {
    /// Takes a field out and decodes it; `None` if there is none of this name.
    ///
    /// # Errors
    /// It does not decode as `T`.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        let decode = |bytes: Vec<u8>| message_pack::decode(&bytes).map_err(|e| named(name, &e));
        self.0.remove(name).map(decode).transpose()
    }

    /// Puts a field in, in place of one of the same name.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn put(&mut self, name: &str, value: &impl Serialize) -> Result<(), Failure> {
        let encoded = Encoded::of(value).map_err(|e| named(name, &e))?;
        self.0.insert(name.into(), encoded.into_bytes());
        Ok(())
    }

    /// Gives a field another name; nothing happens if there is none of the old name.
    pub fn rename(&mut self, from: &str, to: &str) {
        if let Some(bytes) = self.0.remove(from) {
            self.0.insert(to.into(), bytes);
        }
    }
}

fn named(name: &str, fault: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("field {name:?}: {fault}"))
}
