//! Appliances that die while they are in use: another takes over what they showed, or the application does
//! without them, or it has failed and everything is safe (paper, 4.2.4). Real processes, simulated lamps.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

use lamplighter_policies::protocol::appliances::{
    ApplianceState, ApplianceStatus, ApplicationState,
};
use lamplighter_tests::application::{Application, PATIENCE, is_running, kill};
use serde_json::{Value, json};
use tokio::time::Instant;

mod devices;

use devices::Devices;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lights");

#[tokio::test]
async fn a_lamp_dies_while_it_is_on_and_another_takes_over_what_it_showed() {
    let (application, devices) = start(&lamps("", "")).await;
    devices
        .wish("first", &json!({ "state": "ON", "brightness": 127 }), None)
        .await;
    devices.trace("test/a", |trace| trace.len() == 1).await;

    devices.dies("test/a").await;
    let shown = devices.trace("test/b", |trace| !trace.is_empty()).await;
    assert_eq!(shown, [json!({ "on": true, "dimming": 50 })]);
    devices.told("first replaced by b", 1).await;
    let a = appliance(&application, "a", |a| a.replaced_by.is_some()).await;
    assert!(matches!(a.state, ApplianceState::Failed { .. }), "{a:?}");
    assert_eq!(a.replaced_by.unwrap().as_str(), "b");

    // What the element commands goes to the substitute, and what that shows comes to the element.
    devices
        .wish("first", &json!({ "brightness": 254 }), None)
        .await;
    devices.trace("test/b", |trace| trace.len() == 2).await;
    devices
        .shown(|shown| shown["state"] == "ON" && shown["brightness"] == 254)
        .await;

    // So it is after the host has crashed, and nothing is repeated.
    let lights = application.element("lights", is_running).await;
    kill(lights.pid.unwrap()).await;
    application
        .element("lights", |lights| {
            is_running(lights) && lights.restarts == 1
        })
        .await;
    devices
        .wish("first", &json!({ "brightness": 0 }), None)
        .await;
    let shown = devices.trace("test/b", |trace| trace.len() >= 3).await;
    let expected = [
        json!({ "on": true, "dimming": 50 }),
        json!({ "dimming": 100 }),
        json!({ "dimming": 0 }),
    ];
    assert_eq!(shown, expected);

    // And after the manager was started again. The original returns and is given its place back.
    kill(application.process("manager")).await;
    application.element("lights", is_running).await;
    appliance(&application, "a", |a| a.replaced_by.is_some()).await;
    devices.returns("test/a").await;
    let shown = devices.trace("test/a", |trace| trace.len() >= 2).await;
    assert_eq!(shown[1..], [json!({ "state": "ON", "brightness": 0 })]);
    devices.told("first recovered", 1).await;
    devices
        .wish("first", &json!({ "brightness": 9 }), None)
        .await;
    devices
        .trace("test/a", |trace| {
            trace.last() == Some(&json!({ "brightness": 9 }))
        })
        .await;
    assert_eq!(devices.trace("test/b", |_| true).await, expected);
    application.stop().await;
}

#[tokio::test]
async fn a_lamp_that_answers_no_more_is_noticed_without_anybody_saying_so() {
    let probed = "probe = { every = \"1500ms\", within = \"1500ms\" }, debounce = \"500ms\"";
    let (application, devices) = start(&lamps(probed, "")).await;
    appliance(&application, "a", |a| a.state == ApplianceState::Alive).await;
    devices.wish("first", &json!({ "state": "ON" }), None).await;
    devices.trace("test/a", |trace| trace.len() == 1).await;
    devices.falls_silent("test/a");
    let shown = devices.trace("test/b", |trace| !trace.is_empty()).await;
    assert_eq!(shown, [json!({ "on": true })]);
    let a = appliance(&application, "a", |_| true).await;
    let cause = "it does not answer".to_owned();
    assert!(
        matches!(&a.state, ApplianceState::Failed { cause: seen, .. } if *seen == cause),
        "{a:?}"
    );
    application.stop().await;
}

#[tokio::test]
async fn of_two_lamps_that_die_the_critical_one_gets_the_substitute_and_the_other_waits() {
    let (application, devices) = start(&lamps("", "substitute = { with = [\"b\"] }")).await;
    devices.dies("test/c").await;
    devices.told("second replaced by b", 1).await;
    devices.dies("test/a").await;
    // `a` is essential: it takes the only substitute away from `c`.
    devices.told("first replaced by b", 1).await;
    devices.told("second failed", 1).await;
    let c = appliance(&application, "c", |c| c.replaced_by.is_none()).await;
    let reserved = c
        .rejected
        .iter()
        .find(|(id, _)| id.as_str() == "b")
        .unwrap();
    assert_eq!(reserved.1, "it serves in the place of a");
    let (_, state) = application.operator().await.appliances().await.unwrap();
    let reasons = vec!["c failed and nothing can take its place".to_owned()];
    assert_eq!(state, ApplicationState::Degraded { reasons });

    // What is commanded meanwhile waits as long as it holds, the newest of each property.
    devices
        .wish(
            "second",
            &json!({ "state": "OFF", "brightness": 3 }),
            Some(1),
        )
        .await;
    devices
        .wish("second", &json!({ "state": "ON" }), None)
        .await;
    devices.wish("third", &json!({ "state": "ON" }), None).await;
    devices.trace("test/d", |trace| !trace.is_empty()).await;
    devices.returns("test/c").await;
    devices.told("second recovered", 1).await;
    let shown = devices.trace("test/c", |trace| !trace.is_empty()).await;
    assert_eq!(shown, [json!({ "state": "ON" })]);
    application.stop().await;
}

