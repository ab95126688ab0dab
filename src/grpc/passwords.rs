//! Joining and opening with a password, which is compared or hashed before the engine is asked: no
//! lock is held meanwhile, and what has changed until then is the rules' affair.

use super::{Context, LOOKS, room};
use crate::grpc::error::Refusal;
use crate::session::error::Refusal as Rule;
use crate::{
    engine::{
        self, Compared, Guess, Joined, Live, Password, Peer, SessionKey, Target, asked::Bearer,
    },
    session::{
        Opening,
        command::{Actor, Join},
        ids::{AppId, SessionId, UserId},
        password::PasswordHash,
    },
};
use std::{net::Ipv4Addr, sync::Arc};

/// A join as it is asked for.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The namespace.
    pub app: AppId,
    /// Which session.
    pub target: Target,
    /// Who joins.
    pub user: UserId,
    /// How.
    pub join: Join,
    /// The password that was given.
    pub given: Option<Password>,
    /// From where.
    pub peer: Peer,
}

/// A password that comes with a join.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The namespace.
    pub app: AppId,
    /// Which session.
    pub key: SessionKey,
    /// Who joins.
    pub user: UserId,
    /// How.
    pub join: Join,
    /// What was given.
    pub password: Password,
    /// From where.
    pub peer: Peer,
}

impl Claim {
    /// The hash of the password, if it is the right one; none if it is wrong or not needed, and then
    /// the join says what comes of it. A user who may not know of a session finds no difference
    /// between one that is there and one that is not.
    pub async fn prove(self, server: &Context) -> Result<Option<PasswordHash>, Refusal> {
        let now = server.engine.clock().now();
        let Some((session, hash)) = self.needed(server) else { return Ok(None) };
        let app = server.engine.app(&self.app);
        let guess = Guess { app: self.app, session, peer: self.peer };
        let with = Compared { hash: hash.clone(), guess, now };
        let is_right = server.passwords.compare(app, self.password, with).await?;
        Ok(hash.filter(|_| is_right))
    }

    /// The session, if the user may know of it, with the hash of its password; none if no password is
    /// needed or would help.
    fn needed(&self, server: &Context) -> Option<(Option<SessionId>, Option<PasswordHash>)> {
        let engine = &server.engine;
        let Ok(live) = engine.find_to_join(&self.app, Some(&self.key), &self.user) else {
            return Some((None, None));
        };
        let state = live.lock();
        let hash = state.core.password_for(engine.clock().now(), &self.user, &self.join).ok()??;
        let is_known = state.is_visible_to(&Actor::of(&self.user));
        Some((is_known.then(|| live.id.clone()), Some(hash.clone())))
    }
}

/// A join, with what to open where there is nothing to join.
#[derive(Debug, Clone)]
pub struct Entry {
    joining: Joining,
    /// With the password of the new session.
    missing: Option<(Opening, Option<Password>)>,
    /// The join and the opening as they were asked for, before anybody judged them.
    asked: (Join, Option<Opening>),
    /// Whether it was there to join when the passwords were looked at.
    found: bool,
}

impl Entry {
    /// An entry whose passwords nobody has looked at.
    pub fn new(joining: Joining, missing: Option<(Opening, Option<Password>)>) -> Self {
        let asked = (joining.join.clone(), missing.as_ref().map(|(it, _)| it.clone()));
        Self { joining, missing, asked, found: false }
    }

    /// Which session.
    pub fn target(&self) -> &Target {
        &self.joining.target
    }

    /// How the user joins.
    pub fn join(&self) -> &Join {
        &self.joining.join
    }

    /// Whether it opens a session as things stand.
    pub fn opens(&self) -> bool {
        self.missing.is_some() && !self.found
    }

    /// The session to join, if there is one.
    pub fn find(&self, server: &Context) -> Result<Arc<Live>, engine::Refusal> {
        let Joining { app, target, user, .. } = &self.joining;
        match target {
            Target::Key(key) => server.engine.find_to_join(app, Some(key), user),
            Target::Newest(_) => Err(engine::Refusal::NOT_FOUND),
        }
    }

