//! Real elements in real processes under load, killed at random moments: nothing that a device was told is
//! safe is lost, nothing is handled twice, and no command that must not be repeated
//! reaches a device twice.
#![allow(clippy::unwrap_used, reason = "a test that finds something else fails")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamplighter_policies::protocol::control::ElementStatus;
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::transport::mqtt::{
    Mqtt, MqttOptions, Publish, QualityOfService, Reception, Subscription,
};
use lamplighter_tests::application::{Application, PATIENCE, is_running, kill};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

const PROGRAM: &str = env!("CARGO_BIN_EXE_relay");

/// The relay does not return from the twentieth number after it, the first time that it sees that.
const BEFORE_TRAP: u32 = 2_000_000;

/// One event of each source in this time.
const PERIOD: Duration = Duration::from_millis(20);

#[tokio::test]
async fn kills_lose_nothing_and_repeat_nothing_on_the_embedded_store_and_broker() {
    survive_kills("embedded", "kind = \"embedded\"", 1).await;
}

#[tokio::test]
async fn kills_lose_nothing_and_repeat_nothing_on_redis_and_mosquitto() {
    survive_kills("mosquitto", "kind = \"redis\"\nmanaged = true", 2).await;
}

#[tokio::test]
async fn a_poison_message_becomes_a_dead_letter_and_everything_else_goes_on() {
    let application = Application::start(PROGRAM, &topology("embedded", EMBEDDED)).await;
    let outside = Outside::connect(&application.broker).await;
    let load = outside.load(0);
    tokio::time::sleep(PERIOD * 10).await;
    outside.say("test/read", u32::MAX).await.unwrap();
    let buried = |relay: &ElementStatus| {
        relay
            .report
            .as_ref()
            .is_some_and(|report| report.dead_letters == 1)
    };
    application.element("relay", buried).await;
    let said = load.stop().await;
    outside.has_exactly(&said, &application).await;
    application.stop().await;
}

#[tokio::test]
async fn a_host_whose_handler_does_not_return_is_replaced_and_nothing_is_lost() {
    let application = Application::start(PROGRAM, &topology("embedded", EMBEDDED)).await;
    let outside = Outside::connect(&application.broker).await;
    let stuck = application.element("relay", is_running).await.pid;
    let load = outside.load(BEFORE_TRAP);
    let replaced = |relay: &ElementStatus| is_running(relay) && relay.pid != stuck;
    let replaced = application.element("relay", replaced).await;
    let cause = replaced
        .last_failure
        .as_ref()
        .map(|failure| failure.cause.clone());
    assert!(
        cause.clone().is_some_and(|cause| cause.contains("71")),
        "{cause:?}"
    );
    tokio::time::sleep(PERIOD * 10).await;
    let said = load.stop().await;
    outside.has_exactly(&said, &application).await;
    application.stop().await;
}

#[tokio::test]
async fn a_killed_manager_comes_back_while_events_flow() {
    let application = Application::start(PROGRAM, &topology("embedded", EMBEDDED)).await;
    let outside = Outside::connect(&application.broker).await;
    let load = outside.load(0);
    for _ in 0..3 {
        tokio::time::sleep(PERIOD * 10).await;
        kill(application.process("manager")).await;
        application.element("collector", is_running).await;
    }
    let said = load.stop().await;
    outside.has_exactly(&said, &application).await;
    application.stop().await;
}

#[tokio::test]
async fn a_killed_broker_comes_back_and_nothing_between_elements_is_lost() {
    let application = Application::start(PROGRAM, &topology("embedded", EMBEDDED)).await;
    let outside = Outside::connect(&application.broker).await;
    let load = outside.load(0);
    tokio::time::sleep(PERIOD * 20).await;
    kill(application.process("broker")).await;
    load.stop().await;
    outside.mqtt.connected(PATIENCE).await.unwrap();
    // The broker lost what was with it; what the elements had goes on, and so do they.
    let load = outside.load(10_000);
    tokio::time::sleep(PERIOD * 10).await;
    let said = load.stop().await;
    let told = outside.told_with(*said.last().unwrap(), &application).await;
    assert!(told.forwarded.is_sorted_by(|a, b| a < b), "{told:?}");
    assert!(told.direct.is_sorted_by(|a, b| a < b), "{told:?}");
    outside.nothing_was_unlocked_twice();
    application.stop().await;
}

