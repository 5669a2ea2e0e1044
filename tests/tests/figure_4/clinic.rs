//! An application in which a nurse calls a pump, both on a server with the storage that a cell of the
//! figure asks for, and gates at which either is held in a handler.

use std::path::PathBuf;

use lamplighter_policies::protocol::control::ElementStatus;
use lamplighter_tests::application::{Application, PATIENCE, is_running};
use lamplighter_tests::clinic::Outside;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::house::Storage;

const PROGRAM: &str = env!("CARGO_BIN_EXE_clinic");

/// The application, its patient and its gates.
pub(crate) struct Clinic {
    /// The processes.
    pub(crate) application: Application,
    outside: Outside,
    gates: TempDir,
}

/// A gate that is closed until this is dropped.
pub(crate) struct Closed {
    listener: UnixListener,
    path: PathBuf,
}

impl Clinic {
    pub(crate) async fn start(storage: Storage) -> Self {
        let gates = tempfile::tempdir().unwrap();
        let application = Application::start(PROGRAM, &topology(storage, &gates)).await;
        let outside = Outside::connect(&application.broker).await;
        Self {
            application,
            outside,
            gates,
        }
    }

    /// Closes the gate of an element.
    pub(crate) fn close(&self, element: &str) -> Closed {
        let path = self.gates.path().join(element);
        let listener = UnixListener::bind(&path).unwrap();
        Closed { listener, path }
    }

    /// It hurts so often, beginning with `first`.
    pub(crate) async fn pains(&self, pains: std::ops::RangeInclusive<u32>) {
        for n in pains {
            self.outside.pain(n).await;
        }
    }

    /// Waits until the element is held at its gate: in its handler, with the input in its log.
    pub(crate) async fn held(&self, gate: &Closed) -> UnixStream {
        let held = timeout(PATIENCE, gate.listener.accept()).await;
        let (held, _) = held
            .unwrap_or_else(|_| panic!("{:?} {}", gate.path, self.application.logs()))
            .unwrap();
        held
    }

    /// Waits until so many calls have left the nurse's handler that are not in the pump's log.
    pub(crate) async fn calls_wait(&self, wanted: u64) {
        let waits = |nurse: &ElementStatus| {
            let report = nurse.report.as_ref();
            report.is_some_and(|report| report.unacknowledged >= wanted)
        };
        self.application.element("nurse", waits).await;
    }

    /// Sees that each pain up to here led to one dose and to one answer, and that nothing was lost.
    pub(crate) async fn all_is_given_and_answered_once(&self, last: u32) {
        let all: Vec<u32> = (1..=last).collect();
        let expected: Vec<_> = all.iter().map(|n| (*n, format!("given {n}"))).collect();
        let answers = self.outside.answers(last, &self.application).await;
        assert_eq!(answers, expected, "{}", self.application.logs());
        let given = self.outside.given(last, &self.application).await;
        assert_eq!(given, all, "{}", self.application.logs());
        for element in ["nurse", "pump"] {
            let told = |e: &ElementStatus| is_running(e) && e.report.is_some();
            let status = self.application.element(element, told).await;
            let report = status.report.unwrap();
            let harm = (report.losses, report.orphaned, report.dead_letters);
            assert_eq!(harm, (vec![], vec![], 0), "{element}");
        }
    }

    pub(crate) async fn stop(self) {
        self.application.stop().await;
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

fn topology(storage: Storage, gates: &TempDir) -> String {
    let storage = match storage {
        Storage::Persistent => "persistent",
        Storage::Volatile => "volatile",
    };
    let gates = gates.path().display();
    format!(
        r#"
[application]
name = "clinic"
[servers.pc]
storage = "{storage}"
[appliances.patient]
api = "mqtt"
role = "sensor"
functions = ["pain"]
topic = "test/pain"
identified_by = "n"
[elements.nurse]
kind = "Nurse"
server = "pc"
state = {{ gate = "{gates}/nurse" }}
inputs = {{ "test/tell" = "Tell" }}
outputs = {{ answers = {{ topic = "test/answers" }} }}
checkpoint = {{ every = 15, interval = "1s" }}
restart = {{ max = 100, backoff = "1ms..5ms" }}
[elements.pump]
kind = "Pump"
server = "pc"
state = {{ gate = "{gates}/pump" }}
inputs = {{ "test/tell" = "Tell" }}
outputs = {{ given = {{ topic = "test/given" }} }}
checkpoint = {{ every = 15, interval = "1s" }}
restart = {{ max = 100, backoff = "1ms..5ms" }}
[bindings.pain]
from = "nurse"
to = "patient"
receive = [ {{ input = "Pain" }} ]
[bindings.doses]
from = "nurse"
to = "pump"
model = "call"
reply_within = "60s"
send = [ {{ output = "doses", input = "Dose", reply = "Dosed" }} ]
[store]
kind = "embedded"
[broker]
kind = "embedded"
"#
    )
}
