//! Who makes a call, and as whom: a user, or the app itself.
//!
//! What somebody may do at all follows from the [`Grant`] of the credential; as whom a call acts, it
//! says itself. The app may do everything, so a call acts as the app only if it says so: an id that
//! was forgotten or misspelt is a fault of the request and never makes its caller the app.

use super::{convert::door::Door, error::Uncovered, new_user_id};
use crate::{
    engine::Credential,
    identity::{CredentialId, Grant, Kind},
    session::{
        command::{Acting, Actor},
        ids::UserId,
    },
};
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

/// The metadata with which a call says that it acts as the app itself; its only value is `app`.
pub const AS_METADATA: &str = "sessiond-as";

/// The metadata in which a call may name its app, for load balancers that place apps by it.
pub const APP_METADATA: &str = "sessiond-app";

/// Who makes a call.
#[derive(Debug, Clone)]
pub struct Caller {
    /// What the credential allows.
    pub grant: Arc<Grant>,
    acts: Acts,
    /// The apps that the metadata names.
    apps: Vec<HeaderValue>,
}

/// As whom a call says that it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acts {
    /// Nothing: it acts as the user that it names.
    User,
    /// As the app itself.
    App,
    /// Something that it cannot say.
    Nobody,
}

impl Caller {
    /// The bearer of a credential, who makes a call with this metadata.
    pub fn new(headers: &HeaderMap, grant: Arc<Grant>) -> Self {
        let values = headers.get_all(AS_METADATA);
        let acts = match values.iter().next() {
            None => Acts::User,
            Some(_) if values.iter().all(|value| value == "app") => Acts::App,
            Some(_) => Acts::Nobody,
        };
        Self { grant, acts, apps: headers.get_all(APP_METADATA).iter().cloned().collect() }
    }

    /// The caller of a call that tonic answers, as the router let it in.
    pub fn of(metadata: &HeaderMap, extensions: &http::Extensions) -> Self {
        // No grant, no call: what the router has not looked at may do nothing.
        let nothing = || Arc::new(Grant::of_nobody());
        Self::new(metadata, extensions.get().cloned().unwrap_or_else(nothing))
    }

    /// Whether the call says that it acts as the app itself.
    pub fn is_app(&self) -> bool {
        self.acts == Acts::App
    }

    /// Whether the metadata names another app than the request.
    pub fn names_other_app(&self, app: &str) -> bool {
        self.apps.iter().any(|named| named.as_bytes() != app.as_bytes())
    }

    /// How many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.apps.iter().map(HeaderValue::len).sum()
    }
}

/// The only source of an [`Actor`] for a handler.
impl Door<'_> {
    /// Looks at the metadata alone, for a call whose messages say as whom it acts.
    pub fn check_metadata(&mut self, caller: &Caller) {
        match caller.acts {
            Acts::Nobody => self.fault(AS_METADATA, "the only value of this metadata is app"),
            Acts::App if !may_act_as_app(&caller.grant) => self.deny(Uncovered::AsApp),
            Acts::App | Acts::User => {}
        }
    }

    /// The user that `field` names, or the app if the call says that it acts as the app. With the
    /// credential of a user it is that user, named or not.
    pub fn actor(&mut self, caller: &Caller, field: &str, user_id: &str) -> Option<Actor> {
        self.check_metadata(caller);
        match (caller.acts, &caller.grant.kind) {
            (Acts::Nobody, _) => None,
            (Acts::User, Kind::User(id)) if user_id.is_empty() => Some(acting(caller, id.clone())),
            (Acts::User, _) if user_id.is_empty() => {
                let text = format!(
                    "must be given; only a call with the metadata {AS_METADATA}: app acts as the app itself, without a user"
                );
                self.fault(field, text);
                None
            }
            (Acts::App, _) if user_id.is_empty() => Some(Actor::App),
            (Acts::App, _) => {
                let text = format!("must be empty in a call with the metadata {AS_METADATA}: app");
                self.fault(field, text);
                self.fault(AS_METADATA, format!("must be absent in a call with {field}"));
                None
            }
            (Acts::User, kind) => {
                match kind {
                    Kind::User(id) if **id != *user_id => self.deny(Uncovered::User),
                    Kind::Reader => self.deny(Uncovered::User),
                    Kind::User(_) | Kind::Backend { .. } => {}
                }
                self.user(field, user_id).map(|user| acting(caller, user))
            }
        }
    }

    /// The same for a call that joins a user to a session: where it names no user, with the metadata
    /// or without, it brings in a new one, whose id is generated, or the one whose credential it is.
    pub fn user_or_new(&mut self, caller: &Caller, field: &str, user_id: &str) -> Option<UserId> {
        let is_new = match (caller.acts, &caller.grant.kind) {
            (Acts::Nobody, _) | (Acts::User, Kind::User(_)) => false,
            (Acts::User | Acts::App, _) => user_id.is_empty(),
        };
        if is_new {
            self.check_metadata(caller);
            if caller.grant.kind == Kind::Reader {
                // It brings in nobody.
                self.deny(Uncovered::User);
            }
            return Some(new_user_id());
        }
        let actor = self.actor(caller, field, user_id);
        self.user_of(field, actor.as_ref())
    }

    /// The same for a call that may join a user.
    pub fn actor_or_new(
        &mut self,
        caller: &Caller,
        field: &str,
        user_id: &str,
        joins: bool,
    ) -> Option<Actor> {
        if joins {
            self.user_or_new(caller, field, user_id).map(|user| acting(caller, user))
        } else {
            self.actor(caller, field, user_id)
        }
    }

    /// The user who acts in a call that the app itself never makes.
    pub fn user_of(&mut self, field: &str, actor: Option<&Actor>) -> Option<UserId> {
        match actor? {
            Actor::User(user) => Some(user.id().clone()),
            Actor::App => {
                self.fault(
                    field,
                    "must be given: only a user makes this call, never the app itself",
                );
                None
            }
        }
    }
}

