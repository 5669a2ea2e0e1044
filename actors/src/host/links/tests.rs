//! What leads where, and how often.

use super::*;
use crate::spec::{BrokerAccess, StoreAccess};

fn links(outputs: &str) -> Links {
    let text = format!(
        r#"
        [application]
        name = "home"
        [servers.pc]
        storage = "volatile"
        [appliances.lamp]
        api = "mqtt"
        role = "both"
        functions = ["on-off"]
        topic = "home/lamp"
        class = "set"
        [elements.lights]
        kind = "Lights"
        server = "pc"
        inputs = {{ "home/motion" = "Motion" }}
        outputs = {{ {outputs} }}
        "#
    );
    let topology = lamplighter_config::parse("home.toml", &text)
        .unwrap_or_else(|faults| panic!("{faults:?}"))
        .topology;
    let broker = BrokerAccess {
        url: String::new(),
        user: None,
        password: None,
    };
    let store = StoreAccess::Served {
        address: String::new(),
        token: String::new(),
    };
    let lights = EntityId::new("lights").unwrap();
    Links::of(&ElementSpec::of(&topology, &lights, &broker, &store, false).unwrap())
}

fn ids(links: &Links) -> BTreeSet<&str> {
    links.outbound.iter().map(|link| link.id.as_str()).collect()
}

#[test]
fn commands_of_several_ports_to_one_place_of_one_appliance_go_one_way() {
    let lamp = r#"{ appliance = "lamp" }"#;
    let both = links(&format!("light = {lamp}, dim = {lamp}"));
    assert_eq!((both.outbound.len(), ids(&both).len()), (2, 1));
    let apart = links(&format!(
        r#"light = {lamp}, told = {{ topic = "home/told" }}"#
    ));
    assert_eq!(ids(&apart).len(), 2);
}

#[test]
fn only_a_command_all_of_whose_properties_may_be_repeated_reaches_its_appliance_twice() {
    let links = links(r#"light = { appliance = "lamp" }, told = { topic = "home/told" }"#);
    let state: Properties = [("state".to_owned(), "ON".to_owned().into())].into();
    for link in ids(&links) {
        assert!(links.may_repeat(link, &state), "{link}");
    }
    assert!(!links.may_repeat("nobody", &state));
}
