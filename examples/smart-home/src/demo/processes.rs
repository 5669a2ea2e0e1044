//! The processes below this one: who runs, and how to end them.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};

/// A process that runs below this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its process id.
    pub pid: i32,
    /// How it was started, shortened.
    pub command: String,
}

/// Becomes the parent of every descendant whose own parent dies, so that none can get lost.
///
/// # Errors
/// The system refuses, as a Linux before 3.4 does.
pub fn adopt_orphans() -> io::Result<()> {
    set_child_subreaper(Some(getpid())).map_err(Into::into)
}

/// All descendants of this process that still run; those that only wait to be reaped do not.
///
/// # Errors
/// `/proc` cannot be listed.
pub fn descendants() -> io::Result<Vec<Running>> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut ended = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that ended since it was listed has no file any more.
        let Some(stat) = fs::read_to_string(format!("/proc/{pid}/stat")).ok() else {
            continue;
        };
        if let Some((state, parent)) = parse_stat(&stat) {
            children.entry(parent).or_default().push(pid);
            if matches!(state, 'Z' | 'X') {
                ended.push(pid);
            }
        }
    }
    let mut found = Vec::new();
    let mut open = vec![getpid().as_raw_nonzero().get()];
    while let Some(parent) = open.pop() {
        let below = children.remove(&parent).unwrap_or_default();
        open.extend(&below);
        found.extend(below);
    }
    found.retain(|pid| !ended.contains(pid));
    Ok(found
        .into_iter()
        .map(|pid| Running {
            pid,
            command: command_of(pid),
        })
        .collect())
}

/// Sends SIGTERM: please end in order.
///
/// # Errors
/// There is no such process, or it is somebody else's.
pub fn terminate(pid: u32) -> io::Result<()> {
    signal(pid, Signal::TERM)
}

/// Sends SIGKILL: be gone.
///
/// # Errors
/// There is no such process, or it is somebody else's.
pub fn kill(pid: u32) -> io::Result<()> {
    signal(pid, Signal::KILL)
}

/// A process that stands still until this is dropped.
#[derive(Debug)]
pub struct Halted {
    pid: u32,
}

impl Halted {
    /// Sends SIGSTOP: stand still, as on a machine that is overloaded.
    ///
    /// # Errors
    /// There is no such process, or it is somebody else's.
    pub fn halt(pid: u32) -> io::Result<Self> {
        signal(pid, Signal::STOP)?;
        Ok(Self { pid })
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        // One that has ended meanwhile needs no more.
        signal(self.pid, Signal::CONT).ok();
    }
}

fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("0 is no process id"))?;
    kill_process(pid, signal).map_err(Into::into)
}

/// State and parent; the name before them stands in brackets and may itself hold any character.
fn parse_stat(stat: &str) -> Option<(char, i32)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn command_of(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line
        .split(|byte| *byte == 0)
        .take(4)
        .map(String::from_utf8_lossy)
        .collect();
    words.join(" ").trim().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_is_found_with_its_command_until_it_is_killed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let is_running = |pid: u32| {
            descendants()
                .unwrap()
                .iter()
                .any(|running| running.pid.cast_unsigned() == pid)
        };
        assert!(is_running(child.id()));
        kill(child.id()).unwrap();
        child.wait().unwrap();
        assert!(!is_running(child.id()));
    }

    #[test]
    fn state_and_parent_are_read_behind_any_name() {
        assert_eq!(parse_stat("12 (a) b) S 7 12 12 0"), Some(('S', 7)));
        assert_eq!(parse_stat(""), None);
    }
}