#[tokio::test]
async fn a_bridge_that_is_down_is_one_failure_and_nobody_behind_it_is_replaced() {
    let (application, devices) = start(&lamps("", "")).await;
    devices
        .says("test/bridge/state", r#"{"state":"offline"}"#)
        .await;
    devices.says("test/a/availability", "offline").await;
    let down = |a: &ApplianceStatus| matches!(a.state, ApplianceState::Unreachable { .. });
    let a = appliance(&application, "a", down).await;
    assert_eq!(a.replaced_by, None);
    let (_, state) = application.operator().await.appliances().await.unwrap();
    let reasons = vec!["the bridge that speaks on test/bridge/state is down".to_owned()];
    assert_eq!(state, ApplicationState::Degraded { reasons });

    devices
        .says("test/bridge/state", r#"{"state":"online"}"#)
        .await;
    devices.says("test/a/availability", "online").await;
    appliance(&application, "a", |a| a.state == ApplianceState::Alive).await;
    devices.wish("first", &json!({ "state": "ON" }), None).await;
    let shown = devices.trace("test/a", |trace| !trace.is_empty()).await;
    assert_eq!(shown, [json!({ "state": "ON" })]);
    assert_eq!(devices.trace("test/b", |_| true).await, Vec::<Value>::new());
    application.stop().await;
}

#[tokio::test]
async fn an_essential_lamp_without_substitute_fails_the_application_and_all_is_made_safe() {
    let topology = lamps("", "substitute = { with = \"nobody\" }");
    let (application, devices) =
        start(&topology.replace("with = [\"b\"]", "with = \"nobody\"")).await;
    devices.wish("third", &json!({ "state": "ON" }), None).await;
    devices.trace("test/d", |trace| trace.len() == 1).await;
    devices.dies("test/a").await;
    devices.told("first failed", 1).await;
    let shown = devices.trace("test/d", |trace| trace.len() >= 2).await;
    assert_eq!(shown[1..], [json!({ "state": "OFF" })]);
    let (_, state) = application.operator().await.appliances().await.unwrap();
    let reason = "a is essential, it failed, and nothing can take its place".to_owned();
    assert_eq!(state, ApplicationState::Failed { reason });

    // A failed application commands nothing.
    devices.wish("third", &json!({ "state": "ON" }), None).await;
    devices.told("wish 2", 1).await;
    devices.returns("test/a").await;
    devices.told("first recovered", 1).await;
    devices
        .wish("third", &json!({ "state": "ON", "brightness": 8 }), None)
        .await;
    let shown = devices.trace("test/d", |trace| trace.len() >= 3).await;
    assert_eq!(shown[2..], [json!({ "state": "ON", "brightness": 8 })]);
    application.stop().await;
}

async fn start(topology: &str) -> (Application, Devices) {
    let application = Application::start(PROGRAM, topology).await;
    let bases = ["test/a", "test/b", "test/c", "test/d"];
    let devices = Devices::start(&application.broker, &bases).await;
    (application, devices)
}

/// How an appliance is, as soon as that is as wanted.
async fn appliance(
    application: &Application,
    id: &str,
    wanted: impl Fn(&ApplianceStatus) -> bool,
) -> ApplianceStatus {
    let began = Instant::now();
    loop {
        let mut operator = application.operator().await;
        if let Ok((all, _)) = operator.appliances().await {
            let found = all
                .into_iter()
                .find(|it| it.appliance.as_str() == id)
                .unwrap();
            if wanted(&found) {
                return found;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{found:?} {}",
                application.logs()
            );
        }
        assert!(began.elapsed() < PATIENCE, "{}", application.logs());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// The house, with these signals of `a`, and this besides of `c`.
fn lamps(liveness: &str, of_c: &str) -> String {
    let usual = "availability = \"test/a/availability\", bridge = \"test/bridge/state\", debounce = \"100ms\"";
    let liveness = if liveness.is_empty() { usual } else { liveness };
    LAMPS
        .replace("LIVENESS_OF_A", liveness)
        .replace("REST_OF_C", of_c)
}

/// Four lamps, of which `b` speaks another language and is there to stand in, and `a` is essential.
const LAMPS: &str = r#"
[application]
name = "substitutes"
[servers.pc]
storage = "volatile"
[models.percent]
other = "set"
answers = true
properties.on = { capability = "on-off", values = "truth" }
properties.dimming = { capability = "brightness", values = { min = 0, max = 100 } }
[appliances.a]
api = "mqtt"
role = "both"
model = "light"
functions = ["on-off", "brightness"]
topic = "test/a"
identified_by = "last_seen"
essential = true
liveness = { LIVENESS_OF_A }
substitute = { with = ["b"], on_return = "give-back" }
[appliances.b]
api = "mqtt"
role = "both"
model = "percent"
topic = "test/b"
identified_by = "last_seen"
[appliances.c]
api = "mqtt"
role = "both"
model = "light"
functions = ["on-off", "brightness"]
topic = "test/c"
liveness = { availability = "test/c/availability", debounce = "100ms" }
REST_OF_C
[appliances.d]
api = "mqtt"
role = "both"
model = "light"
functions = ["on-off", "brightness"]
topic = "test/d"
substitute = { with = "nobody" }
[elements.lights]
kind = "Lights"
server = "pc"
inputs = { "test/wish" = "Wish" }
outputs = { changed = { topic = "test/changed" }, shown = { topic = "test/shown" } }
[bindings.first]
from = "lights"
to = "a"
model = "message"
receive = [{ input = "Shows" }]
send = [{ output = "first" }]
[bindings.second]
from = "lights"
to = "c"
model = "message"
send = [{ output = "second" }]
[bindings.third]
from = "lights"
to = "d"
model = "message"
send = [{ output = "third" }]
[store]
kind = "embedded"
[broker]
kind = "embedded"
"#;