    /// Compares or hashes the passwords that are needed as things stand, and has judged what is to be
    /// done; nothing is done until then.
    pub async fn prepare(&mut self, server: &Context, bearer: &Bearer) -> Result<(), Refusal> {
        self.found = self.find(server).is_ok();
        let opens = self.opens();
        let (join, opening) = self.asked.clone();
        let proven = self.joining.join.proven.take();
        self.joining.join = Join { proven, ..join };
        if let (Some((missing, _)), Some(opening)) = (&mut self.missing, opening) {
            let password = missing.password.take();
            *missing = Opening { password, ..opening };
        }
        let Joining { app, target, user, join, given, peer } = &mut self.joining;
        if let (false, Target::Key(key), Some(password)) = (opens, &*target, &*given) {
            let claim = Claim {
                app: app.clone(),
                key: key.clone(),
                user: user.clone(),
                join: join.clone(),
                password: password.clone(),
                peer: *peer,
            };
            join.proven = claim.prove(server).await?;
        }
        if let (true, Some((opening, Some(password)))) = (opens, &mut self.missing)
            && opening.password.is_none()
        {
            let app = server.engine.app(app);
            let hash = server.passwords.hash(app, password.clone(), *peer).await?;
            opening.password = Some(hash);
        }
        self.judge(server, bearer).await
    }

    /// Has judged what is to be done as things stand.
    async fn judge(&mut self, server: &Context, bearer: &Bearer) -> Result<(), Refusal> {
        let opens = self.opens();
        let found = self.find(server).ok();
        let Joining { user, join, .. } = &mut self.joining;
        match (&mut self.missing, found) {
            (Some((opening, _)), _) if opens => {
                let actor = Actor::of(user);
                server.judge_opening(&actor, opening, None, bearer).await?;
            }
            (_, Some(live)) => server.judge_join(&live, user, join, bearer).await?,
            (_, None) => {}
        }
        Ok(())
    }

    /// Joins, or opens what is missing; returns whether it did.
    pub fn enter(&self, server: &Context) -> Result<(Joined, bool), engine::Refusal> {
        let Joining { app, target, user, join, .. } = &self.joining;
        let opening = self.missing.as_ref().filter(|_| self.opens()).map(|(it, _)| it.clone());
        server.engine.join_or_open(app, target, user, join, opening)
    }

    /// The refusal, unless somebody was faster: then it has to be prepared again.
    pub fn refused(&self, server: &Context, refusal: impl Into<Refusal>) -> Option<Refusal> {
        let is_there = || self.find(server).is_ok();
        match refusal.into() {
            // To that session nothing was proven yet.
            Refusal::Rules(Rule::WrongPassword) | Refusal::NOT_FOUND
                if self.opens() && self.joining.given.is_some() && is_there() =>
            {
                None
            }
            // It has begun again since it was judged.
            Refusal::Rules(Rule::NotJudged) => None,
            // All that is to be said of an unlisted one is that the id is taken.
            Refusal::NOT_FOUND if self.missing.is_some() => {
                is_there().then(|| engine::Refusal::SessionExists.into())
            }
            // The faults of what the session to open says of itself lie in there.
            refusal if self.opens() => {
                let is_of_join = |field: &str| field.starts_with("join.");
                Some(refusal.within_unless("open_if_missing.", is_of_join))
            }
            refusal => Some(refusal),
        }
    }
}

