//! `settings`: every setting with its value, and where that comes from.

use std::path::PathBuf;

use lamplighter_config::settings::{self, Layers};

use super::{CommandError, print};

/// Print the settings.
#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// The file of settings [default: lamplighter.toml, if there is one]
    #[arg(long)]
    settings: Option<PathBuf>,
    /// Try a setting as a flag would set it, NAME=VALUE
    #[arg(long = "set")]
    flags: Vec<String>,
}

impl Settings {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let layers = Layers::of_process(self.settings, self.flags);
        let loaded = settings::Settings::load(&layers)?;
        let lines = loaded.origins().iter().map(|origin| format!("{origin}\n"));
        print(&lines.collect::<String>());
        Ok(())
    }
}
