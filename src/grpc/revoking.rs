//! A revocation by a call, or its end, from the node that was asked to all nodes of a cluster.

use super::{Entrance, convert::to_proto};
use crate::{
    cluster::Note,
    engine::{Credential, Engine, Revoked},
    identity::{Apps, NoRoom, Revocation},
    proto::{self, EventCredentialKind, revocation::What},
    session::{
        ids::{AppId, UserId},
        limits::{Micros, SECOND},
    },
};
use prost::Message;
use std::{sync::Arc, time::Duration};

/// The version of notes that is written.
const VERSION: u8 = 1;

/// How long all nodes can learn that a revocation is over; one that starts later knows nothing of it.
const END_TOLD_FOR: Micros = 24 * 60 * 60 * SECOND;

/// What becomes of a revocation.
#[derive(Debug, Clone, PartialEq)]
pub struct Revoking {
    /// Which.
    pub revocation: Revocation,
    /// Until when it lasts; `Micros::MAX` = until it is restored. None = it is restored.
    pub until: Option<Micros>,
    /// With which credential that was asked for.
    pub by: Option<Credential>,
}

/// What stands in a note. It is nobody's contract but that of later versions of this program.
#[derive(Clone, PartialEq, prost::Message)]
struct Written {
    #[prost(message, optional, tag = "1")]
    revocation: Option<proto::Revocation>,
    #[prost(uint64, optional, tag = "2")]
    until: Option<u64>,
    #[prost(message, optional, tag = "3")]
    by: Option<proto::EventCredential>,
}

impl Revoking {
    /// The same for all nodes.
    pub fn to_note(&self, now: Micros) -> Note {
        let written = Written {
            revocation: Some(to_proto::revocation(&self.revocation)),
            until: self.until,
            by: self.by.as_ref().map(to_proto::credential),
        };
        let mut text = vec![VERSION];
        written.encode_raw(&mut text);
        let lasts = match self.until {
            None => Some(END_TOLD_FOR),
            Some(Micros::MAX) => None,
            Some(until) => Some(until.saturating_sub(now)),
        };
        Note {
            key: self.revocation.place().into(),
            text: text.into(),
            lasts: lasts.map(|lasts| Duration::from_micros(lasts.max(SECOND))),
        }
    }

    /// Reads a note; none = a later version wrote it, or it makes no sense.
    pub fn read(text: &[u8]) -> Option<Self> {
        let (&VERSION, written) = text.split_first()? else { return None };
        let Written { revocation, until, by } = Written::decode(written).ok()?;
        let revocation = revocation_in(revocation?)?;
        Some(Self { revocation, until, by: by.and_then(credential_in) })
    }

    /// Has it in force at this node. Whether that changes anything.
    pub fn apply(&self, entrance: &Entrance, now: Micros) -> Result<bool, NoRoom> {
        let Some(identity) = entrance.identity() else { return Ok(false) };
        let is_news = match self.until {
            Some(until) if until <= now => false,
            Some(until) => identity.revoke_until(self.revocation.clone(), until, now)?,
            None => identity.restore(&self.revocation),
        };
        entrance.look();
        Ok(is_news)
    }

    /// Tells the apps that it concerns. `engines` names those that have an app, or where none is named all.
    pub fn note(&self, entrance: &Entrance, engines: impl Fn(Option<&AppId>) -> Vec<Engine>) {
        let by = self.by.clone().map(Arc::new);
        let note = |app: Option<&AppId>, revoked: Revoked| {
            for engine in engines(app) {
                let acting = by.clone().map(|by| engine.acting_by(by));
                let engine = acting.as_ref().unwrap_or(&engine);
                engine.note_revocation(app, revoked.clone(), self.until.is_none());
            }
        };
        let (app, revoked) = match &self.revocation {
            Revocation::Token(id) => (None, Revoked::Token(id.clone())),
            Revocation::Key(id) => {
                let revoked = Revoked::Key(id.clone());
                let identity = entrance.identity();
                match identity.and_then(|identity| identity.apps_of_key(id)) {
                    Some(Apps::Only(apps)) => {
                        return apps.iter().for_each(|app| note(Some(app), revoked.clone()));
                    }
                    Some(Apps::All) => (None, revoked),
                    None => return,
                }
            }
            Revocation::User { app, user } => (app.as_ref(), Revoked::User(user.clone())),
            Revocation::IssuedBefore { app, issuer, user, time } => {
                let (issuer, user) = (issuer.clone(), user.clone());
                (app.as_ref(), Revoked::IssuedBefore { time: *time, issuer, user })
            }
        };
        note(app, revoked);
    }
}