/// The user who acts, with no higher role than the credential allows.
fn acting(caller: &Caller, user: UserId) -> Actor {
    Actor::User(Acting::at_most(user, caller.grant.most))
}

/// The credential of a grant as events name it; none if nobody was asked for one.
pub fn credential(grant: &Grant) -> Option<Credential> {
    match &grant.id {
        CredentialId::None => None,
        CredentialId::Token { issuer, jti } => Some(Credential::Token {
            issuer: issuer.clone(),
            id: jti.clone(),
            subject: grant.subject.clone(),
        }),
        CredentialId::Key(id) => Some(Credential::Key(id.clone())),
        CredentialId::Certificate(name) => Some(Credential::Certificate(name.clone())),
    }
}

fn may_act_as_app(grant: &Grant) -> bool {
    matches!(grant.kind, Kind::Backend { may_act_as_app: true } | Kind::Reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::error::Refusal;
    use crate::session::limits::Limits;

    /// Who acts with a credential, or the fields at fault; empty = the credential does not allow it.
    fn acts_with(
        kind: Kind,
        metadata: &[&'static str],
        user_id: &str,
    ) -> Result<Option<UserId>, Vec<String>> {
        let mut headers = HeaderMap::new();
        for value in metadata {
            headers.append(AS_METADATA, value.parse().expect("it is ASCII"));
        }
        let limits = Limits::default();
        let caller = Caller::new(&headers, Arc::new(Grant { kind, ..Grant::of_anybody() }));
        let mut door = Door::new(&limits);
        let actor = door.actor(&caller, "user_id", user_id);
        match door.close_with(|| actor) {
            Ok(Actor::App) => Ok(None),
            Ok(Actor::User(user)) => Ok(Some(user.id().clone())),
            Err(Refusal::Invalid(faults)) => Err(faults.into_iter().map(|it| it.field).collect()),
            Err(Refusal::Uncovered(_)) => Err(Vec::new()),
            Err(refusal) => panic!("{refusal:?}"),
        }
    }

    fn acts(metadata: &[&'static str], user_id: &str) -> Result<Option<UserId>, Vec<String>> {
        acts_with(Kind::Backend { may_act_as_app: true }, metadata, user_id)
    }

    fn ada() -> UserId {
        UserId::new("ada").expect("an id")
    }

    #[test]
    fn only_a_call_that_says_so_acts_as_the_app() {
        assert_eq!(acts(&[], "ada"), Ok(Some(ada())));
        assert_eq!(acts(&["app"], ""), Ok(None));
        assert_eq!(acts(&[], ""), Err(vec!["user_id".to_owned()]));
        let both = vec!["user_id".to_owned(), AS_METADATA.to_owned()];
        assert_eq!(acts(&["app"], "ada"), Err(both));
    }

    #[test]
    fn any_other_value_of_the_metadata_is_a_fault() {
        for metadata in [&["App"][..], &[""], &["root"], &["app, app"], &["app", "user"]] {
            for user in ["", "ada"] {
                assert_eq!(acts(metadata, user), Err(vec![AS_METADATA.to_owned()]), "{metadata:?}");
            }
        }
    }

    #[test]
    fn a_user_acts_as_nobody_else() {
        let user = || Kind::User(ada());
        assert_eq!(acts_with(user(), &[], ""), Ok(Some(ada())));
        assert_eq!(acts_with(user(), &[], "ada"), Ok(Some(ada())));
        assert_eq!(acts_with(user(), &[], "ben"), Err(vec![]));
        assert_eq!(acts_with(user(), &["app"], ""), Err(vec![]));
        let limits = Limits::default();
        let caller = |kind| {
            let grant = Grant { kind, ..Grant::of_anybody() };
            Caller::new(&HeaderMap::new(), Arc::new(grant))
        };
        let mut door = Door::new(&limits);
        assert_eq!(door.user_or_new(&caller(user()), "user_id", ""), Some(ada()));
        door.user_or_new(&caller(user()), "user_id", "ben");
        assert_eq!(door.close(), Err(Refusal::Uncovered(Uncovered::User)));
    }

    #[test]
    fn a_backend_acts_as_the_app_only_if_its_credential_says_so() {
        let backend = || Kind::Backend { may_act_as_app: false };
        assert_eq!(acts_with(backend(), &[], "ada"), Ok(Some(ada())));
        assert_eq!(acts_with(backend(), &["app"], ""), Err(vec![]));
    }

    #[test]
    fn a_reader_sees_what_the_app_sees_and_is_no_user() {
        assert_eq!(acts_with(Kind::Reader, &["app"], ""), Ok(None));
        assert_eq!(acts_with(Kind::Reader, &[], "ada"), Err(vec![]));
        let limits = Limits::default();
        for metadata in [&[][..], &["app"]] {
            let headers = metadata.iter().map(|value: &&'static str| {
                (http::HeaderName::from_static(AS_METADATA), HeaderValue::from_static(value))
            });
            let grant = Grant { kind: Kind::Reader, ..Grant::of_anybody() };
            let caller = Caller::new(&headers.collect(), Arc::new(grant));
            let mut door = Door::new(&limits);
            door.actor_or_new(&caller, "user_id", "", true);
            assert_eq!(door.close(), Err(Refusal::Uncovered(Uncovered::User)), "it joins nobody");
        }
    }
}
