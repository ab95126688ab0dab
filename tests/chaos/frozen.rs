//! A client that is frozen: its machine still answers for it, but nothing comes from itself.

use crate::{alone, clients::Client, figure, server::Server, tell};
use std::time::Duration;

#[test]
fn a_frozen_client_is_shown_as_disconnected_and_a_frozen_host_is_replaced() {
    alone(async {
        // By the defaults a connection from which nothing comes is dead when its probes are over, after 30 s.
        let (flags, limit) = figure((&[][..], 30), (&["--slow-limit", "3s"][..], 3));
        let limit = Duration::from_secs(limit) + Duration::from_secs(1);
        let server = Server::start(flags);
        let mut late = Vec::new();
        for is_busy in [false, true] {
            let session = if is_busy { "busy" } else { "quiet" };
            let mut host = Client::member(&[], server.address, session, "host").await;
            let mut observer =
                Client::observer(&[], server.address, session, "host", is_busy).await;
            let seen = observer.says("connected", Duration::from_secs(5)).await;
            assert!(seen.is_some(), "the member is there");
            host.freeze();
            let patience = limit + Duration::from_secs(5);
            let seen = observer.says("disconnected", patience).await;
            tell(format_args!("frozen in a {session} session: disconnected after {seen:?}"));
            if seen.is_none_or(|seen| seen > limit) {
                late.push((session, seen));
                continue;
            }
            let next = format!("host observer-{session}");
            let replaced = observer.says(&next, Duration::from_secs(1)).await;
            assert!(replaced.is_some(), "a host that is gone is replaced at once");
            host.thaw();
            let over = host.says("over", Duration::from_secs(5)).await;
            assert!(over.is_some(), "once it goes on it finds its stream over");
        }
        assert!(late.is_empty(), "within {limit:?}: {late:?}");
    });
}
