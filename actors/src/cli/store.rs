//! `store check`: whether the store keeps what stable storage promises, and all that is in it is whole.

use std::path::{Path, PathBuf};

use lamplighter_policies::model::{RedisServer, StoreKind, Topology};
use lamplighter_runtime::store::redis::{Finding, RedisStore, Severity};

use super::roles::signed_in;
use super::stored::{Kept, STORE_DIRECTORY, StoredError, out_of_reach};
use super::{Application, CommandError, Has, RunDirectory, checked, in_system, print};
use crate::access::Access;
use crate::spec::StoreAccess;

/// Look after the store of an application.
#[derive(Debug, clap::Args)]
pub(super) struct Store {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check the store as every start does, and that all that is kept can be read
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Check {
    /// The topology [default: that of the application in the run directory]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: RunDirectory,
}

impl Store {
    pub(super) fn run(&self, application: &impl Application) -> Result<(), CommandError> {
        let Action::Check(check) = &self.action;
        check.run(application)
    }
}

impl Check {
    fn run(&self, application: &impl Application) -> Result<(), CommandError> {
        let (directory, topology) = match &self.file {
            None => (self.place.find()?, None),
            Some(file) => {
                let topology = checked(file, Some(&Has::of(application)))?.topology;
                let name = &topology.application.name;
                (self.place.find_for(name.as_str()), Some(topology))
            }
        };
        let ran = Access::read(&directory).map_err(StoredError::from)?;
        in_system(async {
            let mut refusals = 0;
            let redis = match (&topology, &ran) {
                (Some(topology), _) => of_topology(topology, ran.as_ref())?,
                (None, Some(ran)) => Some((ran.store.clone(), ran.topology.clone())),
                (None, None) => return Err(StoredError::NothingRan(directory.clone()).into()),
            };
            if let Some((access, topology)) = redis
                && let Some(settings) = access.redis_settings(&topology.application.name)
            {
                let findings = RedisStore::check(&settings).await.map_err(out_of_reach)?;
                refusals = told(&findings);
            }
            if refusals > 0 {
                return Err(CommandError::StoreRefused(refusals));
            }
            if ran.is_some() {
                return whole(application, &directory).await;
            }
            print(&format!(
                "nothing is kept yet; {} is made at the first start\n",
                directory.join(STORE_DIRECTORY).display()
            ));
            Ok(())
        })
    }
}

/// How the Redis server of a topology is reached; `None` if it has an embedded store.
fn of_topology(
    topology: &Topology,
    ran: Option<&Access>,
) -> Result<Option<(StoreAccess, Topology)>, CommandError> {
    let access = match &topology.store.kind {
        StoreKind::Embedded => return Ok(None),
        StoreKind::Redis(RedisServer::External { url, credentials }) => {
            let (user, password) = signed_in(credentials)?;
            StoreAccess::Redis {
                url: url.clone(),
                user,
                password,
                durability: topology.store.durability,
            }
        }
        // `up` starts it as every check wants it; what can be looked at is the one that runs.
        StoreKind::Redis(RedisServer::Managed) => match ran {
            Some(ran) => ran.store.clone(),
            None => return Ok(None),
        },
    };
    Ok(Some((access, topology.clone())))
}

/// Prints what was found; returns how much of it rules the server out.
fn told(findings: &[Finding]) -> usize {
    for Finding {
        severity,
        what,
        cure,
    } in findings
    {
        let word = match severity {
            Severity::Warn => "warning",
            Severity::Refuse => "refused",
        };
        print(&format!("{word}: {what}\n  = cure: {cure}\n"));
    }
    let refused = |finding: &&Finding| finding.severity == Severity::Refuse;
    findings.iter().filter(refused).count()
}

/// Restores every element, so that whatever is damaged shows.
async fn whole(application: &impl Application, directory: &Path) -> Result<(), CommandError> {
    let kept = Kept::find(directory).await?;
    let mut damaged = 0;
    for element in kept.elements(None)? {
        let line = match kept.saved(&element).await {
            Err(StoredError::NeverRan(_)) => format!("{element}: nothing is kept yet\n"),
            Err(error @ StoredError::Store(_)) => {
                damaged += 1;
                format!("refused: {error}\n")
            }
            Err(error) => return Err(error.into()),
            Ok(saved) => match application.folded(&kept.spec(&element)?, &saved) {
                Ok(_) => format!(
                    "{element}: whole; checkpoint at {}, log up to {}\n",
                    saved.checkpoint, saved.head
                ),
                Err(reason) => {
                    damaged += 1;
                    format!("refused: {element} cannot be restored: {reason}\n")
                }
            },
        };
        print(&line);
    }
    if damaged > 0 {
        return Err(CommandError::StoreRefused(damaged));
    }
    Ok(())
}
