//! Checkpoints, large ones in parts: a single long step would hold up every other element.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use redis::Cmd;
use serde_bytes::ByteBuf;

use super::answers::FIELD;
use super::scripts::Script;
use super::{Attempt, RedisStore, done, own, within_limit};
use crate::store::{Delta, Fence, StoreError};

/// How many bytes of fields one step may carry, give or take one field.
const STEP_BYTES: usize = 512 << 10;

/// The largest field: the server must take it in one piece.
const FIELD_BYTES_MAX: usize = 32 << 20;

/// Numbers the checkpoints of this process, so that a copy that was held up on an old connection
/// is recognised by the server.
static TICKETS: AtomicU64 = AtomicU64::new(1);

impl RedisStore {
    /// Folds a delta. All of its parts are on their way, in order, when this returns, so that it
    /// keeps its place among other checkpoints.
    pub(super) fn fold(
        &self,
        fence: &Fence,
        delta: Delta,
    ) -> impl Future<Output = Result<(), StoreError>> + 'static {
        let attempt = Attempt("saving a checkpoint of", fence.element.clone());
        let fence = fence.clone();
        let sent = within_limit(&attempt, delta.upto)
            .and_then(|()| fields_fit(&attempt, &delta))
            .map(|()| {
                let ticket = TICKETS.fetch_add(1, Ordering::Relaxed);
                let steps = self.steps(&fence, ticket, &delta);
                let running: Vec<_> = steps
                    .into_iter()
                    .map(|(script, command)| self.run(script, attempt.clone(), command))
                    .collect();
                join_all(running)
            });
        async move {
            let mut last = Err(StoreError::Unavailable {
                attempted: attempt.to_string(),
                reason: "nothing was sent".to_owned(),
            });
            for answer in sent?.await {
                // A part that failed makes the last step refuse; its own reason says more.
                last = done(answer?, &attempt, &fence).map(drop);
                last.as_ref().map_err(Clone::clone)?;
            }
            last
        }
    }

    /// The calls that carry a delta: parts that are put aside, if it is large, then the fold.
    fn steps(&self, fence: &Fence, ticket: u64, delta: &Delta) -> Vec<(Script, Cmd)> {
        let keys = self.connection.keys();
        let element = &fence.element;
        let (state, log) = (keys.state(element), keys.log(element));
        let staging = keys.staging(element);
        let size: usize = delta.set.iter().map(|(_, value)| value.len()).sum();
        let is_large = size > STEP_BYTES;
        let parts: Vec<&[(String, ByteBuf)]> = if is_large {
            parts(&delta.set)
        } else {
            Vec::new()
        };
        let mut steps = Vec::with_capacity(parts.len() + 1);
        for (nth, part) in parts.iter().enumerate() {
            let mut command = Script::Stage.call(&[state.clone(), staging.clone()]);
            own(&mut command, fence).arg(ticket).arg(u8::from(nth == 0));
            add_fields(&mut command, part);
            steps.push((Script::Stage, command));
        }
        let (staged, direct): (usize, &[_]) = if is_large {
            (distinct(&delta.set), &[])
        } else {
            (0, &delta.set)
        };
        let mut command = Script::Checkpoint.call(&[state, log, staging]);
        own(&mut command, fence)
            .arg(ticket)
            .arg(delta.upto)
            .arg(delta.upto + 1)
            .arg(staged)
            .arg(direct.len());
        add_fields(&mut command, direct);
        for name in &delta.delete {
            command.arg(format!("{FIELD}{name}"));
        }
        steps.push((Script::Checkpoint, command));
        steps
    }
}

fn add_fields(command: &mut Cmd, fields: &[(String, ByteBuf)]) {
    for (name, value) in fields {
        command.arg(format!("{FIELD}{name}")).arg(value.as_slice());
    }
}

/// Cuts fields into runs of at most [`STEP_BYTES`]; a larger field is alone.
fn parts(fields: &[(String, ByteBuf)]) -> Vec<&[(String, ByteBuf)]> {
    let mut parts = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (nth, (_, value)) in fields.iter().enumerate() {
        if nth > start && size + value.len() > STEP_BYTES {
            parts.push(&fields[start..nth]);
            (start, size) = (nth, 0);
        }
        size += value.len();
    }
    parts.push(&fields[start..]);
    parts
}

/// How many fields a hash holds after all were set, should a name come twice.
fn distinct(fields: &[(String, ByteBuf)]) -> usize {
    let names: std::collections::BTreeSet<&str> =
        fields.iter().map(|(name, _)| name.as_str()).collect();
    names.len()
}

fn fields_fit(attempt: &Attempt, delta: &Delta) -> Result<(), StoreError> {
    let too_large = delta
        .set
        .iter()
        .find(|(_, value)| value.len() > FIELD_BYTES_MAX);
    match too_large {
        None => Ok(()),
        Some((name, value)) => Err(StoreError::Refused {
            attempted: attempt.to_string(),
            reason: format!("field {name:?} has {} bytes", value.len()),
            cure: format!("split it: a field has at most {FIELD_BYTES_MAX} bytes"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_cut_into_steps_without_losing_one() {
        let field = |name: &str, size: usize| (name.to_owned(), ByteBuf::from(vec![0; size]));
        let fields = [
            field("a", STEP_BYTES - 1),
            field("b", 1),
            field("c", 1),
            field("d", STEP_BYTES * 3),
            field("e", 0),
        ];
        let sizes: Vec<Vec<&str>> = parts(&fields)
            .into_iter()
            .map(|part| part.iter().map(|(name, _)| name.as_str()).collect())
            .collect();
        assert_eq!(sizes, [vec!["a", "b"], vec!["c"], vec!["d"], vec!["e"]]);
    }
}
