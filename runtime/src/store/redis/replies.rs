//! What each error reply of the server means, and what is done about it.
//!
//! Only a lost reply leaves open whether the write was carried out; it is always safe to send the
//! same write again, because the scripts recognise it.

use redis::{ErrorKind, RedisError};

/// Why a command has no result, one entry per different cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// No reply in time: carried out or not.
    TimedOut,
    /// The connection broke: carried out or not.
    Lost,
    /// What came back is not the server's protocol.
    Garbled,
    /// The server reads its data after a start.
    Loading,
    /// A script runs for too long.
    Busy,
    /// A cluster is moving keys.
    TryAgain,
    /// A cluster is incomplete.
    ClusterDown,
    /// A replica has lost its master.
    MasterDown,
    /// Fewer replicas than the server demands.
    NoReplicas,
    /// The server has no room for another connection.
    TooManyClients,
    /// The server cannot save to disk.
    CannotPersist,
    /// The server's memory is full.
    OutOfMemory,
    /// The server is a replica.
    ReadOnly,
    /// The keys live on another server for good.
    Moved,
    /// The keys live on another server for the moment.
    Ask,
    /// The server has forgotten the scripts; nothing ran.
    NoScript,
    /// No password was given.
    NoAuthentication,
    /// The password is wrong.
    WrongPassword,
    /// The user may not do this.
    NoPermission,
    /// A key of ours holds something that we did not put there.
    WrongType,
    /// Keys of one element are spread over a cluster.
    CrossSlot,
    /// Anything else: a fault of ours, or an unknown server.
    Unexpected,
}

/// What is done about a [`Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The caller sends the same again after a while.
    Wait,
    /// The same, and a person should look: it will not pass by itself.
    WaitAndAlarm,
    /// The same, on a new connection, where the start-up checks run first.
    Reconnect,
    /// Load the scripts and send once more.
    LoadScripts,
    /// Stop the element and say how to cure it.
    Stop {
        /// What a person can do.
        cure: &'static str,
    },
}

impl Reply {
    /// The cause of an error.
    pub(super) fn of(error: &RedisError) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        match (error.kind(), error.code()) {
            (ErrorKind::Io, _) => Self::Lost,
            (ErrorKind::AuthenticationFailed, _) => Self::WrongPassword,
            (ErrorKind::Parse, _) => Self::Garbled,
            (_, Some(code)) => Self::of_code(code, error.detail().unwrap_or_default()),
            (_, None) => Self::Unexpected,
        }
    }

    fn of_code(code: &str, detail: &str) -> Self {
        match code {
            "LOADING" => Self::Loading,
            "BUSY" => Self::Busy,
            "TRYAGAIN" => Self::TryAgain,
            "CLUSTERDOWN" => Self::ClusterDown,
            "MASTERDOWN" => Self::MasterDown,
            "NOREPLICAS" => Self::NoReplicas,
            "MISCONF" => Self::CannotPersist,
            "OOM" => Self::OutOfMemory,
            "READONLY" => Self::ReadOnly,
            "MOVED" => Self::Moved,
            "ASK" => Self::Ask,
            "NOSCRIPT" => Self::NoScript,
            "NOAUTH" => Self::NoAuthentication,
            "WRONGPASS" => Self::WrongPassword,
            "NOPERM" => Self::NoPermission,
            "WRONGTYPE" => Self::WrongType,
            "CROSSSLOT" => Self::CrossSlot,
            "ERR" if detail.contains("max number of clients") => Self::TooManyClients,
            _ => Self::Unexpected,
        }
    }

    /// What is done about it.
    pub(super) fn action(self) -> Action {
        match self {
            Self::TimedOut
            | Self::Loading
            | Self::Busy
            | Self::TryAgain
            | Self::ClusterDown
            | Self::MasterDown
            | Self::NoReplicas
            | Self::TooManyClients => Action::Wait,
            Self::CannotPersist | Self::OutOfMemory => Action::WaitAndAlarm,
            Self::Lost | Self::Garbled | Self::ReadOnly | Self::Moved | Self::Ask => {
                Action::Reconnect
            }
            Self::NoScript => Action::LoadScripts,
            Self::NoAuthentication => Action::Stop {
                cure: "the server asks for a password: give it in the store's url",
            },
            Self::WrongPassword => Action::Stop {
                cure: "give the right user and password in the store's url",
            },
            Self::NoPermission => Action::Stop {
                cure: "let the store's user run scripts on keys that begin with `lamplighter:`",
            },
            Self::WrongType => Action::Stop {
                cure: "another program has written to keys that begin with `lamplighter:`: give \
                       Lamplighter a server or database number of its own and restore the data",
            },
            Self::CrossSlot => Action::Stop {
                cure: "use a single Redis server, not a cluster",
            },
            Self::Unexpected => Action::Stop {
                cure: "run `lamplighter check` against this server, and see the server's log",
            },
        }
    }
}

