//! What commands read from the store of an application, whether it runs or not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::model::{Durability, Topology};
use lamplighter_runtime::clock;
use lamplighter_runtime::store::any::AnyStore;
use lamplighter_runtime::store::embedded::{self, Embedded, OpenError};
use lamplighter_runtime::store::{Saved, StableStore, StoreError};
use lamplighter_runtime::transport::tls::Security;

use crate::access::{Access, AccessError};
use crate::cluster::LOCK_FILE;
use crate::network::{self, NetworkError};
use crate::spec::{BrokerAccess, ElementSpec, StoreAccess};

/// The embedded store's name in a run directory.
pub(super) const STORE_DIRECTORY: &str = "store";
/// How long a manager that is being started again may take to serve the store.
const MANAGER_WITHIN: Duration = Duration::from_secs(5);
/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Why something stored cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// Nothing was ever started there.
    #[error("nothing has run in {0}; start it with `up FILE`, or say --run-directory")]
    NothingRan(PathBuf),
    /// The topology has no such element.
    #[error("{application} has no element {element}; {hint}")]
    NoSuchElement {
        /// What was asked for.
        element: EntityId,
        /// Where.
        application: EntityId,
        /// What may have been meant.
        hint: String,
    },
    /// No server has such an element.
    #[error("no element {element} runs; {hint}")]
    NotRunning {
        /// What was asked for.
        element: EntityId,
        /// What may have been meant.
        hint: String,
    },
    /// The topology has no such element, and no such appliance.
    #[error("{application} has no element and no appliance {entity}; {hint}")]
    NoSuchEntity {
        /// What was asked for.
        entity: EntityId,
        /// Where.
        application: EntityId,
        /// What may have been meant.
        hint: String,
    },
    /// The topology has no such space.
    #[error("{application} has no space {space}; it has {known}")]
    NoSuchSpace {
        /// What was asked for.
        space: EntityId,
        /// Where.
        application: EntityId,
        /// Those that it has.
        known: String,
    },
    /// The element was never started.
    #[error("nothing is kept of {0}: it has never run")]
    NeverRan(EntityId),
    /// The store does not answer.
    #[error("the store is out of reach: {reason}; {cure}")]
    OutOfReach {
        /// What was said.
        reason: String,
        /// What to do.
        cure: &'static str,
    },
    /// The store answers, and refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The embedded store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The identity of this machine's commands cannot be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// What the manager left cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The element's code cannot restore its state.
    #[error("{element} cannot be restored: {reason}")]
    Unrestorable {
        /// Which element.
        element: EntityId,
        /// Why.
        reason: String,
    },
}

/// An application and its store.
pub(super) struct Kept {
    pub(super) topology: Topology,
    pub(super) store: AnyStore,
    access: StoreAccess,
}

impl Kept {
    /// Finds the application that runs in `directory`, or ran there last.
    pub(super) async fn find(directory: &Path) -> Result<Self, StoredError> {
        let access = Access::read(directory)?;
        let access = access.ok_or_else(|| StoredError::NothingRan(directory.to_owned()))?;
        let Access { topology, store } = access;
        let connected = connect(directory, &topology, &store).await?;
        Ok(Self {
            topology,
            store: connected,
            access: store,
        })
    }

    /// What a host would be told of an element.
    pub(super) fn spec(&self, element: &EntityId) -> Result<ElementSpec, StoredError> {
        // Nothing that is only looked at is sent anywhere.
        let nowhere = BrokerAccess {
            url: String::new(),
            user: None,
            password: None,
        };
        ElementSpec::of(&self.topology, element, &nowhere, &self.access, false)
            .ok_or_else(|| self.no_such(element))
    }

    /// All that is kept of an element.
    pub(super) async fn saved(&self, element: &EntityId) -> Result<Saved, StoredError> {
        if !self.topology.elements.contains_key(element) {
            return Err(self.no_such(element));
        }
        let saved = self.store.peek(element).await.map_err(out_of_reach)?;
        saved.ok_or_else(|| StoredError::NeverRan(element.clone()))
    }

