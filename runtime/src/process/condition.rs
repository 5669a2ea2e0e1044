//! What the system says of a process that does not end: whether it was stopped, and what it waited for a
//! processor.

use std::io;
use std::time::Duration;

use lamplighter_policies::protocol::fog_agent::Condition;

/// Looks at a process that has not been waited for, so that the id is still its own.
///
/// # Errors
/// It is gone, or the system does not tell.
pub fn condition(pid: u32) -> io::Result<Condition> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Without scheduler statistics nobody knows what it waited for.
    let schedule = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    Ok(Condition {
        is_stopped: matches!(state(&stat), Some('T' | 't')),
        waited: waited(&schedule),
    })
}

/// How long the thread of this process with this id has waited for a processor.
#[must_use]
pub fn thread_waited(thread: u32) -> Duration {
    let schedule = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"));
    waited(&schedule.unwrap_or_default())
}

/// The third field; the second is the program's name, which may hold anything.
fn state(stat: &str) -> Option<char> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

/// The second field: time on a run queue, in nanoseconds.
fn waited(schedule: &str) -> Duration {
    let nanoseconds = schedule.split_ascii_whitespace().nth(1);
    Duration::from_nanos(nanoseconds.and_then(|n| n.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    #[test]
    fn a_stopped_process_is_seen_and_one_that_goes_on() {
        let sleeper = Sleeper(Command::new("sleep").arg("60").spawn().unwrap());
        let pid = sleeper.0.id();
        assert!(!condition(pid).unwrap().is_stopped);
        sleeper.until(Signal::STOP, true);
        sleeper.until(Signal::CONT, false);
    }

    #[test]
    fn the_name_of_a_program_may_hold_anything() {
        assert_eq!(state("7 (a) T (b)) S 1 7 7 0"), Some('S'));
        assert_eq!(state("7 (t"), None);
        assert_eq!(waited("12 3456 7"), Duration::from_nanos(3_456));
        assert_eq!(waited(""), Duration::ZERO);
    }

    struct Sleeper(Child);

    impl Sleeper {
        fn until(&self, signal: Signal, is_stopped: bool) {
            kill_process(Pid::from_child(&self.0), signal).unwrap();
            let began = std::time::Instant::now();
            while condition(self.0.id()).unwrap().is_stopped != is_stopped {
                assert!(began.elapsed() < Duration::from_secs(20));
                std::thread::yield_now();
            }
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }
}
