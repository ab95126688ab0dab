//! Events as the wire tells them, to streams and webhooks alike.

use super::to_proto;
use crate::{
    engine::{AppEvent, AppWhat, Credential, EventGap, JudgedRefusal, RefusedBy, Revoked},
    proto::{self, EventKind as Kind, event::What as Told},
    session::{
        command::Actor,
        event::{Ended, What},
        ids::UserId,
        limits::Micros,
    },
};

/// What an event is called.
pub fn kind(what: &AppWhat) -> Kind {
    match what {
        AppWhat::InSession(what) => match what {
            What::Opened(_) => Kind::SessionOpened,
            What::Ended(_) => Kind::SessionEnded,
            What::Joined { .. } => Kind::UserJoined,
            What::Left { .. } => Kind::UserLeft,
            What::RoleChanged { .. } => Kind::RoleChanged,
            What::OwnerChanged { .. } => Kind::OwnerChanged,
            What::HostChanged { .. } => Kind::HostChanged,
            What::Kicked { .. } => Kind::UserKicked,
            What::Banned { .. } => Kind::UserBanned,
            What::Unbanned { .. } => Kind::UserUnbanned,
            What::SettingsChanged { .. } => Kind::SettingsChanged,
            What::Reset { .. } => Kind::SessionReset,
            What::SeatsReserved { .. } => Kind::SeatsReserved,
            What::SeatsReleased { .. } => Kind::SeatsReleased,
        },
        AppWhat::Credentials { is_restored: false, .. } => Kind::CredentialsRevoked,
        AppWhat::Credentials { is_restored: true, .. } => Kind::CredentialsRestored,
        AppWhat::Refused(JudgedRefusal { by: RefusedBy::Hook { .. }, .. }) => Kind::HookRefused,
        AppWhat::Refused(JudgedRefusal { by: RefusedBy::Rule { .. }, .. }) => Kind::RuleRefused,
    }
}

/// An event of a process.
pub fn event(process: u64, event: &AppEvent) -> proto::Event {
    let AppEvent { app, journal: _, number, at, session, by, credential, what } = event;
    let (user, told) = told(what);
    proto::Event {
        id: event.name(process),
        sequence: *number,
        time: Some(to_proto::moment(*at)),
        app: app.to_string(),
        session_id: session.as_ref().map(|id| id.to_string()).unwrap_or_default(),
        kind: kind(what).into(),
        user_id: text(user),
        actor: Some(actor(by.as_ref(), credential.as_deref())),
        what: Some(told),
    }
}

/// That events are missing.
pub fn gap(gap: EventGap) -> proto::EventGap {
    use proto::EventGapReason as Reason;
    let (reason, missing) = match gap {
        EventGap::TooOld(missing) => (Reason::TooOld, missing.unwrap_or_default()),
        EventGap::Restarted => (Reason::Restarted, 0),
        EventGap::UnknownCursor => (Reason::UnknownCursor, 0),
    };
    proto::EventGap { reason: reason.into(), missing, ..Default::default() }
}

