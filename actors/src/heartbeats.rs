//! The heartbeats of one agent: started in one place, for whoever is the agent (paper, 4.2.2).

use std::io;
use std::net::{SocketAddr, UdpSocket};

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::fog_agent::Input;
use lamplighter_runtime::transport::heartbeat::{HeartbeatPlan, Heartbeats};

use crate::network::address_toward;
use crate::shell::Role;

/// What the heartbeats of an agent need to know.
#[derive(Debug)]
pub(crate) struct HeartbeatPlace<'a> {
    /// Whose they are.
    pub(crate) server: &'a EntityId,
    /// Where the manager is, which shows by which address others reach this machine.
    pub(crate) manager: SocketAddr,
    /// Where they are received, if that is prescribed.
    pub(crate) listen: Option<SocketAddr>,
    /// Higher than that of every agent of this server before.
    pub(crate) incarnation: u64,
    /// The socket of the agent before, if it left one: nobody has to be told of a new address then.
    pub(crate) inherited: Option<UdpSocket>,
}

/// Starts the heartbeats of an agent. What they notice, and where they are heard, is told to `agent`.
///
/// # Errors
/// No socket is to be had, or the thread cannot be started.
pub(crate) fn start(place: HeartbeatPlace<'_>, agent: &Role<Input>) -> io::Result<Heartbeats> {
    let socket = match place.inherited {
        Some(socket) => socket,
        None => {
            let listen = match place.listen {
                Some(listen) => listen,
                None => {
                    SocketAddr::new(address_toward(place.manager).map_err(io::Error::other)?, 0)
                }
            };
            UdpSocket::bind(listen)?
        }
    };
    let plan = HeartbeatPlan {
        server: place.server.clone(),
        incarnation: place.incarnation,
        socket,
    };
    let ear = agent.lasting();
    let heartbeats = Heartbeats::start(plan, move |noticed| {
        tracing::info!(?noticed, "a server");
        ear.tell(Input::ServerNoticed(noticed));
    })?;
    agent.tell(beating(&heartbeats));
    Ok(heartbeats)
}

/// What an agent must know of its heartbeats.
pub(crate) fn beating(heartbeats: &Heartbeats) -> Input {
    Input::Beating {
        address: heartbeats.address().to_string(),
        incarnation: heartbeats.incarnation(),
    }
}
