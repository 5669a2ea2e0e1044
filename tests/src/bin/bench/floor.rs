//! The least that a restart can take on this machine.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;

/// From kill -9 of a small program, `cat`, until another of it has given the first byte back.
///
/// # Errors
/// It cannot be run.
pub(crate) fn floor_of_a_restart() -> Outcome<Duration> {
    let mut first = start()?;
    let begun = Instant::now();
    first.kill()?;
    first.wait()?;
    let mut second = start()?;
    let took = begun.elapsed();
    second.kill()?;
    second.wait()?;
    Ok(took)
}

fn start() -> Outcome<Child> {
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (stdin, stdout) = (child.stdin.as_mut(), child.stdout.as_mut());
    stdin.ok_or("it has no standard input")?.write_all(b"!")?;
    stdout
        .ok_or("it has no standard output")?
        .read_exact(&mut [0])?;
    Ok(child)
}
