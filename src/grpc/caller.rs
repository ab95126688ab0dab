//! As whom a call acts: as a user, or as the app itself.
//!
//! The app may do everything, so a call acts as the app only if it says so. An id that was forgotten
//! or misspelt is a fault of the request and never makes its caller the app.

use super::{convert::door::Door, new_user_id};
use crate::session::{command::Actor, ids::UserId};
use http::HeaderMap;

/// The metadata with which a call says that it acts as the app itself; its only value is `app`.
pub const AS_METADATA: &str = "sessiond-as";

/// What the metadata of a call says of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Nothing: the call acts as the user that it names.
    User,
    /// The call acts as the app itself.
    App,
    /// Something that it cannot say.
    Unknown,
}

impl Caller {
    /// Reads the metadata of a call.
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(AS_METADATA);
        match values.iter().next() {
            None => Self::User,
            Some(_) if values.iter().all(|value| value == "app") => Self::App,
            Some(_) => Self::Unknown,
        }
    }
}

/// The only source of an [`Actor`] for a handler.
impl Door<'_> {
    /// The user that `field` names, or the app if the call says that it acts as the app.
    pub fn actor(&mut self, caller: Caller, field: &str, user_id: &str) -> Option<Actor> {
        match caller {
            Caller::Unknown => {
                self.fault(AS_METADATA, "the only value of this metadata is app");
                None
            }
            Caller::User if user_id.is_empty() => {
                let text = format!(
                    "must be given; only a call with the metadata {AS_METADATA}: app acts as the app itself, without a user"
                );
                self.fault(field, text);
                None
            }
            Caller::App if user_id.is_empty() => Some(Actor::App),
            Caller::App => {
                let text = format!("must be empty in a call with the metadata {AS_METADATA}: app");
                self.fault(field, text);
                self.fault(AS_METADATA, format!("must be absent in a call with {field}"));
                None
            }
            Caller::User => self.user(field, user_id).map(Actor::User),
        }
    }

    /// The same for a call that joins a user to a session: where it names no user, with the metadata
    /// or without, it brings in a new one, whose id is generated.
    pub fn user_or_new(&mut self, caller: Caller, field: &str, user_id: &str) -> Option<UserId> {
        if user_id.is_empty() && caller != Caller::Unknown {
            return Some(new_user_id());
        }
        let actor = self.actor(caller, field, user_id);
        self.user_of(field, actor.as_ref())
    }

    /// The same for a call that may join a user.
    pub fn actor_or_new(
        &mut self,
        caller: Caller,
        field: &str,
        user_id: &str,
        joins: bool,
    ) -> Option<Actor> {
        if joins {
            self.user_or_new(caller, field, user_id).map(Actor::User)
        } else {
            self.actor(caller, field, user_id)
        }
    }

    /// The user who acts in a call that the app itself never makes.
    pub fn user_of(&mut self, field: &str, actor: Option<&Actor>) -> Option<UserId> {
        match actor? {
            Actor::User(user) => Some(user.clone()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::error::Refusal;
    use crate::session::limits::Limits;

    /// Who acts, or the fields at fault.
    fn acts(metadata: &[&'static str], user_id: &str) -> Result<Option<UserId>, Vec<String>> {
        let mut headers = HeaderMap::new();
        for value in metadata {
            headers.append(AS_METADATA, value.parse().expect("it is ASCII"));
        }
        let limits = Limits::default();
        let mut door = Door::new(&limits);
        let actor = door.actor(Caller::of(&headers), "user_id", user_id);
        match door.close_with(|| actor) {
            Ok(Actor::App) => Ok(None),
            Ok(Actor::User(user)) => Ok(Some(user)),
            Err(Refusal::Invalid(faults)) => Err(faults.into_iter().map(|it| it.field).collect()),
            Err(refusal) => panic!("{refusal:?}"),
        }
    }

    #[test]
    fn only_a_call_that_says_so_acts_as_the_app() {
        let ada = UserId::new("ada").expect("an id");
        assert_eq!(acts(&[], "ada"), Ok(Some(ada)));
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
}
