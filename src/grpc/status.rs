//! Refusals as statuses and as in-band refusals: one table. What they say is in [`text`].

pub mod text;

use crate::{
    proto::{self, ErrorReason},
    session::{
        error::{Refusal, Violation, cut},
        limits::{Micros, SECOND},
    },
};
use std::{collections::HashMap, time::Duration};
use text::{About, Subject, text};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

// A refusal travels in trailers, which many clients take 8 KiB of: they answer more with an error of
// their own. So all that a refusal says is bounded here, wherever its texts come from. At worst the
// message has three bytes in grpc-message for each of its own, and the details, in which clients
// expect the message again, have four for each three of theirs.

/// Bytes of a message.
const MESSAGE_BYTES: usize = 512;

/// Bytes of the path of a field.
const FIELD_BYTES: usize = 256;

/// Bytes of what is wrong with a field.
const DESCRIPTION_BYTES: usize = 384;

/// Bytes of all fields that are named, and of what is wrong with them; the others are counted.
const FIELDS_BYTES: usize = 2048;

/// Bytes of a value in the metadata of an `ErrorInfo`.
const METADATA_BYTES: usize = 192;

/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "sessiond";

/// What every NOT_FOUND tells: a misrouted call and a restart show.
#[derive(Debug, Clone)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// When it started, in RFC 3339.
    pub started_at: String,
}

