//! The adapter for devices that speak HTTP: GET reads, PUT or POST commands, in JSON.

use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use lamplighter_policies::model::CommandMethod;
use lamplighter_runtime::device::http::{HttpDevice, HttpError, Verb};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::author::{
    ApplianceCommand, ApplianceError, AppliancePlace, Device, NotReported, Reports,
};

/// The headers by which a command says who it is, and by which epoch of its owner it was sent.
const ID: &str = "lamplighter-id";
const EPOCH: &str = "lamplighter-epoch";

/// How long a device may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A device that speaks HTTP.
pub(super) struct Http {
    device: HttpDevice,
    verb: Verb,
    /// Reads it as often as it is to report.
    reading: Option<JoinHandle<()>>,
}

impl Http {
    pub(super) fn boxed(
        place: AppliancePlace,
        method: CommandMethod,
        reports: Reports,
    ) -> Result<Box<dyn Device>, ApplianceError> {
        let address = place.address.unwrap_or_default();
        let device = HttpDevice::at(&address).map_err(ApplianceError::refused)?;
        let verb = match method {
            CommandMethod::Put => Verb::Put,
            CommandMethod::Post => Verb::Post,
        };
        let reading = place
            .report_period
            .map(|period| actix_rt::spawn(read_on(device.clone(), period, reports)));
        Ok(Box::new(Self {
            device,
            verb,
            reading,
        }))
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}

impl Device for Http {
    fn carry_out(
        &mut self,
        command: ApplianceCommand<Value>,
    ) -> LocalBoxFuture<'_, Result<Option<Value>, ApplianceError>> {
        Box::pin(async move {
            let (id, epoch) = (command.id.to_string(), command.epoch.to_string());
            let headers = [(ID, id.as_str()), (EPOCH, epoch.as_str())];
            let body = command.body.to_string().into_bytes();
            let may_leave = || command.may_leave();
            let answer = self
                .device
                .command(self.verb, &headers, body, may_leave, ANSWER_WITHIN)
                .await;
            answer.map_err(error)
        })
    }

    fn read(&mut self) -> LocalBoxFuture<'_, Result<Value, ApplianceError>> {
        Box::pin(async move { self.device.read(ANSWER_WITHIN).await.map_err(error) })
    }
}

/// Reads a device again and again, and reports what is different from the last time.
async fn read_on(device: HttpDevice, period: Duration, reports: Reports) {
    let mut last = None;
    loop {
        match device.read(ANSWER_WITHIN).await {
            Ok(shown) if last.as_ref() != Some(&shown) => match reports.report(&shown) {
                Ok(()) => last = Some(shown),
                Err(NotReported::Full | NotReported::NoJson) => {}
                Err(NotReported::Over) => return,
            },
            Ok(_) => {}
            Err(fault) => tracing::debug!(%fault, "a device says nothing now"),
        }
        tokio::time::sleep(period).await;
    }
}

fn error(error: HttpError) -> ApplianceError {
    let reason = error.to_string();
    match error {
        HttpError::Unreached { .. } | HttpError::Late { .. } => {
            ApplianceError::Unreached { reason }
        }
        HttpError::Fenced { .. } => ApplianceError::Fenced { reason },
        HttpError::Refused { .. } | HttpError::Address { .. } => ApplianceError::Refused { reason },
        HttpError::Unanswered { .. } => ApplianceError::Unknown { reason },
    }
}
