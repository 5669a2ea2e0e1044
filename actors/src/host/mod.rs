//! A host: the process in which elements live (paper, 4.1: what a fog node hosts).
//!
//! It runs what its agent says. Each element is a cell in a supervised shell, with its own connection
//! to the broker; the store's connection is shared by all of them.

mod json;
mod links;
mod performer;
mod reception;
mod saved;
mod watchdog;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::cell::{Cell, Input};
use lamplighter_policies::protocol::messages::{FromHost, PROTOCOL_VERSION, ToHost};
use lamplighter_runtime::broker::BrokerAddress;
use lamplighter_runtime::clock;
use lamplighter_runtime::process::HostLink;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::redis::{RedisSettings, RedisStore};
use lamplighter_runtime::store::served::{Address, Served, Token};
use lamplighter_runtime::store::{Nonce, StableStore};
use lamplighter_runtime::transport::control::Outbox;
use lamplighter_runtime::transport::mqtt::{ConnectionState, Mqtt, MqttOptions};
use tokio::sync::mpsc;

use self::links::Links;
use self::performer::{Body, Performer, Surroundings};
use self::reception::{Aside, Door, Receipts, Unusable};
use self::watchdog::Progress;
use crate::app::Kind;
use crate::dead_letter::DeadLetter;
use crate::encoding::Encoded;
use crate::instance::Hosted;
use crate::shell::{Incarnation, Role, RoleSettings, Shell};
use crate::spec::{ElementSpec, StoreAccess};

/// How long elements may take for their last checkpoint when the agent is gone.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long the last words may take to leave.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
/// How many messages may wait beside the mailbox.
const ASIDE_MAX: usize = 256;

