//! The files that the settings name: all of them are read before anything is opened, and what is wrong
//! is reported of all that are faulty.

use super::{
    apps,
    engines::Engines,
    error::StartError,
    nodes,
    policy::PolicyFile,
    reread::Reread,
    tls::{self, Tls},
};
use crate::{config::Config, identity::Identity, webhook};
use std::sync::Arc;

/// What the files say.
pub struct Files {
    pub tls: Option<Arc<Tls>>,
    pub trust: nodes::Trust,
    pub identity: Option<Arc<Identity>>,
    pub plan: webhook::Plan,
    pub policy: Option<PolicyFile>,
    pub apps: Option<Arc<Reread>>,
}

impl Files {
    /// Reads them. The apps of the engines are limited as theirs says.
    pub fn read(config: &Config, engines: &Engines) -> Result<Self, StartError> {
        let mut faults = Vec::new();
        let tls = tls::Files::of(config)
            .and_then(|files| files.map(|files| tls::open("tls", files)).transpose());
        let tls = kept(tls, StartError::Tls, &mut faults);
        let trust = kept(nodes::Trust::open(config), StartError::Tls, &mut faults);
        let identity = config.identity.as_deref().map(Identity::open).transpose();
        let identity = kept(identity, StartError::Identity, &mut faults);
        let plan = config.webhooks.as_deref().map(webhook::Plan::read).transpose();
        let plan = kept(plan, StartError::Webhooks, &mut faults);
        let policy =
            config.policy.as_deref().map(|file| PolicyFile::open(file, engines)).transpose();
        let policy = kept(policy, StartError::Policy, &mut faults);
        let apps = config.apps.as_deref().map(|file| apps::open(file, engines)).transpose();
        let apps = kept(apps, StartError::Apps, &mut faults);
        match (tls, trust, identity, plan, policy, apps) {
            (Some(tls), Some(trust), Some(identity), Some(plan), Some(policy), Some(apps)) => {
                let (identity, plan) = (identity.map(Arc::new), plan.unwrap_or_default());
                Ok(Self { tls, trust, identity, plan, policy, apps })
            }
            _ => Err(StartError::of(faults)),
        }
    }
}

/// What was read; else why not is kept.
fn kept<T, F>(
    read: Result<T, F>,
    error: fn(F) -> StartError,
    faults: &mut Vec<StartError>,
) -> Option<T> {
    read.map_err(|fault| faults.push(error(fault))).ok()
}
