//! What is good is accepted, whatever signed it.

use super::support::*;
use jsonwebtoken::{Algorithm, Header, encode, get_current_timestamp};
use serde_json::json;
use sessiond::identity::{Apps, CredentialId, Kind, now};

#[test]
fn tokens_of_every_algorithm_are_accepted() {
    let (_folder, identity) = standard();
    for (algorithm, kid) in ALGORITHMS {
        for kid in [Some(kid), None] {
            let mut header = Header::new(algorithm);
            header.kid = kid.map(str::to_owned);
            let token = encode(&header, &claims(), &signer(algorithm)).unwrap();
            // The second time it is remembered.
            for _ in 0..2 {
                let grant = check(&identity, &token, NOW).unwrap();
                assert!(matches!(&grant.kind, Kind::User(user) if &**user == "ada"), "{grant:?}");
                assert!(grant.allows_app("games") && !grant.allows_app("chat"));
                assert_eq!(grant.expires, Some(NOW + 3630 * SECOND), "with the leeway");
                assert_eq!(grant.issued, Some(NOW));
                let jti = Some("token-1".into());
                assert_eq!(grant.id, CredentialId::Token { issuer: "tests".into(), jti });
            }
        }
    }
}

#[test]
fn the_present_is_the_present() {
    assert!(now().abs_diff(get_current_timestamp() * SECOND) < MINUTE);
}

#[test]
fn every_scope_gives_what_it_says() {
    let (_folder, identity) = standard();
    for (scope, kind) in [
        ("backend", Kind::Backend { may_act_as_app: false }),
        ("app", Kind::Backend { may_act_as_app: true }),
        ("read", Kind::Reader),
    ] {
        for sub in [json!(null), json!("billing")] {
            let claims = claims_with(json!({ "scope": scope, "sub": sub }));
            let grant = check(&identity, &token(&claims), NOW).unwrap();
            assert_eq!(grant.kind, kind);
            assert_eq!(grant.subject.as_deref(), sub.as_str());
        }
    }
}

#[test]
fn claims_may_be_written_in_each_of_their_forms() {
    let (_folder, identity) = standard();
    for changes in [
        json!({ "aud": ["another", "sessiond"] }),
        json!({ "aud": "other" }),
        json!({ "scope": ["user"] }),
        json!({ "scope": "openid user profile" }),
        json!({ "app": null, "apps": ["games", "chat"] }),
        json!({ "exp": NOW_SECONDS as f64 + 0.5 }),
        json!({ "exp": 1.767_225_7e9 }),
        json!({ "iat": null, "jti": null }),
        json!({ "nbf": NOW_SECONDS }),
        json!({ "sessions": ["one", "two"] }),
        json!({ "sub": "Zo\u{eb} \u{1f600}" }),
        json!({ "sub": "u".repeat(128) }),
        json!({ "email": "ada@example.com", "nested": { "a": [1, { "b": null }] } }),
    ] {
        let token = token(&claims_with(changes.clone()));
        let answer = check(&identity, &token, NOW);
        assert!(answer.is_ok(), "{changes}: {answer:?}");
    }
}

#[test]
fn sessions_and_apps_are_bounded_as_the_token_says() {
    let (_folder, identity) = standard();
    let claims = claims_with(json!({ "sessions": ["one"], "apps": ["chat"], "app": null }));
    let grant = check(&identity, &token(&claims), NOW).unwrap();
    assert!(grant.allows_session("one") && !grant.allows_session("two"));
    assert!(matches!(&grant.apps, Apps::Only(apps) if apps.len() == 1));
}

#[test]
fn clocks_may_differ_by_the_leeway_and_no_more() {
    let (_folder, identity) = standard();
    let exp = token(&claims_with(json!({ "exp": NOW_SECONDS })));
    assert!(check(&identity, &exp, NOW + 30 * SECOND - 1).is_ok());
    assert!(check(&identity, &exp, NOW + 30 * SECOND).is_err());
    for name in ["nbf", "iat"] {
        let token = token(&claims_with(json!({ name: NOW_SECONDS })));
        assert!(check(&identity, &token, NOW - 30 * SECOND - 1).is_err(), "{name}");
        assert!(check(&identity, &token, NOW - 30 * SECOND).is_ok(), "{name}");
    }
}

#[test]
fn the_header_may_say_more_and_the_scheme_is_written_in_any_case() {
    let (_folder, identity) = standard();
    let header = r#"{"typ":"JWT","alg":"EdDSA","x5t":"a","jku":"https://evil.test/keys"}"#;
    let key = signer(Algorithm::EdDSA);
    let token = sign(header, &claims().to_string(), &key, Algorithm::EdDSA);
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        for gap in [" ", "  "] {
            let value = format!("{scheme}{gap}{token}");
            assert!(check_values(&identity, &[value.as_bytes()], NOW).is_ok(), "{value}");
        }
    }
}

#[test]
fn a_type_that_is_asked_for_is_written_long_or_short() {
    let folder = Folder::new();
    let toml = format!("{ISSUER_TOML}typ = \"at+jwt\"\n{KEYS_TOML}");
    let identity = folder.identity(&toml);
    let key = signer(Algorithm::EdDSA);
    for (typ, is_good) in [
        (r#","typ":"at+jwt""#, true),
        (r#","typ":"AT+JWT""#, true),
        (r#","typ":"application/at+jwt""#, true),
        (r#","typ":"JWT""#, false),
        (r#","typ":"application/JWT""#, false),
        ("", false),
    ] {
        let header = format!(r#"{{"alg":"EdDSA"{typ}}}"#);
        let token = sign(&header, &claims().to_string(), &key, Algorithm::EdDSA);
        assert_eq!(check(&identity, &token, NOW).is_ok(), is_good, "{header}");
    }
}