/// Runs what the agent at the other end of `link` says.
///
/// # Errors
/// For people: why the host could not go on.
pub(crate) async fn run(kinds: &BTreeMap<String, Kind>, mut link: HostLink) -> Result<(), String> {
    let agent = link.outbox();
    let (ended, mut endings) = mpsc::unbounded_channel();
    let mut host = Host {
        kinds,
        agent: agent.clone(),
        stores: Vec::new(),
        elements: BTreeMap::new(),
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
                Ok(Some(told)) => host.told(told).await,
                Ok(None) => stopping = host.stop_all(),
                Err(error) => {
                    tracing::error!(%error, "the agent cannot be understood");
                    stopping = host.stop_all();
                }
            },
            Some(over) = endings.recv() => {
                if let Some(element) = host.elements.remove(&over) {
                    element.role.stop();
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

struct Host<'a> {
    kinds: &'a BTreeMap<String, Kind>,
    agent: Outbox<FromHost>,
    stores: Vec<(StoreAccess, AnyStore)>,
    elements: BTreeMap<EntityId, Running>,
    ended: mpsc::UnboundedSender<EntityId>,
}

/// An element that lives in this process.
struct Running {
    role: Role<Input>,
    body: Rc<RefCell<Body>>,
    allow_inject: bool,
}

impl Host<'_> {
    async fn told(&mut self, told: ToHost) {
        match told {
            ToHost::Assign {
                element,
                epoch_floor,
                spec,
                ..
            } => {
                if let Err(cause) = self.assign(&element, epoch_floor, &spec).await {
                    tracing::error!(%element, cause, "cannot be run");
                    let given_up = FromHost::GivenUp {
                        element: element.clone(),
                        cause,
                        restart_may_help: false,
                    };
                    say(&self.agent, given_up);
                    self.ended.send(element).ok();
                }
            }
            ToHost::Report { request } => {
                for element in self.elements.values() {
                    element.role.tell(Input::ReportAsked { request });
                }
            }
            ToHost::Stop { element } => match self.elements.get(&element) {
                Some(running) => running.role.tell(Input::StopRequested),
                None => {
                    say(&self.agent, FromHost::Stopped { element });
                }
            },
            ToHost::Panic { element } => match self.elements.get(&element) {
                Some(running) if running.allow_inject => {
                    running.body.borrow_mut().hosted.panic_next();
                }
                Some(_) | None => {
                    tracing::warn!(%element, "a drill is refused: it is not allowed here")
                }
            },
        }
    }

    /// Says whether there is nothing more to hear.
    fn stop_all(&self) -> bool {
        for element in self.elements.values() {
            element.role.tell(Input::StopRequested);
        }
        true
    }

    async fn assign(&mut self, id: &EntityId, epoch_floor: u64, spec: &[u8]) -> Result<(), String> {
        let assigned_at = clock::monotonic();
        let spec = ElementSpec::decode(spec)
            .map_err(|error| format!("what the agent says of it cannot be read: {error}"))?;
        let kind = self.kinds.get(&spec.element.kind).ok_or_else(|| {
            format!(
                "this program has no element of kind {:?}",
                spec.element.kind
            )
        })?;
        let links = Rc::new(Links::of(&spec));
        let initial = Encoded::of(&spec.element.state)
            .map_err(|e| e.to_string())?
            .into_bytes();
        let hosted = (kind.make)(id.clone(), initial, links.appliance_ports.clone());
        let store = self.store(&spec).await?;
        let body = Rc::new(RefCell::new(new_body(hosted, epoch_floor, assigned_at)));
        let progress = Progress::new(id.clone());
        watchdog::watch(progress.clone()).map_err(|e| format!("cannot watch its progress: {e}"))?;
        let around = Surroundings {
            spec: Rc::new(spec),
            links,
            store,
            receipts: Receipts::default(),
            agent: self.agent.clone(),
            progress,
            ended: self.ended.clone(),
        };
        let role = start_cell(&body, &around, self.agent.clone());
        let mqtt = open_bindings(&role, &body, &around, kind)?;
        body.borrow_mut().mqtt = Some(mqtt);
        let allow_inject = around.spec.allow_inject;
        self.elements.insert(
            id.clone(),
            Running {
                role,
                body,
                allow_inject,
            },
        );
        Ok(())
    }

    /// One connection per store and process.
    async fn store(&mut self, spec: &ElementSpec) -> Result<AnyStore, String> {
        if let Some((_, store)) = self.stores.iter().find(|(access, _)| *access == spec.store) {
            return Ok(store.clone());
        }
        let store = connect(spec).await?;
        self.stores.push((spec.store.clone(), store.clone()));
        Ok(store)
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
    epoch_floor: u64,
    assigned_at: lamplighter_policies::time::Monotonic,
) -> Body {
    Body {
        hosted,
        committed: BTreeMap::new(),
        fence: None,
        nonce: Nonce(rand::random()),
        epoch_floor,
        mqtt: None,
        trouble: None,
        assigned_at,
        restored_at: assigned_at,
        asking: BTreeMap::new(),
    }
}

async fn connect(spec: &ElementSpec) -> Result<AnyStore, String> {
    match &spec.store {
        StoreAccess::Served { address, token } => {
            let address: Address = address.parse().map_err(|e| format!("{e}"))?;
            let served = Served::connect(address, Token::new(token)).await;
            served
                .map(AnyStore::Served)
                .map_err(|error| error.to_string())
        }
        StoreAccess::Redis {
            url,
            user,
            password,
        } => {
            let url = with_credentials(url, user.as_deref(), password.as_deref());
            let store =
                RedisStore::connect(RedisSettings::new(&url, spec.application.clone())).await;
            store
                .map(AnyStore::Redis)
                .map_err(|error| error.to_string())
        }
    }
}

/// Puts credentials where a Redis URL has them.
fn with_credentials(url: &str, user: Option<&str>, password: Option<&str>) -> String {
    match (url.split_once("://"), password) {
        (Some((scheme, rest)), Some(password)) => {
            format!("{scheme}://{}:{password}@{rest}", user.unwrap_or_default())
        }
        (Some(_) | None, _) => url.to_owned(),
    }
}

fn start_cell(
    body: &Rc<RefCell<Body>>,
    around: &Surroundings,
    agent: Outbox<FromHost>,
) -> Role<Input> {
    let settings = around.links.settings(&around.spec);
    let mailbox = settings.mailbox_max;
    let (body, around) = (Rc::clone(body), around.clone());
    let (id, ended) = (around.spec.id.clone(), around.ended.clone());
    let element = id.clone();
    let factory = move |role: &Role<Input>| {
        saved::Restoring::new(&body, &around).start(role.lasting());
        let performer = Performer::new(Rc::clone(&body), around.clone());
        Incarnation {
            machine: Cell::new(settings.clone()),
            performer,
            first: Vec::new(),
        }
    };
    let escalate = move |escalated: crate::shell::Escalated| {
        let cause = escalated.to_string();
        say(
            &agent,
            FromHost::GivenUp {
                element: id.clone(),
                cause,
                restart_may_help: true,
            },
        );
        ended.send(id).ok();
    };
    let name = format!("cell of {}", element);
    Shell::start(
        RoleSettings {
            mailbox,
            ..RoleSettings::new(name)
        },
        factory,
        escalate,
    )
}

/// Connects to the broker; from here on messages arrive.
fn open_bindings(
    role: &Role<Input>,
    body: &Rc<RefCell<Body>>,
    around: &Surroundings,
    kind: &Kind,
) -> Result<Mqtt, String> {
    let spec = &around.spec;
    let access = &spec.broker;
    let address = BrokerAddress {
        url: access.url.clone(),
        user: access.user.clone(),
        password: access.password.clone(),
    };
    let options = MqttOptions::new(
        address,
        format!("lamplighter-{}-{}", spec.application, spec.id),
    );
    let (aside, asides) = mpsc::channel(ASIDE_MAX);
    let door = Door {
        routes: around.links.routes.clone(),
        role: role.lasting(),
        receipts: around.receipts.clone(),
        aside,
        accepts: kind.accepts,
    };
    let subscriptions = around.links.subscriptions();
    let mqtt = Mqtt::start(
        options,
        subscriptions,
        Arc::new(move |incoming| door.receive(&incoming)),
    )
    .map_err(|error| error.to_string())?;
    actix_rt::spawn(follow_connection(mqtt.state(), role.lasting()));
    actix_rt::spawn(take_asides(
        asides,
        Rc::clone(body),
        around.clone(),
        role.lasting(),
    ));
    Ok(mqtt)
}

/// Tells the cell of every new connection.
async fn follow_connection(
    mut state: tokio::sync::watch::Receiver<ConnectionState>,
    role: Role<Input>,
) {
    let mut told = 0;
    loop {
        match &*state.borrow_and_update() {
            ConnectionState::Connected { count, .. } if *count != told => {
                told = *count;
                role.tell(Input::Connected);
            }
            ConnectionState::Connected { .. } | ConnectionState::Stopped => {}
            ConnectionState::Connecting { attempts, reason } => {
                if *attempts > 0 {
                    tracing::warn!(attempts, ?reason, "the broker is out of reach");
                }
            }
            ConnectionState::TakenOver => {
                tracing::warn!("another process has taken over this element's bindings");
            }
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Takes what arrives beside the mailbox: reports of appliances and messages that are no input.
async fn take_asides(
    mut asides: mpsc::Receiver<Aside>,
    body: Rc<RefCell<Body>>,
    around: Surroundings,
    role: Role<Input>,
) {
    while let Some(aside) = asides.recv().await {
        match aside {
            Aside::Report(report) => {
                let asked = body.borrow_mut().asking.remove(&report.link);
                if let Some(command) = asked {
                    let shown = json::shown(&command.properties, &report.payload);
                    role.tell(Input::Compared {
                        link: report.link,
                        shown,
                    });
                }
            }
            Aside::Unusable(unusable) => {
                bury_unusable(&body, &around, &unusable).await;
            }
        }
    }
}

/// A message that is no input of the element is kept for people, with the reason.
async fn bury_unusable(body: &Rc<RefCell<Body>>, around: &Surroundings, unusable: &Unusable) {
    let Unusable {
        topic,
        reason,
        payload,
    } = unusable;
    let element = &around.spec.id;
    tracing::warn!(%element, topic, reason, "a message is no input; it is among the dead letters");
    let what = format!("message on {topic}: {}", String::from_utf8_lossy(payload));
    let letter = DeadLetter {
        index: 0,
        what,
        cause: reason.clone(),
        at: clock::wall().0,
    };
    let fence = body.borrow().fence.clone();
    if let Some(fence) = fence
        && let Err(error) = around.store.bury(&fence, letter.encode()).await
    {
        tracing::error!(%element, %error, "a dead letter is only in this trace");
    }
}