    /// The element that was named, or all of them.
    pub(super) fn elements(&self, named: Option<EntityId>) -> Result<Vec<EntityId>, StoredError> {
        match named {
            None => Ok(self.topology.elements.keys().cloned().collect()),
            Some(element) if self.topology.elements.contains_key(&element) => Ok(vec![element]),
            Some(element) => Err(self.no_such(&element)),
        }
    }

    /// Neither an element nor an appliance is named so.
    pub(super) fn no_such_entity(&self, entity: &EntityId) -> StoredError {
        let elements = self.topology.elements.keys();
        let known = elements.chain(self.topology.appliances.keys());
        StoredError::NoSuchEntity {
            entity: entity.clone(),
            application: self.topology.application.name.clone(),
            hint: hint(entity, known),
        }
    }

    fn no_such(&self, element: &EntityId) -> StoredError {
        StoredError::NoSuchElement {
            element: element.clone(),
            application: self.topology.application.name.clone(),
            hint: hint(element, self.topology.elements.keys()),
        }
    }
}

/// The name that may have been meant, or all there are.
pub(super) fn hint<'k>(
    given: &EntityId,
    known: impl Iterator<Item = &'k EntityId> + Clone,
) -> String {
    let names = known.map(EntityId::as_str);
    let distance = |name: &str| strsim::damerau_levenshtein(given.as_str(), name);
    let near = names
        .clone()
        .map(|name| (distance(name), name))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    match near {
        Some((_, name)) => format!("did you mean {name}?"),
        None => format!("it has {}", names.collect::<Vec<_>>().join(", ")),
    }
}

/// Through whoever serves the store, or the files themselves when nobody does.
async fn connect(
    directory: &Path,
    topology: &Topology,
    access: &StoreAccess,
) -> Result<AnyStore, StoredError> {
    let security = match access.tcp() {
        Some(address) => network::of_operator(directory, address)?.security(),
        None => Security::LoopbackOnly,
    };
    let began = clock::monotonic();
    loop {
        let connecting = access.connect(&topology.application.name, &security);
        let refused = match connecting.await {
            Ok(store) => return Ok(store),
            Err(error) => error,
        };
        let is_embedded = matches!(access, StoreAccess::Served { .. });
        if !is_embedded || !matches!(refused, StoreError::Unavailable { .. }) {
            return Err(out_of_reach(refused));
        }
        if !is_locked(directory) {
            let opened = open(&directory.join(STORE_DIRECTORY), topology);
            return opened.map(AnyStore::Embedded);
        }
        // The application runs and its manager does not: it is being started again, and says
        // nowhere when it is back.
        if clock::monotonic() - began > MANAGER_WITHIN {
            return Err(out_of_reach(refused));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Opens the files of an embedded store that nobody serves.
pub(super) fn open(directory: &Path, topology: &Topology) -> Result<Embedded, StoredError> {
    if !directory.exists() {
        return Err(StoredError::NothingRan(directory.to_owned()));
    }
    Ok(Embedded::open(directory, options(topology))?)
}

/// How the topology wants an embedded store to work.
pub(super) fn options(topology: &Topology) -> embedded::Options {
    embedded::Options {
        durability: match topology.store.durability {
            Durability::Required => embedded::Durability::Required,
            Durability::Process => embedded::Durability::Process,
        },
        ..embedded::Options::default()
    }
}

/// Whether `up` runs in a directory.
fn is_locked(directory: &Path) -> bool {
    let lock = std::fs::File::open(directory.join(LOCK_FILE));
    lock.is_ok_and(|lock| {
        matches!(
            lock.try_lock_shared(),
            Err(std::fs::TryLockError::WouldBlock)
        )
    })
}

/// Tells a store that does not answer from one that refuses.
pub(super) fn out_of_reach(error: StoreError) -> StoredError {
    match error {
        StoreError::Unavailable { attempted, reason } => StoredError::OutOfReach {
            reason: format!("{attempted}: {reason}"),
            cure: "see whether the application runs (`status`), and its Redis server if it has one",
        },
        error @ (StoreError::Fenced { .. }
        | StoreError::Gap { .. }
        | StoreError::Refused { .. }
        | StoreError::Damaged { .. }) => StoredError::Store(error),
    }
}