impl Context {
    /// Joins a session; if there is none to join, opens one where that is wanted, with its password.
    pub(super) async fn join_or_open(
        &self,
        mut entry: Entry,
        bearer: &Bearer,
    ) -> Result<(Joined, bool), Refusal> {
        let mut looks = 0;
        while let Target::Newest(_) = entry.joining.target {
            let Joining { app, target, user, join, .. } = &mut entry.joining;
            // Nothing is hashed for a session that need not be opened.
            match self.engine.join_or_open(app, target, user, join, None) {
                Err(refusal) if refusal.is_not_found() && entry.missing.is_some() => break,
                // It is judged where it would join, and then it is looked for again.
                Err(engine::Refusal::NotJudged { session }) if looks < LOOKS => {
                    let key = SessionKey::Id(session);
                    *join = entry.asked.0.clone();
                    if let Ok(live) = self.engine.find_to_join(app, Some(&key), user) {
                        self.judge_join(&live, user, join, bearer).await?;
                    }
                    looks += 1;
                }
                outcome => return Ok(outcome?),
            }
        }
        loop {
            entry.prepare(self, bearer).await?;
            room::wait().await;
            match entry.enter(self) {
                Err(refusal) => match entry.refused(self, refusal.clone()) {
                    None if is_not_judged(&refusal) && looks == LOOKS => {
                        return Err(refusal.into());
                    }
                    None => looks += usize::from(is_not_judged(&refusal)),
                    Some(refusal) => return Err(refusal),
                },
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Opens a session, or joins the one that exists where `get_if_exists` allows it. `password` is
    /// that of a new session; `given` is what the opener gives for one that exists.
    pub(super) async fn open(
        &self,
        mut opening: Opening,
        get_if_exists: bool,
        password: Option<Password>,
        (given, peer): (Option<Password>, Peer),
        (actor, bearer): (&Actor, &Bearer),
    ) -> Result<(Joined, bool), Refusal> {
        let key = SessionKey::Id(opening.id.clone());
        let (asked, mut looks) = (opening.clone(), 0);
        loop {
            let password_hash = opening.password.take();
            opening = Opening { password: password_hash, ..asked.clone() };
            let exists = self.engine.find(&opening.app, Some(&key), &Actor::App).is_ok();
            match (exists, get_if_exists) {
                // It is refused as it is.
                (true, false) => {}
                (true, true) => {
                    if let (Some((user, join)), Some(password)) = (&mut opening.opener, &given) {
                        let claim = Claim {
                            app: opening.app.clone(),
                            key: key.clone(),
                            user: user.clone(),
                            join: join.clone(),
                            password: password.clone(),
                            peer,
                        };
                        join.proven = claim.prove(self).await?;
                    }
                    let found = self.engine.find(&opening.app, Some(&key), &Actor::App);
                    if let (Some((user, join)), Ok(live)) = (&mut opening.opener, found) {
                        self.judge_join(&live, user, join, bearer).await?;
                    }
                }
                (false, _) => {
                    if let (None, Some(password)) = (&opening.password, &password) {
                        let app = self.engine.app(&opening.app);
                        let hash = self.passwords.hash(app, password.clone(), peer).await?;
                        opening.password = Some(hash);
                    }
                    self.judge_opening(actor, &mut opening, None, bearer).await?;
                }
            }
            room::wait().await;
            match self.engine.open(opening.clone(), get_if_exists) {
                // Somebody was faster, and to that session nothing was proven yet.
                Err(engine::Refusal::Rules(Rule::WrongPassword | Rule::SessionNotFound))
                    if !exists && given.is_some() => {}
                // Somebody was faster, or it has begun again.
                Err(refusal) if is_not_judged(&refusal) && looks < LOOKS => looks += 1,
                // All that is to be said of an unlisted one is that the id is taken.
                Err(refusal) if refusal.is_not_found() => {
                    return Err(engine::Refusal::SessionExists.into());
                }
                outcome => return Ok(outcome?),
            }
        }
    }
}

/// The session began again since it was judged what is to be done there.
fn is_not_judged(refusal: &engine::Refusal) -> bool {
    *refusal == engine::Refusal::Rules(Rule::NotJudged)
}

/// Where a call comes from, which the connection has noted.
pub fn peer(extensions: &http::Extensions) -> Peer {
    let nowhere = || Peer::from(std::net::IpAddr::from(Ipv4Addr::UNSPECIFIED));
    extensions.get().copied().unwrap_or_else(nowhere)
}
