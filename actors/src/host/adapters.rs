//! Devices that are not on the broker: each has an adapter, in a task of its own.
//!
//! What an adapter is asked was decided by the cell, and what it answers goes back there. A failure of
//! its code, or a device that keeps it waiting, ends the adapter and nothing else: it is started again.

mod http;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Appliance, ApplianceApi};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::http::Http;
use super::reception::Door;
use crate::author::{
    ApplianceCommand, ApplianceError, AppliancePlace, Device, Reports, StartDevice,
};
use crate::panics::guarded;

/// How long an adapter may take for anything that it is asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How many reports of one device may wait; beyond that the adapter is told so.
const REPORTS_MAX: usize = 64;
/// How many requests may wait for one adapter: one flow asks one thing at a time, and several flows may
/// lead to one device.
const REQUESTS_MAX: usize = 64;
/// The first and the longest wait before an adapter is started again.
const START_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The wait before a report is offered again to an element that was busy.
const OFFER_AGAIN: Duration = Duration::from_millis(50);

/// The adapters of one element.
#[derive(Default)]
pub(super) struct Adapters {
    running: BTreeMap<EntityId, Running>,
}

struct Running {
    requests: mpsc::Sender<Request>,
    task: JoinHandle<()>,
}

enum Request {
    CarryOut(
        Box<ApplianceCommand<Value>>,
        oneshot::Sender<Result<Option<Value>, ApplianceError>>,
    ),
    Read(oneshot::Sender<Result<Value, ApplianceError>>),
}

/// The adapters that a program has, by name.
pub(super) type Known = BTreeMap<String, StartDevice>;

impl Adapters {
    /// Starts an adapter for an appliance that has none yet. What its device says goes in at the door.
    ///
    /// # Errors
    /// For people: the program has no such adapter.
    pub(super) fn start(
        &mut self,
        id: &EntityId,
        appliance: &Appliance,
        known: &Known,
        door: &Arc<Door>,
    ) -> Result<(), String> {
        if self.running.contains_key(id) {
            return Ok(());
        }
        let place = AppliancePlace {
            id: id.clone(),
            address: appliance.address.clone(),
            report_period: appliance.report_period,
        };
        let how = match appliance.api {
            ApplianceApi::Http => How::Http(appliance.method),
            ApplianceApi::Program => How::Own(own(id, appliance, known)?),
            ApplianceApi::Mqtt | ApplianceApi::Simulated => return Ok(()),
        };
        let (requests, asked) = mpsc::channel(REQUESTS_MAX);
        let served = Served {
            place,
            how,
            door: Arc::clone(door),
        };
        let task = actix_rt::spawn(served.run(asked));
        self.running.insert(id.clone(), Running { requests, task });
        Ok(())
    }

    /// Has a device carry out a command.
    pub(super) fn carry_out(
        &self,
        id: &EntityId,
        command: ApplianceCommand<Value>,
    ) -> impl Future<Output = Result<Option<Value>, ApplianceError>> + use<> {
        let (tell, told) = oneshot::channel();
        let asked = self.ask(id, Request::CarryOut(Box::new(command), tell));
        async move {
            asked?;
            // An adapter that ends with the command in hand may have carried it out.
            let lost = || ApplianceError::unknown("its adapter ended");
            told.await.unwrap_or_else(|_| Err(lost()))
        }
    }

    /// Whoever asks a device what it shows; `None` if it has no adapter.
    pub(super) fn reader(&self, id: &EntityId) -> Option<Reader> {
        Some(Reader(self.running.get(id)?.requests.downgrade()))
    }

    fn ask(&self, id: &EntityId, request: Request) -> Result<(), ApplianceError> {
        let running = self.running.get(id);
        let running = running.ok_or_else(|| ApplianceError::unreached("it has no adapter"))?;
        running
            .requests
            .try_send(request)
            .map_err(|_| ApplianceError::unreached("too much waits for its adapter"))
    }

    /// Ends all adapters; what they are doing may take this long, and then leaves no more.
    pub(super) async fn stop(self, within: Duration) {
        let mut tasks = Vec::new();
        for (id, Running { requests, task }) in self.running {
            drop(requests);
            tasks.push((id, task));
        }
        for (id, mut task) in tasks {
            if timeout(within, &mut task).await.is_err() {
                tracing::warn!(appliance = %id, "its adapter is ended in the middle of something");
                task.abort();
                // It is over once this returns, however it ended.
                task.await.ok();
            }
        }
    }
}

/// Asks one device what it shows; keeps no adapter from ending.
pub(super) struct Reader(mpsc::WeakSender<Request>);

impl Reader {
    /// What the device shows.
    ///
    /// # Errors
    /// Why it does not say.
    pub(super) async fn read(self) -> Result<Value, ApplianceError> {
        let over = || ApplianceError::unreached("its adapter ended");
        let (tell, told) = oneshot::channel();
        let requests = self.0.upgrade().ok_or_else(over)?;
        requests
            .try_send(Request::Read(tell))
            .map_err(|_| ApplianceError::unreached("too much waits for its adapter"))?;
        drop(requests);
        told.await.unwrap_or_else(|_| Err(over()))
    }
}

