//! Sessions that are opened with people in them, and sessions that are joined or else opened.

use super::error::Refusal;
use super::{
    Engine, Filter, Joined, SessionKey,
    apps::AppLimit,
    exclusive::Moved,
    filter::{Allowance, Outline},
    live::Live,
};
use crate::session::error::Refusal as Rule;
use crate::session::{
    Opening, Session,
    command::Join,
    epoch::Epoch,
    ids::{AppId, SessionId, UserId},
    judging::Operation,
    opening::People,
    user::User,
};
use std::{sync::Arc, thread};

/// How many sessions [`Target::Newest`] looks at: it passes over those that ban the user or fill up
/// under its hands.
const NEWEST_LOOKS: usize = 256;

/// How often somebody looks again for a session that was not there to join and whose id or name is
/// taken all the same.
const TAKEN_LOOKS: usize = 8;

/// Which session to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The one that this finds.
    Key(SessionKey),
    /// The one opened last among those that anybody may join and that this chooses.
    Newest(Option<Arc<Filter>>),
}

impl Target {
    /// The id of the session, if it is found by that.
    pub fn id(&self) -> Option<&SessionId> {
        match self {
            Self::Key(key) => key.id(),
            Self::Newest(_) => None,
        }
    }
}

impl Engine {
    /// Opens a session with everybody who is to be in it: all of them or none.
    pub(super) fn open_with_everyone(&self, opening: Opening) -> Result<Arc<Live>, Refusal> {
        let app = opening.app.clone();
        let joining = opening.opener.iter().map(|(user, _)| user);
        let joining = joining.chain(opening.people.users.iter().map(|(user, _)| user));
        let joining: Vec<UserId> = joining.cloned().collect();
        let (live, moved) =
            self.with_users(&app, &joining, |records| self.open_new(opening, records))?;
        self.after_move(moved);
        Ok(live)
    }

    /// The same with the records of the users who join locked: the opener's, where there is one,
    /// then those of the others.
    pub(super) fn open_new(
        &self,
        mut opening: Opening,
        records: &mut [&mut User],
    ) -> Result<(Arc<Live>, Moved), Refusal> {
        let (app, id) = (opening.app.clone(), opening.id.clone());
        let (exclusive, openers) = (opening.settings.exclusive, opening.opener.iter().len());
        self.check_durability(opening.settings.durability)?;
        opening.judges = self.judged_in(&app);
        let by_server = opening.judges;
        if opening.judges.has(Operation::Open) && !opening.is_judged {
            return Err(Rule::NotJudged.into());
        }
        if let (Some((_, join)), Some(record)) = (&opening.opener, records.first_mut())
            && !join.is_by_app
        {
            self.take_change_of(record)?;
            let People { roles, users, bans } = &opening.people;
            self.owe_changes_of(record, roles.len() + users.len() + bans.len());
        }
        let in_app = self.app(&app);
        let mut slots = Vec::with_capacity(records.len());
        let joins = opening.opener.iter_mut().chain(&mut opening.people.users);
        for (at, ((user, join), record)) in joins.zip(&mut *records).enumerate() {
            let slot = self.check_slot(&app, (user, record), (&id, exclusive), join.moves);
            let slot = match at.checked_sub(openers) {
                None => slot,
                Some(at) => slot.map_err(|refusal| {
                    let why = Box::new(match refusal {
                        // Where somebody else is, only the app may know.
                        Refusal::AlreadyInSession { .. } if openers > 0 => {
                            Refusal::AlreadyInSession { session: None }
                        }
                        refusal => refusal,
                    });
                    Refusal::OfUser { at, why }
                }),
            }?;
            if !join.props.is_empty() {
                self.take_update_of(&in_app, record)?;
            }
            join.user_props = record.props();
            slots.push((user.clone(), slot));
        }
        let now = self.clock().now();
        let last = self.next_epoch(now);
        let core = Session::open(opening, self.inner.limits.clone(), now, last)?;
        let moving = slots.iter().filter(|(_, slot)| slot.moves()).count();
        let members = core.members().joined_count();
        let mut counted = in_app.enter(AppLimit::Members, members.saturating_sub(moving))?;
        counted.set(members);
        let live = self.live(core, counted);
        self.inner.registry.insert(&live)?;
        self.judge_new(&live, by_server);
        let mut moved = None;
        for ((user, slot), record) in slots.into_iter().zip(records) {
            slot.take(record, &id);
            // Only the opener moves.
            moved = self.leave_other(slot, (&user, record)).or(moved);
        }
        self.schedule(&live, &mut live.lock());
        Ok((live, moved))
    }

