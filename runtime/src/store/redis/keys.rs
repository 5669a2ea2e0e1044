//! The keys of one application: all keys of an element share one hash tag.

use lamplighter_policies::ids::EntityId;

/// Makes keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    application: EntityId,
}

impl Keys {
    pub(super) fn new(application: &EntityId) -> Self {
        Self {
            application: application.clone(),
        }
    }

    /// The hash with owner, head, checkpoint and fields.
    pub(super) fn state(&self, element: &EntityId) -> String {
        self.of(element, "state")
    }

    /// The stream whose entries are batches.
    pub(super) fn log(&self, element: &EntityId) -> String {
        self.of(element, "log")
    }

    /// The hash in which parts of a large checkpoint wait.
    pub(super) fn staging(&self, element: &EntityId) -> String {
        self.of(element, "staging")
    }

    /// The list of dead letters.
    pub(super) fn letters(&self, element: &EntityId) -> String {
        self.of(element, "dead-letters")
    }

    /// The string that says which store this is.
    pub(super) fn identity(&self) -> String {
        format!("lamplighter:{{{}}}:identity", self.application)
    }

    fn of(&self, element: &EntityId, what: &str) -> String {
        format!("lamplighter:{{{}/{element}}}:{what}", self.application)
    }
}
