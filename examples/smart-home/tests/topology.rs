//! The shipped topology is one that Lamplighter takes, as it stands and as the drill adapts it.

use smart_home::demo::topology::{Adaptation, Broker, Store};

const SHIPPED: &str = include_str!("../smart-home.toml");

#[test]
fn the_shipped_topology_has_no_fault_and_nothing_to_warn_of() {
    assert_eq!(faults(SHIPPED), "");
}

#[test]
fn it_stays_so_with_every_store_broker_and_speed_of_the_drill() {
    for store in [Store::Embedded, Store::Redis] {
        for broker in [Broker::Embedded, Broker::Mosquitto] {
            for speed in [1.0, 20.0] {
                let adaptation = Adaptation {
                    store,
                    broker,
                    speed,
                };
                let adapted = adaptation.apply(SHIPPED);
                assert_eq!(adapted.map(|text| faults(&text)), Ok(String::new()));
            }
        }
    }
}

/// All that is wrong with a topology, in words; empty if nothing is. Advice is no fault: everything in
/// this house hangs on one cable.
fn faults(text: &str) -> String {
    let is_warning =
        |fault: &lamplighter_config::Fault| fault.severity == lamplighter_config::Severity::Warning;
    match lamplighter_config::parse("smart-home.toml", text) {
        Ok(checked) if checked.warnings.faults().iter().any(is_warning) => {
            checked.warnings.render(false)
        }
        Ok(_) => String::new(),
        Err(faults) => faults.render(false),
    }
}
