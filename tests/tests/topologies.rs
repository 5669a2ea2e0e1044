//! Topologies that are good give their summary, topologies that are bad all that is wrong.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read its samples fails"
)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lamplighter_config::{
    Checked, Code, Diagnostics, ENTRIES_MAX, FAULTS_MAX, FILE_BYTES_MAX, explain, load, parse,
    summary,
};
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{
    Access, ActuationClass, Appliance, Candidates, DeviceModel, Domain, Evidence, Lag, Liveness,
    OnExpired, OnReturn, Probe, Property, Relative, Reversion, Substitution, Topology, Value,
    built_in,
};

/// What a topology needs before its own part.
const HEAD: &str = "[application]\nname = \"house\"\n[servers.pc]\nstorage = \"volatile\"\n";

/// Longer than any check takes on a busy machine, far shorter than one that grows with the square
/// of what it is given.
const SOON: Duration = Duration::from_secs(60);

/// The files of a folder. They are named as seen from this crate, so that what is told of them is
/// the same everywhere.
fn samples(folder: &str) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(Path::new("topologies").join(folder)).unwrap();
    let mut samples: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (stem, path)
        })
        .collect();
    samples.sort();
    samples
}

fn refused(text: &str) -> Box<Diagnostics> {
    let started = Instant::now();
    let faults = parse("generated.toml", text).expect_err("it is faulty");
    let shown = faults.render(false);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert!(
        shown.lines().all(|line| line.chars().count() < 400),
        "{shown}"
    );
    faults
}

fn codes(faults: &Diagnostics) -> Vec<Code> {
    let mut codes: Vec<_> = faults.faults().iter().map(|fault| fault.code).collect();
    codes.sort();
    codes.dedup();
    codes
}

#[test]
fn a_good_topology_is_summarised_with_its_warnings() {
    for (name, path) in samples("valid") {
        let checked = load(&path).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
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
fn what_follows_from_a_topology_is_explained_before_anything_fails() {
    for (name, path) in samples("valid") {
        let page = explain(&load(&path).unwrap().topology).page();
        assert!(
            page.lines().all(|line| line.chars().count() <= 100),
            "{page}"
        );
        insta::assert_snapshot!(format!("explained_{name}"), page);
    }
    let explained = serde_json::to_value(explain(&devices())).unwrap();
    let dose = explained["flows"].as_array().unwrap().iter();
    let dose = dose.filter(|flow| flow["from"] == "care.dose");
    let expected = serde_json::json!({
        "binding": "doses", "from": "care.dose", "to": "pump", "keeper": "care", "cell": 4,
        "what": "message-log", "when": "optimistic", "site": "emission", "reply": false,
        "storage": "the local log of bedside, then the stable store within 50ms or 16 records",
        "because": "persistent local storage", "holds": "5s", "on_expired": null,
        "acts": "4995ms after it occurred",
        "acts_for_us": 4_995_000,
    });
    assert_eq!(dose.collect::<Vec<_>>(), [&expected]);
}

#[test]
fn the_topology_of_the_smart_home_example_is_good() {
    let path = Path::new("../examples/smart-home/smart-home.toml");
    let checked = load(path).unwrap_or_else(|faults| panic!("{}", faults.render(false)));
    assert!(checked.topology.elements.len() >= 7);
}

#[test]
fn a_topology_travels_to_hosts_and_its_state_becomes_the_authors_type() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Night {
        from: u8,
        dim: f32,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct State {
        hold_secs: u64,
        rooms: Vec<String>,
        night: Night,
    }
    for (name, path) in samples("valid") {
        let topology = load(&path).unwrap().topology;
        let bytes = rmp_serde::to_vec_named(&topology).unwrap();
        let arrived: Topology = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(arrived, topology, "{name}");
        let Some((_, element)) = arrived
            .elements
            .iter()
            .find(|(id, _)| id.as_str() == "orchestrator")
        else {
            continue;
        };
        let state: State =
            rmp_serde::from_slice(&rmp_serde::to_vec_named(&element.state).unwrap()).unwrap();
        let expected = State {
            hold_secs: 30,
            rooms: vec!["bedroom".to_owned(), "living-room".to_owned()],
            night: Night { from: 22, dim: 0.2 },
        };
        assert_eq!(state, expected);
    }
}

fn devices() -> Topology {
    load(Path::new("topologies/valid/devices.toml"))
        .unwrap()
        .topology
}

fn appliance<'t>(topology: &'t Topology, name: &str) -> &'t Appliance {
    let mut named = topology.appliances.iter();
    named.find(|(id, _)| id.as_str() == name).unwrap().1
}

