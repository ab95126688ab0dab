//! The one table of refusals: the code, the reason and the words of each.

mod rules;

use super::about::About;
use crate::{
    cluster::{MoveRefused, NotTold},
    engine::{Refusal as Engine, asked::Verdict},
    grpc::error::{CredentialFault, Refusal, Uncovered},
    object_stream::Refusal as Objects,
    proto::ErrorReason as Reason,
    session::{
        error::{Violation, cut},
        limits::{Micros, SECOND},
    },
};
use humantime::format_duration;
use rules::of_rules;
use std::time::Duration;
use tonic::Code;

/// A refusal as a client gets it.
pub struct Told {
    pub code: Code,
    pub reason: Reason,
    pub message: String,
    pub metadata: Vec<(&'static str, String)>,
    pub violations: Vec<Violation>,
    pub retry_after: Option<Micros>,
}

impl Told {
    fn new(code: Code, reason: Reason, message: impl Into<String>) -> Self {
        let (metadata, violations) = (Vec::new(), Vec::new());
        Self { code, reason, message: message.into(), metadata, violations, retry_after: None }
    }

    /// Fields at fault; the message names the first few of them.
    fn of_fields(code: Code, reason: Reason, violations: &[Violation]) -> Self {
        Self { violations: violations.to_vec(), ..Self::new(code, reason, list(violations)) }
    }

    /// One field at fault.
    fn of_field(reason: Reason, field: &str, fault: &str, message: impl Into<String>) -> Self {
        let violations = vec![Violation::new(field, fault)];
        Self { violations, ..Self::new(Code::InvalidArgument, reason, message) }
    }

    /// A limit that was met.
    fn limit(reason: Reason, limit: &str, most: impl ToString, message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, reason, message)
            .with("limit", limit)
            .with("most", most.to_string())
    }

    fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    fn after(self, retry_after: Micros) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// The same of a field that names what is refused.
    fn named(self, key: &'static str, field: &str) -> Self {
        let message = format!("{field}: {}", self.message);
        Self { message, ..self }.with(key, field)
    }
}

