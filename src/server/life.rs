//! The life of a process over several starts of its node.
//!
//! A node that joins another cluster, or has left one, starts anew on an empty storage while HTTP
//! and the local socket stay; one that was removed ends. Calls find whatever node there is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use host::service::{self, Ended, Handle};
use host::storage::StorageError;
use node::api::wire::{Health, NodeState};
use node::api::{ApiError, Operation, Outcome, Unavailable};

use crate::data::DataFolder;
use crate::handle::NodeHandle;
use crate::run::{self, Prepared, Running, ServeError, ServeSettings};
use crate::world::RealWorld;

/// How long a node that has ended may hold its folder.
const LET_GO_MAX: Duration = Duration::from_secs(20);
/// How often that is looked at.
const LET_GO_LOOK: Duration = Duration::from_millis(10);

/// The node of a process, one after the other.
#[derive(Clone)]
pub struct Life {
    settings: Arc<ServeSettings>,
    current: Arc<Mutex<Option<Handle<RealWorld>>>>,
}

impl Life {
    /// No node yet.
    pub fn new(settings: ServeSettings) -> Self {
        Self { settings: Arc::new(settings), current: Arc::default() }
    }

    fn current(&self) -> Option<Handle<RealWorld>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn become_current(&self, handle: Option<Handle<RealWorld>>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }

    /// The way to whatever node there is; while there is none it says so.
    pub fn node(&self) -> NodeHandle {
        let life = self.clone();
        NodeHandle::new(move |credentials, operation| {
            let current = life.current();
            async move {
                if let Some(handle) = current {
                    return handle.call(credentials, operation).await;
                }
                if matches!(operation, Operation::GetHealth) {
                    let state = NodeState::Forming;
                    return Ok(Outcome::Health(Health { ready: false, state, load: 0 }));
                }
                if matches!(operation, Operation::GetMetrics) {
                    return Ok(Outcome::Metrics(Vec::new()));
                }
                Err(ApiError::Unavailable(Unavailable::Starting))
            }
        })
    }

    /// Lives until the node has failed or was removed from its cluster.
    ///
    /// * `ready`: called with each node that serves.
    /// * Returns where the data of a removed node was set aside.
    /// * Errors: why it cannot go on.
    pub async fn live(
        &self,
        mut prepared: Prepared,
        ready: impl AsyncFn(Running),
    ) -> Result<PathBuf, ServeError> {
        loop {
            let begun = run::begin(&self.settings, prepared).await?;
            let handle = begun.handle.clone();
            self.become_current(Some(handle.clone()));
            let serving = async {
                ready(begun.ready().await).await;
                std::future::pending::<()>().await;
            };
            let ended = tokio::select! {
                biased;
                ended = handle.ended() => ended,
                () = serving => Ended::Failed("the node serves no more".to_owned()),
            };
            handle.stop().await;
            self.become_current(None);
            drop(handle);
            match ended {
                Ended::Failed(text) => return Err(ServeError::Failed(text)),
                Ended::Rejoin => drop(self.folder()?.set_aside("pre-join")?),
                Ended::Removed => {
                    if let Some(aside) = self.set_aside()? {
                        return Ok(aside);
                    }
                }
            }
            prepared = self.prepare_again().await?;
        }
    }

    /// Opens the folder as soon as the node before has let it go.
    async fn prepare_again(&self) -> Result<Prepared, ServeError> {
        let since = Instant::now();
        loop {
            match run::prepare(&self.settings) {
                Err(ServeError::Storage(StorageError::Locked { .. }))
                    if since.elapsed() < LET_GO_MAX =>
                {
                    tokio::time::sleep(LET_GO_LOOK).await;
                }
                other => return other,
            }
        }
    }

    fn folder(&self) -> Result<DataFolder, ServeError> {
        Ok(DataFolder::open(&self.settings.data)?)
    }

    /// Sets the data of a cluster aside that this node is no member of any more.
    ///
    /// * Returns where, unless the node goes on alone.
    fn set_aside(&self) -> Result<Option<PathBuf>, ServeError> {
        let folder = self.folder()?;
        let world = RealWorld::new(self.folder()?, self.settings.cluster.family);
        let noted = service::note_removal(&world);
        let goes_on = noted.map_err(|error| ServeError::Start(error.into()))?;
        let aside = folder.set_aside("removed")?;
        tracing::info!(to = %aside.display(), "the data of the cluster that was left is set aside");
        Ok(Some(aside).filter(|_| !goes_on))
    }

    /// Stops the node there is.
    pub async fn stop(&self) {
        if let Some(handle) = self.current() {
            handle.stop().await;
        }
    }
}
