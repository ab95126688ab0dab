//! What files say, read again when they change.

use super::reread::{Outcome, Reread};
use crate::identity::file::Files;
use parking_lot::RwLock;
use std::{fmt, io, path::PathBuf, sync::Arc};

/// What was read, and what others will not like about it.
pub type Read<T> = Result<(T, Option<String>), Vec<String>>;

/// What some files say that are in force.
pub struct Watched<T> {
    current: Arc<RwLock<Arc<T>>>,
    files: Arc<Reread>,
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the files; all that is wrong with them.
    pub fn open(
        what: &'static str,
        paths: Vec<PathBuf>,
        read: impl Fn() -> Read<T> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Vec<String>> {
        let read = move || {
            let mut files = Files::default();
            paths.iter().for_each(|path| files.note(path));
            let current = read().map(|(current, warning)| {
                if let Some(warning) = warning {
                    tracing::warn!("{what}: {warning}");
                }
                Arc::new(current)
            });
            (files, current)
        };
        let (files, first) = read();
        let current = Arc::new(RwLock::new(first?));
        let replaced = current.clone();
        let read_again = move || -> Outcome {
            let (files, current) = read();
            (files, current.map(|current| *replaced.write() = current))
        };
        Ok(Arc::new(Self { current, files: Reread::new(what, files, read_again) }))
    }

    /// What is in force.
    pub fn current(&self) -> Arc<T> {
        self.current.read().clone()
    }

    /// Starts the thread that looks at the files. It ends when nothing else holds this.
    pub fn watch(self: &Arc<Self>) -> io::Result<()> {
        self.files.watch()
    }
}
