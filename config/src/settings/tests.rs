//! Settings from every layer, and every way to get them wrong.

use super::*;

/// Layers with a file of this text; its directory must outlive the load.
fn layers(text: &str, variables: &[(&str, &str)], flags: &[&str]) -> (tempfile::TempDir, Layers) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    std::fs::write(&path, text).unwrap();
    let layers = Layers {
        file: Some(path),
        variables: variables
            .iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect(),
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
    };
    (directory, layers)
}

fn loaded(text: &str, variables: &[(&str, &str)], flags: &[&str]) -> Loaded {
    let (_directory, layers) = layers(text, variables, flags);
    Settings::load(&layers).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str, variables: &[(&str, &str)], flags: &[&str]) -> SettingsError {
    let (_directory, layers) = layers(text, variables, flags);
    Settings::load(&layers).unwrap_err()
}

fn origin<'l>(loaded: &'l Loaded, key: &str) -> (&'l str, &'l str) {
    let origin = loaded.origins().iter().find(|it| it.key == key).unwrap();
    let place = origin.place.rsplit('/').next().unwrap();
    (&origin.value, place)
}

#[test]
fn without_any_layer_the_defaults_hold() {
    let loaded = loaded("", &[], &[]);
    let expected = Settings {
        log_level: "info".to_owned(),
        log_format: LogFormat::Text,
        run_directory: PathBuf::from(".lamplighter"),
        agents_directory: PathBuf::from(".lamplighter/agents"),
        hosts_directory: PathBuf::from(".lamplighter/hosts"),
        manager_listen: "127.0.0.1:7400".parse().unwrap(),
        store_url: None,
        store_credentials: Credentials::default(),
        broker_url: None,
        broker_credentials: Credentials::default(),
        autonomy_after: None,
        allow_inject: false,
    };
    assert_eq!(loaded.settings, expected);
    assert_eq!(origin(&loaded, "log.level"), ("info", "default"));
    assert_eq!(origin(&loaded, "store.url"), ("", "default"));
}

#[test]
fn a_later_layer_wins_and_each_value_says_where_it_came_from() {
    let loaded = loaded(
        "allow_inject = true\n[log]\nlevel = \"warn\"\nformat = \"json\"\n[store]\n\
         url = \"redis://file:1\"\n",
        &[
            ("LAMPLIGHTER_STORE__URL", "redis://variable:2"),
            ("LAMPLIGHTER_LOG__FORMAT", "text"),
            ("LAMPLIGHTER_AUTONOMY_AFTER", "250ms"),
            ("HOME", "/nobody"),
        ],
        &["log.format=json", "manager.listen=[::1]:0"],
    );
    assert_eq!(
        origin(&loaded, "allow_inject"),
        ("true", "lamplighter.toml:1")
    );
    assert_eq!(origin(&loaded, "log.level"), ("warn", "lamplighter.toml:3"));
    assert_eq!(origin(&loaded, "log.format"), ("json", "flag log.format"));
    assert_eq!(
        origin(&loaded, "store.url"),
        ("redis://variable:2", "LAMPLIGHTER_STORE__URL")
    );
    let settings = &loaded.settings;
    assert_eq!(settings.autonomy_after, Some(Duration::from_millis(250)));
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.manager_listen, "[::1]:0".parse().unwrap());
    assert!(settings.allow_inject);
}

#[test]
fn a_secret_is_named_by_its_place_in_every_layer() {
    let env = |name: &str| Some(SecretSource::Env(name.to_owned()));
    let file = |path: &str| Some(SecretSource::File(path.to_owned()));
    let text = "[store]\nuser = \"lamp\"\npassword = { env = \"A\" }\n";
    let from_file = loaded(text, &[], &[]);
    assert_eq!(from_file.settings.store_credentials.password, env("A"));
    let variable = ("LAMPLIGHTER_STORE__PASSWORD__FILE", "/run/secrets/store");
    let from_variable = loaded(text, &[variable], &[]);
    let password = &from_variable.settings.store_credentials.password;
    assert_eq!(password, &file("/run/secrets/store"));
    let from_flag = loaded(text, &[variable], &["store.password.env=B"]);
    assert_eq!(from_flag.settings.store_credentials.password, env("B"));
    assert_eq!(origin(&from_flag, "store.password").0, "env:B");
}

