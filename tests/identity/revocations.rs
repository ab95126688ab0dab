//! Credentials that are revoked are refused at once, and their streams can tell.

use super::support::*;
use serde_json::{Value, json};
use sessiond::{
    identity::{Denied, Identity, NoRoom, Presented, Revocation, Shown},
    session::ids::{AppId, UserId},
};
use std::sync::Arc;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn app(name: &str) -> Option<AppId> {
    Some(AppId::new(name).unwrap())
}

/// Revokes for as long as it lasts; whether it was not revoked before.
fn revoke(identity: &Identity, revocation: Revocation, now: u64) -> Result<bool, NoRoom> {
    let until = identity.lasts_until(&revocation, now);
    identity.revoke_until(revocation, until, now)
}

/// Which of some tokens are refused, after they had all been good.
fn refused_after(revocation: Revocation, tokens: &[Value]) -> Vec<usize> {
    let (_folder, identity) = standard();
    let tokens: Vec<_> =
        tokens.iter().map(|changes| token(&claims_with(changes.clone()))).collect();
    let grants: Vec<_> = tokens.iter().map(|it| check(&identity, it, NOW).unwrap()).collect();
    let generation = identity.generation();
    revoke(&identity, revocation.clone(), NOW).unwrap();
    assert_ne!(identity.generation(), generation, "streams are to look");
    let is_refused = |identity: &Identity, at: usize| {
        let answer = check(identity, &tokens[at], NOW);
        assert_eq!(identity.holds(&grants[at], NOW).is_err(), answer.is_err());
        answer == Err(Denied::Revoked)
    };
    let refused = (0..tokens.len()).filter(|at| is_refused(&identity, *at)).collect();
    assert!(identity.restore(&revocation) && !identity.restore(&revocation));
    assert!((0..tokens.len()).all(|at| !is_refused(&identity, at)));
    refused
}

#[test]
fn a_token_is_revoked_by_its_id() {
    let tokens = [json!({}), json!({ "jti": "token-2" }), json!({ "jti": null })];
    assert_eq!(refused_after(Revocation::Token("token-1".into()), &tokens), [0]);
    assert_eq!(refused_after(Revocation::Key("token-1".into()), &tokens), [0; 0]);
}

#[test]
fn all_tokens_of_a_user_are_revoked() {
    let tokens = [
        json!({}),
        json!({ "sub": "eve" }),
        json!({ "app": "chat" }),
        json!({ "app": null, "apps": ["chat", "games"] }),
    ];
    let everywhere = Revocation::User { app: None, user: user("ada") };
    assert_eq!(refused_after(everywhere, &tokens), [0, 2, 3]);
    let in_games = Revocation::User { app: app("games"), user: user("ada") };
    assert_eq!(refused_after(in_games, &tokens), [0, 3]);
}

#[test]
fn what_was_issued_before_a_moment_is_revoked() {
    let tokens = [
        json!({ "iat": NOW_SECONDS - 10 }),
        json!({ "iat": NOW_SECONDS }),
        json!({ "iat": null }),
        json!({ "iat": NOW_SECONDS - 10, "app": "chat", "sub": "eve" }),
    ];
    let before = |app, issuer: Option<&str>, user| Revocation::IssuedBefore {
        app,
        issuer: issuer.map(Into::into),
        user,
        time: NOW,
    };
    assert_eq!(refused_after(before(None, None, None), &tokens), [0, 2, 3]);
    assert_eq!(refused_after(before(app("chat"), None, None), &tokens), [3]);
    assert_eq!(refused_after(before(None, Some("tests"), None), &tokens), [0, 2, 3]);
    assert_eq!(refused_after(before(None, Some("others"), None), &tokens), [0; 0]);
    assert_eq!(refused_after(before(None, None, Some(user("ada"))), &tokens), [0, 2]);
}

#[test]
fn a_revocation_is_kept_for_as_long_as_a_token_may_live() {
    let (_folder, identity) = standard();
    let day = 24 * 60 * MINUTE;
    revoke(&identity, Revocation::Token("token-1".into()), NOW).unwrap();
    let longest = token(&claims_with(json!({ "exp": NOW_SECONDS + 30 * 24 * 3600 + 30 })));
    assert!(matches!(check(&identity, &longest, NOW), Err(Denied::Revoked)));
    identity.fetch_due(NOW + 30 * day + 59 * SECOND);
    assert_eq!(identity.revocations("", 9).0.len(), 1);
    assert_eq!(check(&identity, &longest, NOW + 30 * day + 60 * SECOND), Err(Denied::Expired));
    identity.fetch_due(NOW + 30 * day + 61 * SECOND);
    assert!(identity.revocations("", 9).0.is_empty());
}

