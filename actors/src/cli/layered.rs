//! The settings of a command, in layers: defaults, file, variables, `--set`; its own flags on top.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lamplighter_config::settings::{Layers, Loaded, LogFormat, Settings};

use super::CommandError;

/// Where settings come from besides the environment.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Layered {
    /// The file of settings [default: lamplighter.toml, if there is one]
    #[arg(long)]
    settings: Option<PathBuf>,
    /// A setting, NAME=VALUE; the command `settings` lists all of them
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

/// Settings, and which of them somebody chose.
pub(super) struct Chosen {
    pub(super) settings: Settings,
    loaded: Loaded,
}

impl Layered {
    pub(super) fn load(&self) -> Result<Loaded, CommandError> {
        let layers = Layers::of_process(self.settings.clone(), self.set.clone());
        Ok(Settings::load(&layers)?)
    }

    pub(super) fn chosen(&self) -> Result<Chosen, CommandError> {
        let loaded = self.load()?;
        Ok(Chosen {
            settings: loaded.settings.clone(),
            loaded,
        })
    }

    /// What makes a child of this process read the same layers, wherever it runs.
    pub(super) fn arguments(&self) -> std::io::Result<Vec<OsString>> {
        let mut arguments = Vec::new();
        let file = self.settings.clone().or_else(|| {
            let usual = Path::new("lamplighter.toml");
            usual.exists().then(|| usual.to_owned())
        });
        if let Some(file) = file {
            arguments.extend(["--settings".into(), std::path::absolute(file)?.into()]);
        }
        for setting in &self.set {
            arguments.extend(["--set".into(), setting.into()]);
        }
        Ok(arguments)
    }
}

impl Chosen {
    /// The run directory, if any layer names one.
    pub(super) fn run_directory(&self) -> Option<PathBuf> {
        let origins = self.loaded.origins();
        let named = origins
            .iter()
            .any(|o| o.key == "directories.run" && o.place != "default");
        named.then(|| self.settings.run_directory.clone())
    }

    /// Sends traces to standard error as the settings say, or at `level` if they say nothing;
    /// `RUST_LOG` goes before both.
    pub(super) fn trace(&self, level: &str) {
        let origins = self.loaded.origins();
        let named = origins
            .iter()
            .any(|o| o.key == "log.level" && o.place != "default");
        let level = if named {
            &self.settings.log_level
        } else {
            level
        };
        super::traced(level, self.settings.log_format == LogFormat::Json);
    }
}
