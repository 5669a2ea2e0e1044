//! How every server is, as the global manager knows it (paper, 4.2.4).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Effect, GlobalManager};
use crate::ids::EntityId;
use crate::protocol::control::ServerState;
use crate::time::{Now, WallClock};

/// How one server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: ServerState,
    pub(super) since: Option<WallClock>,
    pub(super) cause: Option<String>,
}

/// By server, how it is.
pub(super) type Standings = BTreeMap<EntityId, Standing>;

impl GlobalManager {
    /// A server failed: it was silent for everybody for as long as its profile says.
    pub(super) fn server_failed(
        &mut self,
        now: Now,
        server: &EntityId,
        cause: String,
        _effects: &mut Vec<Effect>,
    ) {
        self.stands(now, server, ServerState::Failed, Some(cause));
    }

    /// A server that had failed gives signs of life.
    pub(super) fn server_returned(
        &mut self,
        now: Now,
        server: &EntityId,
        _effects: &mut Vec<Effect>,
    ) {
        self.stands(now, server, ServerState::Returned, None);
    }

    pub(super) fn server_state(&self, server: &EntityId) -> ServerState {
        let standing = self.standings.get(server);
        standing.map(|standing| standing.state).unwrap_or_default()
    }

    /// Enters what is thought of a server, if that is news.
    pub(super) fn stands(
        &mut self,
        now: Now,
        server: &EntityId,
        state: ServerState,
        cause: Option<String>,
    ) {
        if let Some(standing) = self.standings.get_mut(server)
            && standing.state != state
        {
            *standing = Standing {
                state,
                since: Some(now.wall),
                cause,
            };
        }
    }
}
