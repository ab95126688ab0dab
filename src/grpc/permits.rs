//! Which credential may make which call: the one table. What is not in it, nobody may.

use super::error::Uncovered;
use crate::identity::{Grant, Kind};

/// What a call needs of a credential, before it is looked at whom and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// None at all: the call tells nothing of what is served.
    Nothing,
    /// Any. The call changes nothing.
    Read,
    /// One that may change something: that of a user or of a backend.
    Act,
    /// That of a backend.
    Backend,
}

/// What a call reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Sessions that it names, or whose names it is refused for.
    Named,
    /// Other things too: a credential for a few sessions does not allow it.
    Wide,
}

const ADMIN: &str = "/sessiond.v1.AdminService/";
const SESSIONS: &str = "/sessiond.v1.SessionService/";
const DELIVERY: &str = "/sessiond.v1.DeliveryService/";
const EVENTS: &str = "/sessiond.v1.EventService/";
const STREAMS: &str = "/sessiond.v1.ObjectStreamService/";

/// A call of a service, with what it needs and reaches.
type Line = (&'static str, Needs, Reach);

#[rustfmt::skip]
const CALLS: &[(&str, &[Line])] = &[
    (ADMIN, &[
        ("RevokeCredentials", Needs::Backend, Reach::Wide),
        ("RestoreCredentials", Needs::Backend, Reach::Wide),
        ("ListRevocations", Needs::Backend, Reach::Wide),
        ("ListNodes", Needs::Backend, Reach::Wide),
        ("ListPartitions", Needs::Backend, Reach::Wide),
        ("MovePartition", Needs::Backend, Reach::Wide),
    ]),
    (SESSIONS, &[
        ("GetSessionInfo", Needs::Read, Reach::Named),
        ("ListSessions", Needs::Read, Reach::Wide),
        ("OpenSharedSession", Needs::Act, Reach::Named),
        ("OpenPrivateSession", Needs::Act, Reach::Named),
        ("UpdateSession", Needs::Act, Reach::Named),
        ("ResetSession", Needs::Act, Reach::Named),
        ("ReserveSeats", Needs::Act, Reach::Named),
        ("ReleaseSeats", Needs::Act, Reach::Named),
        ("JoinSession", Needs::Act, Reach::Named),
        ("LeaveSession", Needs::Act, Reach::Named),
        ("DeleteSession", Needs::Act, Reach::Named),
        ("SetUserProps", Needs::Act, Reach::Named),
        ("SetSessionData", Needs::Act, Reach::Named),
        ("GetUpdatedUserData", Needs::Read, Reach::Named),
        ("GetFirstMatch", Needs::Read, Reach::Named),
        ("SwapHost", Needs::Act, Reach::Named),
        ("SetRole", Needs::Act, Reach::Named),
        ("KickUser", Needs::Act, Reach::Named),
        ("BanUser", Needs::Act, Reach::Named),
        ("UnbanUser", Needs::Act, Reach::Named),
        ("TransmitSessionUpdates", Needs::Act, Reach::Named),
    ]),
    (DELIVERY, &[
        ("SubscribeToSession", Needs::Read, Reach::Named),
        ("SubscribeToUser", Needs::Act, Reach::Wide),
        ("ReceiveSessionUpdates", Needs::Act, Reach::Wide),
        ("StreamUserProps", Needs::Act, Reach::Named),
        ("Gateway", Needs::Backend, Reach::Wide),
        ("WatchSessions", Needs::Read, Reach::Wide),
    ]),
    (EVENTS, &[
        ("WatchEvents", Needs::Backend, Reach::Wide),
    ]),
    (STREAMS, &[
        ("SetStream", Needs::Act, Reach::Wide),
        ("RemoveStream", Needs::Act, Reach::Wide),
        ("UpdateStreamData", Needs::Act, Reach::Wide),
        ("SetStreamFunc", Needs::Act, Reach::Wide),
        ("AddStreamFunc", Needs::Act, Reach::Wide),
        // With the shared cursor these move it for all: they are no mere reads.
        ("GetStreamUpdate", Needs::Act, Reach::Wide),
        ("GetAllStreamUpdates", Needs::Act, Reach::Wide),
        ("SubscribeToStreams", Needs::Read, Reach::Wide),
    ]),
    ("/grpc.health.v1.Health/", &[
        ("Check", Needs::Nothing, Reach::Wide),
        ("Watch", Needs::Nothing, Reach::Wide),
    ]),
    ("/grpc.reflection.v1.ServerReflection/", &[
        ("ServerReflectionInfo", Needs::Nothing, Reach::Wide),
    ]),
    ("/grpc.reflection.v1alpha.ServerReflection/", &[
        ("ServerReflectionInfo", Needs::Nothing, Reach::Wide),
    ]),
];

/// What the table says of one call; nothing of one that there is not.
#[derive(Debug, Clone, Copy)]
pub struct Permit(Option<(Needs, Reach)>);

impl Permit {
    /// That of a call.
    pub fn of(path: &str) -> Self {
        let found = CALLS
            .iter()
            .find_map(|(service, calls)| Some((calls, path.strip_prefix(service)?)))
            .and_then(|(calls, method)| calls.iter().find(|(name, ..)| *name == method));
        Self(found.map(|(_, needs, reach)| (*needs, *reach)))
    }

    /// Whether there is such a call.
    pub fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// What the call needs; for one that there is not, a caller needs a credential to learn that.
    pub fn needs(self) -> Needs {
        self.0.map_or(Needs::Read, |(needs, _)| needs)
    }

    /// Whether a credential allows the call at all.
    pub fn check(self, grant: &Grant) -> Result<(), Uncovered> {
        let Some((needs, reach)) = self.0 else { return Err(Uncovered::Call) };
        if reach == Reach::Wide && needs != Needs::Nothing && grant.sessions.is_some() {
            return Err(Uncovered::OtherSessions);
        }
        match (needs, &grant.kind) {
            (Needs::Nothing | Needs::Read, _)
            | (Needs::Act, Kind::User(_) | Kind::Backend { .. })
            | (Needs::Backend, Kind::Backend { .. }) => Ok(()),
            (Needs::Act | Needs::Backend, _) => Err(Uncovered::Call),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proto, session::ids::UserId};
    use prost::Message;

    /// What backends serve.
    const HOOKS: &str = "/sessiond.v1.HookService/";

    fn calls_of(descriptors: &[u8]) -> Vec<String> {
        let files = prost_types::FileDescriptorSet::decode(descriptors).expect("it is built in");
        let files = files.file.iter();
        let services = files.flat_map(|file| file.service.iter().map(move |it| (file, it)));
        let calls = services.flat_map(|(file, service)| {
            let path = move |call: &str| format!("/{}.{}/{call}", file.package(), service.name());
            service.method.iter().map(move |it| path(it.name()))
        });
        calls.collect()
    }

    #[test]
    fn every_call_has_a_line() {
        let ours = calls_of(proto::DESCRIPTORS);
        let health = calls_of(tonic_health::pb::FILE_DESCRIPTOR_SET);
        assert!(ours.len() > 30);
        let is_served = |path: &&String| !path.starts_with(HOOKS);
        for path in ours.iter().filter(is_served).chain(&health) {
            assert!(Permit::of(path).0.is_some(), "{path} has no line");
        }
        for path in ours.iter().filter(is_served) {
            assert_ne!(Permit::of(path).needs(), Needs::Nothing, "{path} needs a credential");
        }
    }

    #[test]
    fn every_line_is_of_a_call() {
        let known: Vec<String> =
            [proto::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET].map(calls_of).concat();
        let lines = CALLS.iter().flat_map(|(service, calls)| {
            calls.iter().map(move |(call, ..)| format!("{service}{call}"))
        });
        for line in lines.filter(|line| !line.starts_with("/grpc.reflection")) {
            assert!(known.contains(&line), "{line} is no call");
        }
    }

    #[test]
    fn a_call_that_has_no_line_is_refused() {
        let grant = Grant::of_anybody();
        assert_eq!(
            Permit::of("/sessiond.v1.SessionService/Nothing").check(&grant),
            Err(Uncovered::Call)
        );
        assert_eq!(Permit::of("/other.Service/GetSessionInfo").check(&grant), Err(Uncovered::Call));
        assert_eq!(Permit::of("/other.Service/GetSessionInfo").needs(), Needs::Read);
    }

    #[test]
    fn a_reader_changes_nothing_and_a_user_is_no_backend() {
        let with = |kind| Grant { kind, ..Grant::of_anybody() };
        let reader = with(Kind::Reader);
        let user = with(Kind::User(UserId::new("ada").expect("an id")));
        let limited = Grant { sessions: Some(Default::default()), ..user.clone() };
        for (service, calls) in CALLS {
            for (call, needs, reach) in *calls {
                let path = format!("{service}{call}");
                let permit = Permit::of(&path);
                let is_read = matches!(needs, Needs::Nothing | Needs::Read);
                assert_eq!(permit.check(&reader).is_ok(), is_read, "{path}");
                assert_eq!(permit.check(&user).is_ok(), *needs != Needs::Backend, "{path}");
                let is_narrow = *reach == Reach::Named || *needs == Needs::Nothing;
                assert_eq!(permit.check(&limited).is_ok(), is_narrow, "{path}");
            }
        }
    }
}