#[test]
fn there_is_a_bound_and_what_is_over_makes_room() {
    let (_folder, identity) = standard();
    let before =
        |time| Revocation::IssuedBefore { app: None, issuer: None, user: Some(user("eve")), time };
    for time in 0..1000 {
        revoke(&identity, before(time), NOW).unwrap();
    }
    assert!(revoke(&identity, before(1000), NOW).is_err());
    assert!(revoke(&identity, before(999), NOW).is_ok(), "it is there already");
    assert!(revoke(&identity, Revocation::Token("a".into()), NOW).is_ok());
    let later = NOW + 31 * 24 * 60 * MINUTE;
    assert!(revoke(&identity, before(1000), later).is_ok());
    assert_eq!(identity.revocations("", 9).0.len(), 1);
}

#[test]
fn the_settings_revoke() {
    let folder = Folder::new();
    let start = format!("{ISSUER_TOML}{KEYS_TOML}");
    let identity = folder.identity(&start);
    let good = token(&claims());
    for revocations in [
        "[revocations]\ntokens = [\"token-1\"]",
        "[[revocations.users]]\nuser = \"ada\"",
        "[[revocations.users]]\nuser = \"ada\"\napp = \"games\"",
        "[[revocations.issued-before]]\ntime = \"2026-01-01T00:00:01Z\"",
        "[[revocations.issued-before]]\ntime = 2026-01-01T00:00:01Z\nissuer = \"tests\"\napp = \"games\"\nuser = \"ada\"",
    ] {
        folder.write("identity.toml", format!("{start}{revocations}"));
        identity.reload().unwrap();
        assert_eq!(check(&identity, &good, NOW), Err(Denied::Revoked), "{revocations}");
        folder.write("identity.toml", &start);
        identity.reload().unwrap();
        assert!(check(&identity, &good, NOW).is_ok());
    }
}

#[test]
fn what_a_connection_has_shown_before_is_refused_once_it_does_not_hold() {
    let (folder, identity) = standard();
    let mut shown = Shown::default();
    let mut on = |credentials: &[&str], now| {
        let values: Vec<_> = credentials.iter().map(|it| format!("Bearer {it}")).collect();
        let values: Vec<_> = values.iter().map(String::as_bytes).collect();
        let presented = Presented { authorization: &values, certificate: None };
        identity.check_on(&mut shown, &presented, now)
    };
    let [ada, bob] = ["ada", "bob"]
        .map(|user| token(&claims_with(json!({ "sub": user, "jti": format!("of-{user}") }))));
    let first = on(&[&ada], NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &on(&[&ada], NOW).unwrap()));
    // Others on the same connection, as behind a proxy.
    assert_ne!(on(&[&bob], NOW).unwrap().kind, first.kind);
    assert_eq!(on(&[&ada], NOW).unwrap().kind, first.kind);
    assert!(on(&[&ada[..ada.len() - 4]], NOW).is_err(), "a part of what was shown");
    assert_eq!(on(&[&ada, &bob], NOW), Err(Denied::Several));
    assert_eq!(on(&[], NOW), Err(Denied::Missing));
    let over = NOW + 3600 * SECOND + 30 * SECOND;
    assert!(on(&[&ada], over - 1).is_ok());
    assert_eq!(on(&[&ada], over), Err(Denied::Expired));
    assert!(on(&[&ada], NOW).is_ok());
    let of_ada = Revocation::Token("of-ada".into());
    identity.revoke_until(of_ada, over, NOW).unwrap();
    assert_eq!(on(&[&ada], NOW), Err(Denied::Revoked));
    assert!(on(&[&bob], NOW).is_ok());
    let others = KEYS_TOML.split("[[issuers.keys]]").filter(|it| !it.contains("\"ed25519\""));
    let others = others.collect::<Vec<_>>().join("[[issuers.keys]]");
    folder.write("identity.toml", format!("{ISSUER_TOML}{others}"));
    identity.reload().unwrap();
    assert!(on(&[&bob], NOW).is_err(), "its key is gone");
}