/// What a client gets of a refusal of a request.
pub fn tell(refusal: &Refusal, about: &About) -> Told {
    match refusal {
        Refusal::Rules(rule) => of_rules(rule, about),
        Refusal::Engine(refusal) => of_engine(refusal, about),
        Refusal::Objects(refusal) => of_objects(refusal, about),
        Refusal::Invalid(named) => {
            Told::of_fields(Code::InvalidArgument, Reason::InvalidFields, named)
        }
        Refusal::NotEntitled => Told::new(
            Code::PermissionDenied,
            Reason::NotEntitled,
            "only the app itself writes props of another user: leave target_user_id empty, or act \
             as the app with the metadata sessiond-as: app",
        ),
        Refusal::Uncovered(what) => {
            Told::new(Code::PermissionDenied, Reason::NotEntitled, of_credential(*what))
        }
        Refusal::NoIdentity => Told::new(
            Code::FailedPrecondition,
            Reason::NoIdentity,
            "the server asks nobody for a credential: it was started without --identity",
        ),
        Refusal::NoCluster => Told::new(
            Code::FailedPrecondition,
            Reason::NoCluster,
            "the server is alone: it was started without --cluster",
        ),
        Refusal::NotMoved(refused) => not_moved(refused),
        Refusal::NotTold(NotTold::Full) => {
            Told::limit(Reason::LimitReached, "notes", "128 MiB", NotTold::Full.to_string())
        }
        Refusal::NotTold(why) => {
            Told::new(Code::Unavailable, Reason::NotTold, why.to_string()).after(SECOND)
        }
        Refusal::KeysUnavailable { why } => {
            Told::new(Code::Unavailable, Reason::KeysUnavailable, why).after(SECOND)
        }
        Refusal::Unauthenticated { why, fault } => {
            let reason = match fault {
                CredentialFault::Bad => Reason::BadCredentials,
                CredentialFault::Expired => Reason::TokenExpired,
                CredentialFault::Revoked => Reason::CredentialRevoked,
            };
            Told::new(Code::Unauthenticated, reason, why)
        }
        Refusal::TooManyRefused { most, retry_after } => {
            let limit = "max-refused-calls-per-address";
            let message = format!(
                "too many calls of this address had no valid credential: {most} may in a second"
            );
            Told::limit(Reason::LimitReached, limit, most, message).after(*retry_after)
        }
        Refusal::NotImplemented { field } => {
            let message = match field.starts_with('/') {
                true => format!(
                    "there is no call {field:?}; this is a gRPC server, and reflection lists its calls"
                ),
                false => {
                    format!(
                        "{field} is not implemented in this version of the server: leave it out"
                    )
                }
            };
            Told::new(Code::Unimplemented, Reason::NotImplemented, message)
                .with("field", field.clone())
        }
        Refusal::Of { field, why } => {
            // The user that acts is not the one that is refused.
            tell(why, &About { user: String::new(), ..about.clone() }).named("field", field)
        }
        Refusal::Subscription { field, why } => tell(why, about).named("subscription", field),
        Refusal::Malformed(fault) => Told::new(
            Code::InvalidArgument,
            Reason::MalformedMessage,
            format!("the message cannot be decoded: {fault}"),
        ),
        Refusal::MessageTooLarge { most } => Told::limit(
            Reason::MessageTooLarge,
            "max-request-bytes",
            most,
            format!("the message has more than {most} bytes"),
        ),
        Refusal::ReplyTooLarge { most } => Told::limit(
            Reason::ReplyTooLarge,
            "reply",
            most,
            format!("the reply would have more than {most} bytes"),
        ),
        Refusal::SeqNotRising { seq, last } => {
            let message = match last {
                0 => format!("the seq of the first message must be 1 or more, not {seq}"),
                _ => format!("seq must rise from message to message: {seq} came after {last}"),
            };
            Told::of_field(Reason::SeqNotRising, "seq", "must rise", message)
        }
        Refusal::Overloaded { retry_after } => Told::new(
            Code::ResourceExhausted,
            Reason::Overloaded,
            "the server has more to do than it can at the moment; wait as long as the details say",
        )
        .after(*retry_after),
        Refusal::NotOwner => Told::new(
            Code::Unavailable,
            Reason::NotOwner,
            "no node that has the app can be reached at the moment; nothing was applied, try again",
        )
        .after(SECOND / 5),
        Refusal::NodeLost { is_stream, retry_after } => {
            let message = match is_stream {
                true => "the node that has the app was lost, and the stream with it; connect again",
                false => {
                    "the node that has the app was lost, and it is not known whether it has done \
                     this; a request with a request_id may be sent again"
                }
            };
            Told::new(Code::Unavailable, Reason::NodeLost, message).after(*retry_after)
        }
        Refusal::NoView => Told::new(
            Code::FailedPrecondition,
            Reason::NoView,
            "no user who may see this view is attached in the session; attach one, and the host for VIEW_HOST",
        ),
        Refusal::UnknownHandle { handle } => Told::new(
            Code::NotFound,
            Reason::UnknownHandle,
            format!("the gateway has nothing under the handle {handle}; it may have ended"),
        ),
        Refusal::MoreRefused { others } => Told::new(
            Code::InvalidArgument,
            Reason::InvalidFields,
            format!("and {others} more writes of the message were refused, which are not named"),
        ),
        Refusal::WrongFirstMessage(fault) => {
            Told::new(Code::InvalidArgument, Reason::WrongFirstMessage, *fault)
        }
    }
}

fn not_moved(refused: &MoveRefused) -> Told {
    let message = refused.to_string();
    match refused {
        MoveRefused::NoSuchPartition { .. } => Told::of_field(
            Reason::InvalidFields,
            "partition",
            &message,
            format!("partition: {message}"),
        ),
        MoveRefused::NoSuchNode(_) | MoveRefused::NotAlive(_) => {
            Told::new(Code::NotFound, Reason::NodeNotFound, message)
        }
        MoveRefused::NotReady(_)
        | MoveRefused::NoOwner(_)
        | MoveRefused::Busy(_)
        | MoveRefused::Unanswered(_) => {
            Told::new(Code::Unavailable, Reason::PartitionBusy, message).after(SECOND)
        }
    }
}

