//! Places that are held for users who have not joined yet.
//!
//! A seat counts like a member until its user joins, it is given back, or its time is over. It is a
//! place and nothing else: a user who comes with it still needs what everybody needs to join.

use super::{
    Session,
    access::Act,
    command::{Actor, Join},
    deadline::Deadline,
    error::Refusal,
    event::What,
    ids::UserId,
    limits::Micros,
    role::Role,
    seldom::empty,
};
use std::collections::BTreeMap;

/// How long a seat is held at most.
pub const HELD_FOR: Micros = 60 * super::limits::SECOND;

/// The seats of a session, each until its moment.
pub(super) type Seats = BTreeMap<UserId, Micros>;

empty!(Seats);

impl Session {
    /// How many places are held, as of the last frame, or as it is where no frame is to come.
    pub fn shown_seats(&self) -> usize {
        self.shown_seats
    }

    /// How many places are held.
    pub fn seats(&self) -> usize {
        self.seats.len()
    }

    /// Holds places for all of these users or for none. A user who is in already, or would come as
    /// a spectator, needs none.
    pub(super) fn reserve_seats(
        &mut self,
        now: Micros,
        actor: &Actor,
        users: Vec<UserId>,
        until: Micros,
    ) -> Result<(), Refusal> {
        self.check_reserves(now, actor, &users)?;
        for (at, user) in users.iter().enumerate() {
            let may_come = self.check_pair(user).and_then(|()| self.check_ban(now, user));
            may_come.map_err(|why| Refusal::OfUser { at, why: Box::new(why) })?;
        }
        let mut users = users;
        users.retain(|user| {
            let role = self.role_on_joining(user, &Join::default());
            role > Role::Spectator && self.members.membership(user).is_none()
        });
        let new = users.iter().filter(|user| !self.seats.contains_key(*user)).count();
        let capacity = self.accepted.settings.capacity;
        if new > 0 && self.members.counts().members + self.seats.len() + new > capacity {
            return Err(Refusal::Full { capacity });
        }
        users.iter().for_each(|user| self.notes.add(user));
        if !users.is_empty() {
            self.happened(What::SeatsReserved { users: users.clone(), until });
        }
        for user in users {
            self.seats.insert(user, until);
        }
        self.settle_seats();
        Ok(())
    }

    /// Gives places back. A user who has none is passed over.
    pub(super) fn release_seats(&mut self, actor: &Actor, users: &[UserId]) -> Result<(), Refusal> {
        if !is_for_itself(actor, users) {
            self.check(actor, Act::Reserve)?;
        }
        let has_one = |user: &&UserId| self.seats.contains_key(*user);
        let users: Vec<UserId> = users.iter().filter(has_one).cloned().collect();
        users.iter().for_each(|user| self.give_up_seat(user));
        if !users.is_empty() {
            self.happened(What::SeatsReleased { users });
        }
        Ok(())
    }

    /// Users reserve for themselves, where they could join at that moment.
    fn check_reserves(&self, now: Micros, actor: &Actor, users: &[UserId]) -> Result<(), Refusal> {
        match (self.check(actor, Act::Reserve), users) {
            (Err(_), [user]) if is_for_itself(actor, users) => {
                self.check_join(now, user, &Join::default())
            }
            (outcome, _) => outcome,
        }
    }

    /// A user who comes, or may not come any more, has no seat.
    pub(super) fn give_up_seat(&mut self, user: &str) {
        let seats = self.seats.some_mut();
        if let Some((user, _)) = seats.and_then(|seats| seats.remove_entry(user)) {
            self.notes.add(&user);
            self.settle_seats();
        }
    }

    /// The time of a seat is over.
    pub(super) fn seats_over(&mut self, now: Micros) {
        let over = self.seats.iter().filter(|(_, until)| **until <= now);
        over.for_each(|(user, _)| self.notes.add(user));
        if let Some(seats) = self.seats.some_mut() {
            seats.retain(|_, until| *until > now);
        }
        self.settle_seats();
    }

    /// Called after every change of the seats. What comes with a change that a frame is to show is
    /// shown with that.
    fn settle_seats(&mut self) {
        self.deadlines.set(Deadline::Seats, self.seats.values().min().copied());
        if !self.open {
            self.shown_seats = self.seats.len();
        }
    }

    /// How many places are held for others than this user.
    pub(super) fn seats_of_others(&self, user: Option<&str>) -> usize {
        self.seats.len() - usize::from(user.is_some_and(|user| self.seats.contains_key(user)))
    }
}

fn is_for_itself(actor: &Actor, users: &[UserId]) -> bool {
    matches!((actor, users), (Actor::User(user), [only]) if user.id() == only)
}
