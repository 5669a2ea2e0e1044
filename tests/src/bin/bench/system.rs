//! The measured application as it runs: `up`, with a broker of ours and the store that is asked for.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use lamplighter::operator::Operator;
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::protocol::control::{Answer, Ask, ElementStatus, Injection};
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::stores::runtime;

const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// A running application; stopped in order when dropped.
pub(crate) struct System {
    pub(crate) up: Child,
    stdin: Option<ChildStdin>,
    /// Where its files are.
    pub(crate) directory: PathBuf,
    /// From starting `up` until it said that all is ready.
    pub(crate) ready_after: Duration,
    runtime: Runtime,
    operator: Operator,
}

impl System {
    /// Starts the application of these elements in `folder`, on the broker at `url`.
    ///
    /// # Errors
    /// What keeps it from running.
    pub(crate) fn start(folder: &Path, url: &str, store: &str, elements: &str) -> Outcome<Self> {
        let file = folder.join("bench.toml");
        let text = format!(
            "[application]\nname = \"bench\"\n[servers.here]\nstorage = \"volatile\"\n{elements}\n\
             [store]\n{store}\n[broker]\nkind = \"external\"\nurl = \"{url}\"\n"
        );
        fs::write(&file, text)?;
        Self::of(&std::env::current_exe()?, &file, folder)
    }

    /// Starts the application `program` with the topology `file`, and waits until its elements run.
    ///
    /// # Errors
    /// What keeps it from running.
    pub(crate) fn of(program: &Path, file: &Path, folder: &Path) -> Outcome<Self> {
        let directory = folder.join("run");
        let begun = Instant::now();
        let mut up = Command::new(program)
            .args(["up", "--allow-inject", "--lifeline", "--run-directory"])
            .args([&directory, file])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.join("trace"))?)
            .spawn()?;
        let stdin = up.stdin.take();
        let mut line = String::new();
        if let Some(said) = up.stdout.take() {
            BufReader::new(said).read_line(&mut line)?;
        }
        let ready_after = begun.elapsed();
        if !line.contains("is ready") {
            drop(stdin);
            up.wait()?;
            let trace = fs::read_to_string(folder.join("trace"))?;
            return Err(format!("the application did not start: {line}{trace}").into());
        }
        let runtime = runtime()?;
        let operator = runtime.block_on(Operator::find(&directory))?;
        Ok(Self {
            up,
            stdin,
            directory,
            ready_after,
            runtime,
            operator,
        })
    }

    /// How an element is.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(crate) fn status(&mut self, element: &str) -> Outcome<ElementStatus> {
        let (_, elements) = self.runtime.block_on(self.operator.status())?;
        let placed = elements
            .into_iter()
            .find(|placed| placed.status.element.as_str() == element);
        Ok(placed.ok_or("there is no such element")?.status)
    }

    /// Makes the handler of the next event panic.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(crate) fn inject_panic(&mut self, element: &str) -> Outcome<()> {
        let ask = Ask::Inject {
            element: EntityId::new(element)?,
            injection: Injection::Panic,
        };
        match self.runtime.block_on(self.operator.ask(ask))? {
            Answer::Injected => Ok(()),
            other @ (Answer::Status { .. }
            | Answer::Ready { .. }
            | Answer::Judged
            | Answer::Stopped
            | Answer::Appliances { .. }
            | Answer::Done { .. }
            | Answer::Timeline { .. }
            | Answer::Standing(_)
            | Answer::Foreseen(_)
            | Answer::Refused { .. }) => Err(format!("no panic: {other:?}").into()),
        }
    }

    /// All processes of the application below `up`, with their roles.
    ///
    /// # Errors
    /// The table of processes cannot be read.
    pub(crate) fn processes(&self) -> Outcome<Vec<(String, u32)>> {
        let mut found = Vec::new();
        let mut parents = vec![self.up.id()];
        while let Some(parent) = parents.pop() {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
            for child in children.split_whitespace() {
                let child = child.parse()?;
                let line = fs::read(format!("/proc/{child}/cmdline"))?;
                let role = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
                found.push((String::from_utf8_lossy(role).into_owned(), child));
                parents.push(child);
            }
        }
        Ok(found)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // All of it stops in order when this ends.
        self.stdin = None;
        let end = Instant::now() + STOPS_WITHIN;
        while Instant::now() < end {
            if let Ok(Some(_)) = self.up.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        eprintln!("bench: an application did not stop in time; it is killed");
        drop(self.up.kill());
        drop(self.up.wait());
    }
}
