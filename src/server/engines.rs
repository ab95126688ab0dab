//! The engines of a server, which its threads run: one if it is alone; in a cluster one for each
//! partition that the node owns, and one without sessions for all else.

use super::Vital;
use crate::{
    cluster::partition_of,
    engine::{AppsSettings, Engine, rule::JudgedApps},
    log::Partition,
    session::ids::AppId,
};
use parking_lot::{Mutex, RwLock};
use std::sync::{Arc, OnceLock};
use tokio::{runtime::Handle, task::AbortHandle};

/// The engines that run. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct Engines {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Read by each thread whenever it rests.
    all: RwLock<Vec<(Engine, Has)>>,
    /// The runtime of each thread; not set = the clock is stepped, and nothing runs by itself.
    threads: OnceLock<Vec<Handle>>,
    /// How far apps are limited, if anything says so.
    limits: Mutex<Option<AppsSettings>>,
    /// What is judged in which app, if that has changed since the start.
    judged: Mutex<Option<JudgedApps>>,
}

/// Which apps an engine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Has {
    /// All.
    All,
    /// Those of a partition, of so many.
    Partition(Partition, usize),
    /// None.
    None,
}

impl Has {
    fn has(self, app: &AppId) -> bool {
        match self {
            Self::All => true,
            Self::Partition(partition, of) => partition_of(app, of) == partition,
            Self::None => false,
        }
    }
}

/// An engine that runs, until this is dropped.
#[derive(Debug)]
pub struct Running {
    engines: Engines,
    engine: Engine,
    tasks: Vec<AbortHandle>,
}

impl Engines {
    /// Has them run by these threads, each of which ticks one shard of each engine.
    pub fn run_by(&self, threads: Vec<Handle>) {
        let _ = self.inner.threads.set(threads);
    }

    /// Begins to run an engine, which has these apps.
    pub fn run(&self, engine: &Engine, has: Has) -> Running {
        {
            // So it gets whatever is read meanwhile.
            let (limits, judged) = (self.inner.limits.lock(), self.inner.judged.lock());
            if let Some(limits) = &*limits {
                engine.limit_apps(limits.clone());
            }
            if let Some(judged) = &*judged {
                engine.judge_apps(judged.clone());
            }
            self.inner.all.write().push((engine.clone(), has));
        }
        let threads = self.inner.threads.get().map(Vec::as_slice).unwrap_or_default();
        let tasks = threads.iter().enumerate().map(|(shard, thread)| {
            let engine = engine.clone();
            let task = thread.spawn(async move {
                let _vital = Vital;
                engine.run_shard(shard).await;
            });
            task.abort_handle()
        });
        Running { engines: self.clone(), engine: engine.clone(), tasks: tasks.collect() }
    }

    /// All that run.
    pub fn all(&self) -> Vec<Engine> {
        self.inner.all.read().iter().map(|(engine, _)| engine.clone()).collect()
    }

    /// Those that have an app, which may be none; where none is named, all.
    pub fn with(&self, app: Option<&AppId>) -> Vec<Engine> {
        let all = self.inner.all.read();
        let having = all.iter().filter(|(_, has)| app.is_none_or(|app| has.has(app)));
        having.map(|(engine, _)| engine.clone()).collect()
    }

    /// Limits the apps of all, and of those that run later.
    pub fn limit_apps(&self, settings: AppsSettings) {
        let mut limits = self.inner.limits.lock();
        for (engine, _) in self.inner.all.read().iter() {
            engine.limit_apps(settings.clone());
        }
        *limits = Some(settings);
    }

    /// Changes what is judged in all, and in those that run later.
    pub fn judge_apps(&self, now: JudgedApps) {
        let mut judged = self.inner.judged.lock();
        for (engine, _) in self.inner.all.read().iter() {
            engine.judge_apps(now.clone());
        }
        *judged = Some(now);
    }

    /// The thread of a shard is about to rest. See [`Engine::shard_rests`].
    pub fn shard_rests(&self, shard: usize) {
        self.inner.all.read().iter().for_each(|(engine, _)| engine.shard_rests(shard));
    }

    /// It goes on.
    pub fn shard_wakes(&self, shard: usize) {
        self.inner.all.read().iter().for_each(|(engine, _)| engine.shard_wakes(shard));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.engines.inner.all.write().retain(|(engine, _)| !engine.is_same(&self.engine));
    }
}