fn of_credential(what: Uncovered) -> &'static str {
    match what {
        Uncovered::Call => "the credential does not allow this call",
        Uncovered::App => {
            "the credential does not hold in this app; a call that names no app is for \"default\""
        }
        Uncovered::User => "the credential does not allow to act as this user",
        Uncovered::AsApp => "the credential does not allow to act as the app itself",
        Uncovered::Session => "the credential does not hold in this session",
        Uncovered::OtherSessions => {
            "the credential holds in a few sessions only: the request must name them by their ids"
        }
        Uncovered::Role => "the credential limits the role of its user, which this would exceed",
    }
}

fn of_engine(refusal: &Engine, about: &About) -> Told {
    use Code::{AlreadyExists, FailedPrecondition, PermissionDenied, Unavailable};
    match refusal {
        Engine::Rules(rule) => of_rules(rule, about),
        Engine::SessionExists => {
            let session = about.the_session();
            let message = format!(
                "{session} is open already; get_if_exists returns it, JoinSession joins it"
            );
            Told::new(AlreadyExists, Reason::SessionExists, message)
        }
        Engine::NameTaken => Told::new(
            AlreadyExists,
            Reason::NameTaken,
            "another open session has the name in settings.name; choose another one",
        ),
        Engine::AlreadyInSession { session } => {
            let named = session.as_ref().map(|session| format!(", {:?},", &**session));
            let message = format!(
                "{} is in another exclusive session{} and has to leave it first; a join with `move` \
                 does both",
                about.the_user(),
                named.unwrap_or_default(),
            );
            let told = Told::new(FailedPrecondition, Reason::AlreadyInSession, message);
            session.iter().fold(told, |told, session| told.with("session_id", session.to_string()))
        }
        Engine::NoConsent => Told::new(
            PermissionDenied,
            Reason::NoConsent,
            "only the source, or the app itself, opens a private session",
        ),
        Engine::TooManyGuesses { most, each, retry_after } => {
            let each = each / SECOND;
            let message =
                format!("too many wrong passwords: {most} at once, then one every {each} s");
            Told::limit(Reason::TooManyGuesses, "guesses", most, message).after(*retry_after)
        }
        Engine::PasswordsBusy { limit, most, retry_after } => {
            let message = format!("{most} passwords wait to be checked already");
            Told::limit(Reason::LimitReached, limit, most, message).after(*retry_after)
        }
        Engine::RequestIdReused { field } => {
            let fault = "the id was used for a request with other content";
            let message = format!("{field}: {fault}; choose a new one");
            Told::of_field(Reason::RequestIdReused, field, fault, message)
        }
        Engine::LimitReached { limit, most } => at_limit(limit, *most),
        Engine::AppLimit { app, limit, most, retry_after } => {
            let most = match limit.is_time() {
                true => format_duration(Duration::from_micros(*most)).to_string(),
                false => most.to_string(),
            };
            let message =
                format!("the app {:?} has reached its limit {}: {most}", &**app, limit.name());
            let told = Told::limit(Reason::AppLimit, limit.name(), most, message);
            let told = told.with("app", app.to_string());
            retry_after.iter().fold(told, |told, after| told.after(*after))
        }
        Engine::OfUser { at, why } => of_engine(why, about).named("field", &format!("users[{at}]")),
        Engine::Judged(verdict) => of_verdict(verdict),
        Engine::NotJudged { .. } => not_judged(),
        Engine::NoStore => Told::new(
            Code::FailedPrecondition,
            Reason::NoStore,
            "nothing of this can be stored: the server has no store, or the session has the \
             durability NONE; leave `ack` and `durability` out",
        ),
        Engine::StoreFull => Told::new(
            Code::ResourceExhausted,
            Reason::StoreFull,
            "there is no space left in the server's store; nothing was changed",
        )
        .after(SECOND),
        Engine::Starting => Told::new(
            Unavailable,
            Reason::Starting,
            "the server has just started and reads its store, or joins its cluster; try again soon",
        )
        .after(SECOND),
        Engine::Draining => Told::new(
            Unavailable,
            Reason::Draining,
            "the server is stopping; connect again to reach another one",
        )
        .after(SECOND),
    }
}

