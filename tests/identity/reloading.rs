//! Files that change are read again; a fault leaves everything as it is.

use super::support::*;
use sessiond::identity::Denied;

#[test]
fn a_changed_file_is_read_again_and_a_faulty_one_is_not() {
    let (folder, identity) = standard();
    let good = token(&claims());
    let grant = check(&identity, &good, NOW).unwrap();
    let start = identity.generation();
    identity.reload_if_changed();
    assert_eq!(identity.generation(), start, "nothing changed");

    folder.write("ed25519.pub.pem", "-----BEGIN PUBLIC KEY-----\nhalf");
    identity.reload_if_changed();
    folder.write("identity.toml", "half of");
    identity.reload_if_changed();
    assert!(identity.reload().is_err());
    assert_eq!(identity.generation(), start);
    assert!(check(&identity, &good, NOW).is_ok());

    // Another key under the same name: what the old one signed is over.
    folder.write("ed25519.pub.pem", public_key("p256.pub.pem"));
    folder.write("identity.toml", format!("{ISSUER_TOML}{KEYS_TOML}"));
    identity.reload_if_changed();
    assert_ne!(identity.generation(), start);
    assert_eq!(identity.holds(&grant, NOW), Err(Denied::Withdrawn));
    assert!(check(&identity, &good, NOW).is_err());

    folder.write("ed25519.pub.pem", public_key("ed25519.pub.pem"));
    identity.reload_if_changed();
    assert!(check(&identity, &good, NOW).is_ok());
}

#[test]
fn a_grant_stays_when_what_it_hangs_on_does() {
    let (folder, identity) = standard();
    let good = token(&claims());
    let grant = check(&identity, &good, NOW).unwrap();
    folder.write("identity.toml", format!("leeway = \"1s\"\n{ISSUER_TOML}{KEYS_TOML}"));
    identity.reload_if_changed();
    assert_eq!(identity.holds(&grant, NOW), Ok(()));
    // But not when the issuer may grant less.
    let less = ISSUER_TOML.replace("\"games\", ", "");
    folder.write("identity.toml", format!("{less}{KEYS_TOML}"));
    identity.reload_if_changed();
    assert_eq!(identity.holds(&grant, NOW), Err(Denied::Withdrawn));
    assert_eq!(check(&identity, &good, NOW), Err(Denied::BeyondIssuer("these apps")));
}

#[test]
fn keys_change_under_load_without_a_call_that_fails() {
    use jsonwebtoken::Algorithm;
    use std::sync::atomic::{AtomicBool, Ordering};
    let (folder, identity) = standard();
    let tokens = [
        sign(
            r#"{"alg":"EdDSA"}"#,
            &claims().to_string(),
            &signer(Algorithm::EdDSA),
            Algorithm::EdDSA,
        ),
        sign(
            r#"{"alg":"ES256"}"#,
            &claims().to_string(),
            &signer(Algorithm::ES256),
            Algorithm::ES256,
        ),
    ];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for token in &tokens {
            let (identity, is_over) = (&identity, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    check(identity, token, NOW).unwrap();
                }
            });
        }
        // Another key comes and goes, beside those that are in use.
        let without = KEYS_TOML.split("[[issuers.keys]]").filter(|it| !it.contains("\"rsa\""));
        let without = without.collect::<Vec<_>>().join("[[issuers.keys]]");
        for round in 0..50 {
            let keys = if round % 2 == 0 { &without } else { KEYS_TOML };
            folder.write("identity.toml", format!("{ISSUER_TOML}{keys}"));
            identity.reload().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
