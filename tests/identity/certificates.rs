//! Client certificates: what the table says of them.

use super::support::*;
use sessiond::identity::{Certificate, CredentialId, Denied, Kind, Presented};

const TABLE: &str = r#"
[[certificates]]
name = "billing"
dns = "billing.internal"
apps = ["payments"]
scope = "app"

[[certificates]]
uri = "spiffe://example.org/ns/games/sa/lobby"
apps = ["games"]
scope = "backend"

[[certificates]]
subject = "CN=ada,O=Example"
apps = ["games"]
scope = "user"
user = "ada"

[[certificates]]
email = "audit@example.org"
apps = "*"
scope = "read"
"#;

fn of_dns(name: &str) -> Certificate {
    Certificate { subject: "CN=x".into(), dns: vec![name.into()], ..Certificate::default() }
}

#[test]
fn a_certificate_allows_what_the_table_says() {
    let identity = Folder::new().identity(TABLE);
    let check = |certificate: &Certificate, now| {
        identity.check(&Presented { authorization: &[], certificate: Some(certificate) }, now)
    };
    let grant = check(&of_dns("BILLING.internal"), NOW).unwrap();
    assert_eq!(grant.id, CredentialId::Certificate("billing".into()));
    assert_eq!(grant.kind, Kind::Backend { may_act_as_app: true });
    let uris = vec!["spiffe://example.org/ns/games/sa/lobby".to_owned()];
    let grant = check(&Certificate { uris, ..Certificate::default() }, NOW).unwrap();
    assert_eq!(grant.kind, Kind::Backend { may_act_as_app: false });
    let subject = "CN=ada,O=Example".to_owned();
    let grant = check(&Certificate { subject, ..Certificate::default() }, NOW).unwrap();
    assert!(matches!(&grant.kind, Kind::User(user) if &**user == "ada"));
    let emails = vec!["audit@example.org".to_owned()];
    let grant = check(&Certificate { emails, ..Certificate::default() }, NOW).unwrap();
    assert_eq!(grant.kind, Kind::Reader);
    for unknown in [
        of_dns("billing.internal.evil"),
        of_dns("*.internal"),
        of_dns("*"),
        of_dns(""),
        of_dns("CN=ada,O=Example"),
        Certificate { subject: "CN=ada,O=Example,C=X".into(), ..Certificate::default() },
        Certificate { subject: "CN=billing.internal".into(), ..Certificate::default() },
        Certificate { uris: vec!["billing.internal".into()], ..Certificate::default() },
        Certificate::default(),
    ] {
        assert_eq!(check(&unknown, NOW), Err(Denied::UnknownCertificate), "{unknown:?}");
    }
    let expires = Some(NOW);
    let old = Certificate { expires, ..of_dns("billing.internal") };
    assert!(check(&old, NOW - 1).is_ok());
    assert_eq!(check(&old, NOW), Err(Denied::CertificateExpired));
}

#[test]
fn a_token_beside_a_certificate_is_refused_where_certificates_count() {
    let folder = Folder::new();
    let tokens = format!("{ISSUER_TOML}{KEYS_TOML}");
    let token = format!("Bearer {}", token(&claims()));
    let value = [token.as_bytes()];
    let certificate = of_dns("billing.internal");
    let both = Presented { authorization: &value, certificate: Some(&certificate) };
    let identity = folder.identity(&format!("{tokens}{TABLE}"));
    assert_eq!(identity.check(&both, NOW), Err(Denied::Several));
    // Without a table a certificate opens the connection, and says nothing of who calls.
    let identity = folder.identity(&tokens);
    assert!(identity.check(&both, NOW).is_ok());
    let alone = Presented { authorization: &[], certificate: Some(&certificate) };
    assert_eq!(identity.check(&alone, NOW), Err(Denied::Missing));
}

#[test]
fn a_grant_ends_when_its_entry_goes() {
    let folder = Folder::new();
    let identity = folder.identity(TABLE);
    let certificate = of_dns("billing.internal");
    let alone = Presented { authorization: &[], certificate: Some(&certificate) };
    let grant = identity.check(&alone, NOW).unwrap();
    folder.write("identity.toml", TABLE.replace("[\"payments\"]", "[\"other\"]"));
    identity.reload_if_changed();
    assert_eq!(identity.holds(&grant, NOW), Err(Denied::Withdrawn));
}
