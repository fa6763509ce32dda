//! The store and the directory of a test.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use test_support::postgres::Postgres;

/// An empty store and a directory that belong to one test.
#[derive(Clone)]
pub(crate) struct StoreFixture {
    pub(crate) folder: PathBuf,
    pub(crate) store: String,
    server: Option<Arc<Postgres>>,
}

impl StoreFixture {
    pub(crate) fn sqlite() -> Self {
        let folder = folder();
        let store = format!("sqlite:{}", folder.join("tokens.db").display());
        let server = None;
        Self {
            folder,
            store,
            server,
        }
    }

    pub(crate) async fn postgres(server: Arc<Postgres>) -> Self {
        let store = server.create_database().await;
        Self {
            folder: folder(),
            store,
            server: Some(server),
        }
    }

    pub(crate) async fn remove(self) {
        if let Some(server) = &self.server {
            server.drop_database(&self.store).await;
        }
        fs::remove_dir_all(self.folder).unwrap();
    }

    pub(crate) fn server(&self) -> &Postgres {
        self.server.as_ref().expect("the fixture uses PostgreSQL")
    }

    /// Returns the path of a file in the directory. Writes the file if there is a text.
    pub(crate) fn file(&self, name: &str, text: Option<&str>) -> String {
        let path = self.folder.join(name);
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        path.to_str().unwrap().to_owned()
    }

    /// Prints a measurement.
    pub(crate) fn report(&self, figures: &str) {
        let kind = self.store.split(':').next().unwrap();
        eprintln!("  {kind}: {figures}");
    }
}

fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("svctok-serve-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}
