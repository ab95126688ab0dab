//! Client certificates: who gets in with which, and what it then may do.

use super::{
    authority::{Authority, Pair, expired, uri},
    support::{Service, in_time, members, open_room},
};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::version::{TLS12, TLS13};
use sessiond::config::Config;
use std::io;
use tokio::io::AsyncReadExt;
use tonic::Code;

/// What a certificate allows.
const TABLE: &str = r#"
[[certificates]]
name = "lobby"
uri = "spiffe://example.org/ns/games/sa/lobby"
apps = ["games"]
scope = "app"

[[certificates]]
subject = "CN=audit,O=Example"
apps = ["games"]
scope = "read"
"#;

/// How a handshake with a certificate ends: nothing, or what the server says.
async fn outcome(service: &Service, shows: Option<&Pair>) -> Vec<Option<String>> {
    let mut outcomes = Vec::new();
    for version in [&TLS12, &TLS13] {
        let config = service.client_config(&[version], &["h2"], shows);
        let outcome: io::Result<u8> = in_time(async {
            let mut stream = service.shake_hands(config).await?;
            // In TLS 1.3 a client learns only now whether it was let in: by SETTINGS.
            use tokio::io::AsyncWriteExt;
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
            stream.read_u8().await
        })
        .await;
        outcomes.push(outcome.err().map(|error| error.to_string()));
    }
    outcomes
}

#[tokio::test]
async fn a_certificate_that_is_not_right_ends_the_handshake_with_an_alert() {
    let service = Service::asking(false, |_, _, _| {}).await;
    let authority = &service.authority;
    let good = authority.client("lobby", |_| {});
    assert_eq!(outcome(&service, Some(&good)).await, [None, None]);
    assert_eq!(outcome(&service, None).await, [None, None], "it need not show one");
    let other = Authority::new().client("lobby", |_| {});
    let wrong = [
        ("expired", authority.client("lobby", expired), "CertificateExpired"),
        ("of another authority", other, "UnknownCA"),
        (
            "of a server",
            authority.client("lobby", |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
            // Which alert that is, RFC 8446 leaves open.
            "",
        ),
    ];
    for (what, pair, alert) in wrong {
        for told in outcome(&service, Some(&pair)).await {
            let told = told.unwrap_or_else(|| panic!("one {what} got in"));
            assert!(
                told.contains("received fatal alert") && told.contains(alert),
                "{what}: {told}"
            );
        }
    }
}

#[tokio::test]
async fn where_a_certificate_is_required_nobody_comes_in_without() {
    let service = Service::asking(true, |_, _, _| {}).await;
    for told in outcome(&service, None).await {
        let told = told.expect("it is refused");
        assert!(
            told.contains("CertificateRequired") || told.contains("HandshakeFailure"),
            "{told}"
        );
    }
    let pair = service.authority.client("anybody", |_| {});
    let mut client = service.client(Some(&pair)).await.expect("it gets in");
    open_room(&mut client, "games", "finals").await.expect("nobody asks for more");
}

#[tokio::test]
async fn each_call_has_the_certificate_of_its_connection() {
    let service = Service::asking(false, |config: &mut Config, _, folder| {
        config.identity = Some(folder.write("identity.toml", TABLE));
    })
    .await;
    let lobby = service.authority.client("lobby", |params| {
        params.subject_alt_names.push(uri("spiffe://example.org/ns/games/sa/lobby"));
    });
    let mut lobby = service.client(Some(&lobby)).await.expect("it gets in");
    open_room(&mut lobby, "games", "finals").await.expect("the table allows it");
    let refused = open_room(&mut lobby, "chat", "finals").await.expect_err("another app");
    assert_eq!(refused.code(), Code::PermissionDenied);

    let audit = service.authority.client("audit", |_| {});
    let mut audit = service.client(Some(&audit)).await.expect("it gets in");
    assert_eq!(members(&mut audit, "games", "finals").await.expect("it may read"), 0);
    let refused = open_room(&mut audit, "games", "more").await.expect_err("it may only read");
    assert_eq!(refused.code(), Code::PermissionDenied);

    let unknown = service.authority.client("somebody", |_| {});
    let mut unknown = service.client(Some(&unknown)).await.expect("its authority is known");
    let refused = members(&mut unknown, "games", "finals").await.expect_err("no entry fits");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(refused.message(), "the client certificate is not known");

    let mut nobody = service.client(None).await.expect("none is required");
    let refused = members(&mut nobody, "games", "finals").await.expect_err("no credential");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_certificate_and_a_token_are_two_credentials() {
    let service = Service::asking(false, |config: &mut Config, _, folder| {
        config.identity = Some(folder.write("identity.toml", TABLE));
    })
    .await;
    let audit = service.authority.client("audit", |_| {});
    let channel = service.endpoint(Some(&audit)).connect().await.expect("it gets in");
    let bearing = |mut request: tonic::Request<()>| {
        let bearer = "Bearer sessiond_x".parse().expect("ASCII");
        request.metadata_mut().insert("authorization", bearer);
        Ok(request)
    };
    let mut client =
        sessiond::proto::session_service_client::SessionServiceClient::with_interceptor(
            channel, bearing,
        );
    let request = sessiond::proto::GetSessionInfoRequest::default();
    let refused = in_time(client.get_session_info(request)).await.expect_err("two are given");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(refused.message(), "only one credential may be given");
}
