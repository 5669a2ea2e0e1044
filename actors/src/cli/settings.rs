//! `settings`: every setting with its value, and where that comes from.

use super::layered::Layered;
use super::{CommandError, print};

/// Print the settings.
#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    #[command(flatten)]
    layered: Layered,
}

impl Settings {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let loaded = self.layered.load()?;
        let lines = loaded.origins().iter().map(|origin| format!("{origin}\n"));
        print(&lines.collect::<String>());
        Ok(())
    }
}