    /// Joins a session; if there is none to join, opens one where the call says how. Returns whether
    /// it did. Of several who do this at once one opens, and all are in that session.
    pub fn join_or_open(
        &self,
        app: &AppId,
        target: &Target,
        user: &UserId,
        join: &Join,
        missing: Option<Opening>,
    ) -> Result<(Joined, bool), Refusal> {
        let opened = |(joined, _)| (joined, true);
        match (target, missing) {
            (Target::Key(key), missing) => self.join_key(app, key, user, join, missing),
            (Target::Newest(filter), missing) => {
                let filter = filter.as_deref();
                match (self.join_newest(app, filter, user, join), missing) {
                    (Err(Refusal::NOT_FOUND), Some(missing)) => {
                        // Of two who find none, one waits here and finds what the other opened.
                        let _one_at_a_time = self.inner.matching.lock();
                        match self.join_newest(app, filter, user, join) {
                            Err(Refusal::NOT_FOUND) => self.open(missing, false).map(opened),
                            outcome => outcome.map(|joined| (joined, false)),
                        }
                    }
                    (outcome, _) => outcome.map(|joined| (joined, false)),
                }
            }
        }
    }

    fn join_key(
        &self,
        app: &AppId,
        key: &SessionKey,
        user: &UserId,
        join: &Join,
        missing: Option<Opening>,
    ) -> Result<(Joined, bool), Refusal> {
        let mut looks = 0;
        loop {
            if let Ok(live) = self.find_to_join(app, Some(key), user) {
                match self.join(&live, user, join.clone()) {
                    Err(Refusal::NOT_FOUND) if self.is_over(&live) => {}
                    outcome => return outcome.map(|position| (Joined { live, position }, false)),
                }
            }
            let Some(missing) = &missing else { return Err(Refusal::NOT_FOUND) };
            looks += 1;
            match self.open(missing.clone(), false) {
                // Somebody was faster; or the id or the name is that of a session which the key does
                // not mean.
                Err(Refusal::SessionExists | Refusal::NameTaken) if looks < TAKEN_LOOKS => {
                    thread::yield_now();
                }
                outcome => return outcome.map(|(joined, _)| (joined, true)),
            }
        }
    }

    fn join_newest(
        &self,
        app: &AppId,
        filter: Option<&Filter>,
        user: &UserId,
        join: &Join,
    ) -> Result<Joined, Refusal> {
        let (mut before, mut allowance) = (Epoch::MAX, Allowance::default());
        for _ in 0..NEWEST_LOOKS {
            let Some((epoch, live)) = self.inner.registry.newest(app, before) else { break };
            let suits = |core: &Session| core.suits(self.clock().now(), user);
            // Before anything else refuses the user, and again when it joins.
            let outline = {
                let core = &live.lock().core;
                suits(core).then(|| filter.map(|_| Outline::accepted(core)))
            };
            let is_chosen = |outline: &Option<Outline>| match (filter, outline) {
                (Some(filter), Some(outline)) => filter.chooses(outline, &mut allowance),
                _ => true,
            };
            let Some(outline) = outline.filter(is_chosen) else {
                if allowance.is_spent() {
                    break;
                }
                before = epoch;
                continue;
            };
            let is_as_it_was = |core: &Session| {
                suits(core) && outline.as_ref().is_none_or(|it| *it == Outline::accepted(core))
            };
            match self.join_if(&live, user, join.clone(), is_as_it_was) {
                Err(Refusal::Rules(Rule::NotJudged)) => {
                    return Err(Refusal::NotJudged { session: live.id.clone() });
                }
                // It has changed since the filter chose it: it is looked at again.
                Err(Refusal::NOT_FOUND) if filter.is_some() && suits(&live.lock().core) => {}
                Err(Refusal::Rules(Rule::SessionNotFound | Rule::Full { .. })) => before = epoch,
                outcome => return outcome.map(|position| Joined { live, position }),
            }
        }
        Err(Refusal::NOT_FOUND)
    }

    /// Whether a session that was found has ended; then it is out of the way.
    pub(super) fn is_over(&self, live: &Arc<Live>) -> bool {
        let has_ended = live.lock().core.has_ended();
        if has_ended {
            self.retire(live);
        }
        has_ended
    }
}
