//! Whose turn it is to act on the world: proofs of ownership, and the end of the owner before.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use lamplighter_policies::physical_world::Predecessor;
use lamplighter_policies::protocol::cell::Input;
use lamplighter_policies::time::Monotonic;
use lamplighter_runtime::clock;
use lamplighter_runtime::store::{Delta, Fence, Saved, StableStore, codec};
use serde_bytes::ByteBuf;

use super::body::{Body, Surroundings};
use super::performer::Performer;
use super::storing::cause;
use crate::encoding::Encoded;
use crate::shell::Role;
use crate::spec::ElementSpec;

/// The field that says which owner stopped in order. No checkpoint of a live element has it.
const RELEASED: &str = "!released";
/// How long an element that stops waits for the store to hear that it acts no more.
const RELEASE_WITHIN: Duration = Duration::from_secs(1);

/// Until when the owner before may act, for one who has just claimed. Its lease counts from our claim,
/// which the store took after the last answer that it gave to the other.
pub(super) fn free_at(body: &Body, spec: &ElementSpec, fence: &Fence, saved: &Saved) -> Monotonic {
    let before = Predecessor {
        claimed: fence.epoch,
        seen_to_end: body.ended_epoch,
        released: released(&fence.element, saved),
    };
    if !before.is_over() {
        tracing::info!(
            element = %fence.element, epoch = fence.epoch,
            "nobody saw the owner before end: commands to appliances wait until its lease is over"
        );
    }
    before.free_at(clock::monotonic(), spec.lease)
}

/// The epoch of the owner that stopped in order last.
fn released(element: &lamplighter_policies::ids::EntityId, saved: &Saved) -> Option<u64> {
    let sealed = saved.fields.get(RELEASED)?;
    let bytes = codec::decode_field(element, RELEASED, sealed).ok()?;
    lamplighter_runtime::message_pack::decode(bytes).ok()
}

/// Says in the store that this owner acts no more, so that the next one need not wait.
pub(super) async fn release(body: &Rc<RefCell<Body>>, around: &Surroundings) {
    let upto = body.borrow().checkpoint;
    let Some(fence) = body.borrow().fence.clone() else {
        return;
    };
    let epoch = Encoded::of(&fence.epoch).expect("a number encodes");
    let sealed = codec::encode_field(&fence.element, RELEASED, epoch.bytes());
    let change = Delta {
        upto,
        set: vec![(RELEASED.to_owned(), ByteBuf::from(sealed))],
        delete: Vec::new(),
    };
    let releasing = around.store.checkpoint(&fence, change);
    match tokio::time::timeout(RELEASE_WITHIN, releasing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!(%error, "the next owner has to wait for the lease"),
        Err(_) => tracing::info!("the store did not answer: the next owner waits for the lease"),
    }
}

impl Performer {
    /// Asks the store whether we still own the element.
    pub(super) fn prove(&self, role: &Role<Input>) {
        let asked_at = clock::monotonic();
        let (fence, role) = (self.fence(), role.clone());
        let (body, around) = (Rc::clone(&self.body), self.around.clone());
        actix_rt::spawn(async move {
            let answer = match around.store.prove(&fence).await {
                Ok(store) => {
                    around.clock.measured(asked_at, store);
                    body.borrow_mut().proven_at = Some(asked_at);
                    body.borrow_mut().trouble = None;
                    Input::Proven { asked_at }
                }
                Err(error) => {
                    body.borrow_mut().trouble = Some(error.to_string());
                    Input::NotProven {
                        cause: cause(error),
                    }
                }
            };
            role.tell(answer);
        });
    }

    /// For how long a command may still leave.
    pub(super) fn leaves_within(&self) -> Duration {
        let proven_at = self.body.borrow().proven_at;
        proven_at.map_or(Duration::ZERO, |at| {
            (at + self.around.spec.lease) - clock::monotonic()
        })
    }

    /// The store answered the owner.
    pub(super) fn proven(
        body: &Rc<RefCell<Body>>,
        around: &Surroundings,
        asked_at: Monotonic,
        role: &Role<Input>,
    ) {
        let mut body = body.borrow_mut();
        body.proven_at = body.proven_at.max(Some(asked_at));
        // Who has no appliances acts on nothing.
        if !around.links.devices.is_empty() {
            role.tell(Input::Proven { asked_at });
        }
    }
}