#[tokio::test]
async fn a_second_up_goes_on_with_the_state_of_the_first() {
    let application = Application::start(PROGRAM, &topology("embedded", EMBEDDED)).await;
    let outside = Outside::connect(&application.broker).await;
    let load = outside.load(0);
    tokio::time::sleep(PERIOD * 10).await;
    let mut said = load.stop().await;
    outside.has_exactly(&said, &application).await;
    // Its client would go on looking for the broker, under the name of the next one.
    outside.mqtt.disconnect(Duration::from_secs(1)).await;
    let application = application.start_again().await;
    let outside = Outside::connect(&application.broker).await;
    let load = outside.load(10_000);
    tokio::time::sleep(PERIOD * 10).await;
    said.extend(load.stop().await);
    outside.has_exactly(&said, &application).await;
    application.stop().await;
}

const EMBEDDED: &str = "kind = \"embedded\"";

fn topology(broker: &str, store: &str) -> String {
    format!(
        r#"
[application]
name = "kills"
[servers.pc]
storage = "volatile"
[appliances.lock]
api = "mqtt"
role = "actuator"
functions = ["unlock"]
topic = "test/lock"
class = "irreversible"
[appliances.reader]
api = "mqtt"
role = "sensor"
functions = ["reading"]
topic = "test/read"
identified_by = "n"
[appliances.direct]
api = "mqtt"
role = "sensor"
functions = ["reading"]
topic = "test/direct"
identified_by = "n"
[elements.relay]
kind = "Relay"
server = "pc"
checkpoint = {{ every = 40, interval = "1s" }}
restart = {{ max = 10000, backoff = "1ms..5ms" }}
handler_within = "500ms"
[elements.collector]
kind = "Collector"
server = "pc"
inputs = {{ "test/tell" = "Tell" }}
outputs = {{ unlock = {{ appliance = "lock" }}, command = {{ topic = "test/command" }}, told = {{ topic = "test/told" }} }}
checkpoint = {{ every = 40, interval = "1s" }}
restart = {{ max = 10000, backoff = "1ms..5ms" }}
[bindings.read]
from = "relay"
to = "reader"
model = "message"
receive = [ {{ input = "Read" }} ]
[bindings.directly]
from = "collector"
to = "direct"
model = "message"
receive = [ {{ input = "Direct" }} ]
[bindings.collect]
from = "collector"
to = "relay"
model = "message"
receive = [ {{ output = "forward", input = "Forwarded" }} ]
[store]
{store}
[broker]
kind = "{broker}"
"#
    )
}

/// `KILLS=200` for the long form.
async fn survive_kills(broker: &str, store: &str, seed: u64) {
    let kills = std::env::var("KILLS").map_or(25, |kills| kills.parse().unwrap());
    let application = Application::start(PROGRAM, &topology(broker, store)).await;
    let outside = Outside::connect(&application.broker).await;
    let load = outside.load(0);
    let mut dice = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(dice.random_range(5..400))).await;
        let victim = ["relay", "collector"][dice.random_range(0..2)];
        application.kill_host_of(victim).await;
    }
    let took = began.elapsed();
    let said = load.stop().await;
    let told = outside.has_exactly(&said, &application).await;
    // Commands to the lock go one by one, each after its log entry, and may still be under way.
    let all_sent = |collector: &ElementStatus| {
        collector
            .report
            .as_ref()
            .is_some_and(|report| report.unacknowledged == 0)
    };
    application.element("collector", all_sent).await;
    let restarts = |element| application.element(element, is_running);
    let restarts = restarts("relay").await.restarts + restarts("collector").await.restarts;
    let unlocked = outside.nothing_was_unlocked_twice();
    let keyed = outside.commands.lock().unwrap().keyed.len();
    assert_eq!(keyed, told.forwarded.len(), "every keyed command arrives");
    assert!(unlocked > keyed / 2, "only {unlocked} of {keyed} unlocked");
    eprintln!(
        "{kills} kills in {took:?} ({restarts} restarts) on {broker}: {} readings forwarded, {} direct, \
         {keyed} keyed commands, {unlocked} unlocked",
        told.forwarded.len(),
        told.direct.len(),
    );
    application.stop().await;
}

/// The ids of the commands that arrived.
#[derive(Default)]
struct Commands {
    /// At a device that must not be told twice, and on which of its connections.
    lock: Vec<(String, u64)>,
    /// At one that knows a copy by its id.
    keyed: BTreeSet<String>,
}

