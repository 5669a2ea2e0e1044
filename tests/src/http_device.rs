//! A device that speaks HTTP, with a trace of all that it was told, and what it did about it.

#![expect(clippy::unwrap_used, reason = "these are parts of tests")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use lamplighter_policies::physical_world::{DeviceFence, EventId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::application::PATIENCE;

/// A command that reached the device.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Who it says it is.
    pub id: String,
    /// In which epoch of its owner it was sent.
    pub epoch: u64,
    /// What it asked for.
    pub command: Value,
    /// Whether it was carried out.
    pub carried_out: bool,
}

/// What the device does with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It carries it out and answers what it shows.
    Obeys,
    /// It says that it is busy.
    Busy,
    /// It says that it does not take such a command.
    Refuses,
    /// It carries it out and never answers.
    Mute,
    /// It neither does nor answers anything, asked or told.
    Dead,
}

/// A device on the loopback; gone when dropped.
pub struct HttpDevice {
    address: String,
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<u64>,
    _serving: JoinSet<()>,
}

struct State {
    mood: Mood,
    shows: BTreeMap<String, Value>,
    told: Vec<Told>,
    fence: DeviceFence,
}

impl HttpDevice {
    /// A device that shows nothing yet and obeys.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/device", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Obeys,
            shows: BTreeMap::new(),
            told: Vec::new(),
            fence: DeviceFence::default(),
        }));
        let (notice, changed) = watch::channel(0);
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&state), notice));
        Self {
            address,
            state,
            changed,
            _serving: serving,
        }
    }

    /// Its URL.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it does with commands from here on.
    pub fn becomes(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// Somebody sets it by hand.
    pub fn by_hand(&self, name: &str, value: Value) {
        let shows = &mut self.state.lock().unwrap().shows;
        shows.insert(name.to_owned(), value);
    }

    /// What it shows.
    #[must_use]
    pub fn shows(&self) -> Value {
        json!(self.state.lock().unwrap().shows)
    }

    /// All that it was told so far.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.state.lock().unwrap().told.clone()
    }

    /// All that it was told, as soon as that is as wanted.
    pub async fn told_until(&self, wanted: impl Fn(&[Told]) -> bool) -> Vec<Told> {
        let mut changed = self.changed.clone();
        let waiting = async {
            loop {
                changed.borrow_and_update();
                let told = self.told();
                if wanted(&told) {
                    return told;
                }
                changed.changed().await.unwrap();
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("{:?}", self.told()))
    }

    /// The commands that it carried out.
    #[must_use]
    pub fn carried_out(&self) -> Vec<Value> {
        let told = self.told();
        let done = told.into_iter().filter(|told| told.carried_out);
        done.map(|told| told.command).collect()
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, notice: watch::Sender<u64>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (state, notice) = (Arc::clone(&state), notice.clone());
        connections.spawn(async move {
            // Whoever asked may be gone.
            serve(stream, &state, &notice).await.ok();
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(
    mut stream: TcpStream,
    state: &Mutex<State>,
    notice: &watch::Sender<u64>,
) -> io::Result<()> {
    let Some(request) = Request::read(&mut stream).await? else {
        return Ok(());
    };
    let answer = answer(&request, &mut state.lock().unwrap());
    notice.send_modify(|changes| *changes += 1);
    let Some((status, body)) = answer else {
        // It keeps whoever asked waiting until they go.
        stream.read_to_end(&mut Vec::new()).await?;
        return Ok(());
    };
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await
}

/// What the device does and answers; `None` if it keeps silent.
fn answer(request: &Request, state: &mut State) -> Option<(&'static str, Value)> {
    if state.mood == Mood::Dead {
        return None;
    }
    if request.method == "GET" {
        return Some(("200 OK", json!(state.shows)));
    }
    let id = request.headers.get("lamplighter-id").cloned().unwrap();
    let epoch = request.headers["lamplighter-epoch"].parse().unwrap();
    let command: Value = serde_json::from_slice(&request.body).unwrap();
    let sender: EventId = id.parse().unwrap();
    let admitted = state.fence.admits(&sender.source, epoch);
    let carried_out = admitted && matches!(state.mood, Mood::Obeys | Mood::Mute);
    if carried_out {
        for (name, value) in command.as_object().unwrap() {
            state.shows.insert(name.clone(), value.clone());
        }
        let count = state.shows.get("count").and_then(Value::as_u64);
        state
            .shows
            .insert("count".to_owned(), json!(count.unwrap_or(0) + 1));
    }
    state.told.push(Told {
        id,
        epoch,
        command,
        carried_out,
    });
    if !admitted {
        return Some(("412 Precondition Failed", json!("a newer owner was here")));
    }
    match state.mood {
        Mood::Obeys => Some(("200 OK", json!(state.shows))),
        Mood::Busy => Some(("503 Service Unavailable", json!("busy"))),
        Mood::Refuses => Some(("400 Bad Request", json!("no such thing"))),
        Mood::Mute | Mood::Dead => None,
    }
}

struct Request {
    method: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    async fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let mut part = [0; 4_096];
        loop {
            if let Some(request) = Self::parsed(&bytes) {
                return Ok(Some(request));
            }
            let count = stream.read(&mut part).await?;
            if count == 0 {
                return Ok(None);
            }
            bytes.extend_from_slice(&part[..count]);
        }
    }

    fn parsed(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.lines();
        let method = lines.next()?.split(' ').next()?.to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_owned()))
        };
        let headers: BTreeMap<_, _> = lines.filter_map(header).collect();
        let length = headers.get("content-length");
        let length = length.map_or(0, |length| length.parse().unwrap());
        let body = bytes.get(end + 4..end + 4 + length)?.to_vec();
        Some(Self {
            method,
            headers,
            body,
        })
    }
}
