//! What must hold in every story, whatever the model says: told without it.

use super::steps::USERS;
use sessiond::session::{
    Session,
    access::Standing,
    ban::Ban,
    command::{Actor, Command},
    ids::UserId,
    limits::Micros,
    role::Role,
    settings::Kind,
};
use std::collections::BTreeMap;

/// Watches what is accepted.
#[derive(Debug, Default)]
pub struct Invariants {
    /// Who is banned, until when; none = for ever.
    banned: BTreeMap<UserId, Option<Micros>>,
    /// Who hosted in each term.
    hosts: BTreeMap<u64, UserId>,
}

/// Ranks before a command; none = no role here.
#[derive(Debug)]
pub struct Ranks {
    actor: Standing,
    target: Option<Role>,
}

fn rank(standing: Standing) -> Option<Role> {
    match standing {
        Standing::Joined(role) | Standing::Away(role) => Some(role),
        Standing::App | Standing::Outsider => None,
    }
}

impl Invariants {
    /// A session was opened with these bans.
    pub fn begin(bans: Vec<(UserId, Ban)>) -> Self {
        let banned = bans.into_iter().map(|(user, ban)| (user, ban.until)).collect();
        Self { banned, hosts: BTreeMap::new() }
    }

    /// How somebody stands to the target of a command that is about to be tried.
    pub fn ranks(session: &Session, actor: &Actor, command: &Command) -> Ranks {
        let target = match command {
            Command::SetRole { target, .. } | Command::Ban { target, .. } => Some(target.clone()),
            Command::Kick { target, .. } => Some(target.clone()),
            _ => None,
        };
        let target = target.and_then(|user| rank(session.standing(&Actor::of(&user))));
        Ranks { actor: session.standing(actor), target }
    }

    /// A command was accepted.
    pub fn accepted(&mut self, now: Micros, actor: &Actor, command: &Command, ranks: &Ranks) {
        self.nobody_acts_upward(command, ranks);
        self.no_write_after_a_ban(now, actor, command);
        match command {
            Command::Ban { target, ban } => {
                self.banned.insert(target.clone(), ban.until);
            }
            Command::Unban { target } => {
                self.banned.remove(target);
            }
            _ => {}
        }
    }

    fn nobody_acts_upward(&self, command: &Command, ranks: &Ranks) {
        let acts =
            matches!(command, Command::SetRole { .. } | Command::Ban { .. } | Command::Kick { .. });
        if !acts || ranks.actor == Standing::App {
            return;
        }
        let own = rank(ranks.actor);
        assert!(own >= Some(Role::Moderator), "{ranks:?} {command:?}");
        assert!(ranks.target < own, "{ranks:?} {command:?}");
        if let Command::SetRole { role, .. } = command {
            let is_given_down = Some(*role) < own || own == Some(Role::Owner);
            assert!(is_given_down, "{ranks:?} {command:?}");
        }
    }

    fn is_banned(&self, now: Micros, user: &UserId) -> bool {
        self.banned.get(user).is_some_and(|until| until.is_none_or(|until| now < until))
    }

    fn no_write_after_a_ban(&self, now: Micros, actor: &Actor, command: &Command) {
        let Some(writer) = actor.user() else { return };
        let whose = match command {
            Command::Join { user, .. }
            | Command::SetProps { user, .. }
            | Command::StreamOpened { user } => user,
            Command::SetData { .. } => writer,
            _ => return,
        };
        for user in [writer, whose] {
            assert!(!self.is_banned(now, user), "{user} is banned: {command:?}");
        }
    }

    /// At every moment.
    pub fn hold(&mut self, now: Micros, session: &Session) {
        let info = session.accepted_info();
        for user in USERS {
            let user = UserId::new(user).unwrap();
            let is_in = session.members().membership(&user).is_some();
            assert!(!(is_in && self.is_banned(now, &user)), "{user} is banned and in");
        }
        let owners = session.members().joined().filter(|(_, _, it)| it.role == Role::Owner);
        assert!(owners.count() <= 1, "one owner at most");
        let Some(host) = &info.host else { return };
        assert!(session.kind() == Kind::Hosted, "{host} hosts a room");
        let known = self.hosts.entry(info.term).or_insert_with(|| host.clone());
        assert_eq!(known, host, "one host in term {}", info.term);
    }
}
