//! What a node tells another of the caller of a call that it sends on, as bytes: see
//! `introduction.proto`. Nothing that is read is trusted to make sense.

use crate::{
    engine::Peer,
    identity::{Apps, CredentialId, Grant, Kind, Origin},
    session::{
        ids::{AppId, SessionId, UserId},
        role::Role,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::HeaderValue;
use prost::Message;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The messages of `introduction.proto`.
#[allow(missing_docs, clippy::enum_variant_names)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/sessiond.nodes.v1.rs"));
}

/// The metadata that it travels in.
pub const CALLER_METADATA: &str = "sessiond-caller-bin";

/// The version that is written, and the last one that is understood.
const VERSION: u32 = 1;

/// The largest value of the metadata, in bytes: a credential that names apps or sessions names some
/// thousands of them at most.
pub const MOST_BYTES: usize = 512 * 1024;

/// Why an introduction cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It was written by a later version.
    #[error("it is of version {0}, and {VERSION} is the last that is understood here")]
    Version(u32),
    /// It makes no sense.
    #[error("it makes no sense: {0}")]
    Malformed(&'static str),
}

/// Who makes a call, as the value of the metadata; none if it is larger than may be.
pub fn write(grant: &Grant, peer: Peer) -> Option<HeaderValue> {
    let peer = match IpAddr::from(peer) {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let message = wire::Introduction { version: VERSION, peer, grant: Some(write_grant(grant)) };
    let text = STANDARD_NO_PAD.encode(message.encode_to_vec());
    if text.len() > MOST_BYTES {
        return None;
    }
    let mut value = HeaderValue::try_from(text).ok()?;
    // It is another one with each caller: it must not push out of HTTP/2's table what repeats.
    value.set_sensitive(true);
    Some(value)
}

/// Who makes a call, as another node says.
pub fn read(value: &HeaderValue) -> Result<(Grant, Peer), Unreadable> {
    let text = value.as_bytes();
    let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| Unreadable::Malformed("base64"))?;
    let message = wire::Introduction::decode(&*bytes);
    let message = message.map_err(|_| Unreadable::Malformed("the message"))?;
    let wire::Introduction { version, peer, grant } = message;
    if !(1..=VERSION).contains(&version) {
        return Err(Unreadable::Version(version));
    }
    let peer = if let Ok(octets) = <[u8; 4]>::try_from(&*peer) {
        IpAddr::V4(Ipv4Addr::from(octets))
    } else if let Ok(octets) = <[u8; 16]>::try_from(&*peer) {
        IpAddr::V6(Ipv6Addr::from(octets))
    } else {
        return Err(Unreadable::Malformed("peer"));
    };
    let grant = read_grant(grant.ok_or(Unreadable::Malformed("grant"))?)?;
    Ok((grant, peer.into()))
}

fn write_grant(grant: &Grant) -> wire::Grant {
    // Named one by one: a new field that is forgotten here does not compile.
    let Grant { apps, kind, sessions, most, expires, issued, id, subject, origin } = grant;
    let apps = match apps {
        Apps::All => None,
        Apps::Only(apps) => Some(names(apps.iter().map(|app| &**app))),
    };
    let kind = match kind {
        Kind::User(user) => wire::grant::Kind::User(user.to_string()),
        Kind::Backend { may_act_as_app } => {
            wire::grant::Kind::Backend(wire::Backend { may_act_as_app: *may_act_as_app })
        }
        Kind::Reader => wire::grant::Kind::Reader(wire::Reader {}),
    };
    let id = match id {
        CredentialId::None => None,
        CredentialId::Token { issuer, jti } => Some(wire::grant::Id::Token(wire::Token {
            issuer: issuer.to_string(),
            jti: jti.as_deref().map(str::to_owned),
        })),
        CredentialId::Key(id) => Some(wire::grant::Id::Key(id.to_string())),
        CredentialId::Certificate(name) => Some(wire::grant::Id::Certificate(name.to_string())),
    };
    let origin = match origin {
        Origin::Nothing => None,
        Origin::Token { issuer, key } => Some(wire::grant::Origin::OfToken(wire::TokenOrigin {
            issuer: issuer.to_vec(),
            key: key.to_vec(),
        })),
        Origin::Key(print) => Some(wire::grant::Origin::OfKey(print.to_vec())),
        Origin::Certificate(print) => Some(wire::grant::Origin::OfCertificate(print.to_vec())),
    };
    wire::Grant {
        apps,
        kind: Some(kind),
        sessions: sessions.as_ref().map(|ids| names(ids.iter().map(|id| &**id))),
        most: most.word().to_owned(),
        expires: *expires,
        issued: *issued,
        id,
        subject: subject.as_deref().map(str::to_owned),
        origin,
    }
}

fn read_grant(grant: wire::Grant) -> Result<Grant, Unreadable> {
    let wire::Grant { apps, kind, sessions, most, expires, issued, id, subject, origin } = grant;
    let malformed = Unreadable::Malformed;
    let apps = match apps {
        None => Apps::All,
        Some(names) => {
            Apps::Only(ids(&names, |app| AppId::new(app).ok()).ok_or(malformed("apps"))?)
        }
    };
    let kind = match kind.ok_or(malformed("kind"))? {
        wire::grant::Kind::User(id) => Kind::User(UserId::new(&id).map_err(|_| malformed("user"))?),
        wire::grant::Kind::Backend(wire::Backend { may_act_as_app }) => {
            Kind::Backend { may_act_as_app }
        }
        wire::grant::Kind::Reader(wire::Reader {}) => Kind::Reader,
    };
    let sessions = sessions
        .map(|names| ids(&names, |id| SessionId::new(id).ok()).ok_or(malformed("sessions")))
        .transpose()?;
    let id = match id {
        None => CredentialId::None,
        Some(wire::grant::Id::Token(wire::Token { issuer, jti })) => {
            CredentialId::Token { issuer: issuer.into(), jti: jti.map(Into::into) }
        }
        Some(wire::grant::Id::Key(id)) => CredentialId::Key(id.into()),
        Some(wire::grant::Id::Certificate(name)) => CredentialId::Certificate(name.into()),
    };
    let print = |bytes: Vec<u8>| bytes.try_into().map_err(|_| malformed("origin"));
    let origin = match origin {
        None => Origin::Nothing,
        Some(wire::grant::Origin::OfToken(wire::TokenOrigin { issuer, key })) => {
            Origin::Token { issuer: print(issuer)?, key: print(key)? }
        }
        Some(wire::grant::Origin::OfKey(bytes)) => Origin::Key(print(bytes)?),
        Some(wire::grant::Origin::OfCertificate(bytes)) => Origin::Certificate(print(bytes)?),
    };
    let most = Role::read(&most).ok_or(malformed("most"))?;
    let subject = subject.map(Into::into);
    Ok(Grant { apps, kind, sessions, most, expires, issued, id, subject, origin })
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> wire::Names {
    wire::Names { names: names.map(str::to_owned).collect() }
}

fn ids<T: Ord>(names: &wire::Names, id: impl Fn(&str) -> Option<T>) -> Option<BTreeSet<T>> {
    names.names.iter().map(|name| id(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9é ./:-]{1,40}"
    }

    fn prints() -> impl Strategy<Value = [u8; 32]> {
        any::<[u8; 32]>()
    }

    fn apps() -> impl Strategy<Value = Apps> {
        let some = prop::collection::btree_set(id(), 0..5);
        prop_oneof![
            Just(Apps::All),
            some.prop_map(|ids| {
                Apps::Only(ids.iter().map(|id| AppId::new(id).expect("an id")).collect())
            }),
        ]
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            id().prop_map(|id| Kind::User(UserId::new(&id).expect("an id"))),
            any::<bool>().prop_map(|may_act_as_app| Kind::Backend { may_act_as_app }),
            Just(Kind::Reader),
        ]
    }

    fn credential() -> impl Strategy<Value = CredentialId> {
        prop_oneof![
            Just(CredentialId::None),
            (any::<String>(), any::<Option<String>>()).prop_map(|(issuer, jti)| {
                CredentialId::Token { issuer: issuer.into(), jti: jti.map(Into::into) }
            }),
            any::<String>().prop_map(|id| CredentialId::Key(id.into())),
            any::<String>().prop_map(|name| CredentialId::Certificate(name.into())),
        ]
    }

    fn origin() -> impl Strategy<Value = Origin> {
        prop_oneof![
            Just(Origin::Nothing),
            (prints(), prints()).prop_map(|(issuer, key)| Origin::Token { issuer, key }),
            prints().prop_map(Origin::Key),
            prints().prop_map(Origin::Certificate),
        ]
    }

    prop_compose! {
        fn grant()(
            apps in apps(),
            kind in kind(),
            sessions in prop::option::of(prop::collection::btree_set(id(), 0..5)),
            most in prop::sample::select(&Role::ALL[..]),
            expires in any::<Option<u64>>(),
            issued in any::<Option<u64>>(),
            id in credential(),
            subject in any::<Option<String>>(),
            origin in origin(),
        ) -> Grant {
            let sessions = sessions.map(|ids| {
                ids.iter().map(|id| SessionId::new(id).expect("an id")).collect()
            });
            let subject = subject.map(Into::into);
            Grant { apps, kind, sessions, most, expires, issued, id, subject, origin }
        }
    }

    proptest! {
        #[test]
        fn whoever_is_introduced_is_known_as_before(grant in grant(), ip in any::<IpAddr>()) {
            let peer = Peer::from(ip);
            let value = write(&grant, peer).expect("it is small");
            prop_assert!(value.is_sensitive());
            prop_assert_eq!(read(&value), Ok((grant, peer)));
        }

        #[test]
        fn what_is_cut_or_changed_allows_nothing_that_is_not_an_introduction(
            grant in grant(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let value = write(&grant, IpAddr::from([10, 0, 0, 1]).into()).expect("it is small");
            let mut bytes = STANDARD_NO_PAD.decode(value.as_bytes()).expect("it is base64");
            let at = at.index(bytes.len());
            bytes[at] = byte;
            for bytes in [&bytes[..], &bytes[..at]] {
                let text = STANDARD_NO_PAD.encode(bytes);
                // It is no panic, whatever it is.
                let _ = read(&HeaderValue::try_from(text).expect("base64 is ASCII"));
            }
        }
    }

    fn encoded(message: &wire::Introduction) -> HeaderValue {
        let text = STANDARD_NO_PAD.encode(message.encode_to_vec());
        HeaderValue::try_from(text).expect("base64 is ASCII")
    }

    #[test]
    fn what_a_later_version_says_is_not_taken() {
        let grant = Some(write_grant(&Grant::of_anybody()));
        let of = |version| wire::Introduction { version, peer: vec![0; 4], grant: grant.clone() };
        assert!(read(&encoded(&of(VERSION))).is_ok());
        assert_eq!(read(&encoded(&of(VERSION + 1))), Err(Unreadable::Version(VERSION + 1)));
        assert_eq!(read(&encoded(&of(0))), Err(Unreadable::Version(0)));
    }

    #[test]
    fn what_lacks_something_is_not_taken() {
        let grant = write_grant(&Grant::of_anybody());
        let of = |grant| wire::Introduction { version: VERSION, peer: vec![0; 4], grant };
        let faults = [
            (of(None), "grant"),
            (of(Some(wire::Grant { kind: None, ..grant.clone() })), "kind"),
            (of(Some(wire::Grant { most: "king".to_owned(), ..grant.clone() })), "most"),
            (wire::Introduction { peer: vec![0; 5], ..of(Some(grant)) }, "peer"),
        ];
        for (message, fault) in faults {
            assert_eq!(read(&encoded(&message)), Err(Unreadable::Malformed(fault)));
        }
        assert!(read(&HeaderValue::from_static("?")).is_err());
    }

    #[test]
    fn one_that_names_too_much_is_not_written() {
        let app = |number| AppId::new(&format!("{number:0100}")).expect("an id");
        let with = |count| Grant {
            apps: Apps::Only((0..count).map(app).collect()),
            ..Grant::of_anybody()
        };
        let peer = Peer::from(IpAddr::from([10, 0, 0, 1]));
        assert!(write(&with(3000), peer).is_some());
        assert!(write(&with(5000), peer).is_none());
    }
}
