//! Refusals, as machines read them.

use super::Metadata;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A refused call.
#[derive(Debug)]
pub struct Refused {
    /// The gRPC code.
    pub code: Code,
    /// The reason in the `ErrorInfo`.
    pub reason: String,
    /// The metadata in it.
    pub metadata: Metadata,
    /// The fields at fault, sorted.
    pub fields: Vec<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

/// What refused a call that must not succeed.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> Refused {
    Refused::new(&answer.expect_err("it is refused"))
}

impl Refused {
    /// Reads a status: whatever is not OK has an `ErrorInfo` of this service, and a NOT_FOUND tells
    /// who says so since when.
    #[track_caller]
    pub fn new(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let info = info.unwrap_or_else(|| panic!("every error has an ErrorInfo: {status:?}"));
        assert_eq!(info.domain, "sessiond");
        assert!(trailers_bytes(status) < 8 * 1024, "every client takes it: {status:?}");
        if status.code() == Code::NotFound {
            assert_eq!(info.metadata["node"], super::NODE);
            assert!(info.metadata["started_at"].ends_with('Z'), "{info:?}");
        }
        let bad_request = details.bad_request();
        let mut fields: Vec<String> = bad_request
            .iter()
            .flat_map(|bad| &bad.field_violations)
            .map(|violation| {
                assert!(!violation.description.is_empty(), "{violation:?}");
                violation.field.clone()
            })
            .collect();
        fields.sort();
        Self {
            code: status.code(),
            reason: info.reason.clone(),
            metadata: info.metadata.clone(),
            fields,
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }

    /// Has this code and this reason.
    #[track_caller]
    pub fn is(self, code: Code, reason: &str) -> Self {
        assert_eq!((self.code, &*self.reason), (code, reason), "{self:?}");
        self
    }

    /// Names these fields as faulty, and no others.
    #[track_caller]
    pub fn names(self, fields: &[&str]) -> Self {
        let mut expected = fields.to_vec();
        expected.sort();
        assert_eq!(self.fields, expected);
        self
    }

    /// INVALID_ARGUMENT for exactly these fields.
    #[track_caller]
    pub fn blames(self, fields: &[&str]) -> Self {
        self.is(Code::InvalidArgument, "INVALID_FIELDS").names(fields)
    }

    /// Says in its metadata.
    #[track_caller]
    pub fn says(self, key: &str, value: &str) -> Self {
        assert_eq!(self.metadata.get(key).map(String::as_str), Some(value), "{self:?}");
        self
    }
}

/// Bytes of a status in trailers, as HTTP/2 counts them.
fn trailers_bytes(status: &Status) -> usize {
    let mut trailers = tonic::codegen::http::HeaderMap::new();
    status.add_header(&mut trailers).expect("it is encoded");
    trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}
