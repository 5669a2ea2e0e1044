//! Delta checkpoints: which fields one carries.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// A state or a part of one as named fields, encoded.
pub type Fields = BTreeMap<String, Vec<u8>>;

/// What changed between two checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldDelta {
    /// New or changed fields.
    pub set: Vec<(String, Vec<u8>)>,
    /// Fields that are gone.
    pub delete: Vec<String>,
}

/// Compares what the store holds with what it is to hold.
///
/// The bytes are compared, not a hash of them: a collision would silently lose a change.
#[must_use]
pub fn delta(committed: &Fields, current: &Fields) -> FieldDelta {
    let changed = |(name, bytes): &(&String, &Vec<u8>)| committed.get(*name) != Some(*bytes);
    FieldDelta {
        set: current
            .iter()
            .filter(changed)
            .map(|(n, b)| (n.clone(), b.clone()))
            .collect(),
        delete: committed
            .keys()
            .filter(|name| !current.contains_key(*name))
            .cloned()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn fields(of: &[(&str, u8)]) -> Fields {
        of.iter()
            .map(|(name, byte)| ((*name).into(), vec![*byte]))
            .collect()
    }

    #[test]
    fn only_what_changed_travels() {
        assert_eq!(
            delta(
                &fields(&[("a", 1), ("b", 1), ("c", 1)]),
                &fields(&[("a", 1), ("b", 2), ("d", 1)])
            ),
            FieldDelta {
                set: vec![("b".into(), vec![2]), ("d".into(), vec![1])],
                delete: vec!["c".into()],
            }
        );
    }
}
