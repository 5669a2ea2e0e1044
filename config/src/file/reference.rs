//! The reference of all keys says what the reader reads.

use std::collections::BTreeSet;

const REFERENCE: &str = include_str!("../../../docs/topology.md");

/// The files that read keys, as they are written.
const READERS: [&str; 6] = [
    include_str!("appliances.rs"),
    include_str!("application.rs"),
    include_str!("infrastructure.rs"),
    include_str!("mod.rs"),
    include_str!("models.rs"),
    include_str!("services.rs"),
];

/// What stands before the name of a key that is read.
const READS: [&str; 4] = ["optional(", "required(", "amount(", "&mut table,"];

/// Every key that is read somewhere.
fn keys() -> BTreeSet<&'static str> {
    let mut keys = BTreeSet::new();
    for reader in READERS {
        for reads in READS {
            for after in reader.split(reads).skip(1) {
                let quoted = after.trim_start().strip_prefix('"');
                keys.extend(quoted.and_then(|rest| rest.split('"').next()));
            }
        }
    }
    keys
}

/// All examples, one after the other.
fn examples() -> String {
    let blocks = REFERENCE.split("```toml\n").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_key_that_is_read_stands_in_the_reference_as_code() {
    let keys = keys();
    assert!(keys.len() > 100, "{keys:?}");
    let code: Vec<&str> = REFERENCE.split('`').skip(1).step_by(2).collect();
    let is_told = |key: &&&str| {
        code.iter().any(|code| {
            let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            words.into_iter().any(|word| word == **key)
        })
    };
    let untold: Vec<_> = keys.iter().filter(|key| !is_told(key)).collect();
    assert_eq!(untold, Vec::<&&str>::new());
}

#[test]
fn all_examples_of_the_reference_together_are_a_topology_without_errors() {
    let checked = crate::parse("topology.md", &examples());
    let checked = checked.unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    let warnings = checked.warnings.faults().iter();
    let is_warning = |fault: &&crate::Fault| fault.severity == crate::Severity::Warning;
    let warnings: Vec<_> = warnings.filter(is_warning).collect();
    // The diary says that nothing of it is logged, so that the key has an example.
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert_eq!(warnings[0].code, crate::Code::V17);
}
