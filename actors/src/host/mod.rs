//! A host: the process in which elements live (paper, 4.1: what a fog node hosts).
//!
//! It runs what its agent says. Each element is a cell in a supervised shell, with its own connection
//! to the broker; the store's connection is shared by all of them.

mod actuating;
mod adapters;
mod bindings;
mod body;
mod configuring;
#[cfg(test)]
mod deaf_broker;
mod direct;
mod ending;
mod folding;
mod json;
mod leasing;
mod links;
mod performer;
mod reception;
mod saved;
mod stamp;
mod starting;
mod stores;
mod storing;
mod watchdog;
mod words;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::Durability;
use lamplighter_policies::protocol::appliances::Reconfiguration;
use lamplighter_policies::protocol::cell::Input;
use lamplighter_policies::protocol::configurator;
use lamplighter_policies::protocol::messages::{FromHost, Judgement, PROTOCOL_VERSION, ToHost};
use lamplighter_policies::time::Monotonic;
use lamplighter_runtime::clock::{self, Clock};
use lamplighter_runtime::process::HostLink;
use lamplighter_runtime::store::Nonce;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::embedded;
use lamplighter_runtime::store::local::{LocalFirst, LocalPlace};
use lamplighter_runtime::transport::control::Outbox;
use tokio::sync::mpsc;

use self::adapters::{Adapters, Known};
use self::body::{Body, Surroundings};
use self::direct::Callees;
pub(crate) use self::direct::calls_directory;
pub use self::folding::FoldedState;
pub(crate) use self::folding::{explanation, folded, reconfiguration};
use self::links::Links;
use self::reception::Receipts;
use self::starting::start_cell;
use self::stores::{Stores, keep, known};
use self::watchdog::Progress;
use crate::app::Kind;
use crate::author::StartDevice;
use crate::encoding::Encoded;
use crate::instance::Hosted;
use crate::network::Network;
use crate::shell::Role;
use crate::spec::ElementSpec;

/// How long elements may take for their last checkpoint when the agent is gone.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long the last words may take to leave.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// Runs what the agent at the other end of `link` says.
///
/// # Errors
/// For people: why the host could not go on.
pub(crate) async fn run(
    kinds: &BTreeMap<String, Kind>,
    adapters: &BTreeMap<String, StartDevice>,
    place: HostPlace,
    mut link: HostLink,
) -> Result<(), String> {
    let agent = link.outbox();
    let (ended, mut endings) = mpsc::unbounded_channel();
    let (prepared, mut ready) = mpsc::unbounded_channel();
    let mut host = Host {
        kinds,
        adapters: Rc::new(adapters.clone()),
        place,
        agent: agent.clone(),
        stores: Stores::default(),
        elements: BTreeMap::new(),
        callees: Callees::default(),
        preparing: BTreeSet::new(),
        present: BTreeMap::new(),
        prepared,
        ended,
    };
    say(
        &agent,
        FromHost::Hello {
            pid: std::process::id(),
            version: PROTOCOL_VERSION,
        },
    );
    let mut stopping = false;
    loop {
        tokio::select! {
            told = link.next(), if !stopping => match told {
                Ok(Some(told)) => host.told(told),
                Ok(None) => stopping = host.stop_all(),
                Err(error) => {
                    tracing::error!(%error, "the agent cannot be understood");
                    stopping = host.stop_all();
                }
            },
            Some(prepared) = ready.recv() => host.run(prepared),
            Some(over) = endings.recv() => {
                if let Some(element) = host.elements.remove(&over) {
                    element.role.stop();
                    element.configurator.stop();
                }
                if host.elements.is_empty() {
                    break;
                }
            }
            () = tokio::time::sleep(STOP_WITHIN), if stopping => {
                return Err("elements did not stop in time".to_owned());
            }
        }
        if stopping && host.elements.is_empty() {
            break;
        }
    }
    agent.drained(DRAIN_WITHIN).await;
    Ok(())
}

/// An element whose store has been reached, or refuses.
struct Prepared {
    spec: ElementSpec,
    epoch_floor: u64,
    ended_epoch: Option<u64>,
    resume_awaited: bool,
    assigned_at: Monotonic,
    store: Result<(AnyStore, Clock), String>,
}

/// Where a host runs.
#[derive(Clone, Debug)]
pub struct HostPlace {
    /// The server.
    pub server: EntityId,
    /// Its storage, where elements keep local logs.
    pub storage: PathBuf,
    /// Where the sockets for calls between elements are made; without it calls go another way.
    pub calls_directory: Option<PathBuf>,
    /// How other servers are reached, and reach it.
    pub network: Network,
}

