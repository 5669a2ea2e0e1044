//! A device as it physically is: it does what reaches it, and keeps a trace of it.

use lamplighter_policies::model::{ActuationClass, Value};
use lamplighter_policies::state_saving::{Command, Properties};
use lamplighter_policies::time::WallClock;

/// Something that the device did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deed {
    pub(crate) at: WallClock,
    pub(crate) command: Command,
    /// The process that asked for it, and whether it did so because it had recovered.
    pub(crate) process: u32,
    pub(crate) recovering: bool,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: &'static str,
    pub(crate) property: &'static str,
    pub(crate) class: ActuationClass,
    /// Whether it says what it shows when it is asked.
    pub(crate) answers: bool,
    /// Whether it counts the commands that it carried out, and shows the count.
    pub(crate) counts: bool,
    /// Whether it goes back to 0 when a command's validity ends.
    pub(crate) reverts: bool,
    /// Whether each of its commands counts by itself.
    pub(crate) accumulates: bool,
    /// What it had counted when it was bought.
    pub(crate) counted: i64,
    pub(crate) shows: Properties,
    pub(crate) trace: Vec<Deed>,
}

impl Device {
    pub(crate) fn take(&mut self, deed: Deed) {
        let same = |known: &Deed| known.command.position == deed.command.position;
        // A keyed device knows what it did.
        if self.class == ActuationClass::Keyed && self.trace.iter().any(same) {
            return;
        }
        self.shows.extend(deed.command.properties.clone());
        self.trace.push(deed);
        if self.counts {
            let count = self.counted + i64::try_from(self.trace.len()).expect("few deeds");
            self.shows.insert("count".into(), Value::Integer(count));
        }
    }
}
