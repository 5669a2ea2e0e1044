//! The end of an element in this process. Whoever owns the element next acts as soon as it hears the
//! last word, so that nothing of this owner may leave after it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use lamplighter_policies::protocol::messages::FromHost;
use lamplighter_runtime::store::Fence;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::local::LocalFirst;

use super::body::{Body, Surroundings};
use super::leasing;

/// How long the broker may take to acknowledge what was published last.
const DISCONNECT_WITHIN: Duration = Duration::from_millis(500);
/// How long the stable store may take for what is only local when the element stops.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// The element took its last checkpoint: the store is told that this owner is over, then the agent.
pub(super) async fn stop(body: &Rc<RefCell<Body>>, around: &Surroundings) {
    silence(body).await;
    if !around.links.devices.is_empty() {
        leasing::release(body, around).await;
    }
    let fence = body.borrow().fence.clone();
    if let Some(fence) = fence {
        close(&around.store, &fence).await;
    }
    let element = around.spec.id.clone();
    say_last(around, FromHost::Stopped { element }).await;
}

/// The element cannot go on here. What is only in the local log is for the next claim.
pub(super) async fn give_up(
    body: &Rc<RefCell<Body>>,
    around: &Surroundings,
    cause: String,
    restart_may_help: bool,
) {
    silence(body).await;
    let element = around.spec.id.clone();
    tracing::error!(%element, cause, "gives up");
    let given_up = FromHost::GivenUp {
        element,
        cause,
        restart_may_help,
    };
    say_last(around, given_up).await;
}

/// Closes every way out.
async fn silence(body: &Rc<RefCell<Body>>) {
    let mqtt = body.borrow_mut().mqtt.take();
    if let Some(mqtt) = mqtt {
        mqtt.disconnect(DISCONNECT_WITHIN).await;
    }
    let adapters = body.borrow_mut().adapters.take();
    if let Some(adapters) = adapters {
        adapters.stop(DISCONNECT_WITHIN).await;
    }
    body.borrow_mut().direct = None;
}

/// An orderly stop leaves nothing in the local log alone.
async fn close(store: &LocalFirst<AnyStore>, fence: &Fence) {
    let closed = tokio::time::timeout(CLOSE_WITHIN, store.close(fence)).await;
    let fault = match closed {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(elapsed) => elapsed.to_string(),
    };
    let element = &fence.element;
    tracing::warn!(%element, fault, "the local log stays ahead; the next start on this server reads it");
}

/// Lets another process have the local log, and tells the agent and this process.
async fn say_last(around: &Surroundings, word: FromHost) {
    around.store.release().await;
    let element = around.spec.id.clone();
    if !around.agent.send(word) {
        tracing::warn!(%element, "the agent is not there to be told");
    }
    // The process waits for this; if it is gone there is nobody to tell.
    around.ended.send(element).ok();
}
