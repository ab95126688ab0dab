//! Whoever listens to every accepted write: nothing is left out, nothing that was taken back is told.

use super::{model::Model, picture::Changes};
use sessiond::session::{
    Session,
    command::{Actor, Command, Write},
    ids::Key,
    revision::Revision,
    settings::Keys,
    value::Value,
    view::{Class, View},
};
use std::collections::BTreeMap;

/// A key of a member, or of a part of the session data.
type Place = (String, Key);

/// What was accepted since the last frame, put by put.
#[derive(Debug, Default)]
pub struct Listener {
    /// The frame that it knew when it began to listen.
    began: Option<Revision>,
    heard: Vec<Heard>,
    /// What was heard and then taken back.
    taken_back: Vec<Heard>,
    /// Somebody was thrown out, who may have written something.
    may_be_cut: bool,
}

#[derive(Debug)]
struct Heard {
    place: Place,
    value: Value,
    /// Whoever takes it back with its membership.
    of: Option<String>,
}

impl Listener {
    pub fn begin(&mut self, session: &mut Session) {
        session.keep_log();
        self.began.get_or_insert(session.revision());
    }

    /// The session was reset: what was before is told by a snapshot only.
    pub fn reset(&mut self, session: &Session) {
        self.heard.clear();
        self.taken_back.clear();
        self.began = self.began.map(|_| session.revision());
    }

    /// A command was accepted.
    pub fn hear(&mut self, actor: &Actor, command: &Command) {
        if self.began.is_none() {
            return;
        }
        match command {
            Command::SetProps { user, write, .. } => self.put(user, write, Some(user)),
            Command::SetData { shared, private, .. } => {
                let writer = actor.user().map(|user| &**user);
                self.put("data", shared, writer);
                self.put("private", private, writer);
            }
            Command::Kick { target, .. } | Command::Ban { target, .. } => {
                let is_theirs = |heard: &mut Heard| heard.of.as_deref() == Some(target);
                self.taken_back.extend(self.heard.extract_if(.., is_theirs));
                self.may_be_cut = true;
            }
            _ => {}
        }
    }

    fn put(&mut self, owner: &str, write: &Write, of: Option<&str>) {
        let heard = write.set.iter().map(|(key, value)| Heard {
            place: (owner.to_owned(), key.clone()),
            value: value.clone(),
            of: of.map(str::to_owned),
        });
        self.heard.extend(heard);
    }

    /// A frame was made: all that was heard is told, in this order; nothing else is told of a key
    /// more often than it was heard.
    pub fn frame(&mut self, session: &Session, model: &Model, forgets: bool) {
        let revision = model.revision();
        let heard = std::mem::take(&mut self.heard);
        let taken_back = std::mem::take(&mut self.taken_back);
        let may_be_cut = std::mem::take(&mut self.may_be_cut);
        let Some(began) = &mut self.began else { return };
        let goes_on = std::mem::replace(began, session.log_start()) == session.log_start();
        assert!(forgets || goes_on || may_be_cut, "nothing has to be forgotten");
        if session.log_start() >= revision {
            return;
        }
        let view = View { class: Class::Host, props: Keys::default() };
        let before = model.at(revision.previous());
        if before.selection(&view) != model.last().selection(&view) {
            return;
        }
        let mut told: BTreeMap<Place, Vec<Value>> = BTreeMap::new();
        for (of, event) in session.logged_after(revision.previous()) {
            assert_eq!(of, revision);
            let changes = Changes::logged(session, &view, event);
            let members = changes.members.iter().map(|(user, it)| (&**user, &it.props));
            let data = [("data", &changes.data), ("private", &changes.private_data)];
            for (owner, diff) in members.chain(data) {
                for (key, value) in &diff.set {
                    let place = (owner.to_owned(), key.clone());
                    told.entry(place).or_default().push(value.clone());
                }
            }
        }
        for Heard { place, value, .. } in taken_back {
            // Others are written more than once, and a frame may have shown them.
            let shown = before.members.values().any(|it| it.props.values().any(|it| *it == value));
            let is_fresh = matches!(&value, Value::Text(text) if !text.is_empty()) && !shown;
            let is_told = told.get(&place).is_some_and(|told| told.contains(&value));
            assert!(!(is_fresh && is_told), "{place:?} = {value:?} was taken back");
        }
        let settings = &model.last().info.settings;
        for Heard { place, value, .. } in heard {
            let is_data = ["data", "private"].contains(&&*place.0);
            if !is_data && !settings.selects(&place.1) {
                continue;
            }
            let told = told.entry(place.clone()).or_default();
            let at = told.iter().position(|told| *told == value);
            let at = at.unwrap_or_else(|| panic!("{place:?} = {value:?} is not told in its order"));
            told.drain(..=at);
        }
    }
}
