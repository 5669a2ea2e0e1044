//! How a store that is served is reached, and the greeting there.

use std::time::Duration;

use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::client::unavailable;
use super::{
    Address, FRAME_BYTES_MAX, FRAME_MARGIN_BYTES, FromStore, Stream, ToStore, Token, dial,
};
use crate::store::StoreError;
use crate::transport::frame::{FrameError, FrameReceiver, FrameSender, Frames};
use crate::transport::tls::Security;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a store is served and what admits to it.
pub(super) struct Way {
    pub(super) address: Address,
    pub(super) token: Token,
    pub(super) security: Security,
}

/// A connection that was welcomed.
pub(super) struct Connection {
    pub(super) sender: FrameSender<WriteHalf<Box<dyn Stream>>, ToStore>,
    pub(super) receiver: FrameReceiver<ReadHalf<Box<dyn Stream>>, FromStore>,
}

impl Way {
    /// Connects and says hello.
    pub(super) async fn open(&self) -> Result<Connection, StoreError> {
        let Self {
            address,
            token,
            security,
        } = self;
        let attempted = format!("connecting to the store at {address}");
        if let Address::Tcp(at) = address
            && let Err(error) = security.allows(at.ip())
        {
            return Err(StoreError::Refused {
                attempted,
                reason: error.to_string(),
                cure: "start the agent of this machine with --identity".into(),
            });
        }
        let greeted = timeout(CONNECT_TIMEOUT, async {
            let stream = dial(address, security).await?;
            let mut frames: Frames<_, ToStore, FromStore> =
                Frames::new(stream, FRAME_BYTES_MAX + FRAME_MARGIN_BYTES);
            frames
                .send(&ToStore::Hello {
                    token: token.clone(),
                })
                .await?;
            let greeting = frames.next().await?;
            Ok::<_, FrameError>((frames, greeting))
        });
        match greeted.await {
            Ok(Ok((frames, Some(FromStore::Welcome)))) => {
                let (sender, receiver) = frames.split();
                Ok(Connection { sender, receiver })
            }
            Ok(Ok((_, Some(FromStore::Stranger)))) => Err(StoreError::Refused {
                attempted,
                reason: "it does not know the token".into(),
                cure: "start this process through the one that serves the store".into(),
            }),
            Ok(Ok((_, Some(FromStore::Page { .. } | FromStore::Answer { .. }) | None))) => Err(
                unavailable(&attempted, "it closed the connection without a greeting"),
            ),
            Ok(Err(error)) => Err(unavailable(&attempted, &error.to_string())),
            Err(_) => Err(unavailable(&attempted, "it does not answer")),
        }
    }
}
