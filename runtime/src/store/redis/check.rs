//! Whether a Redis server keeps the promises that stable storage makes, and how to make it.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, cmd};

use super::Durability;

/// How much of its memory a server may use before it is worth a warning, in percent.
const MEMORY_PERCENT_MAX: u64 = 80;

/// The first version with scripts that declare what they do.
const VERSION_MIN: (u64, u64) = (7, 0);

/// Whether a finding rules the server out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The server can be used, with a known weakness.
    Warn,
    /// The server cannot be used.
    Refuse,
}

/// Something about the server that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it rules the server out.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

/// What a server tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// `INFO`, by name.
    info: BTreeMap<String, String>,
    /// `CONFIG GET`, by name; empty if the server does not show it.
    settings: BTreeMap<String, String>,
    /// Whether anybody may do anything without a password.
    is_open: bool,
}

impl Facts {
    /// Asks the server. INFO comes first: managed services answer it, and often nothing else.
    pub(super) async fn read(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        let info: String = cmd("INFO").query_async(connection).await?;
        let settings = cmd("CONFIG")
            .arg("GET")
            .arg(&["appendfsync", "no-appendfsync-on-rewrite", "bind", "port"])
            .arg(&["protected-mode", "maxmemory-policy"])
            .query_async(connection)
            .await;
        let user: Result<redis::Value, _> = cmd("ACL")
            .arg("GETUSER")
            .arg("default")
            .query_async(connection)
            .await;
        Ok(Self {
            info: parse_info(&info),
            // A server that does not answer is judged by INFO alone, which a warning says.
            settings: settings.unwrap_or_default(),
            // A user who may not ask is not the all-powerful one.
            is_open: user.is_ok_and(|user| lets_anybody_in(&user)),
        })
    }

    /// Names this run of the server; another after each restart.
    pub(super) fn run_id(&self) -> &str {
        self.info("run_id")
    }

    /// Whether the server still reads its data after a start.
    pub(super) fn is_loading(&self) -> bool {
        self.info("loading") == "1"
    }