#[test]
fn an_appliance_has_of_its_model_what_its_functions_say_and_the_class_of_its_author() {
    let topology = devices();
    let mut light = built_in("light").unwrap();
    let on_lamp = |name: &String, _: &mut Property| name != "color" && name != "effect";
    light.model.properties.retain(on_lamp);
    let lamp = appliance(&topology, "lamp");
    assert_eq!(lamp.model, light.model);
    assert_eq!(lamp.safe_state, light.safe_state);
    assert_eq!(lamp.class, ActuationClass::Set);

    let strip = &appliance(&topology, "strip").model;
    assert_eq!(strip.class_of("effect"), ActuationClass::Keyed);
    assert_eq!(strip.class_of("brightness_step"), ActuationClass::Delta);
    assert_eq!(strip.other, ActuationClass::Keyed);

    let bedside = appliance(&topology, "bedside-lamp");
    let names: Vec<_> = bedside.model.properties.keys().collect();
    assert_eq!(names, ["brightness", "brightness_step", "press", "state"]);
    let press = &bedside.model.properties["press"];
    assert_eq!(press.capability, "on-off");
    assert_eq!(press.access, Access::Taken);
    assert_eq!(press.class, ActuationClass::Delta);
    assert_eq!(press.relative, Some(Relative::Toggles("state".into())));
}

#[test]
fn a_model_of_the_file_is_read_with_what_it_extends() {
    let plain = |capability: &str, access, domain, class| Property {
        capability: capability.into(),
        access,
        domain,
        class,
        relative: None,
        reverts: None,
        accumulates: false,
    };
    let number = |min, max| Domain::Number { min, max };
    let (shown, taken) = (Access::Shown, Access::Taken);
    let irreversible = ActuationClass::Irreversible;
    let give = Property {
        accumulates: true,
        ..plain("pills", taken, number(1.0, 4.0), irreversible)
    };
    let given = plain("pills", shown, number(0.0, 1e9), irreversible);
    // Of what the model has, `functions` leaves the pills; the evidence stays.
    let expected = DeviceModel {
        name: "aged-dispenser".into(),
        properties: [
            ("give".into(), give),
            ("given".into(), given),
            (
                "last".into(),
                plain("last", shown, Domain::Any, irreversible),
            ),
        ]
        .into(),
        other: irreversible,
        evidence: Some(Evidence::LastCommand("last".into())),
        answers: false,
    };
    let topology = devices();
    assert_eq!(appliance(&topology, "dispenser").model, expected);

    let text = std::fs::read_to_string("topologies/valid/devices.toml").unwrap();
    let whole = text.replace("functions = [\"pills\"]", "");
    let topology = parse("whole.toml", &whole).unwrap().topology;
    let model = &appliance(&topology, "dispenser").model;
    let flap = Property {
        reverts: Some(Reversion {
            to: Value::Text("SHUT".into()),
            after: Duration::from_secs(2),
        }),
        ..plain(
            "flap",
            Access::Both,
            Domain::Choice(vec!["OPEN".into(), "SHUT".into()]),
            ActuationClass::Set,
        )
    };
    assert_eq!(model.properties["flap"], flap);
    let jammed = plain("jammed", shown, Domain::Truth, irreversible);
    assert_eq!(model.properties["jammed"], jammed);
    let note = plain("note", Access::Both, Domain::Any, ActuationClass::Keyed);
    assert_eq!(model.properties["note"], note);
}

