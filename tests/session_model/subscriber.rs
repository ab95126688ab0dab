//! Whoever receives: a position, the fingerprint that came with it, and what is known there.

use super::{
    framed::{Framed, SHARED_ONLY},
    model::Model,
    picture::{Change, Changes, Known, Numbers, Picture},
    position::Position,
};
use sessiond::session::{
    Session,
    command::Actor,
    ids::UserId,
    revision::Revision,
    settings::{Keys, Kind},
    value::Value,
    view::{Class, View},
};

/// A subscriber that may skip frames and goes on with what it last knew.
#[derive(Debug)]
pub struct Subscriber {
    who: Who,
    props: Keys,
    at: Option<Position>,
    picture: Picture,
}

/// Whose eyes it has.
#[derive(Debug)]
pub enum Who {
    /// Always the same ones.
    Class(Class),
    /// Those that fit a user at the moment.
    User(UserId),
}

impl Subscriber {
    pub fn new(who: Who, props: Keys) -> Self {
        Self { who, props, at: None, picture: Picture::default() }
    }

    /// Receives whatever leads to the last frame, and then knows exactly what its view shows.
    pub fn catch_up(&mut self, session: &Session, watch: &[Watch], model: &Model) {
        let class = match &self.who {
            Who::Class(class) => *class,
            Who::User(user) => session.class_of(&Actor::of(user)),
        };
        let view = View { class, props: self.props.clone() };
        let resumes = self.at.map(|at| (at.revision, at.resume(session, &view)));
        match resumes {
            Some((from, Ok(()))) => {
                let changes = Changes::after(session, &view, from);
                let watch = watch.iter().find(|watch| watch.view == view);
                watch.expect("every view is watched").check(model, from, &changes);
                self.picture.apply(&changes);
            }
            _ => self.picture = Picture::of_snapshot(&Changes::all(session, &view)),
        }
        assert_eq!(self.picture, model.last().picture(&view), "{view:?} after {resumes:?}");
        self.at = Some(Position::latest(session, &view));
    }
}

/// A view with all that was ever true of it.
#[derive(Debug)]
pub struct Watch {
    pub view: View,
    /// By revision, from 1: the fingerprint, and whether the frame showed nothing.
    frames: Vec<(u32, bool)>,
    /// By revision too: the numbers of all values that are shown, which each client that is there
    /// knows, and some no others.
    known: Vec<Known>,
    /// All that were ever told.
    told: Known,
}

impl Watch {
    pub fn new(view: View) -> Self {
        Self { view, frames: Vec::new(), known: Vec::new(), told: Known::new() }
    }

    /// Forgets an earlier incarnation.
    pub fn start_anew(&mut self) {
        self.frames.clear();
        self.known.clear();
        self.told.clear();
    }

    /// A frame was made: the snapshot, the step from the frame before, and the fingerprint are what
    /// they have to be.
    pub fn frame(&mut self, session: &Session, model: &Model) {
        let (view, last) = (&self.view, model.last());
        let snapshot = self.snapshot(session, model);
        let order: Vec<_> = snapshot.members.iter().map(|(user, _)| user.clone()).collect();
        assert_eq!(order, last.in_join_order());
        let is_plain = |(_, change): &(String, Change)| {
            !change.replaces
                && change.props.removed.is_empty()
                && change.disconnected != Some(false)
        };
        assert!(snapshot.members.iter().all(is_plain), "{snapshot:?}");

        let fingerprint = session.fingerprint(view, None);
        for (earlier, (other, _)) in model.history.iter().zip(&self.frames) {
            let same = earlier.selection(view) == last.selection(view);
            assert_eq!(*other == fingerprint, same, "fingerprints of {view:?}");
        }
        let quiet = match self.frames.last() {
            Some((before, _)) if *before == fingerprint => {
                let from = model.revision().previous();
                let mut changes = Changes::after(session, view, from);
                changes.members.sort_by(|(a, _), (b, _)| a.cmp(b));
                assert_eq!(changes, model.at(from).changes_to(last, view), "{view:?}");
                self.listen(session, model, from);
                self.number(session, from);
                changes.is_silent()
            }
            _ => false,
        };
        self.frames.push((fingerprint, quiet));
        self.learn(session, 1);
    }

    /// A snapshot names all numbers that it has.
    fn learn(&mut self, session: &Session, frames: usize) {
        let numbers = Numbers::all(session, &self.view);
        let mut known = Known::new();
        numbers.teach(&mut known);
        numbers.teach(&mut self.told);
        self.known.extend((0..frames).map(|_| known.clone()));
    }

    /// Who knows the numbers of what it is shown at a revision can read what came after it.
    fn number(&self, session: &Session, from: Revision) {
        let mut known = self.known[from.0 as usize - 1].clone();
        Numbers::after(session, &self.view, from).teach(&mut known);
    }

    /// The session was reset, after a frame for what was open; the earlier frames lead nowhere.
    pub fn reset(&mut self, session: &Session, model: &Model, frames: usize) {
        self.snapshot(session, model);
        let fingerprint = session.fingerprint(&self.view, None);
        self.frames.extend((0..frames).map(|_| (fingerprint, false)));
        self.learn(session, frames);
    }

