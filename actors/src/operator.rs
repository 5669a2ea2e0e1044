//! An operator's connection to a running application.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::appliances::{ApplianceStatus, ApplicationState};
use lamplighter_policies::protocol::control::{
    Answer, Ask, FromManager, ManagerStanding, Peer, PlacedStatus, ServerStatus, ToManager,
};
use lamplighter_policies::protocol::forecast::Forecast;
use lamplighter_policies::protocol::global_manager::ledger::Entry;
use lamplighter_policies::protocol::messages::{Judgement, UnknownCommand};
use lamplighter_policies::state_saving::Verdict;
use lamplighter_runtime::transport::control::{
    Admission, ConnectError, ManagerLink, TokenError, connect,
};
use tokio::time::timeout;

use crate::cluster::ADDRESS_FILE;
use crate::network::{self, NetworkError};

/// How long the manager may take to answer a question about the present.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Nothing was ever started there, or it has been stopped.
    #[error("nothing runs in {0}; start it with `up FILE`, or say --run-directory")]
    NothingRuns(PathBuf),
    /// The manager cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The identity of this machine's commands cannot be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The connection broke.
    #[error("the manager ended the connection; ask again")]
    Ended,
    /// No answer came in time.
    #[error("the manager did not answer in time; ask again")]
    Late,
    /// The manager cannot do it.
    #[error("{0}")]
    Refused(String),
    /// No such command waits for a person's word.
    #[error(
        "no command {command} of {element} is of unknown fate; those that wait for a word: {waiting}"
    )]
    NotUnknown {
        /// Whose command was named.
        element: EntityId,
        /// How it was named.
        command: String,
        /// Those that wait.
        waiting: String,
    },
    /// The answer is to another question: the two ends are of different builds.
    #[error("the manager gave another answer than was asked for: {0}")]
    Unexpected(String),
}

impl OperatorError {
    pub(crate) fn unexpected(answer: &Answer) -> Self {
        match answer {
            Answer::Refused { reason } => Self::Refused(reason.clone()),
            Answer::Status { .. }
            | Answer::Ready { .. }
            | Answer::Injected
            | Answer::Judged
            | Answer::Stopped
            | Answer::Done { .. }
            | Answer::Timeline { .. }
            | Answer::Standing(_)
            | Answer::Foreseen(_)
            | Answer::Appliances { .. } => Self::Unexpected(format!("{answer:?}")),
        }
    }
}

/// A connection over which a manager is asked one thing at a time.
#[derive(Debug)]
pub struct Operator {
    link: ManagerLink,
}

impl Operator {
    /// Connects to the manager of the application that runs in `run_directory`.
    ///
    /// # Errors
    /// Nothing runs there, or it does not let us in.
    pub async fn find(run_directory: &Path) -> Result<Self, OperatorError> {
        let nothing = || OperatorError::NothingRuns(run_directory.to_owned());
        let text = std::fs::read_to_string(run_directory.join(ADDRESS_FILE));
        let address: SocketAddr = text
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(nothing)?;
        let admission = network::of_operator(run_directory, address.ip())?;
        match Self::connect(address, &admission).await {
            Err(OperatorError::Connect(ConnectError::Away { .. })) => Err(nothing()),
            outcome => outcome,
        }
    }

    /// Connects to the manager at `address`.
    ///
    /// # Errors
    /// Nobody is there, or it does not let us in.
    pub async fn connect(
        address: SocketAddr,
        admission: &Admission,
    ) -> Result<Self, OperatorError> {
        let link = connect(address, admission, Peer::Operator).await?;
        Ok(Self { link })
    }