/// The server's own words.
pub(super) fn words(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: &[(&str, Reply)] = &[
        ("LOADING Redis is loading the dataset", Reply::Loading),
        ("BUSY Redis is busy running a script.", Reply::Busy),
        ("TRYAGAIN Multiple keys during rehashing", Reply::TryAgain),
        ("CLUSTERDOWN The cluster is down", Reply::ClusterDown),
        ("MASTERDOWN Link with MASTER is down", Reply::MasterDown),
        ("NOREPLICAS Not enough good replicas", Reply::NoReplicas),
        ("ERR max number of clients reached", Reply::TooManyClients),
    ];
    const WAIT_AND_ALARM: &[(&str, Reply)] = &[
        ("MISCONF Errors writing to the AOF", Reply::CannotPersist),
        ("OOM command not allowed", Reply::OutOfMemory),
    ];
    const RECONNECT: &[(&str, Reply)] = &[
        ("READONLY You can't write", Reply::ReadOnly),
        ("MOVED 3999 127.0.0.1:6381", Reply::Moved),
        ("ASK 3999 127.0.0.1:6381", Reply::Ask),
    ];
    const STOP: &[(&str, Reply)] = &[
        ("NOAUTH Authentication required.", Reply::NoAuthentication),
        ("WRONGPASS invalid pair", Reply::WrongPassword),
        ("NOPERM this user may not", Reply::NoPermission),
        ("WRONGTYPE Operation against a key", Reply::WrongType),
        ("CROSSSLOT Keys in request", Reply::CrossSlot),
        ("ERR wrong number of arguments", Reply::Unexpected),
        ("ERR user_script:3: nil value", Reply::Unexpected),
        ("NEVERHEARD of it", Reply::Unexpected),
    ];

    #[test]
    fn every_error_reply_has_its_cause_and_its_action() {
        let alike = [
            (WAIT, Action::Wait),
            (WAIT_AND_ALARM, Action::WaitAndAlarm),
            (RECONNECT, Action::Reconnect),
        ];
        for (cases, action) in alike {
            for (line, reply) in cases {
                assert_eq!(Reply::of(&injected(line)), *reply, "{line}");
                assert_eq!(reply.action(), action, "{line}");
            }
        }
        let forgotten = Reply::of(&injected("NOSCRIPT No matching script."));
        assert_eq!(forgotten, Reply::NoScript);
        assert_eq!(forgotten.action(), Action::LoadScripts);
    }

    #[test]
    fn what_will_not_pass_stops_with_a_cure() {
        for (line, reply) in STOP {
            assert_eq!(Reply::of(&injected(line)), *reply, "{line}");
            assert!(
                matches!(reply.action(), Action::Stop { cure } if !cure.is_empty()),
                "{line}"
            );
        }
    }

    #[test]
    fn a_lost_reply_is_told_apart_from_a_late_one() {
        use std::io::{Error, ErrorKind};
        let of = |kind| Reply::of(&RedisError::from(Error::from(kind)));
        assert_eq!(of(ErrorKind::TimedOut), Reply::TimedOut);
        assert_eq!(of(ErrorKind::UnexpectedEof), Reply::Lost);
        assert_eq!(of(ErrorKind::ConnectionReset), Reply::Lost);
        assert_eq!(of(ErrorKind::BrokenPipe), Reply::Lost);
        assert_eq!(Reply::TimedOut.action(), Action::Wait);
        assert_eq!(Reply::Lost.action(), Action::Reconnect);
        let garbled = redis::parse_redis_value(b"?not redis\r\n").unwrap_err();
        assert_eq!(Reply::of(&garbled), Reply::Garbled);
        assert_eq!(Reply::Garbled.action(), Action::Reconnect);
    }

    fn injected(line: &str) -> RedisError {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes())
            .and_then(redis::Value::extract_error)
            .unwrap_err()
    }
}
