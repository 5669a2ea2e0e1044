//! The application of these tests: somebody watches over a patient and tells a nurse, who calls a pump.
//! Each of the three has a server of its own.

use std::sync::Arc;
use std::time::Duration;

use lamplighter_tests::application::Logs;
use lamplighter_tests::clinic::Outside;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::site::Site;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_clinic");

pub(crate) const SERVERS: [&str; 3] = ["rpi1", "rpi2", "rpi3"];

/// So rare that no more calls wait than may be open, however long a cable is out.
const BETWEEN_PAINS: Duration = Duration::from_millis(50);

/// A ward, and what is outside of it.
pub(crate) struct Ward {
    pub(crate) site: Site,
    outside: Arc<Outside>,
    load: Option<(oneshot::Sender<()>, JoinHandle<u32>)>,
    last: u32,
}

impl Ward {
    pub(crate) async fn start() -> Self {
        let site = Site::start(PROGRAM, &SERVERS, topology).await;
        let outside = Arc::new(Outside::connect_to(site.broker()).await);
        Self {
            site,
            outside,
            load: None,
            last: 0,
        }
    }

    /// From now on it hurts often.
    pub(crate) fn hurt(&mut self) {
        let (stop, mut stopped) = oneshot::channel();
        let (outside, before) = (Arc::clone(&self.outside), self.last);
        let load = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(BETWEEN_PAINS);
            let mut last = before;
            while stopped.try_recv().is_err() {
                ticks.tick().await;
                last += 1;
                outside.pain(last).await;
            }
            last
        });
        self.load = Some((stop, load));
    }

    /// It stops hurting, and each pain was met by one dose and one answer, in their order.
    pub(crate) async fn is_exact(&mut self) -> u32 {
        if let Some((stop, load)) = self.load.take() {
            stop.send(()).unwrap();
            self.last = load.await.unwrap();
        }
        let all: Vec<u32> = (1..=self.last).collect();
        let answers = self.outside.answers(self.last, &self.site).await;
        let expected: Vec<_> = all.iter().map(|n| (*n, format!("given {n}"))).collect();
        assert!(answers == expected, "{answers:?} {}", self.site.logs());
        let given = self.outside.given(self.last, &self.site).await;
        assert!(given == all, "{given:?} {}", self.site.logs());
        self.last
    }
}

fn topology(broker: &str) -> String {
    format!(
        r#"
[application]
name = "ward"
[servers.rpi1]
storage = "volatile"
[servers.rpi2]
storage = "volatile"
[servers.rpi3]
storage = "volatile"
[appliances.patient]
api = "mqtt"
role = "sensor"
functions = ["pain"]
topic = "test/pain"
identified_by = "n"
[elements.watch]
kind = "Watch"
server = "rpi1"
[elements.nurse]
kind = "Nurse"
server = "rpi2"
inputs = {{ "test/tell" = "Tell" }}
outputs = {{ answers = {{ topic = "test/answers" }} }}
[elements.pump]
kind = "Pump"
server = "rpi3"
inputs = {{ "test/tell" = "Tell" }}
outputs = {{ given = {{ topic = "test/given" }} }}
[bindings.pain]
from = "watch"
to = "patient"
receive = [ {{ input = "Pain" }} ]
[bindings.alarm]
from = "nurse"
to = "watch"
receive = [ {{ output = "pains", input = "Pain" }} ]
[bindings.doses]
from = "nurse"
to = "pump"
model = "call"
reply_within = "60s"
send = [ {{ output = "doses", input = "Dose", reply = "Dosed" }} ]
[store]
kind = "embedded"
[broker]
{broker}
"#
    )
}