/// A refusal as the wire tells it.
struct Told {
    code: Code,
    reason: ErrorReason,
    metadata: Vec<(&'static str, String)>,
    violations: Vec<Violation>,
    retry_after: Option<Micros>,
}

/// The table.
fn told(refusal: &Refusal) -> Told {
    use ErrorReason as Reason;
    let mut metadata = Vec::new();
    let mut violations = Vec::new();
    let mut retry_after = None;
    let (code, reason) = match refusal {
        Refusal::Invalid(named) => {
            violations.clone_from(named);
            (Code::InvalidArgument, Reason::InvalidFields)
        }
        Refusal::NotImplemented { field } => {
            metadata.push(("field", field.clone()));
            (Code::Unimplemented, Reason::NotImplemented)
        }
        Refusal::SessionNotFound => (Code::NotFound, Reason::SessionNotFound),
        Refusal::StreamNotFound => (Code::NotFound, Reason::StreamNotFound),
        Refusal::FunctionNotFound => (Code::NotFound, Reason::FunctionNotFound),
        Refusal::BadExpression(fault) => {
            violations.push(Violation::new("expression", fault.clone()));
            (Code::InvalidArgument, Reason::BadExpression)
        }
        Refusal::StreamNameTaken => (Code::AlreadyExists, Reason::NameTaken),
        Refusal::NeedsCreator => {
            metadata.push(("needs", "creator".to_owned()));
            (Code::PermissionDenied, Reason::RoleTooLow)
        }
        Refusal::SessionExists => (Code::AlreadyExists, Reason::SessionExists),
        Refusal::NameTaken => (Code::AlreadyExists, Reason::NameTaken),
        Refusal::NotAMember => (Code::FailedPrecondition, Reason::NotAMember),
        Refusal::WrongPassword => (Code::PermissionDenied, Reason::WrongPassword),
        Refusal::TooManyGuesses { most, retry_after: after, .. } => {
            metadata.push(("limit", "guesses".to_owned()));
            metadata.push(("most", most.to_string()));
            retry_after = Some(*after);
            (Code::ResourceExhausted, Reason::TooManyGuesses)
        }
        Refusal::PasswordsBusy { limit, most, retry_after: after } => {
            metadata.push(("limit", (*limit).to_owned()));
            metadata.push(("most", most.to_string()));
            retry_after = Some(*after);
            (Code::ResourceExhausted, Reason::LimitReached)
        }
        Refusal::Locked => (Code::FailedPrecondition, Reason::SessionLocked),
        Refusal::AlreadyInSession { session } => {
            if let Some(session) = session {
                metadata.push(("session_id", session.to_string()));
            }
            (Code::FailedPrecondition, Reason::AlreadyInSession)
        }
        Refusal::Of { field, why } => {
            let mut told = told(why);
            told.metadata.push(("field", field.clone()));
            return told;
        }
        Refusal::NoStore => (Code::FailedPrecondition, Reason::NoStore),
        Refusal::StaleTerm { current } => {
            metadata.push(("term", current.to_string()));
            (Code::FailedPrecondition, Reason::StaleTerm)
        }
        Refusal::Full { capacity } => {
            metadata.push(("limit", "capacity".to_owned()));
            metadata.push(("most", capacity.to_string()));
            (Code::ResourceExhausted, Reason::SessionFull)
        }
        Refusal::RoleTooLow { needs } => {
            metadata.push(("needs", needs.to_string()));
            (Code::PermissionDenied, Reason::RoleTooLow)
        }
        Refusal::NotAWriter(named) => {
            violations.clone_from(named);
            (Code::PermissionDenied, Reason::NotAWriter)
        }
        Refusal::SchemaNeedsSessionId => (Code::FailedPrecondition, Reason::SchemaNeedsSessionId),
        Refusal::NeedsHost => {
            metadata.push(("needs", "host".to_owned()));
            (Code::PermissionDenied, Reason::RoleTooLow)
        }
        Refusal::NotTheHost => (Code::FailedPrecondition, Reason::NotTheHost),
        Refusal::NeedsSource => (Code::FailedPrecondition, Reason::WrongKind),
        Refusal::NotOfThePair => (Code::PermissionDenied, Reason::NotEntitled),
        Refusal::NoConsent => (Code::PermissionDenied, Reason::NoConsent),
        Refusal::TargetRank => (Code::PermissionDenied, Reason::TargetRank),
        Refusal::Banned { until } => {
            if let Some(until) = until {
                metadata.push(("until", text::moment(*until)));
            }
            (Code::PermissionDenied, Reason::Banned)
        }
        Refusal::BanNotFound => (Code::NotFound, Reason::BanNotFound),
        Refusal::MemberNotFound => (Code::NotFound, Reason::MemberNotFound),
        Refusal::NoCandidate => (Code::FailedPrecondition, Reason::NoCandidate),
        Refusal::WrongKind => (Code::FailedPrecondition, Reason::WrongKind),
        Refusal::UnknownPosition => (Code::FailedPrecondition, Reason::UnknownPosition),
        Refusal::RequestIdReused { field } => {
            let what = "the id was used for a request with other content";
            violations.push(Violation::new(*field, what));
            (Code::InvalidArgument, Reason::RequestIdReused)
        }
        Refusal::RevisionChanged(named) => {
            violations.clone_from(named);
            (Code::Aborted, Reason::RevisionChanged)
        }
        Refusal::NotEntitled => (Code::PermissionDenied, Reason::NotEntitled),
        Refusal::LimitReached { limit, most } => {
            metadata.push(("limit", (*limit).to_owned()));
            metadata.push(("most", most.to_string()));
            (Code::ResourceExhausted, Reason::LimitReached)
        }
        Refusal::RateLimited { per_second, retry_after: after } => {
            metadata.push(("limit", "max-updates-per-second".to_owned()));
            metadata.push(("most", per_second.to_string()));
            retry_after = Some(*after);
            (Code::ResourceExhausted, Reason::RateLimited)
        }
        Refusal::MessageTooLarge { most } => {
            metadata.push(("limit", "max-request-bytes".to_owned()));
            metadata.push(("most", most.to_string()));
            (Code::ResourceExhausted, Reason::MessageTooLarge)
        }
        Refusal::ReplyTooLarge { most } => {
            metadata.push(("limit", "reply".to_owned()));
            metadata.push(("most", most.to_string()));
            (Code::ResourceExhausted, Reason::ReplyTooLarge)
        }
        Refusal::Malformed(_) => (Code::InvalidArgument, Reason::MalformedMessage),
        Refusal::SeqNotRising { .. } => {
            violations.push(Violation::new("seq", refusal.to_string()));
            (Code::InvalidArgument, Reason::SeqNotRising)
        }
        Refusal::Subscription { field, refusal } => {
            let mut told = told(refusal);
            told.metadata.push(("subscription", field.clone()));
            return told;
        }
        Refusal::WrongFirstMessage(_) => (Code::InvalidArgument, Reason::WrongFirstMessage),
        Refusal::Draining => {
            retry_after = Some(SECOND);
            (Code::Unavailable, Reason::Draining)
        }
    };
    Told { code, reason, metadata, violations, retry_after }
}

/// The faults that a refusal has room to name, and how many there are besides.
fn named(violations: &[Violation]) -> Vec<proto::FieldViolation> {
    let mut named = Vec::new();
    let mut bytes = 0;
    for one in violations.iter().filter(|one| one.unnamed == 0) {
        let field = cut(&one.field, FIELD_BYTES).into_owned();
        let description = cut(&one.description, DESCRIPTION_BYTES).into_owned();
        // Around each stand three tags and lengths.
        bytes += field.len() + description.len() + 10;
        if bytes > FIELDS_BYTES {
            break;
        }
        named.push(proto::FieldViolation { field, description });
    }
    let all: usize = violations.iter().map(|one| one.unnamed.max(1)).sum();
    if all > named.len() {
        let Violation { field, description, .. } = Violation::rest(all - named.len());
        named.push(proto::FieldViolation { field, description });
    }
    named
}

/// The name of a reason without the prefix of its enum.
fn reason_name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

impl Node {
    /// The status that a call ends with of which nothing is known.
    pub fn status(&self, refusal: &Refusal) -> Status {
        self.status_with(refusal, [])
    }