fn revocation_in(revocation: proto::Revocation) -> Option<Revocation> {
    let app = |name: &str| match name {
        "" => Some(None),
        name => AppId::new(name).ok().map(Some),
    };
    Some(match revocation.what? {
        What::TokenId(id) => Revocation::Token(id.into()),
        What::KeyId(id) => Revocation::Key(id.into()),
        What::User(it) => {
            Revocation::User { app: app(&it.app)?, user: UserId::new(&it.user_id).ok()? }
        }
        What::IssuedBefore(it) => {
            let user = match &*it.user_id {
                "" => None,
                id => Some(UserId::new(id).ok()?),
            };
            let time = it.time?;
            let seconds = u64::try_from(time.seconds).ok()?.checked_mul(SECOND)?;
            Revocation::IssuedBefore {
                app: app(&it.app)?,
                issuer: (!it.issuer.is_empty()).then(|| it.issuer.into()),
                user,
                time: seconds.checked_add(u64::try_from(time.nanos).ok()? / 1_000)?,
            }
        }
    })
}

fn credential_in(credential: proto::EventCredential) -> Option<Credential> {
    let kind = credential.kind();
    let proto::EventCredential { name, issuer, subject, .. } = credential;
    let given = |text: String| (!text.is_empty()).then(|| text.into());
    match kind {
        EventCredentialKind::Token => Some(Credential::Token {
            issuer: issuer.into(),
            id: given(name),
            subject: given(subject),
        }),
        EventCredentialKind::Key => Some(Credential::Key(name.into())),
        EventCredentialKind::Certificate => Some(Credential::Certificate(name.into())),
        EventCredentialKind::Unspecified => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Revoking> {
        let (app, user) = (AppId::new("games").expect("an id"), UserId::new("ada").expect("an id"));
        let before = |app, issuer, user| Revocation::IssuedBefore { app, issuer, user, time: 7 };
        let revocations = [
            Revocation::Token("a\nb".into()),
            Revocation::Key("1f3a9c20".into()),
            Revocation::User { app: None, user: user.clone() },
            Revocation::User { app: Some(app.clone()), user: user.clone() },
            before(None, None, None),
            before(Some(app), Some("trial".into()), Some(user)),
        ];
        let token = |id, subject| Credential::Token { issuer: "trial".into(), id, subject };
        let credentials = [
            None,
            Some(Credential::Key("k".into())),
            Some(Credential::Certificate("c".into())),
            Some(token(None, None)),
            Some(token(Some("j".into()), Some("s".into()))),
        ];
        let untils = [None, Some(Micros::MAX), Some(90 * SECOND)];
        let mut all = Vec::new();
        for revocation in &revocations {
            for by in &credentials {
                for until in untils {
                    all.push(Revoking { revocation: revocation.clone(), until, by: by.clone() });
                }
            }
        }
        all
    }

    #[test]
    fn every_note_is_read_as_it_was_written() {
        for revoking in all() {
            let note = revoking.to_note(30 * SECOND);
            assert_eq!(Revoking::read(&note.text), Some(revoking.clone()));
            let lasts = match revoking.until {
                None => Some(END_TOLD_FOR / SECOND),
                Some(Micros::MAX) => None,
                Some(_) => Some(60),
            };
            assert_eq!(note.lasts, lasts.map(Duration::from_secs));
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_note() {
        for text in [&b""[..], &[VERSION], &[VERSION + 1], b"\x01\x0a\x00", b"\x01\xff"] {
            assert_eq!(Revoking::read(text), None, "{text:?}");
        }
    }
}
