//! A home that is served within a test, and a client of it.

use std::path::PathBuf;
use std::sync::Arc;

use keepwell_protocol::units::DurationMs;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Api, router, socket};
use crate::client::Client;
use crate::local::Local;
use crate::service::Node;

/// What a test works with. The runtime ends before the folder goes.
pub(crate) struct Served {
    pub(crate) client: Client,
    pub(crate) api: Arc<Api>,
    pub(crate) node: Arc<dyn Node>,
    pub(crate) home: PathBuf,
    _runtime: Runtime,
    pub(crate) folder: TempDir,
}

impl Served {
    /// A new home, served.
    pub(crate) fn start() -> Served {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let (network, name) = ("lab".parse().unwrap(), "ada".parse().unwrap());
        let local = Local::init(&home, DurationMs(0), None, network, name).unwrap();
        let node: Arc<dyn Node> = Arc::new(local);
        let api = Api::new(Arc::clone(&node), home.clone(), None, None);
        let path = socket::path_of(&home, Some(folder.path())).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = {
            let _entered = runtime.enter();
            socket::bind(&path).unwrap()
        };
        runtime.spawn(axum::serve(listener, router(Arc::clone(&api))).into_future());
        let client = Client::connect(&home, &path).unwrap().unwrap();
        Served { client, api, node, home, _runtime: runtime, folder }
    }

    /// How many files are in `ingest/`.
    pub(crate) fn ingests(&self) -> usize {
        std::fs::read_dir(self.home.join("ingest")).map_or(0, Iterator::count)
    }
}
