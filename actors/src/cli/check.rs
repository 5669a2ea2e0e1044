//! `check`: everything that is wrong with a topology, or what it describes.

use std::path::PathBuf;

use super::{CommandError, checked, print};

/// Check a topology.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The topology, a TOML file
    file: PathBuf,
}

impl Check {
    pub(super) fn run(&self, kinds: &[String]) -> Result<(), CommandError> {
        let checked = checked(&self.file, Some(kinds))?;
        if !checked.warnings.is_empty() {
            print(&checked.warnings.render(false));
        }
        print(&lamplighter_config::summary(&checked.topology));
        Ok(())
    }
}
