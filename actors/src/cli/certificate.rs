//! `certificate`: what a server's agent shows of itself off loopback.

use std::path::PathBuf;

use lamplighter_policies::ids::EntityId;
use lamplighter_runtime::clock;
use lamplighter_runtime::transport::tls::{Authority, Identity, Role, Validity, date};

use super::{CommandError, print};
use crate::access::Access;
use crate::network::{NetworkError, authority_directory};

/// Make the identity of a server's agent, to be copied to that server's machine.
///
/// Run it where the manager runs, after the manager was started once with --listen off loopback: that
/// made the authority which signs. The file that it writes holds a secret key; copy it over a way that
/// nobody listens in on, for example scp. To renew, run it again and replace the file at the server:
/// it is used from the next connection on, without a restart.
#[derive(Debug, clap::Args)]
pub(super) struct Certificate {
    /// The server of the topology whose agent it is for
    server: EntityId,
    /// The directory to write it into; for agent --identity
    #[arg(long)]
    out: PathBuf,
    /// For how many days it holds
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=7_300))]
    days: u32,
    /// The manager's run directory
    #[arg(long, env = "LAMPLIGHTER_DIRECTORIES__RUN")]
    run_directory: PathBuf,
}

impl Certificate {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let authority = Authority::open(&authority_directory(&self.run_directory))
            .map_err(NetworkError::from)?;
        let access = Access::read(&self.run_directory)?;
        if let Some(topology) = access.map(|access| access.topology)
            && !topology.servers.contains_key(&self.server)
        {
            let hint = super::stored::hint(&self.server, topology.servers.keys());
            return Err(CommandError::Service(format!(
                "{} has no server {}; {hint}",
                topology.application.name, self.server
            )));
        }
        let validity = Validity::of_days(clock::wall(), self.days);
        let role = Role::Agent(self.server.clone());
        let pem = authority.issue(role, validity);
        let pem = pem.map_err(NetworkError::from)?;
        let path = Identity::write(&self.out, &pem).map_err(NetworkError::from)?;
        print(&format!(
            "{} is the identity of {} in {}, until {}\n\
             copy it to the server's machine, and start there: agent --server {} --identity DIRECTORY …\n",
            path.display(),
            self.server,
            authority.application(),
            date(validity.until),
            self.server
        ));
        Ok(())
    }
}
