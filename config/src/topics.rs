//! MQTT topics as an author may write them.

use crate::diagnostics::Faults;
use crate::reader::Item;
use crate::values::text;

/// The first level of the topics that elements use among themselves.
pub(crate) const RESERVED: &str = "lamplighter";

/// The most bytes of a topic.
const TOPIC_BYTES_MAX: usize = 1_024;

/// A topic without wildcards, outside what brokers and Lamplighter keep for themselves.
pub(crate) fn topic(item: &Item<'_>, faults: &mut Faults) -> Option<String> {
    let topic = text(item, faults)?;
    match fault_of(&topic) {
        None => Some(topic),
        Some((why, cure)) => {
            faults.add(item.not_allowed(why, cure));
            None
        }
    }
}

/// What is wrong with a topic and what to do about it.
pub(crate) fn fault_of(topic: &str) -> Option<(&'static str, &'static str)> {
    let first = topic.split('/').next();
    if topic.is_empty() {
        Some(("is an empty topic", "write the device's topic"))
    } else if topic.chars().any(char::is_control) {
        Some(("holds a control character", "write the topic without it"))
    } else if topic.len() > TOPIC_BYTES_MAX {
        Some(("is a topic of more than 1024 bytes", "use a shorter one"))
    } else if topic.contains(['+', '#']) {
        Some(("has a wildcard", "write each topic by itself"))
    } else if topic.starts_with('$') {
        Some((
            "is a topic of the broker's own",
            "use one that does not start with `$`",
        ))
    } else if first == Some(RESERVED) {
        Some((
            "is a topic that elements use among themselves",
            "join elements by a binding instead, or use a topic outside `lamplighter/`",
        ))
    } else {
        None
    }
}
