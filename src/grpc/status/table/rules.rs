//! What the rules of a session refuse.

use super::{
    super::about::{About, Subject, moment},
    Told, at_limit, not_judged, not_open,
};
use crate::{
    proto::{self, ErrorReason as Reason},
    session::{
        error::{Limit, Rate, Refusal as Rule},
        role::Role,
    },
};
use tonic::Code;

/// A refusal by the rules, in the words of the call.
pub fn of_rules(rule: &Rule, about: &About) -> Told {
    use Code::{FailedPrecondition, NotFound, PermissionDenied};
    let (session, user) = (about.the_session(), about.the_user());
    match rule {
        Rule::Invalid(named) => {
            Told::of_fields(Code::InvalidArgument, Reason::InvalidFields, named)
        }
        Rule::SessionNotFound => {
            let message = match &about.session {
                Subject::None => {
                    "no session that the request asks for is open, or the caller may not know of it"
                        .to_owned()
                }
                Subject::Id(id) => not_open(&format!("{id:?}")),
                Subject::Name(name) => not_open(&format!("named {name:?}")),
            };
            Told::new(NotFound, Reason::SessionNotFound, message)
        }
        Rule::NotAMember => Told::new(
            FailedPrecondition,
            Reason::NotAMember,
            format!("{user} is not a member of {session}; JoinSession makes it one"),
        ),
        Rule::WrongPassword => Told::new(
            PermissionDenied,
            Reason::WrongPassword,
            format!("{session} has a password, and join.password is not it"),
        ),
        Rule::Locked => Told::new(
            FailedPrecondition,
            Reason::SessionLocked,
            format!("{session} is locked and takes no new members; UpdateSession unlocks it"),
        ),
        Rule::Full { capacity } => Told::limit(
            Reason::SessionFull,
            "capacity",
            capacity,
            format!("{session} is full: its settings.capacity is {capacity}"),
        ),
        Rule::RoleTooLow { needs } => {
            let has = match about.role {
                Some(role) => format!("{user} has the role {role} in {session}"),
                None => format!("the role of {user} in {session} is too low"),
            };
            let message = match needs {
                Role::Owner => format!("{has}; only the owner, or the app itself, may do this"),
                _ => format!(
                    "{has}; this needs the role {needs} or a higher one, which SetRole gives"
                ),
            };
            Told::new(PermissionDenied, Reason::RoleTooLow, message)
                .with("needs", needs.to_string())
        }
        Rule::NotAWriter(named) => Told::of_fields(PermissionDenied, Reason::NotAWriter, named),
        Rule::SessionIdNeeded => Told::new(
            FailedPrecondition,
            Reason::SessionIdNeeded,
            format!(
                "{session} has a schema, or its writes are judged: a write must name it in session_ids"
            ),
        ),
        // It was another session a moment ago.
        Rule::NotJudged => not_judged(),
        Rule::NeedsHost => Told::new(
            PermissionDenied,
            Reason::RoleTooLow,
            format!("{user} does not host {session}, and only its host may do this"),
        )
        .with("needs", "host"),
        Rule::NeedsSource => Told::new(
            FailedPrecondition,
            Reason::WrongKind,
            "a private session shows its source's props and private data alone",
        ),
        Rule::NotOfThePair => Told::new(
            PermissionDenied,
            Reason::NotEntitled,
            format!(
                "only the source and the listener join a private session, and {user} is neither"
            ),
        ),
        Rule::TargetRank => {
            let target = about.the_target();
            let message = format!(
                "the role of {target} is not below that of {user}, and only a higher role, or the \
                 app itself, may act on it"
            );
            Told::new(PermissionDenied, Reason::TargetRank, message)
        }
        Rule::Banned { until } => {
            let ends = until.map(moment);
            let told = ends.as_ref().map_or_else(String::new, |ends| format!(" until {ends}"));
            let message = format!("{user} is banned from {session}{told}; UnbanUser ends it");
            let told = Told::new(PermissionDenied, Reason::Banned, message);
            ends.into_iter().fold(told, |told, ends| told.with("until", ends))
        }
        Rule::BanNotFound => {
            let message = format!("{} is not banned from {session}", about.the_target());
            Told::new(NotFound, Reason::BanNotFound, message)
        }
        Rule::MemberNotFound => {
            let message = match &*about.target {
                "" => format!("no member of {session} is the one that is asked for"),
                target => format!("user {target:?} is not a member of {session}"),
            };
            let message = format!("{message}; GetSessionInfo lists the members");
            Told::new(NotFound, Reason::MemberNotFound, message)
        }
        Rule::NoCandidate => {
            let none = match &*about.target {
                "" => format!("nobody in {session} can become host"),
                target => format!("user {target:?} cannot become host of {session}"),
            };
            let message = format!("{none}: a host is a connected member and no spectator");
            Told::new(FailedPrecondition, Reason::NoCandidate, message)
        }
        Rule::WrongKind => Told::new(
            FailedPrecondition,
            Reason::WrongKind,
            format!(
                "{session} has no host: only a session that is opened with kind HOSTED has one"
            ),
        ),
        Rule::RevisionChanged(named) => {
            Told::of_fields(Code::Aborted, Reason::RevisionChanged, named)
        }
        Rule::UnknownPosition => {
            Told::new(FailedPrecondition, Reason::UnknownPosition, unknown_position(about))
        }
        Rule::StaleTerm { current } => Told::new(
            FailedPrecondition,
            Reason::StaleTerm,
            format!("the term of the host of {session} is {current}, as session.term tells"),
        )
        .with("term", current.to_string()),
        Rule::NotTheHost => Told::new(
            FailedPrecondition,
            Reason::NotTheHost,
            format!("the write names a term of the host of {session}, and {user} is not the host"),
        ),
        Rule::LimitReached { limit, most } => at_limit(
            match limit {
                Limit::PropsPerUser => "max-props-per-user",
                Limit::Roles => "roles",
                Limit::Bans => "bans",
            },
            *most,
        ),
        Rule::RateLimited { rate, per_second, retry_after } => {
            let (limit, what) = match rate {
                Rate::Updates => ("max-updates-per-second", "updates"),
                Rate::Changes => ("max-changes-per-second", "changes of sessions or members"),
            };
            let message = format!(
                "{user} makes more than {per_second} {what} a second; wait as long as the details say"
            );
            Told::limit(Reason::RateLimited, limit, per_second, message).after(*retry_after)
        }
        Rule::OfUser { at, why } => of_rules(why, about).named("field", &format!("users[{at}]")),
    }
}

fn unknown_position(about: &About) -> String {
    let at = |it: &proto::Position| format!("epoch {}, revision {}", it.epoch, it.revision);
    let named = about.positions.iter().map(|(field, it)| format!("{field} ({})", at(it)));
    let named = match &*named.collect::<Vec<_>>().join(" or ") {
        "" => "a revision in if_revision".to_owned(),
        named => named.to_owned(),
    };
    let last = about.at.as_ref();
    let last = last.map_or_else(String::new, |it| format!(", whose last frame is {}", at(it)));
    format!("{named} is no position of {}{last}; take one that a reply named", about.the_session())
}
