//! A broker of either kind, and clients whose messages can be awaited.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::broker::embedded::ready_line;
use lamplighter_runtime::broker::mosquitto::{ManagedMosquitto, MosquittoSettings};
use lamplighter_runtime::transport::mqtt::{
    Incoming, Mqtt, MqttOptions, Publish, QualityOfService, Reception, Subscription,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Nothing here takes a second on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Mosquitto,
}

/// A running broker; killed when dropped.
pub(crate) struct Broker {
    pub(crate) kind: Kind,
    pub(crate) listen: SocketAddr,
    process: Process,
    directory: TempDir,
}

enum Process {
    Embedded(Child),
    Mosquitto(ManagedMosquitto),
    Down,
}

impl Broker {
    pub(crate) async fn start(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listen = free_address();
        let mut broker = Self {
            kind,
            listen,
            process: Process::Down,
            directory,
        };
        broker.start_again().await;
        broker
    }

    /// Starts it where it was before.
    pub(crate) async fn start_again(&mut self) {
        self.process = match self.kind {
            Kind::Embedded => Process::Embedded(start_embedded(self.listen).await),
            Kind::Mosquitto => {
                let settings = MosquittoSettings {
                    directory: self.directory.path().to_owned(),
                    listen: self.listen,
                    credentials: None,
                };
                Process::Mosquitto(ManagedMosquitto::start(settings).await.unwrap())
            }
        };
    }

    /// Ends it in order: Mosquitto saves its sessions, the embedded broker has no place to.
    pub(crate) async fn stop(&mut self) {
        match std::mem::replace(&mut self.process, Process::Down) {
            Process::Embedded(mut child) => {
                drop(child.stdin.take());
                assert!(child.wait().await.unwrap().success());
            }
            Process::Mosquitto(mosquitto) => mosquitto.stop().await.unwrap(),
            Process::Down => {}
        }
    }

    /// Kills it with SIGKILL.
    pub(crate) async fn kill(&mut self) {
        match std::mem::replace(&mut self.process, Process::Down) {
            Process::Embedded(mut child) => child.kill().await.unwrap(),
            Process::Mosquitto(mosquitto) => mosquitto.kill().await.unwrap(),
            Process::Down => {}
        }
    }

    pub(crate) fn address(&self) -> BrokerAddress {
        BrokerAddress::anonymous(self.listen)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn options(&self, client_id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(self.address(), client_id);
        options.keep_alive = Duration::from_secs(1);
        options
    }

    /// A client that only publishes.
    pub(crate) async fn sender(&self, client_id: &str) -> Mqtt {
        let mqtt = Mqtt::start(
            self.options(client_id),
            vec![],
            Arc::new(|_| Reception::Done),
        );
        let mqtt = mqtt.unwrap();
        mqtt.connected(PATIENCE).await.unwrap();
        mqtt
    }

    /// A client that takes everything.
    pub(crate) async fn receiver(&self, client_id: &str, filter: &str) -> Receiver {
        self.receiver_with(self.options(client_id), filter, |_| Reception::Done)
            .await
    }

    /// A client whose messages are seen before `handler` answers.
    pub(crate) async fn receiver_with(
        &self,
        options: MqttOptions,
        filter: &str,
        handler: impl Fn(&Incoming) -> Reception + Send + Sync + 'static,
    ) -> Receiver {
        let (tell, messages) = mpsc::unbounded_channel();
        let handler = Arc::new(move |message: Incoming| {
            tell.send(message.clone()).ok();
            handler(&message)
        });
        let mqtt = Mqtt::start(options, vec![at_least_once(filter)], handler).unwrap();
        mqtt.connected(PATIENCE).await.unwrap();
        Receiver { mqtt, messages }
    }
}

pub(crate) struct Receiver {
    pub(crate) mqtt: Mqtt,
    pub(crate) messages: mpsc::UnboundedReceiver<Incoming>,
}

impl Receiver {
    pub(crate) async fn next(&mut self) -> Incoming {
        tokio::time::timeout(PATIENCE, self.messages.recv())
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn next_payloads(&mut self, count: usize) -> Vec<String> {
        let mut payloads = Vec::new();
        for _ in 0..count {
            payloads.push(text(&self.next().await));
        }
        payloads
    }

    /// Everything up to and with the payload `last`.
    pub(crate) async fn until(&mut self, last: &str) -> Vec<String> {
        let mut payloads = Vec::new();
        while payloads.last().is_none_or(|payload| payload != last) {
            payloads.push(text(&self.next().await));
        }
        payloads
    }

    /// Waits until more than `count` connections have been made.
    pub(crate) async fn connected_after(&self, before: u64) {
        use lamplighter_runtime::transport::mqtt::ConnectionState;
        let newer = |state: &ConnectionState| matches!(state, ConnectionState::Connected { count, .. } if *count > before);
        let mut state = self.mqtt.state();
        tokio::time::timeout(PATIENCE, state.wait_for(newer))
            .await
            .unwrap()
            .unwrap();
    }
}

pub(crate) fn text(message: &Incoming) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap()
}

pub(crate) fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

pub(crate) fn at_least_once(filter: &str) -> Subscription {
    Subscription {
        filter: filter.to_owned(),
        quality: QualityOfService::AtLeastOnce,
    }
}

/// Publishes each payload at QoS 1 and waits until the broker has all.
pub(crate) async fn publish_all(sender: &Mqtt, topic: &str, payloads: &[String]) {
    let publications: Vec<_> = payloads
        .iter()
        .map(|payload| {
            sender
                .publish(topic, payload.clone(), Publish::at_least_once())
                .unwrap()
        })
        .collect();
    for publication in publications {
        tokio::time::timeout(PATIENCE, publication)
            .await
            .unwrap()
            .unwrap();
    }
}

/// A child that has said `ready`, with its standard input open.
pub(crate) async fn start_child(program: &str, arguments: &[&str], ready: &str) -> Child {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(line.as_deref(), Some(ready));
    child
}

async fn start_embedded(listen: SocketAddr) -> Child {
    let program = env!("CARGO_BIN_EXE_broker");
    start_child(program, &[&listen.to_string()], &ready_line(listen)).await
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
