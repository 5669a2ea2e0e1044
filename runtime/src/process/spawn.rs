//! Starting processes: own group, clean environment, output to a log file, and a lifeline.
//!
//! The child's standard input is its lifeline: it ends when the parent closes it or dies in
//! whatever way, and the child then stops by itself. So nothing outlives its parent by mistake.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};

use super::pidfd::Pidfd;

/// What to start, and how.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<OsString>,
    /// The whole environment: nothing else is passed on.
    pub environment: Vec<(OsString, OsString)>,
    /// Where its standard output and error go; appended to.
    pub log: PathBuf,
}

/// A program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program}: {attempted}: {source}")]
pub struct SpawnError {
    program: String,
    attempted: String,
    source: io::Error,
}

/// A process that was started here.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: Pidfd,
    lifeline: Option<ChildStdin>,
}

impl Process {
    /// Its process id, for people. To signal it, use [`Process::pidfd`].
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The handle by which it is watched and killed.
    #[must_use]
    pub fn pidfd(&self) -> &Pidfd {
        &self.pidfd
    }

    /// Lets go of the lifeline: the process is to stop in order.
    pub fn close(&mut self) {
        self.lifeline = None;
    }
}

impl Program {
    /// Starts it with a pipe as its lifeline.
    ///
    /// # Errors
    /// The log cannot be opened, or the executable cannot be run.
    pub fn spawn(&self) -> Result<Process, SpawnError> {
        self.start(Stdio::piped())
    }

    /// Starts it with a socket as its lifeline, and gives the other end.
    ///
    /// # Errors
    /// As [`Program::spawn`], or no socket is to be had.
    pub fn spawn_linked(&self) -> Result<(Process, UnixStream), SpawnError> {
        let socket = UnixStream::pair().and_then(|(near, far)| {
            near.set_nonblocking(true)?;
            Ok((near, far))
        });
        let (near, far) = socket.map_err(|error| self.fault("a pair of sockets", error))?;
        let process = self.start(Stdio::from(OwnedFd::from(far)))?;
        Ok((process, near))
    }

    fn start(&self, lifeline: Stdio) -> Result<Process, SpawnError> {
        let log = |error| self.fault(format!("opening {}", self.log.display()), error);
        let output = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(log)?;
        let errors = output.try_clone().map_err(log)?;
        let mut child = Command::new(&self.path)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .stdin(lifeline)
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| self.fault("running it", error))?;
        // Nobody waits for the child before its handle is open, so the id is still its own.
        let pidfd = Pidfd::open(child.id()).map_err(|error| {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                tracing::warn!(%error, "a child without a handle cannot be killed");
            }
            self.fault("opening its handle", error)
        })?;
        Ok(Process {
            pid: child.id(),
            pidfd,
            lifeline: child.stdin.take(),
        })
    }

    fn fault(&self, attempted: impl Into<String>, source: io::Error) -> SpawnError {
        SpawnError {
            program: self.path.display().to_string(),
            attempted: attempted.into(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::super::Ended;
    use super::*;

    fn shell(script: &str, directory: &Path) -> Program {
        Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            log: directory.join("out.log"),
        }
    }

    #[tokio::test]
    async fn an_exit_is_an_event_with_its_status() {
        let directory = tempfile::tempdir().unwrap();
        let process = shell("exit 7", directory.path()).spawn().unwrap();
        let death = process.pidfd().death().await.unwrap();
        assert_eq!(death.ended, Ended::Exited(7));
    }

    #[tokio::test]
    async fn a_process_ends_when_it_is_killed_or_its_lifeline_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let killed = shell("read line", directory.path()).spawn().unwrap();
        killed.pidfd().kill();
        assert_eq!(
            killed.pidfd().death().await.unwrap().ended,
            Ended::Killed(9)
        );
        killed.pidfd().kill();

        let mut closed = shell("read line; exit 3", directory.path())
            .spawn()
            .unwrap();
        closed.close();
        assert_eq!(
            closed.pidfd().death().await.unwrap().ended,
            Ended::Exited(3)
        );
    }

    #[tokio::test]
    async fn a_child_sees_only_the_declared_environment_and_writes_to_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut program = shell("read line; echo $line; env", directory.path());
        program.environment.push(("PLACE".into(), "hall".into()));
        let (process, mut near) = program.spawn_linked().unwrap();
        near.write_all(b"hello\n").unwrap();
        process.pidfd().death().await.unwrap();
        let log = std::fs::read_to_string(&program.log).unwrap();
        let mut lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('_')).collect();
        lines.retain(|line| !line.starts_with("PWD="));
        lines[1..].sort_unstable();
        assert_eq!(lines, ["hello", "PATH=/usr/bin:/bin", "PLACE=hall"]);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut program = shell("", directory.path());
        program.path = "/no/such/program".into();
        let error = program.spawn().unwrap_err().to_string();
        assert!(
            error.starts_with("cannot start /no/such/program: running it: "),
            "{error}"
        );
    }
}