    /// Everything a person should know, what rules the server out first.
    pub(super) fn findings(&self, durability: Durability) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.judge_server(&mut findings);
        self.judge_memory(&mut findings);
        self.judge_persistence(durability, &mut findings);
        self.judge_access(&mut findings);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }

    fn judge_server(&self, findings: &mut Vec<Finding>) {
        let version = self.info("redis_version");
        let parts: Vec<u64> = version
            .split('.')
            .filter_map(|part| part.parse().ok())
            .collect();
        let numbers = (
            parts.first().copied().unwrap_or(0),
            parts.get(1).copied().unwrap_or(0),
            parts.get(2).copied().unwrap_or(0),
        );
        if (numbers.0, numbers.1) < VERSION_MIN {
            findings.push(refuse(
                format!("the server is Redis {version:?}, which has no scripts with flags"),
                "install Redis 7.0 or newer",
            ));
        } else if !has_mended_scripts(numbers) {
            findings.push(warn(
                format!(
                    "Redis {version} has CVE-2025-49844: whoever may run scripts can take it over"
                ),
                "use 7.2.11, 7.4.6, 8.0.4, 8.2.2 or newer, or make sure that the distribution has \
                 mended it, and let nobody else reach the server",
            ));
        }
        if self.info("role") != "master" {
            findings.push(refuse(
                format!("the server is a {}, not a master", self.info("role")),
                "give the address of the master: a replica may be behind, and refuses writes",
            ));
        }
        if self.info("cluster_enabled") == "1" {
            findings.push(refuse(
                "the server is part of a cluster".to_owned(),
                "use a single Redis server: a cluster forgets confirmed writes when it fails over",
            ));
        }
        if !matches!(self.info("connected_slaves"), "" | "0") {
            findings.push(warn(
                "the server has replicas".to_owned(),
                "do not let anything promote one by itself: confirmed writes that had not reached \
                 it would be lost",
            ));
        }
    }

    fn judge_memory(&self, findings: &mut Vec<Finding>) {
        let policy = self.either("maxmemory_policy", "maxmemory-policy");
        if policy != "noeviction" {
            findings.push(refuse(
                format!(
                    "the server deletes keys when its memory is full (maxmemory-policy {policy:?})"
                ),
                "set `maxmemory-policy noeviction`",
            ));
        }
        let number = |name| self.info(name).parse::<u64>().unwrap_or(0);
        let (used, most) = (number("used_memory"), number("maxmemory"));
        if most > 0 && used.saturating_mul(100) > most.saturating_mul(MEMORY_PERCENT_MAX) {
            findings.push(warn(
                format!("the server uses {used} of {most} bytes of memory"),
                "raise `maxmemory`: elements wait when it is full",
            ));
        }
    }

    fn judge_persistence(&self, durability: Durability, findings: &mut Vec<Finding>) {
        let mut promise = |what: String, cure: &str| match durability {
            Durability::Required => findings.push(refuse(
                what,
                &format!("{cure}, or say `durability = \"process\"` if state may be lost"),
            )),
            Durability::Process => findings.push(warn(what, cure)),
        };
        if self.info("aof_enabled") != "1" {
            promise(
                "the server keeps no append-only file: all state is lost when it restarts"
                    .to_owned(),
                "set `appendonly yes`",
            );
            return;
        }
        match (
            self.setting("appendfsync"),
            self.setting("no-appendfsync-on-rewrite"),
        ) {
            ("always", "no" | "") => {}
            ("everysec", "no" | "") => findings.push(warn(
                "up to 2 s of confirmed events are lost if the server's machine loses power \
                 (appendfsync everysec)"
                    .to_owned(),
                "set `appendfsync always` if they must not be",
            )),
            ("", _) => findings.push(warn(
                "the server does not show when it writes to disk".to_owned(),
                "make sure that `appendfsync` is `always` or `everysec`",
            )),
            ("always" | "everysec", _) => promise(
                "the server does not write to disk while it rewrites its append-only file"
                    .to_owned(),
                "set `no-appendfsync-on-rewrite no`",
            ),
            (other, _) => promise(
                format!(
                    "the server leaves it to the system when to write to disk (appendfsync {other})"
                ),
                "set `appendfsync everysec` or `always`",
            ),
        }
        if self.info("aof_last_write_status") == "err" {
            findings.push(warn(
                "the server could not write its append-only file".to_owned(),
                "see the server's log; make room on its disk",
            ));
        }
    }

    fn judge_access(&self, findings: &mut Vec<Finding>) {
        let reachable: Vec<&str> = self
            .setting("bind")
            .split_whitespace()
            .map(|address| address.trim_start_matches('-'))
            .filter(|address| !is_loopback(address))
            .collect();
        // In protected mode an open server answers its own machine only, whatever it binds.
        let is_reachable = !reachable.is_empty()
            && self.setting("port") != "0"
            && self.setting("protected-mode") == "no";
        if self.is_open && is_reachable {
            findings.push(refuse(
                format!(
                    "anybody who reaches {} may read and change all state",
                    reachable.join(" ")
                ),
                "set `requirepass`, or `bind 127.0.0.1`, or `protected-mode yes`",
            ));
        }
    }

    fn info(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    fn either(&self, info: &str, setting: &str) -> &str {
        match self.info(info) {
            "" => self.setting(setting),
            told => told,
        }
    }
}

pub(super) fn refuse(what: String, cure: &str) -> Finding {
    Finding {
        severity: Severity::Refuse,
        what,
        cure: cure.to_owned(),
    }
}

pub(super) fn warn(what: String, cure: &str) -> Finding {
    Finding {
        severity: Severity::Warn,
        what,
        cure: cure.to_owned(),
    }
}

