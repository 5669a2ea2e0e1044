//! The address of a role, and what is sent to it.

use std::fmt;

use actix::prelude::SendError;
use actix::{Message, Recipient};

/// Nobody handles this role's inputs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the role has stopped")]
pub struct RoleStopped;

/// Why an input was not taken; it is given back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTold<I> {
    /// The mailbox is full: keep the input, and try again later.
    #[error("the mailbox is full")]
    Full(I),
    /// The role has stopped.
    #[error("the role has stopped")]
    Stopped(I),
}

/// The mailbox message of a shell; made by [`Role`].
pub struct Told<I> {
    pub(super) what: What<I>,
    pub(super) incarnation: Option<u64>,
}

pub(super) enum What<I> {
    Input(I),
    Stop,
}

impl<I: 'static> Message for Told<I> {
    type Result = ();
}

/// The address of a role; cheap to clone, and good for all its incarnations.
pub struct Role<I: Send + 'static> {
    mailbox: Recipient<Told<I>>,
    incarnation: Option<u64>,
}

impl<I: Send + 'static> Clone for Role<I> {
    fn clone(&self) -> Self {
        Self {
            mailbox: self.mailbox.clone(),
            incarnation: self.incarnation,
        }
    }
}

impl<I: Send + 'static> fmt::Debug for Role<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role")
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

impl<I: Send + 'static> Role<I> {
    pub(super) fn new(mailbox: Recipient<Told<I>>, incarnation: Option<u64>) -> Self {
        Self {
            mailbox,
            incarnation,
        }
    }

    /// Tells the role, whatever waits in its mailbox. For completions, whose number is limited by
    /// what was asked for. Nothing happens if the role has stopped.
    pub fn tell(&self, input: I) {
        self.mailbox.do_send(self.told(What::Input(input)));
    }

    /// Tells the role if its mailbox has room.
    ///
    /// # Errors
    /// The input, and whether another try may succeed.
    pub fn try_tell(&self, input: I) -> Result<(), NotTold<I>> {
        let (told, stopped) = match self.mailbox.try_send(self.told(What::Input(input))) {
            Ok(()) => return Ok(()),
            Err(SendError::Full(told)) => (told, false),
            Err(SendError::Closed(told)) => (told, true),
        };
        match told.what {
            What::Input(input) if stopped => Err(NotTold::Stopped(input)),
            What::Input(input) => Err(NotTold::Full(input)),
            What::Stop => Ok(()),
        }
    }

    /// Tells the role and waits until it has handled the input: the way to feed a role no faster
    /// than it works.
    ///
    /// # Errors
    /// The role stopped before it handled the input.
    pub async fn tell_and_wait(&self, input: I) -> Result<(), RoleStopped> {
        let told = self.mailbox.send(self.told(What::Input(input)));
        told.await.map_err(|_| RoleStopped)
    }

    /// Ends the role after all that already waits in its mailbox. Its performer is dropped.
    pub fn stop(&self) {
        self.mailbox.do_send(self.told(What::Stop));
    }

    /// The same role, whichever incarnation of it lives when an input arrives.
    #[must_use]
    pub fn lasting(&self) -> Self {
        Self {
            mailbox: self.mailbox.clone(),
            incarnation: None,
        }
    }

    fn told(&self, what: What<I>) -> Told<I> {
        Told {
            what,
            incarnation: self.incarnation,
        }
    }
}
