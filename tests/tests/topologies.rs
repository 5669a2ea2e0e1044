//! Topologies that are good give their summary, topologies that are bad all that is wrong.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its samples fails"
)]

use std::path::{Path, PathBuf};

use lamplighter_config::{load, parse, summary};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("topologies")
        .join(name)
}

/// The files of a folder: the name without its ending, and the text.
fn samples(name: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder(name)).unwrap();
    let mut samples: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (stem, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    samples.sort();
    samples
}

#[test]
fn a_good_topology_is_summarised_with_its_warnings() {
    for (name, text) in samples("valid") {
        let checked = parse(&format!("{name}.toml"), &text)
            .unwrap_or_else(|faults| panic!("{}", faults.render(false)));
        let page = format!(
            "{}\n{}",
            summary(&checked.topology),
            checked.warnings.render(false)
        );
        assert!(
            page.lines().all(|line| line.chars().count() <= 100),
            "{page}"
        );
        insta::assert_snapshot!(format!("valid_{name}"), page);
    }
}

#[test]
fn a_file_on_disk_is_loaded_as_its_text_is_parsed() {
    let path = folder("valid").join("smart-home.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (loaded, parsed) = (
        load(&path).unwrap(),
        parse("smart-home.toml", &text).unwrap(),
    );
    assert_eq!(loaded.topology, parsed.topology);
}
