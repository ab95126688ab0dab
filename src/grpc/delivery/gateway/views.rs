//! The views that a gateway receives, by their handles and by their sessions.

use super::{Frame, Gateway, Server};
use crate::grpc::error::Refusal;
use crate::{
    engine::{Live, SessionKey},
    grpc::{
        convert::door::Door,
        delivery::{bundle::Bundle, feed::Feed, feeds::Feeds},
    },
    proto,
    session::{command::Actor, view::Class},
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;

/// How many views a stream may receive at a time.
const VIEWS: usize = 100_000;

/// The views of one stream.
#[derive(Debug, Default)]
pub struct Views {
    by_handle: FxHashMap<u32, View>,
    /// The places of those of a session, by its address: it lives as long as its views are here.
    by_session: FxHashMap<usize, SmallVec<[usize; 1]>>,
    /// How many there have been.
    begun: usize,
}

#[derive(Debug)]
struct View {
    place: usize,
    live: Arc<Live>,
}

fn address(live: &Arc<Live>) -> usize {
    Arc::as_ptr(live).addr()
}

impl Views {
    /// Where the views of a session have their places.
    pub fn of(&self, live: &Arc<Live>) -> &[usize] {
        self.by_session.get(&address(live)).map_or(&[], |places| places)
    }

    fn add(&mut self, handle: u32, live: &Arc<Live>) -> usize {
        let place = self.begun;
        self.begun += 1;
        self.by_handle.insert(handle, View { place, live: live.clone() });
        self.by_session.entry(address(live)).or_default().push(place);
        place
    }

    fn remove(&mut self, handle: u32) -> Option<usize> {
        let View { place, live } = self.by_handle.remove(&handle)?;
        let key = address(&live);
        if let Some(places) = self.by_session.get_mut(&key) {
            places.retain(|it| *it != place);
            if places.is_empty() {
                self.by_session.remove(&key);
            }
        }
        Some(place)
    }

    /// Views have ended.
    pub fn forget_lost(&mut self, bundle: &Bundle) {
        let is_lost = |view: &View| bundle.feed(view.place).is_none();
        let lost = self.by_handle.iter().filter(|(_, view)| is_lost(view));
        let lost: Vec<u32> = lost.map(|(handle, _)| *handle).collect();
        for handle in lost {
            self.remove(handle);
        }
    }
}

impl Gateway {
    /// Subscribes to views; each that is refused is reported.
    pub(super) fn subscribe_all(
        &mut self,
        server: &Server,
        feeds: &mut Feeds,
        seq: u64,
        asked: Vec<proto::ViewSubscription>,
    ) {
        let Feeds::Several(bundle) = feeds else { return };
        if bundle.take_lost() {
            self.views.forget_lost(bundle);
        }
        for (at, asked) in asked.into_iter().enumerate() {
            let handle = asked.handle;
            match self.view(server, &format!("subscribe[{at}]."), asked) {
                Ok((live, feed)) => {
                    let place = self.views.add(handle, &live);
                    bundle.add(place, feed, handle, None);
                    // What was written before and is not acked yet may come after the snapshot.
                    let revision = server.engine.pending_position(&live).revision;
                    if self.acks.wait_for(self.acks.told(), Frame { place, revision }) {
                        bundle.want_tick(Some(place));
                    }
                }
                Err(refusal) => self.refuse_view(seq, handle, &refusal),
            }
        }
    }

    fn view(
        &self,
        server: &Server,
        prefix: &str,
        asked: proto::ViewSubscription,
    ) -> Result<(Arc<Live>, Feed), Refusal> {
        let proto::ViewSubscription { handle, session_id, view, options, resume } = asked;
        let mut door = Door::new(&server.limits);
        let read = door.within(prefix, |door| {
            if handle == 0 {
                door.fault("handle", "must not be 0");
            } else if self.views.by_handle.contains_key(&handle) {
                door.fault("handle", "is in use by another view");
            }
            let class = match proto::View::try_from(view) {
                Ok(proto::View::Unspecified | proto::View::Members) => Some(Class::Members),
                Ok(proto::View::Host) => Some(Class::Host),
                Err(_) => {
                    door.fault("view", format!("{view} is no view"));
                    None
                }
            };
            let mut options = door.delivery("options", &options.unwrap_or_default());
            if options.exclude_self {
                door.fault("options.exclude_self", "a view is nobody's own");
            }
            options.resume = resume.map(|resume| door.resume("resume", resume));
            let session = door.session("session_id", &session_id);
            Some((session?, class?, options))
        });
        let (session, class, options) = door.close_with(|| read)?;
        if self.views.by_handle.len() >= VIEWS {
            return Err(engine_limit("views of a gateway", VIEWS));
        }
        let key = SessionKey::Id(session);
        let live = server.engine.find(&self.app, Some(&key), &Actor::App);
        let live = match live {
            // Only a gateway that has a user in it learns whether there is such a session.
            Err(_) if !self.as_app => return Err(Refusal::NoView),
            live => live?,
        };
        server.engine.check_shows_soon(&live)?;
        let subscription = self.stream.subscribe(&live, class, self.as_app, options);
        match subscription {
            Some(subscription) => Ok((live, Feed::new(subscription, None))),
            None if self.as_app => Err(Refusal::NOT_FOUND),
            None => Err(Refusal::NoView),
        }
    }

    /// Ends views; each that is not there is reported.
    pub(super) fn unsubscribe_all(&mut self, feeds: &mut Feeds, seq: u64, handles: &[u32]) {
        let Feeds::Several(bundle) = feeds else { return };
        for &handle in handles {
            match self.views.remove(handle) {
                Some(place) => bundle.remove(place),
                None => self.refuse_view(seq, handle, &Refusal::UnknownHandle { handle }),
            }
        }
    }
}

fn engine_limit(limit: &'static str, most: usize) -> Refusal {
    crate::engine::Refusal::LimitReached { limit, most }.into()
}