fn is_loopback(address: &str) -> bool {
    address == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether a version is one in which CVE-2025-49844 is mended at the source.
fn has_mended_scripts(version: (u64, u64, u64)) -> bool {
    match version {
        (7, 2, patch) => patch >= 11,
        (7, 4, patch) => patch >= 6,
        (8, 0, patch) => patch >= 4,
        (8, 2, patch) => patch >= 2,
        (major, minor, _) => (major, minor) > (8, 2),
    }
}

fn parse_info(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Whether the answer to `ACL GETUSER default` shows a user who is on and needs no password.
fn lets_anybody_in(user: &redis::Value) -> bool {
    let redis::Value::Array(parts) = user else {
        return false;
    };
    let Some(flags) = parts.get(1) else {
        return false;
    };
    let flags: Vec<String> = redis::from_redis_value(flags.clone()).unwrap_or_default();
    flags.iter().any(|flag| flag == "on") && flags.iter().any(|flag| flag == "nopass")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_keeps_every_promise_has_no_findings() {
        assert_eq!(good().findings(Durability::Required), []);
    }

    /// What INFO or CONFIG says instead of what it should, and what comes of it.
    const BROKEN: &[(&str, &str, Severity, &str)] = &[
        ("redis_version", "6.2.14", Severity::Refuse, "Redis 7.0"),
        ("redis_version", "", Severity::Refuse, "Redis 7.0"),
        ("redis_version", "7.0.15", Severity::Warn, "7.2.11"),
        ("role", "slave", Severity::Refuse, "of the master"),
        ("cluster_enabled", "1", Severity::Refuse, "single Redis"),
        ("connected_slaves", "2", Severity::Warn, "promote"),
        ("maxmemory_policy", "lru", Severity::Refuse, "noeviction"),
        ("used_memory", "81", Severity::Warn, "raise `maxmemory`"),
        ("aof_enabled", "0", Severity::Refuse, "appendonly yes"),
        ("aof_last_write_status", "err", Severity::Warn, "make room"),
        ("appendfsync", "no", Severity::Refuse, "`always`"),
        ("appendfsync", "everysec", Severity::Warn, "fsync always"),
        ("appendfsync", "", Severity::Warn, "make sure"),
        ("no-appendfsync-on-rewrite", "yes", Severity::Refuse, "no`"),
    ];

    #[test]
    fn each_broken_promise_is_refused_or_warned_about_with_its_cure() {
        for &(name, value, severity, cure) in BROKEN {
            let mut facts = good();
            let place = match facts.settings.contains_key(name) {
                true => &mut facts.settings,
                false => &mut facts.info,
            };
            place.insert(name.to_owned(), value.to_owned());
            let findings = facts.findings(Durability::Required);
            assert_eq!(findings.len(), 1, "{name} {value}: {findings:?}");
            assert_eq!(findings[0].severity, severity, "{findings:?}");
            assert!(findings[0].cure.contains(cure), "{findings:?}");
        }
    }

    #[test]
    fn an_open_server_that_others_reach_is_refused() {
        let mut facts = good();
        facts.is_open = true;
        let bind = "127.0.0.1 -::1 10.0.0.7";
        facts.settings.insert("bind".into(), bind.into());
        facts.settings.insert("protected-mode".into(), "no".into());
        assert_eq!(
            facts.findings(Durability::Required),
            [refuse(
                "anybody who reaches 10.0.0.7 may read and change all state".into(),
                "set `requirepass`, or `bind 127.0.0.1`, or `protected-mode yes`",
            )]
        );
    }

    #[test]
    fn state_that_may_be_lost_with_the_process_turns_missing_durability_into_a_warning() {
        let mut facts = good();
        facts.info.insert("aof_enabled".into(), "0".into());
        let findings = facts.findings(Durability::Process);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].severity, Severity::Warn);
        assert!(findings[0].what.contains("lost when it restarts"));
    }

    #[test]
    fn an_open_server_is_safe_while_only_its_own_machine_reaches_it() {
        let mut facts = good();
        facts.is_open = true;
        facts.settings.insert("bind".into(), "127.0.0.1 ::1".into());
        facts.settings.insert("protected-mode".into(), "no".into());
        assert_eq!(facts.findings(Durability::Required), []);
        facts.settings.insert("bind".into(), "* -::*".into());
        facts.settings.insert("protected-mode".into(), "yes".into());
        assert_eq!(facts.findings(Durability::Required), []);
    }

    fn good() -> Facts {
        let info = "# Server\r\nredis_version:7.2.11\r\nrun_id:abc\r\nrole:master\r\n\
                    connected_slaves:0\r\nmaxmemory_policy:noeviction\r\nused_memory:10\r\n\
                    maxmemory:100\r\naof_enabled:1\r\naof_last_write_status:ok\r\nloading:0\r\n\
                    cluster_enabled:0\r\n";
        let settings = [
            ("appendfsync", "always"),
            ("no-appendfsync-on-rewrite", "no"),
            ("bind", "127.0.0.1 -::1"),
            ("protected-mode", "yes"),
            ("port", "6379"),
        ];
        Facts {
            info: parse_info(info),
            settings: settings
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            is_open: false,
        }
    }
}
