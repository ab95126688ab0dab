//! What the servers let this node do, as far as that shows at the start: what they do not permit would
//! show otherwise only when it is needed.

use super::{
    Settings,
    api::{Api, ApiError},
    subjects,
};
use crate::log::{LogError, Partition};
use async_nats::HeaderMap;
use bytes::Bytes;

/// No stream ends there: what is to follow on it is refused.
const NOWHERE: &str = "9223372036854775807";

/// The stream of no partition. Requests name it, as a server that cannot read a request to remove some
/// messages removes all that there are.
const NO_PARTITION: u16 = 256;

/// No request is like this, even if there were such a stream.
const NO_REQUEST: &[u8] = br#"{"seq":1,"keep":1}"#;

/// Asks for everything that the log will ask for, in a way that changes nothing. Refuses if something
/// of it is not permitted, with all of that.
pub async fn check(api: &Api, settings: &Settings) -> Result<(), LogError> {
    let (first, cluster) = (Partition(0), &settings.cluster);
    let of_streams =
        ["STREAM.INFO", "STREAM.CREATE", "STREAM.PURGE", "STREAM.MSG.GET", "DIRECT.GET"];
    let of_streams = of_streams.map(|it| format!("$JS.API.{it}.{cluster}-{NO_PARTITION}"));
    let others = ["$JS.API.INFO".to_owned(), format!("{cluster}.w.{NO_PARTITION}")];
    let requests = of_streams.into_iter().chain(others).map(|it| (it, false));
    let of_no_key = |begin: String| subjects::of_key(&begin, b"");
    let messages = [
        settings.chain(first),
        of_no_key(settings.snapshots(first)),
        of_no_key(settings.notes(first)),
    ];
    let messages = messages.map(|subject| (subject, true));
    let mut denied = Vec::new();
    for (subject, is_message) in requests.chain(messages) {
        let mut headers = HeaderMap::new();
        if is_message {
            headers.insert("Nats-Expected-Last-Sequence", NOWHERE);
        }
        let answer = api.probe(subject, headers, Bytes::from_static(NO_REQUEST)).await;
        if let Err(ApiError::Denied(words)) = answer {
            denied.push(words.to_string());
        }
    }
    if denied.is_empty() { Ok(()) } else { Err(LogError::NotPermitted(denied.join("; ").into())) }
}

/// Warns of servers that answer before what they store is on their disks, and if they do not say.
pub async fn check_sync(api: Api) {
    let servers = api.sync_settings().await;
    if servers.is_empty() {
        tracing::warn!(
            "it cannot be checked that the NATS servers have sync_interval: always; to allow that, \
             export the service $SYS.REQ.SERVER.PING.JSZ of the system account to the account of this \
             node with response: stream, and let its user publish there"
        );
    }
    for (server, is_always) in servers {
        if !is_always {
            tracing::warn!(
                "the NATS server {server} answers before what it stores is on its disk: set \
                 sync_interval: always"
            );
        }
    }
}