#[test]
fn a_secret_in_clear_is_refused_in_every_layer_and_not_repeated() {
    let errors = [
        refused(
            "[broker]\nuser = \"x\"\n",
            &[("LAMPLIGHTER_BROKER__PASSWORD", "hunter2")],
            &[],
        ),
        refused("", &[], &["broker.password=hunter2"]),
        refused("", &[], &["broker.url=mqtt://me:hunter2@host:1883"]),
        refused(
            "",
            &[("LAMPLIGHTER_STORE__URL", "redis://:hunter2@host")],
            &[],
        ),
    ];
    for error in errors {
        let shown = error.to_string();
        assert!(
            shown.contains("in clear") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
    let shown = refused("[store]\npassword = \"hunter2\"\n", &[], &[]).to_string();
    assert!(shown.contains("F07") && shown.contains(":2:12"), "{shown}");
}

#[test]
fn faults_of_the_file_name_its_line_and_all_are_told() {
    let text = "[log]\nlevel = \"loud\"\nformat = 3\n[stroe]\nurl = \"x\"\n[manager]\n\
                listne = \"a\"\n";
    let error = refused(text, &[], &[]);
    let file = error.file.unwrap();
    let found: Vec<_> = file
        .faults()
        .iter()
        .map(|fault| {
            let at = fault.place.as_ref().unwrap().start;
            (fault.code.to_string(), file.line_and_column(at))
        })
        .collect();
    let expected = [
        ("F05", (2, 9)),
        ("F03", (3, 10)),
        ("F02", (4, 2)),
        ("F02", (7, 1)),
    ];
    assert_eq!(
        found,
        expected.map(|(code, place)| (code.to_owned(), place))
    );
    assert!(
        file.render(false)
            .contains("did you mean `manager.listen`?")
    );
}

#[test]
fn faults_of_variables_and_flags_name_them() {
    let error = refused(
        "",
        &[
            ("LAMPLIGHTER_STORE__POOLL", "3"),
            ("LAMPLIGHTER_LOG__LEVLE", "info"),
            ("LAMPLIGHTER_ALLOW_INJECT", "maybe"),
        ],
        &["manager.listen=here", "nonsense", "autonomy_after=5"],
    );
    let places: Vec<_> = error
        .faults
        .iter()
        .map(|fault| fault.place.as_str())
        .collect();
    assert_eq!(
        places,
        [
            "LAMPLIGHTER_ALLOW_INJECT",
            "LAMPLIGHTER_LOG__LEVLE",
            "LAMPLIGHTER_STORE__POOLL",
            "flag manager.listen",
            "flag nonsense",
            "flag autonomy_after",
        ]
    );
    assert_eq!(error.faults[1].cure, "did you mean `log.level`?");
}

#[test]
fn a_file_asked_for_by_name_must_be_there() {
    let layers = Layers {
        file: Some(PathBuf::from("/nowhere/settings.toml")),
        ..Layers::default()
    };
    let error = Settings::load(&layers).unwrap_err();
    assert_eq!(error.faults[0].place, "/nowhere/settings.toml");
}

#[test]
fn values_that_look_like_numbers_or_truth_stay_what_they_are() {
    let loaded = loaded(
        "",
        &[("LAMPLIGHTER_STORE__USER", "12.50")],
        &["broker.user=TRUE"],
    );
    assert_eq!(
        loaded.settings.store_credentials.user.as_deref(),
        Some("12.50")
    );
    assert_eq!(
        loaded.settings.broker_credentials.user.as_deref(),
        Some("TRUE")
    );
}

#[test]
fn directories_do_not_climb_with_dots() {
    let error = refused("", &[], &["directories.run=../../etc"]);
    assert!(error.to_string().contains(".."), "{error}");
}
