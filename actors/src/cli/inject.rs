//! `inject`: breaks an element of a running application, for a drill.

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::control::{Answer, Ask, Injection};

use super::{CommandError, RunDirectory, in_system};
use crate::operator::{Operator, OperatorError};

/// Break an element.
#[derive(Debug, clap::Args)]
pub(super) struct Inject {
    /// What happens to it
    fault: Fault,
    /// The element's id
    element: EntityId,
    #[command(flatten)]
    place: RunDirectory,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Fault {
    /// The handler of its next event panics
    Panic,
    /// Its host process is killed
    Kill,
    /// Its host process is stopped (SIGSTOP), as if it hung
    Hang,
}

impl Inject {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let directory = self.place.find()?;
        let injection = match self.fault {
            Fault::Panic => Injection::Panic,
            Fault::Kill => Injection::Kill,
            Fault::Hang => Injection::Hang,
        };
        in_system(async move {
            let mut operator = Operator::find(&directory).await?;
            let element = self.element;
            let answer = operator.ask(Ask::Inject { element, injection }).await?;
            if answer == Answer::Injected {
                return Ok(());
            }
            Err(OperatorError::unexpected(&answer).into())
        })
    }
}