#[test]
fn liveness_substitution_and_limits_are_read_with_their_defaults() {
    let topology = devices();
    let lamp = appliance(&topology, "lamp");
    let probe = |every, within| {
        Some(Probe {
            every: Duration::from_secs(every),
            within: Duration::from_millis(within),
        })
    };
    let liveness = Liveness {
        silent_after: Some(Duration::from_secs(3_600)),
        probe: probe(5, 2_000),
        availability: Some("zigbee2mqtt/lamp/availability".into()),
        bridge: Some("zigbee2mqtt/bridge/state".into()),
        debounce: Duration::from_secs(2),
    };
    assert_eq!(lamp.liveness, liveness);
    let substitution = Substitution {
        needs: Some(["brightness".into(), "on-off".into()].into()),
        tolerance: [("brightness".into(), 20.0)].into(),
        purpose: Some("main-light".into()),
        ..Substitution::default()
    };
    assert_eq!(lamp.substitution, substitution);
    assert!(lamp.essential);

    let bedside = appliance(&topology, "bedside-lamp");
    assert_eq!(bedside.liveness.probe, probe(10, 500));
    let id = |kind: &[&str]| kind.iter().map(|id| EntityId::new(id).unwrap()).collect();
    let substitution = Substitution {
        with: Candidates::Only(id(&["lamp"])),
        spaces: std::iter::once(EntityId::new("hall").unwrap()).collect(),
        on_return: OnReturn::GiveBack,
        purpose: Some("main-light".into()),
        spare: true,
        ..Substitution::default()
    };
    assert_eq!(bedside.substitution, substitution);
    assert!(!bedside.essential);
    let lock = appliance(&topology, "lock");
    assert_eq!(lock.substitution.with, Candidates::Nobody);
    assert_eq!(lock.liveness, Liveness::default());

    let elements: Vec<_> = topology.elements.values().collect();
    let limits = elements.iter().map(|it| (it.on_expired, it.lag));
    let lag = |milliseconds, records| Lag {
        time: Duration::from_millis(milliseconds),
        records,
    };
    let expected = [
        (OnExpired::Skip, lag(50, 16)),
        (OnExpired::Absorb, lag(200, 8)),
    ];
    assert_eq!(limits.collect::<Vec<_>>(), expected);
    assert_eq!(topology.store.lease, Duration::from_millis(500));
    assert_eq!(topology.detection.skew_max, Duration::from_millis(5));
}

#[test]
fn every_fault_of_a_bad_topology_is_told_with_its_place_and_cure() {
    let samples = samples("faulty");
    assert!(samples.len() >= 60, "{} faulty topologies", samples.len());
    for (name, path) in samples {
        let faults = load(&path).map(|checked| checked.topology).unwrap_err();
        let shown = faults.render(false);
        assert!(
            shown.chars().all(|c| c == '\n' || !c.is_control()),
            "{name} sends control characters"
        );
        for fault in faults.faults() {
            assert!(fault.cure.is_some(), "{name} has no cure: {fault}");
        }
        if let Some(rule) = name.strip_prefix('v') {
            let code = format!("V{}", &rule[..2]);
            assert!(shown.contains(&code), "{name} does not break {code}");
        }
        insta::assert_snapshot!(format!("faulty_{name}"), shown);
    }
}

#[test]
fn colours_are_our_own_and_change_nothing_else() {
    let path = Path::new("topologies/faulty/hostile_control_characters.toml");
    let faults = load(path).unwrap_err();
    let mut plain = faults.render(true);
    for code in ["1;31", "1;33", "1;34", "36", "0"] {
        plain = plain.replace(&format!("\u{1b}[{code}m"), "");
    }
    assert_eq!(plain, faults.render(false));
}

#[test]
fn a_million_entries_are_refused_before_they_are_read() {
    let mut text = String::from(HEAD);
    for index in 0..1_000_000 {
        writeln!(text, "[elements.e{index}]\nkind = \"E\"").unwrap();
    }
    let faults = refused(&text);
    assert_eq!(codes(&faults), [Code::F06]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("million.toml");
    std::fs::write(&path, &text).unwrap();
    assert_eq!(codes(&load(&path).unwrap_err()), [Code::F06]);
}

#[test]
fn a_file_just_within_the_limit_is_read_and_one_byte_more_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.toml");
    let mut text = format!("{HEAD}[elements.e]\nkind = \"E\"\n#");
    text.push_str(&"x".repeat(FILE_BYTES_MAX - text.len()));
    std::fs::write(&path, &text).unwrap();
    assert!(load(&path).is_ok());
    text.push('x');
    std::fs::write(&path, &text).unwrap();
    assert_eq!(codes(&load(&path).unwrap_err()), [Code::F06]);
}

#[test]
fn more_elements_than_are_allowed_are_one_fault() {
    let mut text = String::from(HEAD);
    for index in 0..=ENTRIES_MAX {
        writeln!(text, "[elements.e{index}]\nkind = \"E\"\nserver = \"pc\"").unwrap();
    }
    assert_eq!(codes(&refused(&text)), [Code::F06]);
}

