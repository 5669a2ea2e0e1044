//! The licences of all dependencies are those that deny.toml allows, and it allows no others.

#![allow(
    clippy::unwrap_used,
    reason = "a test may; helpers of a test are not seen as one"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let allowed = allowed();
    let refused: Vec<_> = dependencies()
        .into_iter()
        .filter(|(_, licence)| Expression::parse(licence).choose(&allowed).is_none())
        .collect();
    assert_eq!(refused, [], "neither allowed nor excepted in deny.toml");
}

#[test]
fn nothing_is_allowed_that_no_dependency_needs() {
    let allowed = allowed();
    let used: BTreeSet<String> = dependencies()
        .iter()
        .filter_map(|(_, licence)| Expression::parse(licence).choose(&allowed))
        .flatten()
        .collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), allowed);
}

#[test]
fn an_expression_needs_one_side_of_or_and_both_sides_of_and() {
    let allowed = ["BSD-3-Clause", "MIT"].map(String::from);
    let choice = |text| {
        let choice = Expression::parse(text).choose(&allowed)?;
        Some(choice.into_iter().collect::<Vec<_>>().join(" + "))
    };
    assert_eq!(choice("MIT/Apache-2.0").as_deref(), Some("MIT"));
    assert_eq!(
        choice("(Apache-2.0 OR MIT) AND BSD-3-Clause").as_deref(),
        Some("BSD-3-Clause + MIT")
    );
    assert_eq!(choice("Apache-2.0 WITH LLVM-exception"), None);
    assert_eq!(choice("MIT AND GPL-3.0-only"), None);
}

/// Name and licence of everything that is built on this platform, our own crates included.
fn dependencies() -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .arg(format!(
            "--filter-platform={}-unknown-linux-gnu",
            std::env::consts::ARCH
        ))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("no licence is named").to_string();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| (text(&package["name"]), text(&package["license"])))
        .collect()
}

/// All that deny.toml allows, sorted: the list and the exceptions of single crates alike.
fn allowed() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
    let text = fs::read_to_string(path).unwrap();
    let section = text
        .split("[licenses]")
        .nth(1)
        .unwrap()
        .split("\n[")
        .next()
        .unwrap();
    let names = section
        .lines()
        .filter(|line| !line.trim_start().starts_with("crate"));
    let names = names.flat_map(|line| {
        line.split("crate =")
            .next()
            .unwrap()
            .split('"')
            .skip(1)
            .step_by(2)
    });
    let names: BTreeSet<_> = names.map(String::from).collect();
    names.into_iter().collect()
}

/// A licence expression as crates write it: SPDX, or the older form with a slash.
enum Expression {
    One(String),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

impl Expression {
    fn parse(text: &str) -> Self {
        let spaced = text
            .replace('/', " OR ")
            .replace('(', " ( ")
            .replace(')', " ) ");
        let words: Vec<_> = spaced.split_whitespace().collect();
        Self::any(&mut words.as_slice())
    }

    fn any(words: &mut &[&str]) -> Self {
        let mut sides = vec![Self::all(words)];
        while words.first() == Some(&"OR") {
            *words = &words[1..];
            sides.push(Self::all(words));
        }
        Self::Any(sides)
    }

    fn all(words: &mut &[&str]) -> Self {
        let mut sides = vec![Self::one(words)];
        while words.first() == Some(&"AND") {
            *words = &words[1..];
            sides.push(Self::one(words));
        }
        Self::All(sides)
    }

    fn one(words: &mut &[&str]) -> Self {
        let (first, rest) = words.split_first().expect("a licence is named");
        *words = rest;
        if *first == "(" {
            let inner = Self::any(words);
            *words = &words[1..];
            return inner;
        }
        if words.first() == Some(&"WITH") {
            let one = format!("{first} WITH {}", words[1]);
            *words = &words[2..];
            return Self::One(one);
        }
        Self::One((*first).to_string())
    }

    /// The fewest of the allowed licences that together satisfy this.
    fn choose(&self, allowed: &[String]) -> Option<BTreeSet<String>> {
        match self {
            Self::One(name) => allowed
                .contains(name)
                .then(|| BTreeSet::from([name.clone()])),
            Self::All(sides) => {
                let choices: Option<Vec<_>> =
                    sides.iter().map(|side| side.choose(allowed)).collect();
                Some(choices?.into_iter().flatten().collect())
            }
            Self::Any(sides) => sides
                .iter()
                .filter_map(|side| side.choose(allowed))
                .min_by_key(|choice| (choice.len(), !choice.contains("MIT"))),
        }
    }
}
