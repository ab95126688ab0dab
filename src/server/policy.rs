//! What must hold for requests and who has a say in them, as a file says: read at the start, and again
//! whenever it or a file that it names changes.

use super::{engines::Engines, reread::Reread};
use crate::{
    identity::Fault,
    policy::{InForce, Policy},
};
use std::{path::Path, sync::Arc};

/// What is in force, and the files that say so.
#[derive(Debug)]
pub struct PolicyFile {
    pub in_force: Arc<InForce>,
    pub files: Arc<Reread>,
}

impl PolicyFile {
    /// Reads the file and those that it names; all that is wrong with them.
    pub fn open(path: &Path, engines: &Engines) -> Result<Self, Vec<Fault>> {
        let (files, policy) = Policy::read(path, &Policy::default());
        let in_force = Arc::new(InForce::new(policy?));
        let (path, engines, replaced) = (path.to_owned(), engines.clone(), in_force.clone());
        let files = Reread::new("policy", files, move || {
            let (files, policy) = Policy::read(&path, &replaced.current());
            let put = |policy: Policy| {
                let judged = policy.judged();
                // In this order: whatever a session has judged, there is somebody to judge it.
                replaced.replace(policy);
                engines.judge_apps(judged);
            };
            let told = |faults: Vec<Fault>| faults.iter().map(ToString::to_string).collect();
            (files, policy.map(put).map_err(told))
        });
        Ok(Self { in_force, files })
    }
}
