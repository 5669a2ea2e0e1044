//! `new`: a new application that builds and passes its own tests.

use std::path::PathBuf;

use super::{CommandError, print};
use crate::scaffold::{Source, create};

/// Write a new application.
#[derive(Debug, clap::Args)]
pub(super) struct New {
    /// Its name, which is also that of its folder
    name: String,
    /// The folder in which its folder is made
    #[arg(long, default_value = ".")]
    parent: PathBuf,
    /// The folder of the crate `lamplighter`, instead of the version on the registry
    #[arg(long)]
    path: Option<PathBuf>,
}

impl New {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let version = || Source::Version(env!("CARGO_PKG_VERSION").to_owned());
        let source = self.path.map_or_else(version, Source::Path);
        let folder = create(&self.name, &self.parent, &source)?;
        let folder = folder.display();
        print(&format!(
            "{folder} is written; try: cd {folder} && cargo test\n"
        ));
        Ok(())
    }
}