/// The devices: they say things, are told what to do, and remember both.
struct Outside {
    mqtt: Arc<Mqtt>,
    commands: Arc<Mutex<Commands>>,
    answers: tokio::sync::Mutex<mpsc::UnboundedReceiver<Told>>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
struct Told {
    question: u32,
    forwarded: Vec<u32>,
    direct: Vec<u32>,
}

impl Outside {
    async fn connect(broker: &str) -> Self {
        let address = BrokerAddress {
            url: broker.to_owned(),
            user: None,
            password: None,
        };
        let subscribe = |filter: &str| Subscription {
            filter: filter.into(),
            quality: QualityOfService::AtLeastOnce,
        };
        let commands = Arc::new(Mutex::new(Commands::default()));
        let (tell, answers) = mpsc::unbounded_channel();
        let heard = Arc::clone(&commands);
        let mqtt = Mqtt::start(
            MqttOptions::new(address, "outside"),
            vec![
                subscribe("test/command"),
                subscribe("test/lock/#"),
                subscribe("test/told"),
            ],
            Arc::new(move |message| {
                if message.topic == "test/told" {
                    let told = serde_json::from_slice(&message.payload).unwrap();
                    tell.send(told).ok();
                } else {
                    let mut properties = message.user_properties.iter();
                    let id = properties.find(|(name, _)| name == "lamplighter-id");
                    let (_, id) = id.expect("a command has an id");
                    let mut commands = heard.lock().unwrap();
                    if message.topic == "test/command" {
                        commands.keyed.insert(id.clone());
                    } else {
                        commands.lock.push((id.clone(), message.connection));
                    }
                }
                Reception::Done
            }),
        );
        let mqtt = mqtt.unwrap();
        mqtt.connected(PATIENCE).await.unwrap();
        Self {
            mqtt: Arc::new(mqtt),
            commands,
            answers: tokio::sync::Mutex::new(answers),
        }
    }

    /// Says something, and returns once the broker has taken it.
    async fn say(&self, topic: &str, number: u32) -> Result<(), String> {
        say(&self.mqtt, topic, number).await
    }

    /// Says `first + 1`, `first + 2` and so on, steadily, to both elements.
    fn load(&self, first: u32) -> Load {
        let (stop, stopped) = watch::channel(false);
        let mqtt = Arc::clone(&self.mqtt);
        let saying = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            let mut ticks = tokio::time::interval(PERIOD);
            for number in first + 1.. {
                ticks.tick().await;
                if *stopped.borrow() {
                    break;
                }
                let both = tokio::join!(
                    say(&mqtt, "test/read", number),
                    say(&mqtt, "test/direct", number)
                );
                if both == (Ok(()), Ok(())) {
                    acknowledged.push(number);
                }
            }
            acknowledged
        });
        Load { stop, saying }
    }

    /// Sees that the collector has exactly what was said, in its order, through both elements.
    async fn has_exactly(&self, said: &[u32], application: &Application) -> Told {
        let last = *said.last().expect("something was said");
        let told = self.told_with(last, application).await;
        assert_eq!(told.direct, said, "direct {}", application.logs());
        assert_eq!(told.forwarded, said, "forwarded {}", application.logs());
        assert!(self.nothing_was_unlocked_twice() <= said.len());
        told
    }

    /// What the collector has, once it has `last` from both.
    async fn told_with(&self, last: u32, application: &Application) -> Told {
        let began = Instant::now();
        let mut answers = self.answers.lock().await;
        for question in 0.. {
            // Without an answer in time the question was lost with a broker or a host.
            self.say("test/tell", question).await.ok();
            let answer = timeout(Duration::from_millis(500), answers.recv()).await;
            if let Ok(Some(told)) = answer
                && told.forwarded.contains(&last)
                && told.direct.contains(&last)
            {
                return told;
            }
            let waited = began.elapsed();
            assert!(
                waited < PATIENCE,
                "{last} is missing {}",
                application.logs()
            );
        }
        unreachable!("questions do not run out")
    }

    fn nothing_was_unlocked_twice(&self) -> usize {
        let commands = self.commands.lock().unwrap();
        let mut ids = BTreeSet::new();
        for (id, _) in &commands.lock {
            assert!(ids.insert(id), "{id} came twice: {:?}", commands.lock);
        }
        ids.len()
    }
}

/// A device that goes on talking.
struct Load {
    stop: watch::Sender<bool>,
    saying: JoinHandle<Vec<u32>>,
}

impl Load {
    /// What the broker acknowledged.
    async fn stop(self) -> Vec<u32> {
        self.stop.send_replace(true);
        self.saying.await.unwrap()
    }
}

async fn say(mqtt: &Mqtt, topic: &str, number: u32) -> Result<(), String> {
    // What devices say is told apart by its number; the question is nobody's.
    let payload = match topic {
        "test/tell" => number.to_string(),
        _ => format!("{{\"n\":{number}}}"),
    };
    let publication = mqtt.publish(topic, payload, Publish::at_least_once());
    let publication = publication.map_err(|error| error.to_string())?;
    publication.await.map_err(|error| error.to_string())
}
