//! The head of a call as it is sent on.

use super::{
    introduction::{self, CALLER_METADATA},
    trust::{SECRET_METADATA, Trust},
};
use crate::{
    engine::{self, Peer},
    grpc::{
        caller::{APP_METADATA, AS_METADATA},
        delivery::{CallHead, Seat},
        error::Refusal,
    },
    identity::Grant,
    session::limits::Micros,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// The metadata of a client that goes with a call that is sent on: what handlers read, and how its
/// messages are compressed. All else ends here, whatever it says of its caller.
const PASSED: [HeaderName; 3] = [
    HeaderName::from_static(AS_METADATA),
    HeaderName::from_static(APP_METADATA),
    HeaderName::from_static("grpc-encoding"),
];

/// What travels with a call in place of the credential of its caller.
#[derive(Debug, Clone)]
pub struct Introduced {
    /// What the credential allows.
    pub grant: Arc<Grant>,
    /// Where the caller is.
    pub peer: Peer,
    /// The metadata that handlers read.
    pub metadata: HeaderMap,
    /// Which thread serves the call.
    pub seat: Seat,
}

impl Introduced {
    /// Who makes a call with these headers.
    pub fn new(headers: &HeaderMap, grant: Arc<Grant>, peer: Peer, seat: Seat) -> Self {
        let mut metadata = HeaderMap::new();
        for name in PASSED {
            for value in headers.get_all(&name) {
                metadata.append(&name, value.clone());
            }
        }
        Self { grant, peer, metadata, seat }
    }

    /// Who makes a call that this node has let in.
    pub fn of_request(head: &http::request::Parts) -> Self {
        let known = &head.extensions;
        // No grant, no call: what this node has not looked at may do nothing.
        let grant = known.get().cloned().unwrap_or_else(|| Arc::new(Grant::of_nobody()));
        let nowhere = || IpAddr::from(Ipv4Addr::UNSPECIFIED).into();
        let peer = known.get().copied().unwrap_or_else(nowhere);
        let seat = known.get().copied().unwrap_or_default();
        Self::new(&head.headers, grant, peer, seat)
    }

    /// Who opens a stream.
    pub fn of(head: &CallHead) -> Self {
        Self::new(&head.headers, head.grant.clone(), head.peer, head.seat)
    }
}

/// The request that a call is sent on with; it is over in `time`.
pub fn request(
    path: &str,
    caller: &Introduced,
    trust: &Trust,
    time: Option<Micros>,
) -> Result<Request<()>, Refusal> {
    let too_large = || {
        let (limit, most) = ("the bytes of what a credential names", introduction::MOST_BYTES);
        Refusal::from(engine::Refusal::LimitReached { limit, most })
    };
    let introduction = introduction::write(&caller.grant, caller.peer).ok_or_else(too_large)?;
    let no_call = || Refusal::NotImplemented { field: path.to_owned() };
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(Authority::from_static("node"));
    uri.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| no_call())?);
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| no_call())?;
    let headers = request.headers_mut();
    *headers = caller.metadata.clone();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(CALLER_METADATA, introduction);
    if let Some(secret) = trust.secret() {
        headers.insert(SECRET_METADATA, secret);
    }
    if let Some(time) = time {
        let mut time = HeaderValue::try_from(timeout(time)).expect("digits and a letter are ASCII");
        // It is another one with each call: it must not push out of HTTP/2's table what repeats.
        time.set_sensitive(true);
        headers.insert("grpc-timeout", time);
    }
    Ok(request)
}

/// A span as `grpc-timeout`: up to eight digits and a unit.
fn timeout(span: Micros) -> String {
    const UNITS: [(Micros, &str); 4] = [(1, "u"), (1000, "m"), (1_000_000, "S"), (60_000_000, "M")];
    let fits = |(unit, name)| (span / unit < 100_000_000).then(|| format!("{}{name}", span / unit));
    UNITS.into_iter().find_map(fits).unwrap_or_else(|| "99999999H".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_deadline_has_at_most_eight_digits() {
        let spans = [
            (0, "0u"),
            (99_999_999, "99999999u"),
            (100_000_000, "100000m"),
            (99_999_999_999, "99999999m"),
            (100_000_000_000, "100000S"),
            (100_000_000_000_000, "1666666M"),
            (u64::MAX, "99999999H"),
        ];
        for (span, text) in spans {
            assert_eq!(timeout(span), text);
        }
    }

    #[test]
    fn what_a_client_says_of_itself_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        let said = [
            (CALLER_METADATA, "forged"),
            (SECRET_METADATA, "forged"),
            ("authorization", "Bearer it.is.secret"),
            ("grpc-timeout", "1S"),
            ("x-anything", "else"),
            (AS_METADATA, "app"),
            (APP_METADATA, "games"),
            ("grpc-encoding", "gzip"),
        ];
        for (name, value) in said {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.append(AS_METADATA, HeaderValue::from_static("user"));
        let peer = Peer::from(std::net::IpAddr::from([10, 0, 0, 1]));
        let grant = Arc::new(Grant::of_anybody());
        let caller = Introduced::new(&headers, grant, peer, Seat::default());
        let request = request("/a.B/C", &caller, &Trust::default(), Some(5)).expect("it is small");
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "content-type",
                "grpc-encoding",
                "grpc-timeout",
                "sessiond-app",
                "sessiond-as",
                "sessiond-caller-bin",
                "te"
            ]
        );
        assert_eq!(request.headers().get_all(AS_METADATA).iter().count(), 2);
        let introduced = introduction::read(&request.headers()[CALLER_METADATA]);
        assert_eq!(introduced, Ok((Grant::of_anybody(), peer)));
    }
}
