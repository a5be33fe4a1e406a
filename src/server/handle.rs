//! The way from the web layer to a node: one asynchronous call, whatever runs the node.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use node::api::{ApiError, Credentials, Operation, Outcome};

/// What came of a call.
pub type CallResult = Result<Outcome, ApiError>;

type Call = dyn Fn(Credentials, Operation) -> Pin<Box<dyn Future<Output = CallResult> + Send>>
    + Send
    + Sync;

/// Calls a node. Clones lead to the same one. Dropping the future gives the call up.
#[derive(Clone)]
pub struct NodeHandle(Arc<Call>);

impl std::fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeHandle")
    }
}

impl NodeHandle {
    /// A handle that calls through `call`.
    pub fn new<F, Fut>(call: F) -> Self
    where
        F: Fn(Credentials, Operation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CallResult> + Send + 'static,
    {
        Self(Arc::new(move |credentials, operation| Box::pin(call(credentials, operation))))
    }

    /// Calls an operation and waits for its answer.
    ///
    /// * Errors: as the node says.
    pub async fn call(&self, credentials: Credentials, operation: Operation) -> CallResult {
        (self.0)(credentials, operation).await
    }
}
