//! How far apps are limited, as a file says: read at the start, and again whenever it changes.

use super::{engines::Engines, reread::Reread};
use crate::{
    config::{ConfigError, read_apps},
    identity::file::Files,
};
use std::{path::Path, sync::Arc};

/// Reads the file and limits the apps as it says.
pub fn open(path: &Path, engines: &Engines) -> Result<Arc<Reread>, Vec<ConfigError>> {
    let (files, outcome) = read(path, engines);
    outcome?;
    let (path, engines) = (path.to_owned(), engines.clone());
    Ok(Reread::new("apps", files, move || {
        let (files, outcome) = read(&path, &engines);
        (files, outcome.map_err(|faults| faults.iter().map(ToString::to_string).collect()))
    }))
}

fn read(path: &Path, engines: &Engines) -> (Files, Result<(), Vec<ConfigError>>) {
    let mut files = Files::default();
    files.note(path);
    (files, read_apps(path).map(|settings| engines.limit_apps(settings)))
}
