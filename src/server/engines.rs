//! The engines of a server, which its threads run: one if it is alone; in a cluster one for each
//! partition that the node owns, and one without sessions for all else.

use super::Vital;
use crate::engine::{AppsSettings, Engine};
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
    all: RwLock<Vec<Engine>>,
    /// The runtime of each thread; not set = the clock is stepped, and nothing runs by itself.
    threads: OnceLock<Vec<Handle>>,
    /// How far apps are limited, if anything says so.
    limits: Mutex<Option<AppsSettings>>,
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

    /// Begins to run an engine.
    pub fn run(&self, engine: &Engine) -> Running {
        {
            // So it gets whatever limits are read meanwhile.
            let limits = self.inner.limits.lock();
            if let Some(limits) = &*limits {
                engine.limit_apps(limits.clone());
            }
            self.inner.all.write().push(engine.clone());
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
        self.inner.all.read().clone()
    }

    /// Limits the apps of all, and of those that run later.
    pub fn limit_apps(&self, settings: AppsSettings) {
        let mut limits = self.inner.limits.lock();
        for engine in self.inner.all.read().iter() {
            engine.limit_apps(settings.clone());
        }
        *limits = Some(settings);
    }

    /// The thread of a shard is about to rest. See [`Engine::shard_rests`].
    pub fn shard_rests(&self, shard: usize) {
        self.inner.all.read().iter().for_each(|engine| engine.shard_rests(shard));
    }

    /// It goes on.
    pub fn shard_wakes(&self, shard: usize) {
        self.inner.all.read().iter().for_each(|engine| engine.shard_wakes(shard));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.engines.inner.all.write().retain(|engine| !engine.is_same(&self.engine));
    }
}
