//! TOML topologies and settings, checked once at the edge.
//!
//! [`load`] turns a file into a topology that the rest of the system takes as it is, or into all
//! that is wrong with it, each fault with its place, its reason and its cure. The rules are those of
//! the paper's model (3.1 to 3.4) and of what saving and recovery need (4.2.1).

mod check;
mod diagnostics;
mod explained;
mod file;
mod reader;
mod render;
mod resolve;
mod secret;
pub mod settings;
mod summary;
mod table;
mod topics;
mod values;

use std::io::Read;
use std::path::Path;

use lamplighter_policies::model::Topology;

use diagnostics::Faults;
pub use diagnostics::{Code, Diagnostics, FAULTS_MAX, Fault, Severity};
pub use explained::{
    ApplianceExplained, Candidate, Explained, FlowExplained, LossExplained, Outcome,
    PropertyExplained, explain,
};
pub use file::{BINDINGS_MAX, ENTRIES_MAX, FILE_BYTES_MAX};
pub use secret::{Secret, SecretError, read_secret};
pub use summary::summary;
pub use values::parse_duration;

/// A topology without errors, and what is worth telling about it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The topology.
    pub topology: Topology,
    /// Warnings and advice.
    pub warnings: Diagnostics,
}

/// Reads and checks a file.
///
/// # Errors
/// Every fault of the file, or the one that it cannot be read.
pub fn load(path: &Path) -> Result<Checked, Box<Diagnostics>> {
    let name = path.display().to_string();
    let refused = |fault: Fault| {
        let mut faults = Faults::default();
        faults.add(fault);
        Box::new(faults.diagnostics(&name, "", true))
    };
    let unreadable = |error: std::io::Error| {
        refused(
            Fault::whole(Code::F04, format!("the file cannot be read: {error}"))
                .cure("check the path and who may read it"),
        )
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // One byte more than is allowed tells a large file, even one that grows or has no end.
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(refused(file::too_large()));
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(&name, &text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let mut faults = Faults::default();
            faults.add(
                Fault::new(Code::F01, at..at + 1, "the file is not text in UTF-8")
                    .label("this byte is not")
                    .cure("save the file as UTF-8"),
            );
            Err(Box::new(faults.diagnostics(&name, &text, true)))
        }
    }
}

/// Checks a text; `name` is what its faults call it.
///
/// # Errors
/// Every fault of the text.
pub fn parse(name: &str, text: &str) -> Result<Checked, Box<Diagnostics>> {
    let mut faults = Faults::default();
    let resolved = file::read(text, &mut faults).map(|document| {
        let (topology, places) = resolve::resolve(document, &mut faults);
        check::check(&topology, &places, &mut faults);
        topology
    });
    match resolved {
        Some(topology) if !faults.has_errors() => Ok(Checked {
            topology,
            warnings: faults.diagnostics(name, text, false),
        }),
        _ => Err(Box::new(faults.diagnostics(name, text, true))),
    }
}
