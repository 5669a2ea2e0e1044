//! Code that speaks with a device in a way of its own: an adapter (paper, 3.1, appliances).

use std::future::Future;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use lamplighter_policies::ids::EntityId;
use lamplighter_policies::physical_world::EventId;
use lamplighter_policies::time::Monotonic;
use lamplighter_runtime::clock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// An adapter: code of the program that speaks with one device.
///
/// A program registers it with [`App::appliance`](crate::App::appliance), and the topology names it:
/// `api = "program"`, `adapter = "…"`. Unlike an element it may wait, and it keeps nothing that must
/// survive: the element that commands the device is its memory. What may leave, when and how often is
/// decided before the adapter is asked; it carries out and says truly what became of it.
///
/// One adapter serves one device for one element, one request at a time. If it panics, or takes longer
/// than ten seconds, it is dropped and started again.
///
/// ```no_run
/// use lamplighter::prelude::*;
///
/// /// A siren at the end of a serial line, which understands a letter.
/// struct Siren { line: String }
///
/// #[derive(Deserialize)]
/// struct Sound { alarm: String }
///
/// impl Appliance for Siren {
///     type Command = Sound;
///
///     async fn start(place: AppliancePlace, _: Reports) -> Result<Self, ApplianceError> {
///         let line = place.address.ok_or_else(|| ApplianceError::refused("it has no `address`"))?;
///         Ok(Self { line })
///     }
///
///     async fn carry_out(
///         &mut self,
///         command: ApplianceCommand<Sound>,
///     ) -> Result<Option<serde_json::Value>, ApplianceError> {
///         let letter = if command.body.alarm == "ON" { "A" } else { "a" };
///         std::fs::write(&self.line, letter).map_err(ApplianceError::unreached)?;
///         Ok(None)
///     }
///
///     async fn read(&mut self) -> Result<serde_json::Value, ApplianceError> {
///         Err(ApplianceError::refused("it cannot be asked"))
///     }
/// }
///
/// fn main() -> lamplighter::Result {
///     lamplighter::app().appliance::<Siren>("serial-siren").run()
/// }
/// ```
pub trait Appliance: Sized + 'static {
    /// What it can be told; decoded from the properties of a command.
    type Command: DeserializeOwned;

    /// Takes up a device. What it says without being asked goes to `reports`, for as long as the
    /// adapter lives.
    ///
    /// # Errors
    /// Why it cannot; it is tried again after a while.
    fn start(
        place: AppliancePlace,
        reports: Reports,
    ) -> impl Future<Output = Result<Self, ApplianceError>>;

    /// Carries out one command. Returns what the device says of it, if it does: what it shows now, or
    /// the reply to a call.
    ///
    /// # Errors
    /// What became of the command, as well as that is known: each variant is another next step.
    fn carry_out(
        &mut self,
        command: ApplianceCommand<Self::Command>,
    ) -> impl Future<Output = Result<Option<Value>, ApplianceError>>;

    /// What the device shows now, as an object of properties.
    ///
    /// # Errors
    /// Why it does not say.
    fn read(&mut self) -> impl Future<Output = Result<Value, ApplianceError>>;
}

/// Which device an adapter is for, as the topology has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliancePlace {
    /// The appliance.
    pub id: EntityId,
    /// Its `address`.
    pub address: Option<String>,
    /// Its `report_period`: how often it is to report, if it does not by itself.
    pub report_period: Option<Duration>,
}

/// A command on its way to a device.
#[derive(Clone, Debug)]
pub struct ApplianceCommand<T> {
    /// What to do.
    pub body: T,
    /// Who it is: a copy has the same. A device that takes keys can be given this one.
    pub id: EventId,
    /// The epoch of the element that sends it. A device, or whatever speaks for it, that has seen a
    /// greater one of the same element refuses it; see [`DeviceFence`](crate::DeviceFence).
    pub epoch: u64,
    /// Whether it must not be carried out twice.
    pub once: bool,
    pub(crate) leaves_until: Monotonic,
}

impl<T> ApplianceCommand<T> {
    /// Whether it may still be handed to the device: it is valid, and its sender surely owns the
    /// device. To be asked again just before the first byte leaves, where anything was waited for
    /// before; if it may not, the answer is [`ApplianceError::Unreached`].
    #[must_use]
    pub fn may_leave(&self) -> bool {
        clock::monotonic() < self.leaves_until
    }