    /// Asks, and waits for the answer as long as it takes.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn ask(&mut self, ask: Ask) -> Result<Answer, OperatorError> {
        if !self.link.outbox.send(ToManager::Operator(ask)) {
            return Err(OperatorError::Ended);
        }
        self.answer().await
    }

    /// How every server and element is.
    ///
    /// # Errors
    /// The connection broke, or no answer came in time.
    pub async fn status(
        &mut self,
    ) -> Result<(Vec<ServerStatus>, Vec<PlacedStatus>), OperatorError> {
        let asking = async {
            let (mut all_servers, mut all_elements) = (Vec::new(), Vec::new());
            let mut answer = self.ask(Ask::Status).await?;
            loop {
                let Answer::Status {
                    elements,
                    servers,
                    more,
                } = answer
                else {
                    return Err(OperatorError::unexpected(&answer));
                };
                all_elements.extend(elements);
                all_servers.extend(servers);
                if !more {
                    return Ok((all_servers, all_elements));
                }
                answer = self.answer().await?;
            }
        };
        timeout(ANSWER_TIMEOUT, asking)
            .await
            .map_err(|_| OperatorError::Late)?
    }

    /// Says what became of a command of unknown fate, named as the status names it. The element takes
    /// the word once: when it has it in its log, the status lists the command no more.
    ///
    /// # Errors
    /// No such command waits for a word, or the manager cannot pass it on.
    pub async fn judge(
        &mut self,
        element: &EntityId,
        command: &str,
        verdict: Verdict,
    ) -> Result<UnknownCommand, OperatorError> {
        let (_, elements) = self.status().await?;
        let status = elements.into_iter().map(|placed| placed.status);
        let report = status
            .filter(|status| status.element == *element)
            .find_map(|status| status.report);
        let waiting = report.map(|report| report.unknown).unwrap_or_default();
        let named = waiting.iter().find(|unknown| unknown.id == command);
        let Some(named) = named.cloned() else {
            let ids: Vec<&str> = waiting.iter().map(|unknown| unknown.id.as_str()).collect();
            return Err(OperatorError::NotUnknown {
                element: element.clone(),
                command: command.to_owned(),
                waiting: match ids.is_empty() {
                    true => "none".to_owned(),
                    false => ids.join(", "),
                },
            });
        };
        let judgement = Judgement {
            element: element.clone(),
            link: named.link.clone(),
            position: named.position,
            verdict,
        };
        let asking = self.ask(Ask::Judge(judgement));
        let answer = timeout(ANSWER_TIMEOUT, asking).await;
        let answer = answer.map_err(|_| OperatorError::Late)??;
        if answer == Answer::Judged {
            return Ok(named);
        }
        Err(OperatorError::unexpected(&answer))
    }

    /// How every appliance is, and the application as far as its appliances go.
    ///
    /// # Errors
    /// The connection broke, or no answer came in time.
    pub async fn appliances(
        &mut self,
    ) -> Result<(Vec<ApplianceStatus>, ApplicationState), OperatorError> {
        let asking = async {
            let mut all = Vec::new();
            let mut answer = self.ask(Ask::Appliances).await?;
            loop {
                let Answer::Appliances {
                    appliances,
                    application,
                    more,
                } = answer
                else {
                    return Err(OperatorError::unexpected(&answer));
                };
                all.extend(appliances);
                if !more {
                    return Ok((all, application));
                }
                answer = self.answer().await?;
            }
        };
        timeout(ANSWER_TIMEOUT, asking)
            .await
            .map_err(|_| OperatorError::Late)?
    }

    /// How the manager itself is, and what it is about to do.
    ///
    /// # Errors
    /// The connection broke, or no answer came in time.
    pub async fn standing(&mut self) -> Result<ManagerStanding, OperatorError> {
        let asking = self.ask(Ask::Standing);
        let answer = timeout(ANSWER_TIMEOUT, asking).await;
        let answer = answer.map_err(|_| OperatorError::Late)??;
        let Answer::Standing(standing) = answer else {
            return Err(OperatorError::unexpected(&answer));
        };
        Ok(standing)
    }

    /// What would become of everything if an entity failed now.
    ///
    /// # Errors
    /// The connection broke, no answer came in time, or there is no such entity.
    pub async fn if_fails(&mut self, entity: EntityId) -> Result<Forecast, OperatorError> {
        let asking = self.ask(Ask::IfFails(entity));
        let answer = timeout(ANSWER_TIMEOUT, asking).await;
        let answer = answer.map_err(|_| OperatorError::Late)??;
        let Answer::Foreseen(forecast) = answer else {
            return Err(OperatorError::unexpected(&answer));
        };
        Ok(*forecast)
    }

    /// What was decided and repaired, oldest first; of one entity only, if that is given.
    ///
    /// # Errors
    /// The connection broke, or no answer came in time.
    pub async fn timeline(
        &mut self,
        entity: Option<EntityId>,
    ) -> Result<Vec<Entry>, OperatorError> {
        let asking = async {
            let mut all = Vec::new();
            let mut answer = self.ask(Ask::Timeline { entity }).await?;
            loop {
                let Answer::Timeline { entries, more } = answer else {
                    return Err(OperatorError::unexpected(&answer));
                };
                all.extend(entries);
                if !more {
                    return Ok(all);
                }
                answer = self.answer().await?;
            }
        };
        timeout(ANSWER_TIMEOUT, asking)
            .await
            .map_err(|_| OperatorError::Late)?
    }

    async fn answer(&mut self) -> Result<Answer, OperatorError> {
        match self.link.receiver.next().await {
            Ok(Some(FromManager::Operator(answer))) => Ok(answer),
            Ok(Some(FromManager::Refused { reason })) => Err(OperatorError::Refused(reason)),
            Ok(Some(FromManager::Welcome | FromManager::Agent(_)) | None) | Err(_) => {
                Err(OperatorError::Ended)
            }
        }
    }
}
