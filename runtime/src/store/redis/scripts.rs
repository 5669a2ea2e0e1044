//! The scripts that run inside the server: each is one atomic step.
//!
//! A script that fails half-way is not undone, so each checks everything first and writes last.
//! Scripts without `allow-oom` are refused whole when the server's memory is full.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, cmd};

/// One step inside the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// Adds one batch to the log.
    Append,
    /// Changes the owner and reads the first page of what is kept.
    Claim,
    /// Reads one page of what is kept.
    Load,
    /// Reads one page of what is kept, for anybody.
    Peek,
    /// Puts aside part of a checkpoint that is too large for one step.
    Stage,
    /// Folds a checkpoint and trims the log.
    Checkpoint,
    /// Adds a dead letter.
    Bury,
    /// Reads one page of dead letters.
    Letters,
    /// Says that the fence holds.
    Prove,
}

const ALL: [Script; 9] = [
    Script::Append,
    Script::Claim,
    Script::Load,
    Script::Peek,
    Script::Stage,
    Script::Checkpoint,
    Script::Bury,
    Script::Letters,
    Script::Prove,
];

/// The names by which the server knows the scripts, in the order of [`ALL`].
static HASHES: LazyLock<[String; 9]> =
    LazyLock::new(|| ALL.map(|script| redis::Script::new(script.code()).get_hash().to_owned()));

impl Script {
    /// The start of a call on `keys`; arguments follow.
    pub(super) fn call(self, keys: &[String]) -> Cmd {
        let mut command = cmd("EVALSHA");
        command
            .arg(&HASHES[self as usize])
            .arg(keys.len())
            .arg(keys);
        command
    }

    /// Makes the server know the script. It forgets them all when it restarts.
    pub(super) fn load(self) -> Cmd {
        let mut command = cmd("SCRIPT");
        command.arg("LOAD").arg(self.code());
        command
    }

    fn code(self) -> &'static str {
        match self {
            Self::Append => include_str!("scripts/append.lua"),
            Self::Claim => concat!(
                include_str!("scripts/claim.lua"),
                include_str!("scripts/page.lua")
            ),
            Self::Load => concat!(
                include_str!("scripts/load.lua"),
                include_str!("scripts/page.lua")
            ),
            Self::Peek => concat!(
                include_str!("scripts/peek.lua"),
                include_str!("scripts/page.lua")
            ),
            Self::Stage => include_str!("scripts/stage.lua"),
            Self::Checkpoint => include_str!("scripts/checkpoint.lua"),
            Self::Bury => include_str!("scripts/bury.lua"),
            Self::Letters => include_str!("scripts/letters.lua"),
            Self::Prove => include_str!("scripts/prove.lua"),
        }
    }
}

/// Makes the server know every script, in one round trip.
pub(super) fn load_all() -> Pipeline {
    let mut pipeline = Pipeline::new();
    for script in ALL {
        pipeline.add_command(script.load());
    }
    pipeline
}
