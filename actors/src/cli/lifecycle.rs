//! `move`, `drain`, `undrain`, `lost`: what operators want of the lifecycle manager.

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::control::{Answer, Ask};

use super::{CommandError, RunDirectory, in_system, print};
use crate::operator::{Operator, OperatorError};

/// Have an element run on another server, with its state.
#[derive(Debug, clap::Args)]
pub(super) struct Move {
    /// The element's id
    element: EntityId,
    /// The server to run it on
    server: EntityId,
    #[command(flatten)]
    place: RunDirectory,
}

/// Move all elements off a server, or let it take some again.
#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    /// The server's id
    server: EntityId,
    #[command(flatten)]
    place: RunDirectory,
}

/// Say that a server is lost.
#[derive(Debug, clap::Args)]
pub(super) struct Lost {
    /// The server's id
    server: EntityId,
    #[command(flatten)]
    place: RunDirectory,
}

impl Move {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let Self {
            element,
            server,
            place,
        } = self;
        asked(&place, Ask::Move { element, server })
    }
}

impl Drain {
    pub(super) fn run(self, drained: bool) -> Result<(), CommandError> {
        let server = self.server;
        asked(&self.place, Ask::Drain { server, drained })
    }
}

impl Lost {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let server = self.server;
        asked(&self.place, Ask::DeclareLost { server })
    }
}

/// Asks, and prints what became of each element once that is known.
fn asked(place: &RunDirectory, ask: Ask) -> Result<(), CommandError> {
    let directory = place.find()?;
    let answer = in_system(async {
        let mut operator = Operator::find(&directory).await?;
        Ok(operator.ask(ask).await?)
    })?;
    let Answer::Done { outcomes } = answer else {
        return Err(OperatorError::unexpected(&answer).into());
    };
    for (element, outcome) in outcomes {
        print(&format!("{element} {outcome}\n"));
    }
    Ok(())
}
