//! The rules of the house as tests: what CONTRIBUTING.md asks for and a program can check.
//!
//! Words that must not occur anywhere are put together from pieces here, so that this file keeps
//! the rules too.

#![allow(
    clippy::unwrap_used,
    reason = "a test may; helpers of a test are not seen as one"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;
const ARCHITECTURE_LINES_MAX: usize = 150;

/// A text file of the project: its path from the top, with forward slashes, and what it holds.
struct Page {
    path: String,
    text: String,
}

impl Page {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is there only to test, show or measure.
    fn is_beside_the_product(&self) -> bool {
        ["tests/", "examples/"]
            .iter()
            .any(|top| self.path.starts_with(top))
            || ["/tests/", "/benches/", "/tests.rs"]
                .iter()
                .any(|part| self.path.contains(part))
    }

    /// Lines of code with their number: no comments, and nothing after the unit tests begin.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines()
            .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

#[test]
fn no_page_is_too_long_to_read() {
    let mut faults = Faults::default();
    for page in pages() {
        let length = page.text.lines().count();
        let limit = match page.path.as_str() {
            "ARCHITECTURE.md" => ARCHITECTURE_LINES_MAX,
            path if path.ends_with(".rs") || path.ends_with(".md") => LINES_MAX,
            _ => continue,
        };
        if length > limit {
            faults.note(
                &page.path,
                length,
                &format!("more than {limit} lines: split it"),
            );
        }
    }
    faults.none();
}

#[test]
fn nothing_is_left_for_later() {
    let later = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("to", "do!("),
        concat!("unimplem", "ented!("),
        concat!("#[ign", "ore"),
        concat!("should_", "panic"),
    ];
    let mut faults = Faults::default();
    for page in pages().iter().filter(|page| page.is_rust()) {
        for (number, line) in page.lines() {
            for word in later.iter().filter(|word| line.contains(**word)) {
                faults.note(
                    &page.path,
                    number,
                    &format!("{word}: do it, or leave it out"),
                );
            }
        }
    }
    faults.none();
}

#[test]
fn unsafe_code_is_nowhere() {
    let mut faults = Faults::default();
    for page in pages().iter().filter(|page| page.is_rust()) {
        let code = page
            .lines()
            .filter(|(_, line)| !line.trim_start().starts_with("//"));
        for (number, line) in code {
            let marks = ["{", "fn ", "impl ", "extern ", "trait "];
            if marks
                .iter()
                .any(|mark| line.contains(&format!("{} {mark}", "unsafe")))
            {
                faults.note(
                    &page.path,
                    number,
                    "unsafe: a crate of the field has this already",
                );
            }
        }
    }
    faults.none();
}

#[test]
fn clocks_are_read_in_one_place() {
    let reads = ["Instant::now", "SystemTime::now", "clock_gettime("];
    let mut faults = Faults::default();
    let product = pages();
    let product = product
        .iter()
        .filter(|page| page.is_rust() && !page.is_beside_the_product())
        .filter(|page| page.path != "runtime/src/clock.rs");
    for page in product {
        for (number, line) in page.product_lines() {
            for read in reads.iter().filter(|read| line.contains(**read)) {
                faults.note(
                    &page.path,
                    number,
                    &format!("{read}: ask runtime/src/clock.rs"),
                );
            }
        }
    }
    faults.none();
}

#[test]
fn public_names_are_whole_words_of_the_glossary() {
    let never = [
        "alm", "cfg", "evt", "gm", "mgr", "msg", "pw", "rvt", "se", "srv",
    ];
    let mut faults = Faults::default();
    for page in pages().iter().filter(|page| page.is_rust()) {
        for (number, line) in page.lines() {
            let Some(name) = public_name(line) else {
                continue;
            };
            for word in words(name)
                .iter()
                .filter(|word| never.contains(&word.as_str()))
            {
                faults.note(
                    &page.path,
                    number,
                    &format!("{name}: say {word} in a whole word"),
                );
            }
        }
    }
    faults.none();
}

#[test]
fn no_page_knows_the_machine_it_was_written_on() {
    let places = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
        concat!("/tmp", "/wt"),
    ];
    let mut faults = Faults::default();
    for page in pages() {
        for (number, line) in page.lines() {
            for place in places.iter().filter(|place| line.contains(**place)) {
                faults.note(
                    &page.path,
                    number,
                    &format!("a path of one machine: {place}"),
                );
            }
        }
    }
    faults.none();
}

#[test]
fn crates_use_only_what_lies_above_them() {
    let own = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_string())
            .collect::<Vec<_>>()
    };
    let allowed = BTreeMap::from([
        ("policies", own(&[])),
        ("config", own(&["lamplighter-policies"])),
        ("runtime", own(&["lamplighter-policies"])),
        (
            "actors",
            own(&[
                "lamplighter-config",
                "lamplighter-policies",
                "lamplighter-runtime",
            ]),
        ),
    ]);
    for (folder, allowed) in allowed {
        let found: Vec<_> = dependencies(folder)
            .into_iter()
            .filter(|name| name.starts_with("lamplighter"))
            .collect();
        assert_eq!(found, allowed, "{folder}/Cargo.toml");
    }
}