    /// Who subscribes now receives the last frame, whatever has been accepted since.
    pub fn between_frames(&self, session: &Session, model: &Model) {
        self.snapshot(session, model);
        let last = self.frames.last().map(|(fingerprint, _)| *fingerprint);
        assert_eq!(last, Some(session.fingerprint(&self.view, None)));
    }

    fn snapshot(&self, session: &Session, model: &Model) -> Changes {
        let view = &self.view;
        let snapshot = Changes::all(session, view);
        assert_eq!(Picture::of_snapshot(&snapshot), model.last().picture(view), "{view:?}");
        assert_no_leak(model, view, &snapshot);
        assert!(Changes::after(session, view, session.revision()).is_silent());
        snapshot
    }

    /// Resumes from every revision that there ever was.
    pub fn resume_from_everywhere(&self, session: &Session, model: &Model) {
        let view = &self.view;
        for (revision, (fingerprint, _)) in (1..).map(Revision).zip(&self.frames) {
            let at = Position { epoch: session.epoch(), revision, fingerprint: *fingerprint };
            let may =
                revision >= session.horizon() && *fingerprint == session.fingerprint(view, None);
            assert_eq!(at.resume(session, view).is_ok(), may);
            if may {
                let changes = Changes::after(session, view, revision);
                self.check(model, revision, &changes);
                self.number(session, revision);
                let mut picture = model.at(revision).picture(view);
                picture.apply(&changes);
                assert_eq!(picture, model.last().picture(view), "{view:?} from {revision}");
            }
            let same = *fingerprint == session.fingerprint(view, None);
            if same && session.log_fits(&Actor::App, view, revision) {
                self.listen(session, model, revision);
            }
        }
    }

    /// Who applies every update since a revision, if they are there, knows what the view shows after
    /// the last frame, and what it shows after each frame on the way.
    fn listen(&self, session: &Session, model: &Model, from: Revision) {
        if from < session.log_start() {
            return;
        }
        let view = &self.view;
        let mut picture = model.at(from).picture(view);
        let mut at = from;
        for (revision, event) in session.logged_after(from) {
            assert!(at <= revision && from < revision && revision <= model.revision());
            if at < revision {
                assert_eq!(
                    picture,
                    model.at(revision.previous()).picture(view),
                    "{view:?} from {from}"
                );
                at = revision;
            }
            let changes = Changes::logged(session, view, event);
            assert_no_leak(model, view, &changes);
            picture.apply(&changes);
        }
        assert_eq!(picture, model.last().picture(view), "every update from {from} in {view:?}");
    }

    /// What has to be true of a delta beside that it leads to the right state.
    fn check(&self, model: &Model, from: Revision, changes: &Changes) {
        let (view, last) = (&self.view, model.last());
        assert_no_leak(model, view, changes);
        let since = model.since(from);
        let quiet = self.frames[from.0 as usize..].iter().all(|(_, quiet)| *quiet);
        assert!(!quiet || changes.is_silent(), "{view:?} from {from} sends {changes:?}");
        if view.class == Class::Members {
            assert_eq!(changes.private_data, Default::default());
        }
        for (user, change) in &changes.members {
            let user = UserId::new(user).unwrap();
            for key in change.props.set.keys().chain(&change.props.removed) {
                assert!(last.may_see(view, &user, key), "{view:?} is told of {user}'s {key}");
                let whole = change.replaces || !since[0].members.contains_key(&user);
                let of = |framed: &Framed| framed.members.get(&user)?.props.get(key).cloned();
                let changed = since.windows(2).any(|pair| of(&pair[0]) != of(&pair[1]));
                assert!(whole || changed, "{view:?} from {from} is told {user}'s old {key}");
            }
            let Some(known) = since[0].members.get(&user) else { continue };
            let came_back = known.order != last.members[&user].order;
            let swapped = since.windows(2).any(|p| p[0].is_host(&user) != p[1].is_host(&user));
            assert!(!came_back || change.replaces, "{user} came back unnoticed");
            assert!(!change.replaces || came_back || swapped, "{user} is replaced for nothing");
        }
        for (user, departure) in &changes.left {
            let latest = since[1..].iter().rev().find_map(|framed| framed.departures.get(&**user));
            assert_eq!(latest, Some(departure), "{user} left");
        }
    }
}

/// Texts say whose they are: none may reach a view that must never have it, whatever it is part of.
fn assert_no_leak(model: &Model, view: &View, changes: &Changes) {
    let props = changes.members.iter().map(|(_, change)| &change.props);
    let all =
        props.chain([&changes.data, &changes.private_data]).flat_map(|diff| diff.set.values());
    for value in all {
        let Value::Text(text) = value else { continue };
        let owner = text.split('/').next().unwrap_or_default();
        let is_public = match model.kind {
            Kind::Room => owner != "private",
            Kind::Private => unreachable!("{SHARED_ONLY}"),
            Kind::Hosted => ["", "data"].contains(&owner) || model.hosted_by(owner),
        };
        assert!(view.class == Class::Host || is_public, "{text} reached {view:?}");
    }
}
