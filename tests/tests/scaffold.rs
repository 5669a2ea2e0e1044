//! A new application builds and passes its own tests, as `lamplighter new NAME` leaves it.

#![allow(
    clippy::unwrap_used,
    reason = "a test may; helpers of a test are not seen as one"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lamplighter::scaffold::{Source, create};

#[test]
fn a_new_application_builds_and_passes_its_own_tests() {
    let parent = tempfile::tempdir().unwrap();
    let source = Source::Path(top().join("actors"));
    let folder = create("greenhouse", parent.path(), &source).unwrap();
    // The versions that this workspace has been tested with, which are on this machine already.
    fs::copy(top().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();

    let output = Command::new(env!("CARGO"))
        .args(["test", "--offline"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", target())
        // Nobody debugs it, and what it depends on is the same at the next run.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .output()
        .unwrap();

    let shown = String::from_utf8_lossy(&output.stdout);
    let faults = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}\n{faults}");
    assert!(
        shown.contains("test result: ok. 3 passed"),
        "{shown}\n{faults}"
    );
    assert!(!faults.contains("warning"), "{faults}");
}

/// Kept below the workspace's own, so that what it depends on is built once, and apart from it, so
/// that neither waits for the other's lock.
fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .unwrap();
    target.join("scaffold")
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}
