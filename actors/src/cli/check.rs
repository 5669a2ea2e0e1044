//! `check`: everything that is wrong with a topology, or what it describes.

use std::path::PathBuf;

use lamplighter_policies::model::Topology;

use super::{CommandError, Has, checked, complain, print};

/// Check a topology.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The topology, a TOML file
    file: PathBuf,
    /// Say what follows from it and why: who saves what, what repeating a command does, who could take
    /// whose place, who would go where if a server were lost
    #[arg(long)]
    explain: bool,
    /// For programs: the explanation as one JSON object instead of tables
    #[arg(long, requires = "explain")]
    json: bool,
}

impl Check {
    pub(super) fn run(&self, has: &Has) -> Result<(), CommandError> {
        let checked = checked(&self.file, has.anything())?;
        let topology = &checked.topology;
        if self.json {
            if !checked.warnings.is_empty() {
                complain(&checked.warnings.render(false));
            }
            let explained = serde_json::to_value(lamplighter_config::explain(topology));
            let explained = explained.expect("names, numbers and words have a form in JSON");
            print(&format!("{explained:#}\n"));
            return Ok(());
        }
        if !checked.warnings.is_empty() {
            print(&checked.warnings.render(false));
        }
        print(&if self.explain {
            lamplighter_config::explain(topology).page()
        } else {
            lamplighter_config::summary(topology)
        });
        print(stronger(topology));
        Ok(())
    }
}

/// What this version does beyond what the topology asks for; empty where it does just that.
fn stronger(topology: &Topology) -> &'static str {
    let mut savings = topology.flows().filter_map(|flow| topology.saving(flow));
    if savings.all(|saving| saving.policy.is_some()) {
        return "";
    }
    "\nnote: this version logs before delivery also where the table says that nothing is saved.\n\
     That keeps more than was asked for and costs one write to the store.\n"
}