/// To whom it happened, and what.
fn told(what: &AppWhat) -> (Option<&UserId>, Told) {
    let what = match what {
        AppWhat::InSession(what) => what,
        AppWhat::Credentials { revoked, is_restored } => {
            let user = match revoked {
                Revoked::User(user) => Some(user),
                Revoked::IssuedBefore { user, .. } => user.as_ref(),
                Revoked::Token(_) | Revoked::Key(_) => None,
            };
            let revocation = Some(revocation(revoked));
            let told = match is_restored {
                false => Told::CredentialsRevoked(proto::CredentialsRevoked { revocation }),
                true => Told::CredentialsRestored(proto::CredentialsRestored { revocation }),
            };
            return (user, told);
        }
        AppWhat::Refused(refusal) => return (None, refused(refusal)),
    };
    match what {
        What::Opened(kind) => {
            let kind = to_proto::kind(*kind).into();
            (None, Told::SessionOpened(proto::SessionOpened { kind }))
        }
        What::Ended(why) => {
            let reason = match why {
                Ended::Deleted => proto::SessionEndReason::Deleted,
                Ended::Empty => proto::SessionEndReason::Empty,
                Ended::Age => proto::SessionEndReason::Age,
                Ended::SourceLeft => proto::SessionEndReason::SourceLeft,
            };
            (None, Told::SessionEnded(proto::SessionEnded { reason: reason.into() }))
        }
        What::Joined { user, role } => {
            let role = to_proto::role(*role).into();
            (Some(user), Told::UserJoined(proto::UserJoined { role }))
        }
        What::Left { user, departure } => {
            let reason = to_proto::departure(*departure).into();
            (Some(user), Told::UserLeft(proto::UserLeft { reason }))
        }
        What::RoleChanged { user, from, to } => {
            let (from_role, to_role) = (to_proto::role(*from).into(), to_proto::role(*to).into());
            (Some(user), Told::RoleChanged(proto::RoleChanged { from_role, to_role }))
        }
        What::OwnerChanged { from, to } => {
            let from_user_id = text(from.as_ref());
            (to.as_ref(), Told::OwnerChanged(proto::OwnerChanged { from_user_id }))
        }
        What::HostChanged { from, to, term } => {
            let (from_user_id, term) = (text(from.as_ref()), *term);
            (to.as_ref(), Told::HostChanged(proto::HostChanged { from_user_id, term }))
        }
        What::Kicked { user, reason } => {
            let reason = reason.to_string();
            (Some(user), Told::UserKicked(proto::UserKicked { reason }))
        }
        What::Banned { user, reason, until } => {
            let (reason, until) = (reason.to_string(), until.map(to_proto::moment));
            (Some(user), Told::UserBanned(proto::UserBanned { reason, until }))
        }
        What::Unbanned { user } => (Some(user), Told::UserUnbanned(proto::UserUnbanned {})),
        What::SettingsChanged { names } => {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            (None, Told::SettingsChanged(proto::SettingsChanged { names }))
        }
        What::Reset { new_schema } => {
            let new_schema = *new_schema;
            (None, Told::SessionReset(proto::SessionReset { new_schema }))
        }
        What::SeatsReserved { users, until } => {
            let (user_ids, until) = (texts(users), Some(to_proto::moment(*until)));
            (only(users), Told::SeatsReserved(proto::SeatsReserved { user_ids, until }))
        }
        What::SeatsReleased { users } => {
            let user_ids = texts(users);
            (only(users), Told::SeatsReleased(proto::SeatsReleased { user_ids }))
        }
    }
}

fn refused(refusal: &JudgedRefusal) -> Told {
    let JudgedRefusal { by, name, operation, message } = refusal;
    let [name, message] = [name, message].map(|it| it.to_string());
    let operation = to_proto::operation(*operation).into();
    match by {
        RefusedBy::Rule { is_faulty } => {
            let (rule, not_evaluated) = (name, *is_faulty);
            Told::RuleRefused(proto::RuleRefused { rule, operation, message, not_evaluated })
        }
        RefusedBy::Hook { reason } => {
            let (hook, reason) = (name, reason.as_deref().unwrap_or_default().to_owned());
            Told::HookRefused(proto::HookRefused { hook, operation, message, reason })
        }
    }
}

fn actor(by: Option<&Actor>, credential: Option<&Credential>) -> proto::EventActor {
    use proto::EventActorKind as Kind;
    let (kind, user) = match by {
        Some(Actor::User(user)) => (Kind::User, Some(user.id())),
        Some(Actor::App) => (Kind::App, None),
        None => (Kind::Service, None),
    };
    let credential = credential.map(to_proto::credential);
    proto::EventActor { kind: kind.into(), user_id: text(user), credential }
}

fn revocation(revoked: &Revoked) -> proto::EventRevocation {
    use proto::event_revocation::What;
    let what = match revoked {
        Revoked::Token(id) => What::TokenId(id.to_string()),
        Revoked::Key(id) => What::KeyId(id.to_string()),
        Revoked::User(user) => What::UserId(user.to_string()),
        Revoked::IssuedBefore { time, issuer, user } => {
            What::IssuedBefore(issued_before(*time, issuer.as_deref(), user.as_ref()))
        }
    };
    proto::EventRevocation { what: Some(what) }
}

fn issued_before(
    time: Micros,
    issuer: Option<&str>,
    user: Option<&UserId>,
) -> proto::EventIssuedBefore {
    let issuer = issuer.unwrap_or_default().to_owned();
    proto::EventIssuedBefore { time: Some(to_proto::moment(time)), issuer, user_id: text(user) }
}

fn text(user: Option<&UserId>) -> String {
    user.map(|user| user.to_string()).unwrap_or_default()
}

fn texts(users: &[UserId]) -> Vec<String> {
    users.iter().map(|user| user.to_string()).collect()
}

fn only(users: &[UserId]) -> Option<&UserId> {
    users.first().filter(|_| users.len() == 1)
}
