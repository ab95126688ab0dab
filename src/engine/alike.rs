//! Most sessions of an app are opened with the same settings, and share them.

use crate::session::{Info, Session};
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};

/// How many different ones are looked through.
const LATEST: usize = 8;

/// The info of the sessions that were opened last.
#[derive(Debug, Default)]
pub(super) struct Alike {
    /// The latest first.
    latest: Mutex<VecDeque<Arc<Info>>>,
}

impl Alike {
    /// Has a session share its settings with the last one that has the same.
    pub fn share(&self, core: &mut Session) {
        let own = core.info().clone();
        // Nobody else has the same name.
        if own.settings.name.is_some() {
            return;
        }
        let mut latest = self.latest.lock();
        let known = latest.iter().position(|known| core.share_info(known));
        let info = known.and_then(|at| latest.remove(at)).unwrap_or(own);
        latest.push_front(info);
        latest.truncate(LATEST);
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        engine::{
            Live,
            testing::{engine, room, settings},
        },
        session::{
            command::{Actor, Command},
            settings::Setting,
        },
    };
    use std::sync::Arc;

    #[test]
    fn sessions_with_the_same_settings_share_them_until_one_changes_its_own() {
        let engine = engine(settings());
        let open = |id: &str, capacity| room(&engine, id, |it| it.capacity = capacity);
        let [one, _, other] = [("a", 3), ("b", 4), ("c", 3)].map(|(id, most)| open(id, most));
        let settings = |live: &Live| live.lock().core.info().settings.clone();
        assert!(Arc::ptr_eq(&settings(&one), &settings(&other)));
        let lock = Command::Update(vec![Setting::Locked(true)]);
        engine.command(&one, &Actor::App, lock).expect("the app may");
        engine.advance(20_000);
        assert_eq!((settings(&one).locked, settings(&other).locked), (true, false));
        room(&engine, "d", |it| it.name = Some("d".into()));
        assert!(engine.inner.alike.latest.lock().iter().all(|it| it.settings.name.is_none()));
    }
}