#[test]
fn policies_depend_on_serde_and_thiserror_alone() {
    assert_eq!(
        dependencies("policies"),
        ["serde", "serde_bytes", "thiserror"]
    );
    let root = fs::read_to_string(top().join("policies/src/lib.rs")).unwrap();
    assert!(
        root.contains("#![no_std]"),
        "policies must not reach the world"
    );
}

#[test]
fn every_feature_has_one_row_and_every_claim_names_its_evidence() {
    let counts = [
        ('A', 23),
        ('B', 11),
        ('C', 21),
        ('M', 13),
        ('E', 10),
        ('F', 21),
        ('G', 12),
        ('H', 19),
        ('D', 16),
    ];
    let expected: Vec<_> = counts
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}{number}")))
        .collect();
    let text = fs::read_to_string(top().join("docs/features.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_uppercase())
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let found: Vec<_> = rows.iter().map(|row| row[0].to_string()).collect();
    assert_eq!(found, expected);

    let everything = pages();
    let known = |name: &str| {
        everything.iter().any(|page| {
            page.path == name || (page.is_rust() && page.text.contains(&format!("fn {name}(")))
        })
    };
    for row in rows {
        let [id, _, state, evidence] = row[..] else {
            panic!("four columns: {row:?}")
        };
        let names: Vec<_> = evidence.split('`').skip(1).step_by(2).collect();
        match state {
            "not yet" => assert_eq!(names.len(), 0, "{id} is not yet there, yet shown"),
            "works" | "partly" => assert!(!names.is_empty(), "{id} is claimed, not shown"),
            other => panic!("{id}: no such state: {other}"),
        }
        for name in names {
            assert!(known(name), "{id}: there is no test and no file `{name}`");
        }
    }
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut faults = Faults::default();
    for page in pages().iter().filter(|page| page.path.ends_with(".md")) {
        let folder = top().join(&page.path).parent().unwrap().to_path_buf();
        for (number, line) in page.lines() {
            for target in line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split(')').next())
            {
                let file = target.split('#').next().unwrap_or_default();
                let elsewhere = file.is_empty() || file.contains("://");
                if !elsewhere && !folder.join(file).exists() {
                    faults.note(&page.path, number, &format!("no such file: {file}"));
                }
            }
        }
    }
    faults.none();
}

#[test]
fn every_topology_among_the_examples_is_sound() {
    let mut names = Vec::new();
    for page in pages() {
        let is_topology = page.path.starts_with("examples/")
            && page.path.ends_with(".toml")
            && !page.path.ends_with("Cargo.toml");
        if is_topology {
            if let Err(faults) = lamplighter_config::load(&top().join(&page.path)) {
                panic!("{}", faults.render(false));
            }
            names.push(page.path);
        }
    }
    assert!(
        names
            .iter()
            .any(|name| name == "examples/smart-home/smart-home.toml"),
        "{names:?}"
    );
}

/// What a line declares for others to use: an item or a field.
fn public_name(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let rest = [
        "const ", "async ", "fn ", "struct ", "enum ", "trait ", "mod ", "type ", "static ",
    ]
    .iter()
    .fold(rest, |rest, keyword| {
        rest.strip_prefix(keyword).unwrap_or(rest)
    });
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(&rest[..end]).filter(|name| !name.is_empty())
}

/// The words of an identifier, in either style of writing, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().unwrap().extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The names under `[dependencies]` of a crate, in order.
fn dependencies(folder: &str) -> Vec<String> {
    let text = fs::read_to_string(top().join(folder).join("Cargo.toml")).unwrap();
    text.lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_string)
        .collect()
}

/// Every text file that belongs to the project, in the order of their paths. Some are there to be
/// faulty, and are no UTF-8.
fn pages() -> Vec<Page> {
    let mut pages = Vec::new();
    let mut folders = vec![top()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", ".git"].contains(&name.as_str()) {
                folders.push(path);
            } else if path.is_file() && is_text(&name) {
                let shown = path
                    .strip_prefix(top())
                    .unwrap()
                    .to_string_lossy()
                    .replace('\\', "/");
                pages.push(Page {
                    path: shown,
                    text: String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
                });
            }
        }
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        pages.len() > 20,
        "the project was not found at {}",
        top().display()
    );
    pages
}

fn is_text(name: &str) -> bool {
    let plain = ["Makefile", "run", "setup", "verify"];
    let ends = [
        "rs", "md", "toml", "json", "jsonl", "snap", "lua", "sh", "stderr", "stdout", "txt",
    ];
    plain.contains(&name) || ends.iter().any(|end| name.ends_with(&format!(".{end}")))
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// All that is wrong, so that one run of the test tells everything.
#[derive(Default)]
struct Faults(String);

impl Faults {
    fn note(&mut self, path: &str, line: usize, fault: &str) {
        writeln!(self.0, "{path}:{line}: {fault}").unwrap();
    }

    fn none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}