fn of_verdict(verdict: &Verdict) -> Told {
    match verdict {
        Verdict::Rule { name, message, why } => {
            let why = why.as_ref().map(|why| format!(" (it cannot be evaluated: {why})"));
            let message = format!("{message}{}", why.unwrap_or_default());
            Told::new(Code::PermissionDenied, Reason::RuleRefused, message)
                .with("rule", name.to_string())
        }
        Verdict::Hook { name, message, reason } => {
            let told = Told::new(Code::PermissionDenied, Reason::HookRefused, message);
            let told = told.with("hook", name.to_string());
            reason.iter().fold(told, |told, reason| told.with("hook_reason", reason.to_string()))
        }
        Verdict::HookUnavailable { name, retry_after } => Told::new(
            Code::Unavailable,
            Reason::HookUnavailable,
            "a backend that has a say in this cannot be asked at the moment",
        )
        .with("hook", name.to_string())
        .after(*retry_after),
    }
}

/// It came to a session which began while it was judged for the one before.
fn not_judged() -> Told {
    let message = "how this is judged changed while the request was judged; try again";
    Told::new(Code::Unavailable, Reason::HookUnavailable, message).after(SECOND)
}

fn of_objects(refusal: &Objects, about: &About) -> Told {
    let stream = about.the_stream();
    match refusal {
        Objects::Invalid(named) => {
            Told::of_fields(Code::InvalidArgument, Reason::InvalidFields, named)
        }
        Objects::NotFound => Told::new(
            Code::NotFound,
            Reason::StreamNotFound,
            format!("{stream} is not there, or the caller may not read it; SetStream makes one"),
        ),
        Objects::NameTaken => Told::new(
            Code::AlreadyExists,
            Reason::NameTaken,
            format!("{stream} is there, and the caller may not read it; choose another name"),
        ),
        Objects::NeedsCreator => {
            let created = match &*about.stream {
                "" => "it".to_owned(),
                stream => format!("{stream:?}"),
            };
            let message = format!(
                "{} did not create {created}, and only its creator or the app itself may do this",
                about.the_user(),
            );
            Told::new(Code::PermissionDenied, Reason::RoleTooLow, message).with("needs", "creator")
        }
        Objects::FunctionNotFound => Told::new(
            Code::NotFound,
            Reason::FunctionNotFound,
            "the request names a stream function that is not there; AddStreamFunc adds it",
        ),
        Objects::BadExpression(fault) => {
            let message = format!("the expression {fault}");
            Told::of_field(Reason::BadExpression, "expression", fault, message)
        }
        Objects::LimitReached { limit, most } => at_limit(limit, *most),
    }
}

fn at_limit(limit: &str, most: usize) -> Told {
    let message = format!("the limit {limit} is reached: at most {most}");
    Told::limit(Reason::LimitReached, limit, most, message)
}

fn not_open(which: &str) -> String {
    format!(
        "no session {which} is open, or the caller may not know of it; OpenSharedSession opens one"
    )
}

/// The first few; the details have more of them.
fn list(violations: &[Violation]) -> String {
    /// Bytes of those that are named here.
    const LISTED_BYTES: usize = 320;
    let mut text = String::new();
    let mut listed = 0;
    for Violation { field, description, .. } in violations.iter().filter(|it| it.unnamed == 0) {
        let one = format!("{}: {description}", cut(field, LISTED_BYTES / 2));
        if listed > 0 && text.len() + one.len() > LISTED_BYTES {
            break;
        }
        let separator = if listed > 0 { "; " } else { "" };
        text = text + separator + &cut(&one, LISTED_BYTES);
        listed += 1;
    }
    let all: usize = violations.iter().map(|it| it.unnamed.max(1)).sum();
    if all > listed {
        text.push_str(&format!("; and {} more", all - listed));
    }
    text
}
