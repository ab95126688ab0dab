//! Refusals as statuses and as in-band refusals, bounded; what each says is in [`table`].

pub mod about;
mod table;

use super::error::Refusal;
use crate::{
    proto::{self, ErrorReason},
    session::{
        error::{Violation, cut},
        limits::Micros,
    },
};
use about::{About, Subject};
use std::{collections::HashMap, time::Duration};
use table::{Told, tell};
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
        self.status_about(refusal, &About::default())
    }

    /// The status that a call ends with.
    pub fn status_about(&self, refusal: &Refusal, about: &About) -> Status {
        self.status_with(refusal, about, [])
    }

    /// The same, with more metadata in the `ErrorInfo`.
    pub fn status_with(
        &self,
        refusal: &Refusal,
        about: &About,
        more: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Status {
        let named = match (refusal, &about.session) {
            (&Refusal::NOT_FOUND, Subject::Id(id)) => Some(("session_id", id.clone())),
            (&Refusal::NOT_FOUND, Subject::Name(name)) => Some(("name", name.clone())),
            _ => None,
        };
        self.refuse(refusal, about, named.into_iter().chain(more))
    }

    fn refuse(
        &self,
        refusal: &Refusal,
        about: &About,
        more: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Status {
        let Told { code, reason, message, metadata, violations, retry_after } =
            tell(refusal, about);
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
        self.finish(code, reason, message, metadata, details)
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
pub fn in_band(refusal: &Refusal, seq: u64, session_id: String, about: &About) -> proto::Refusal {
    let Told { code, reason, message, metadata, violations, retry_after } = tell(refusal, about);
    let metadata = metadata.into_iter();
    let metadata = metadata
        .map(|(key, value)| (key.to_owned(), cut(&value, METADATA_BYTES).into_owned()))
        .collect();
    proto::Refusal {
        seq,
        handle: 0,
        view_handle: 0,
        session_id,
        code: code.into(),
        reason: reason.into(),
        message: cut(&message, MESSAGE_BYTES).into_owned(),
        fields: named(&violations),
        retry_after: retry_after.map(super::convert::to_proto::span),
        metadata,
    }
}

#[cfg(test)]
mod tests;