struct Host<'a> {
    kinds: &'a BTreeMap<String, Kind>,
    adapters: Rc<Known>,
    place: HostPlace,
    agent: Outbox<FromHost>,
    stores: Stores,
    elements: BTreeMap<EntityId, Running>,
    callees: Callees,
    /// Elements whose store is being reached.
    preparing: BTreeSet<EntityId>,
    /// How those around these are, as far as it is told already.
    present: BTreeMap<EntityId, Reconfiguration>,
    prepared: mpsc::UnboundedSender<Prepared>,
    ended: mpsc::UnboundedSender<EntityId>,
}

/// An element that lives in this process.
struct Running {
    role: Role<Input>,
    configurator: Role<configurator::Input>,
    body: Rc<RefCell<Body>>,
    allow_inject: bool,
    handler_within: Duration,
}

impl Host<'_> {
    fn told(&mut self, told: ToHost) {
        match told {
            ToHost::Assign {
                element,
                epoch_floor,
                ended_epoch,
                spec,
                resume_awaited,
                ..
            } => match ElementSpec::decode(&spec) {
                Ok(spec) => self.prepare(spec, epoch_floor, ended_epoch, resume_awaited),
                Err(error) => {
                    let cause = format!("what the agent says of it cannot be read: {error}");
                    self.give_up(element, cause);
                }
            },
            ToHost::Prepare { spec } => self.connect_ahead(&spec),
            ToHost::Report { request } => {
                for element in self.elements.values() {
                    element.role.tell(Input::ReportAsked { request });
                }
            }
            ToHost::Stop { element } => match self.elements.get(&element) {
                Some(running) => running.role.tell(Input::StopRequested),
                None => {
                    self.preparing.remove(&element);
                    say(
                        &self.agent,
                        FromHost::Stopped {
                            element: element.clone(),
                        },
                    );
                    self.ended.send(element).ok();
                }
            },
            ToHost::Reconfigure {
                element,
                reconfiguration,
            } => self.reconfigure(element, reconfiguration),
            ToHost::Between(message) => self.heard(message),
            ToHost::Digest(digest) => self.digested(&digest),
            ToHost::Panic { element } => match self.elements.get(&element) {
                Some(running) if running.allow_inject => {
                    running.body.borrow_mut().hosted.panic_next();
                }
                Some(_) | None => {
                    tracing::warn!(%element, "a drill is refused: it is not allowed here")
                }
            },
            ToHost::Reach(callee) => self.callees.learnt(callee),
            ToHost::Resume { element } => match self.elements.get(&element) {
                Some(running) => running.role.tell(Input::ResumeOrdered),
                None => tracing::debug!(%element, "it is not here to resume"),
            },
            ToHost::Judge(judgement) => self.judge(judgement),
            ToHost::Ping { number } => {
                let within = self.elements.values().map(|running| running.handler_within);
                let within = within.max().unwrap_or_default();
                say(&self.agent, FromHost::Pong { number, within });
            }
        }
    }

    fn judge(&self, judgement: Judgement) {
        let Judgement {
            element,
            link,
            position,
            verdict,
        } = judgement;
        match self.elements.get(&element) {
            Some(running) => running.role.tell(Input::Judged {
                link,
                position,
                verdict,
            }),
            None => tracing::warn!(%element, "a word about a command comes too late"),
        }
    }

    /// Says whether there is nothing more to hear.
    fn stop_all(&self) -> bool {
        for element in self.elements.values() {
            element.role.tell(Input::StopRequested);
        }
        true
    }

    /// Reaches the store, which may take long, and goes on listening to the agent meanwhile.
    fn prepare(
        &mut self,
        spec: ElementSpec,
        epoch_floor: u64,
        ended_epoch: Option<u64>,
        resume_awaited: bool,
    ) {
        let assigned_at = clock::monotonic();
        self.preparing.insert(spec.id.clone());
        let store = known(&self.stores, &spec.store);
        let (stores, prepared) = (Rc::clone(&self.stores), self.prepared.clone());
        let security = self.place.network.security.clone();
        actix_rt::spawn(async move {
            let store = match store {
                Some(store) => Ok(store),
                None => stores::connect_patiently(&spec, &security)
                    .await
                    .map(|store| keep(&stores, &spec, store)),
            };
            // If the host is gone there is nobody to run it.
            prepared
                .send(Prepared {
                    spec,
                    epoch_floor,
                    ended_epoch,
                    resume_awaited,
                    assigned_at,
                    store,
                })
                .ok();
        });
    }

    /// Reaches the store before there is an element to run. A store that refuses is told of when
    /// there is one.
    fn connect_ahead(&self, spec: &[u8]) {
        let spec = match ElementSpec::decode(spec) {
            Ok(spec) => spec,
            Err(error) => return tracing::warn!(%error, "a spare host cannot prepare"),
        };
        let stores = Rc::clone(&self.stores);
        let security = self.place.network.security.clone();
        actix_rt::spawn(async move {
            match stores::connect_patiently(&spec, &security).await {
                Ok(store) => drop(keep(&stores, &spec, store)),
                Err(cause) => tracing::warn!(cause, "a spare host cannot prepare"),
            }
        });
    }

    fn give_up(&mut self, element: EntityId, cause: String) {
        tracing::error!(%element, cause, "cannot be run");
        let given_up = FromHost::GivenUp {
            element: element.clone(),
            cause,
            restart_may_help: false,
        };
        say(&self.agent, given_up);
        self.ended.send(element).ok();
    }

    fn run(&mut self, prepared: Prepared) {
        let id = prepared.spec.id.clone();
        if self.preparing.remove(&id)
            && let Err(cause) = self.assign(&id, prepared)
        {
            self.give_up(id, cause);
        }
    }

    /// Where the element's log is, if it is saved optimistically or was once.
    fn local_log(&self, spec: &ElementSpec, clock: &Clock) -> LocalPlace {
        LocalPlace {
            server: self.place.server.clone(),
            directory: self.place.storage.join(spec.id.as_str()),
            durability: match spec.element.durability {
                Durability::Required => embedded::Durability::Required,
                Durability::Process => embedded::Durability::Process,
            },
            clock: clock.clone(),
        }
    }

    fn assign(&mut self, id: &EntityId, prepared: Prepared) -> Result<(), String> {
        let present = self.present.remove(id);
        let Prepared {
            spec,
            epoch_floor,
            ended_epoch,
            resume_awaited,
            assigned_at,
            store,
        } = prepared;
        let (store, clock) = store?;
        let kind = self.kinds.get(&spec.element.kind).ok_or_else(|| {
            format!(
                "this program has no element of kind {:?}",
                spec.element.kind
            )
        })?;
        let links = Rc::new(Links::of(&spec));
        if !links.served.is_empty() && !kind.is_callable {
            return Err(format!(
                "the topology lets others call it, and the program registers {:?} with `element`; \
                 implement `Callable` and register it with `callable`",
                spec.element.kind
            ));
        }
        let initial = Encoded::of(&spec.element.state)
            .map_err(|e| e.to_string())?
            .into_bytes();
        let hosted = (kind.make)(id.clone(), initial, links.appliance_ports.clone());
        let body = Body {
            ended_epoch,
            ..new_body(hosted, &links, epoch_floor, assigned_at)
        };
        let body = Rc::new(RefCell::new(body));
        let progress = Progress::new(id.clone());
        watchdog::watch(progress.clone(), spec.element.handler_within)
            .map_err(|e| format!("cannot watch its progress: {e}"))?;
        let store = LocalFirst::new(store, self.local_log(&spec, &clock), spec.saving);
        let around = Surroundings {
            spec: Rc::new(spec),
            links,
            store,
            clock,
            receipts: Receipts::default(),
            agent: self.agent.clone(),
            progress,
            ended: self.ended.clone(),
            callees: self.callees.clone(),
            calls_directory: self.place.calls_directory.clone(),
            network: self.place.network.clone(),
            known_adapters: Rc::clone(&self.adapters),
        };
        let role = start_cell(&body, &around, resume_awaited, present);
        let configurator = configuring::start(&role, &body, &around);
        body.borrow_mut().configurator = Some(configurator.clone());
        if let Err(cause) = bindings::open(&role, &body, &around, kind) {
            configurator.stop();
            role.stop();
            return Err(cause);
        }
        let running = Running {
            role,
            configurator,
            body,
            allow_inject: around.spec.allow_inject,
            handler_within: around.spec.element.handler_within,
        };
        self.elements.insert(id.clone(), running);
        Ok(())
    }
}

/// Tells the agent; without an agent the process is about to end anyhow.
fn say(agent: &Outbox<FromHost>, message: FromHost) {
    if !agent.send(message) {
        tracing::warn!("the agent is not there to be told");
    }
}

fn new_body(
    hosted: Box<dyn Hosted>,
    links: &Links,
    epoch_floor: u64,
    assigned_at: Monotonic,
) -> Body {
    Body {
        hosted,
        committed: BTreeMap::new(),
        fence: None,
        checkpoint: 0,
        nonce: Nonce(rand::random()),
        epoch_floor,
        ended_epoch: None,
        free_at: Monotonic(0),
        proven_at: None,
        mqtt: None,
        direct: None,
        configurator: None,
        trouble: None,
        checkpoint_took: None,
        assigned_at,
        restored_at: assigned_at,
        asking: BTreeMap::new(),
        devices: links.devices.clone(),
        routes: Arc::new(RwLock::new(links.routes.clone())),
        tried_upto: 0,
        adapters: Some(Adapters::default()),
        door: None,
    }
}
