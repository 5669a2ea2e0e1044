//! An application: the elements that a program has, and its command line.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_policies::ids::EntityId;
use lamplighter_runtime::process::HostLink;
use lamplighter_runtime::store::Saved;

use crate::author::{Appliance, Callable, Element, StartDevice, start_device};
use crate::cli;
use crate::host::{self, FoldedState, HostPlace};
use crate::instance::{self, Accepts, Hosted, Instance};
use crate::spec::ElementSpec;

/// What a program's `main` returns.
pub type Result = std::result::Result<(), Error>;

/// Why a command failed. Shown to people by both `Display` and `Debug`, because a `main` that returns
/// it prints the latter.
pub struct Error(cli::CommandError);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for Error {}

/// A kind of element, its type forgotten.
pub(crate) struct Kind {
    pub(crate) make: fn(EntityId, Vec<u8>, BTreeSet<String>) -> Box<dyn Hosted>,
    pub(crate) accepts: Accepts,
    /// Whether it takes calls.
    pub(crate) is_callable: bool,
}

/// A program under construction.
#[derive(Default)]
pub struct App {
    kinds: BTreeMap<String, Kind>,
    adapters: BTreeMap<String, StartDevice>,
}

/// Begins a program: register its elements, then [`App::run`].
///
/// ```no_run
/// use lamplighter::prelude::*;
///
/// #[derive(Serialize, Deserialize, Default)]
/// struct Counter { presses: u64 }
///
/// impl Element for Counter {
///     type Event = ();
///     fn handle(&mut self, _: Event<()>, _: &mut Context<Self>) -> Outcome {
///         self.presses += 1;
///         Ok(())
///     }
/// }
///
/// fn main() -> lamplighter::Result {
///     lamplighter::app().element::<Counter>("Counter").run()
/// }
/// ```
#[must_use]
pub fn app() -> App {
    App::default()
}

impl App {
    /// Registers an element under the name by which the topology's `kind` calls it.
    #[must_use]
    pub fn element<E: Element>(mut self, kind: &str) -> Self {
        let make = |id, initial, ports| -> Box<dyn Hosted> {
            Box::new(Instance::<E>::new(id, initial, ports))
        };
        self.kinds.insert(
            kind.to_owned(),
            Kind {
                make,
                accepts: instance::accepts::<E>,
                is_callable: false,
            },
        );
        self
    }

    /// Registers an element that other elements may call, as [`App::element`] does the others.
    ///
    /// ```no_run
    /// use lamplighter::prelude::*;
    ///
    /// #[derive(Serialize, Deserialize, Default)]
    /// struct Clerk { numbers: u64 }
    ///
    /// impl Element for Clerk {
    ///     type Event = ();
    ///     fn handle(&mut self, _: Event<()>, _: &mut Context<Self>) -> Outcome { Ok(()) }
    /// }
    ///
    /// #[derive(Serialize, Deserialize)]
    /// enum Asked { Number }
    ///
    /// impl Callable for Clerk {
    ///     type Call = Asked;
    ///     type Reply = u64;
    ///     fn call(&mut self, _: Event<Asked>, _: &mut Context<Self>) -> Result<u64, NoReply> {
    ///         self.numbers += 1;
    ///         Ok(self.numbers)
    ///     }
    /// }
    ///
    /// fn main() -> lamplighter::Result {
    ///     lamplighter::app().callable::<Clerk>("Clerk").run()
    /// }
    /// ```
    #[must_use]
    pub fn callable<E: Callable>(mut self, kind: &str) -> Self {
        let make = |id, initial, ports| -> Box<dyn Hosted> {
            let serve = Some(instance::serve::<E> as instance::Serve<E>);
            Box::new(Instance::<E>::new(id, initial, ports).served_by(serve))
        };
        self.kinds.insert(
            kind.to_owned(),
            Kind {
                make,
                accepts: instance::accepts::<E>,
                is_callable: true,
            },
        );
        self
    }

    /// Registers an adapter under the name by which the topology's `adapter` calls it, for appliances
    /// with `api = "program"`.
    #[must_use]
    pub fn appliance<X: Appliance>(mut self, name: &str) -> Self {
        self.adapters.insert(name.to_owned(), start_device::<X>);
        self
    }

    /// Runs what the command line says: check a topology, start the application, look at it.
    ///
    /// # Errors
    /// Why the command failed.
    pub fn run(self) -> Result {
        cli::run(&self).map_err(Error)
    }
}

impl cli::Application for App {
    fn kinds(&self) -> Vec<String> {
        self.kinds.keys().cloned().collect()
    }

    fn adapters(&self) -> Vec<String> {
        self.adapters.keys().cloned().collect()
    }

    fn folded(
        &self,
        spec: &ElementSpec,
        saved: &Saved,
    ) -> std::result::Result<FoldedState, String> {
        let kind = &spec.element.kind;
        let known = self.kinds.get(kind);
        let known = known.ok_or_else(|| format!("this program has no element of kind {kind:?}"))?;
        host::folded(known, spec, saved)
    }

    async fn run_host(&self, place: HostPlace, link: HostLink) -> std::result::Result<(), String> {
        host::run(&self.kinds, &self.adapters, place, link).await
    }
}