    /// The status that a call ends with.
    pub fn status_about(&self, refusal: &Refusal, about: &About) -> Status {
        let named = match (refusal, &about.session) {
            (Refusal::SessionNotFound, Subject::Id(id)) => Some(("session_id", id.clone())),
            (Refusal::SessionNotFound, Subject::Name(name)) => Some(("name", name.clone())),
            _ => None,
        };
        self.refuse(refusal, about, named)
    }

    /// The same, with more metadata in the `ErrorInfo`.
    pub fn status_with(
        &self,
        refusal: &Refusal,
        more: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Status {
        self.refuse(refusal, &About::default(), more)
    }

    fn refuse(
        &self,
        refusal: &Refusal,
        about: &About,
        more: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Status {
        let Told { code, reason, metadata, violations, retry_after } = told(refusal);
        let violations: Vec<_> = named(&violations)
            .into_iter()
            .map(|it| tonic_types::FieldViolation::new(it.field, it.description))
            .collect();
        let mut details = ErrorDetails::new();
        if !violations.is_empty() {
            details.set_bad_request(violations);
        }
        if let Some(after) = retry_after {
            details.set_retry_info(Some(Duration::from_micros(after)));
        }
        let metadata = metadata.into_iter().chain(more);
        self.finish(code, reason, text(refusal, about), metadata, details)
    }

    /// The status that a stream ends with which was fine until then.
    pub fn end(
        &self,
        code: Code,
        reason: ErrorReason,
        message: &str,
        delay: Option<Micros>,
    ) -> Status {
        if code == Code::Ok {
            return Status::ok(message);
        }
        let mut details = ErrorDetails::new();
        if let Some(delay) = delay {
            details.set_retry_info(Some(Duration::from_micros(delay)));
        }
        self.finish(code, reason, message.to_owned(), [], details)
    }

    fn finish(
        &self,
        code: Code,
        reason: ErrorReason,
        message: String,
        metadata: impl IntoIterator<Item = (&'static str, String)>,
        mut details: ErrorDetails,
    ) -> Status {
        let mut metadata: HashMap<&str, String> = metadata.into_iter().collect();
        if code == Code::NotFound {
            metadata.insert("node", self.name.clone());
            metadata.insert("started_at", self.started_at.clone());
        }
        let metadata = metadata.into_iter();
        let metadata: HashMap<String, String> = metadata
            .map(|(key, value)| (key.to_owned(), cut(&value, METADATA_BYTES).into_owned()))
            .collect();
        details.set_error_info(reason_name(reason), DOMAIN, metadata);
        Status::with_error_details(code, cut(&message, MESSAGE_BYTES), details)
    }
}

/// A refusal that goes down a stream, which lives on.
pub fn in_band(refusal: &Refusal, seq: u64, session_id: String) -> proto::Refusal {
    let Told { code, reason, violations, retry_after, .. } = told(refusal);
    let about = About::session(&session_id);
    proto::Refusal {
        seq,
        handle: 0,
        session_id,
        code: code.into(),
        reason: reason.into(),
        message: cut(&text(refusal, &about), MESSAGE_BYTES).into_owned(),
        fields: named(&violations),
        retry_after: retry_after.map(super::convert::to_proto::span),
    }
}

#[cfg(test)]
mod tests;
