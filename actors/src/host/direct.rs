//! Function calls: an element's connections to those that it calls and to those that call it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::cell::Input;
use lamplighter_policies::protocol::messages::{Callee, FromHost, Link};
use lamplighter_runtime::transport::control::Token;
use lamplighter_runtime::transport::direct::{
    Dialer, Heard, LinksOf, Listener, Peers, Place, Told, dial,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::body::{Body, Surroundings};
use super::links::Links;
use crate::shell::Role;

/// Where the elements are that this process may have to call, as its agent tells.
#[derive(Clone, Default)]
pub(super) struct Callees(Rc<RefCell<BTreeMap<EntityId, watch::Sender<Option<Callee>>>>>);

impl Callees {
    /// The agent told where an element takes calls.
    pub(super) fn learnt(&self, callee: Callee) {
        let mut callees = self.0.borrow_mut();
        let place = callees.entry(callee.element.clone()).or_default();
        place.send_if_modified(|known| {
            let is_older = |known: &Callee| known.epoch > callee.epoch || *known == callee;
            if known.as_ref().is_some_and(is_older) {
                return false;
            }
            *known = Some(callee.clone());
            true
        });
    }

    fn of(&self, element: &EntityId) -> watch::Receiver<Option<Callee>> {
        let mut callees = self.0.borrow_mut();
        callees.entry(element.clone()).or_default().subscribe()
    }
}

/// The connections of one element; they end when this is dropped.
pub(super) struct Direct {
    pub(super) peers: Peers,
    _listener: Option<Listener>,
    dialing: Vec<JoinHandle<()>>,
}

impl Drop for Direct {
    fn drop(&mut self) {
        for dialing in &self.dialing {
            dialing.abort();
        }
    }
}

/// Listens for callers and connects to callees, once the element's epoch is known. Nothing is done
/// for an element without calls, or a second time.
///
/// # Errors
/// For people: why it cannot listen.
pub(super) async fn open(
    body: &Rc<RefCell<Body>>,
    around: &Surroundings,
    role: &Role<Input>,
) -> Result<(), String> {
    let (spec, links) = (&around.spec, &around.links);
    let epoch = body.borrow().fence.as_ref().map_or(0, |fence| fence.epoch);
    if links.direct.is_empty() || body.borrow().direct.is_some() {
        return Ok(());
    }
    let (peers, told) = (Peers::default(), ear(role.lasting()));
    let token = Token::from_text(&spec.calls_token);
    let mut listener = None;
    if !links.served.is_empty() {
        let place = Place {
            application: spec.application.clone(),
            element: spec.id.clone(),
            epoch,
            token: token.clone(),
            directory: around.calls_directory.clone(),
            tcp: around.network.address,
            security: around.network.security.clone(),
            callers: links.callers(),
        };
        let listening = Listener::start(place, &peers, &told).await;
        let listening = listening.map_err(|error| error.to_string())?;
        let callee = Callee {
            element: spec.id.clone(),
            epoch,
            address: listening.address().clone(),
        };
        super::say(&around.agent, FromHost::Listening(callee));
        listener = Some(listening);
    }
    let dialing = links.callees().into_iter().map(|(to, over)| {
        let callee = around.callees.of(&to);
        let dialer = Dialer {
            application: spec.application.clone(),
            from: spec.id.clone(),
            epoch,
            to,
            token: token.clone(),
            links: over,
            directory: around.calls_directory.clone(),
            security: around.network.security.clone(),
        };
        tokio::spawn(dial(dialer, callee, peers.clone(), told.clone()))
    });
    let dialing = dialing.collect();
    body.borrow_mut().direct = Some(Direct {
        peers,
        _listener: listener,
        dialing,
    });
    Ok(())
}

/// Tells the cell what connections bring. What it does not take now is sent again by its sender.
fn ear(role: Role<Input>) -> Told {
    Arc::new(move |heard| {
        let input = match heard {
            Heard::Reached(links) => return role.tell(Input::Reached { links }),
            Heard::Said(link, Link::Events(envelopes)) => Input::Received { link, envelopes },
            Heard::Said(link, Link::Acknowledged(upto)) => Input::Acknowledged { link, upto },
            Heard::Said(link, Link::Resume(mark)) => Input::ResumeAsked { link, mark },
        };
        if let Err(refused) = role.try_tell(input) {
            tracing::debug!(%refused, "left for its sender to send again");
        }
    })
}

/// Where the sockets of callees are, in the run directory of a server.
pub(crate) fn calls_directory(run_directory: &Path) -> PathBuf {
    run_directory.join("calls")
}

impl Links {
    /// Which links lead to which callers.
    fn callers(&self) -> LinksOf {
        let served = self.served.iter();
        self.peers(served.flat_map(|served| [&served.id, &served.replies]))
    }

    /// Which links lead to which callees.
    fn callees(&self) -> LinksOf {
        let called = self.calls.iter();
        self.peers(called.flat_map(|called| [&called.id, &called.replies]))
    }

    fn peers<'a>(&self, wanted: impl Iterator<Item = &'a EntityId>) -> LinksOf {
        let wanted: BTreeSet<_> = wanted.collect();
        let mut peers = LinksOf::new();
        for (link, peer) in self.direct.iter().filter(|(link, _)| wanted.contains(link)) {
            peers.entry(peer.clone()).or_default().insert(link.clone());
        }
        peers
    }
}