#[test]
fn a_chain_of_thousands_is_checked_and_closing_it_is_a_cycle() {
    let count = 8_000;
    let mut text = String::from(HEAD);
    for index in 0..count {
        writeln!(text, "[elements.e{index}]\nkind = \"E\"").unwrap();
    }
    for index in 1..count {
        let before = index - 1;
        writeln!(
            text,
            "[bindings.b{index}]\nfrom = \"e{before}\"\nto = \"e{index}\""
        )
        .unwrap();
    }
    let Checked { topology, .. } = parse("chain.toml", &text).unwrap();
    assert_eq!(topology.bindings.len(), count - 1);
    writeln!(
        text,
        "[bindings.b0]\nfrom = \"e{}\"\nto = \"e0\"",
        count - 1
    )
    .unwrap();
    let faults = refused(&text);
    assert_eq!(codes(&faults), [Code::V04]);
    assert_eq!(faults.faults().len(), 1);
}

#[test]
fn a_dense_knot_is_searched_for_a_bounded_time() {
    let count: usize = 150;
    let mut text = String::from(HEAD);
    for index in 0..count {
        writeln!(text, "[elements.e{index}]\nkind = \"E\"").unwrap();
    }
    for (number, (from, to)) in (0..count)
        .flat_map(|from| (0..count).map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .enumerate()
    {
        writeln!(
            text,
            "[bindings.b{number}]\nfrom = \"e{from}\"\nto = \"e{to}\""
        )
        .unwrap();
    }
    let faults = refused(&text);
    assert_eq!(codes(&faults), [Code::V04]);
    assert!(faults.faults()[0].reason.starts_with("2 elements"));
}

#[test]
fn tens_of_thousands_of_faults_are_counted_and_the_first_are_shown() {
    let mut unknown = format!("{HEAD}[elements.e]\nkind = \"E\"\n");
    for index in 0..60_000 {
        writeln!(unknown, "key{index} = 1").unwrap();
    }
    let faults = refused(&unknown);
    assert_eq!(faults.faults().len(), FAULTS_MAX);
    assert_eq!(faults.omitted_count(), 60_000 - FAULTS_MAX);

    let mut unresolved = String::from(HEAD);
    for index in 0..9_000 {
        writeln!(
            unresolved,
            "[elements.e{index}]\nkind = \"E\"\nserver = \"pd\""
        )
        .unwrap();
    }
    assert_eq!(codes(&refused(&unresolved)), [Code::V02]);
    assert_eq!(codes(&refused(&"= = =\n".repeat(100_000))), [Code::F01]);
    assert_eq!(codes(&refused(&"[".repeat(1 << 20))), [Code::F01]);
    let nested = format!("{HEAD}[elements.e]\nstate = {}", "[".repeat(500_000));
    assert!(codes(&refused(&nested)).contains(&Code::F06));
}

#[test]
fn a_network_of_thousands_is_searched_for_a_bounded_time() {
    let count = 3_000;
    let mut text = String::from("[application]\nname = \"grid\"\n");
    let mut ends = Vec::new();
    for index in 0..count {
        writeln!(text, "[servers.s{index}]\nstorage = \"volatile\"").unwrap();
        writeln!(
            text,
            "[elements.e{index}]\nkind = \"E\"\nserver = \"s{index}\""
        )
        .unwrap();
        let next = (index + 1) % count;
        ends.push(format!("[\"s{index}\", \"s{next}\"]"));
        if index > 0 {
            writeln!(
                text,
                "[bindings.b{index}]\nfrom = \"e{index}\"\nto = \"e0\""
            )
            .unwrap();
        }
    }
    let ends = ends.join(", ");
    writeln!(text, "[channels.ring]\nmedium = \"wired\"\nends = [{ends}]").unwrap();
    let started = Instant::now();
    let checked = parse("grid.toml", &text).unwrap_or_else(|it| panic!("{}", it.render(false)));
    assert_eq!(checked.topology.bindings.len(), count - 1);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn what_is_no_file_is_a_fault_that_names_it() {
    for path in ["topologies/nothing-here.toml", "topologies"] {
        let faults = load(Path::new(path)).map(|it| it.topology).unwrap_err();
        assert!(faults.to_string().starts_with(path), "{faults}");
        assert_eq!(codes(&faults), [Code::F04]);
    }
}