fn own(id: &EntityId, appliance: &Appliance, known: &Known) -> Result<StartDevice, String> {
    let name = appliance.adapter.as_deref().unwrap_or_default();
    known.get(name).copied().ok_or_else(|| {
        format!(
            "{id} is spoken to by the adapter {name:?}, which this program has not; register it \
             with .appliance::<…>({name:?})"
        )
    })
}

/// How a device is spoken to.
#[derive(Clone, Copy)]
enum How {
    Http(lamplighter_policies::model::CommandMethod),
    Own(StartDevice),
}

/// One device and what is between it and its element.
struct Served {
    place: AppliancePlace,
    how: How,
    door: Arc<Door>,
}

impl Served {
    async fn run(self, mut asked: mpsc::Receiver<Request>) {
        let mut wait = START_AGAIN.0;
        loop {
            let (reports, said) = mpsc::channel(REPORTS_MAX);
            let why = {
                let listening = self.listen(said);
                let serving = self.serve(Reports(reports), &mut asked, &mut wait);
                tokio::select! {
                    why = serving => why,
                    () = listening => unreachable!("it listens for ever"),
                }
            };
            let Err(Broken(why)) = why else { return };
            tracing::warn!(appliance = %self.place.id, why, "its adapter is started again");
            let again = tokio::time::sleep(wait);
            tokio::pin!(again);
            loop {
                tokio::select! {
                    () = &mut again => break,
                    request = asked.recv() => match request {
                        Some(request) => request.fail(&why),
                        None => return,
                    },
                }
            }
            wait = (wait * 2).min(START_AGAIN.1);
        }
    }

    /// Starts the adapter and has it do what is asked, until nobody asks any more, or it fails.
    async fn serve(
        &self,
        reports: Reports,
        asked: &mut mpsc::Receiver<Request>,
        wait: &mut Duration,
    ) -> Result<(), Broken> {
        let started = limited(self.start(reports)).await?;
        let mut device = started.map_err(|error| Broken(error.to_string()))?;
        *wait = START_AGAIN.0;
        while let Some(request) = asked.recv().await {
            match request {
                // It may have waited behind something else.
                Request::CarryOut(command, tell) if !command.may_leave() => {
                    let late = "the time in which it may leave was over";
                    // Nobody listens if the element is over; the same holds below.
                    tell.send(Err(ApplianceError::unreached(late))).ok();
                }
                Request::CarryOut(command, tell) => {
                    match limited(device.carry_out(*command)).await {
                        Ok(outcome) => drop(tell.send(outcome)),
                        Err(broken) => {
                            tell.send(Err(broken.unknown())).ok();
                            return Err(broken);
                        }
                    }
                }
                Request::Read(tell) => match limited(device.read()).await {
                    Ok(outcome) => drop(tell.send(outcome)),
                    Err(broken) => {
                        tell.send(Err(broken.unknown())).ok();
                        return Err(broken);
                    }
                },
            }
        }
        Ok(())
    }

    async fn start(&self, reports: Reports) -> Result<Box<dyn Device>, ApplianceError> {
        let place = self.place.clone();
        match self.how {
            How::Http(method) => Http::boxed(place, method, reports),
            How::Own(start) => start(place, reports).await,
        }
    }

    /// Hands in what the device says, in order; an element that is busy is offered it again.
    async fn listen(&self, mut said: mpsc::Receiver<Value>) {
        while let Some(report) = said.recv().await {
            let payload = report.to_string().into_bytes();
            while !self.door.reported(&self.place.id, &payload) {
                tokio::time::sleep(OFFER_AGAIN).await;
            }
        }
        // The adapter has dropped its end and may still serve.
        std::future::pending().await
    }
}

impl Request {
    fn fail(self, why: &str) {
        let why = ApplianceError::unreached(format!("its adapter is started again: {why}"));
        match self {
            Self::CarryOut(_, tell) => drop(tell.send(Err(why))),
            Self::Read(tell) => drop(tell.send(Err(why))),
        }
    }
}

/// An adapter whose code panicked or did not return: it is not used again.
#[derive(Clone, Debug)]
struct Broken(String);

impl Broken {
    /// What became of a command that it had in hand.
    fn unknown(&self) -> ApplianceError {
        ApplianceError::unknown(format!("its adapter failed: {}", self.0))
    }
}

/// Runs an adapter's code within its limits.
async fn limited<T>(work: impl Future<Output = T>) -> Result<T, Broken> {
    let mut work = pin!(work);
    let polled = poll_fn(|context| match guarded(|| work.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(outcome)) => Poll::Ready(Ok(outcome)),
        Err(panicked) => Poll::Ready(Err(Broken(panicked.to_string()))),
    });
    match timeout(ANSWER_WITHIN, polled).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Broken(format!("it took longer than {ANSWER_WITHIN:?}"))),
    }
}