    pub(crate) fn map<U, E>(
        self,
        body: impl FnOnce(T) -> Result<U, E>,
    ) -> Result<ApplianceCommand<U>, E> {
        Ok(ApplianceCommand {
            body: body(self.body)?,
            id: self.id,
            epoch: self.epoch,
            once: self.once,
            leaves_until: self.leaves_until,
        })
    }
}

/// What became of something that a device was asked or told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplianceError {
    /// Nothing of it reached the device: it is offered again after a while, as long as it is valid.
    #[error("{reason}")]
    Unreached {
        /// Why, for people.
        reason: String,
    },
    /// The device does not take it and was not changed: it is given up, and kept for people.
    #[error("{reason}")]
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// The device has been told by a newer incarnation of the element: whether we are replaced is asked
    /// of the store before anything more leaves.
    #[error("{reason}")]
    Fenced {
        /// Why, for people.
        reason: String,
    },
    /// It left, and nobody knows whether it was carried out. What may be repeated is; of the rest the
    /// device is asked, or a person.
    #[error("{reason}")]
    Unknown {
        /// Why, for people.
        reason: String,
    },
}

impl ApplianceError {
    /// [`ApplianceError::Unreached`], from any error.
    pub fn unreached(reason: impl ToString) -> Self {
        Self::Unreached {
            reason: reason.to_string(),
        }
    }

    /// [`ApplianceError::Refused`], from any error or text.
    pub fn refused(reason: impl ToString) -> Self {
        Self::Refused {
            reason: reason.to_string(),
        }
    }

    /// [`ApplianceError::Unknown`], from any error or text.
    pub fn unknown(reason: impl ToString) -> Self {
        Self::Unknown {
            reason: reason.to_string(),
        }
    }
}

/// Where an adapter puts what its device says. Clones go to the same place, also from other threads.
#[derive(Clone, Debug)]
pub struct Reports(pub(crate) mpsc::Sender<Value>);

/// Why a report was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReported {
    /// The element has more to do than it can; report again later.
    #[error("too many reports wait for the element; report again later")]
    Full,
    /// The adapter is dropped: nobody listens any more.
    #[error("the adapter is over")]
    Over,
    /// It has no form in JSON.
    #[error("the report has no form in JSON")]
    NoJson,
}

impl Reports {
    /// The device says this: an object of properties, or a bare value. It is logged by the elements that
    /// are bound to the device before they handle it.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn report(&self, said: &impl Serialize) -> Result<(), NotReported> {
        let said = serde_json::to_value(said).map_err(|_| NotReported::NoJson)?;
        self.0.try_send(said).map_err(|lost| match lost {
            TrySendError::Full(_) => NotReported::Full,
            TrySendError::Closed(_) => NotReported::Over,
        })
    }

    /// Waits until nobody listens any more.
    pub async fn over(&self) {
        self.0.closed().await;
    }
}

/// An adapter whose type is forgotten.
pub(crate) trait Device {
    fn carry_out(
        &mut self,
        command: ApplianceCommand<Value>,
    ) -> LocalBoxFuture<'_, Result<Option<Value>, ApplianceError>>;
    fn read(&mut self) -> LocalBoxFuture<'_, Result<Value, ApplianceError>>;
}

/// Starts an adapter whose type is forgotten.
pub(crate) type StartDevice =
    fn(AppliancePlace, Reports) -> LocalBoxFuture<'static, Result<Box<dyn Device>, ApplianceError>>;

struct Typed<X>(X);

impl<X: Appliance> Device for Typed<X> {
    fn carry_out(
        &mut self,
        command: ApplianceCommand<Value>,
    ) -> LocalBoxFuture<'_, Result<Option<Value>, ApplianceError>> {
        Box::pin(async move {
            let command = command.map(serde_json::from_value::<X::Command>);
            let command = command.map_err(|error| {
                ApplianceError::refused(format!("its adapter does not know the command: {error}"))
            })?;
            self.0.carry_out(command).await
        })
    }

    fn read(&mut self) -> LocalBoxFuture<'_, Result<Value, ApplianceError>> {
        Box::pin(self.0.read())
    }
}

/// How adapters of type `X` are started.
pub(crate) fn start_device<X: Appliance>(
    place: AppliancePlace,
    reports: Reports,
) -> LocalBoxFuture<'static, Result<Box<dyn Device>, ApplianceError>> {
    Box::pin(async move {
        let started = X::start(place, reports).await?;
        Ok(Box::new(Typed(started)) as Box<dyn Device>)
    })
}
