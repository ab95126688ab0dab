//! Claims that are not what they must be: all are refused, none is passed over.

use super::support::*;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

fn refused(changes: &Value) {
    let (_folder, identity) = standard();
    let answer = check(&identity, &token(&claims_with(changes.clone())), NOW);
    assert!(answer.is_err(), "{changes}: {answer:?}");
}

#[test]
fn a_claim_of_a_wrong_type_or_value_is_refused() {
    let wrong_texts = || {
        let long = "x".repeat(4096);
        vec![json!(""), json!(1), json!(true), json!([]), json!({}), json!("a\nb"), json!(long)]
    };
    for name in ["iss", "sub", "app", "jti", "role"] {
        for value in wrong_texts() {
            refused(&json!({ name: value }));
        }
    }
    // In lists, too.
    for name in ["apps", "sessions"] {
        let mut values: Vec<_> = wrong_texts().into_iter().map(|it| json!([it])).collect();
        values.extend(wrong_texts());
        values.extend([json!("games"), json!(["games", 1]), json!([null])]);
        for value in values {
            refused(
                &json!({ name: value, "app": if name == "apps" { json!(null) } else { json!("games") } }),
            );
        }
    }
    for name in ["exp", "nbf", "iat"] {
        for value in [
            json!("1767229200"),
            json!(""),
            json!(true),
            json!([NOW_SECONDS + 60]),
            json!({}),
            json!(-1),
            json!(-1.5e10),
            json!(1e300),
            json!(253_402_300_800u64),
            json!(u64::MAX),
        ] {
            refused(&json!({ name: value }));
        }
    }
}

#[test]
fn null_is_a_wrong_type() {
    let (_folder, identity) = standard();
    for name in [
        "iss", "aud", "sub", "app", "apps", "jti", "role", "sessions", "exp", "nbf", "iat", "scope",
    ] {
        let mut claims = claims();
        claims[name] = Value::Null;
        assert!(check(&identity, &token(&claims), NOW).is_err(), "{name}");
    }
}

#[test]
fn what_must_be_there_is_missed() {
    for name in ["iss", "aud", "sub", "app", "exp", "scope"] {
        refused(&json!({ name: null }));
    }
}

#[test]
fn times_are_compared() {
    refused(&json!({ "exp": 0 }));
    refused(&json!({ "exp": NOW_SECONDS - 31 }));
    refused(&json!({ "exp": NOW_SECONDS + 31 * 24 * 3600 }));
    refused(&json!({ "exp": NOW_SECONDS as f64 - 30.5 }));
    refused(&json!({ "nbf": NOW_SECONDS + 31 }));
    refused(&json!({ "iat": NOW_SECONDS + 31 }));
    // Milliseconds are no seconds.
    refused(&json!({ "exp": NOW_SECONDS * 1000 }));
    refused(&json!({ "iat": NOW_SECONDS * 1000 }));
}

#[test]
fn issuer_and_audience_are_compared_whole() {
    for iss in
        ["https://issuer.test/", "https://issuer.tes", "HTTPS://ISSUER.TEST", "https://evil.test"]
    {
        refused(&json!({ "iss": iss }));
    }
    refused(&json!({ "iss": [ISSUER] }));
    for aud in [
        json!("sessiond "),
        json!("Sessiond"),
        json!("session"),
        json!(""),
        json!([]),
        json!(["evil"]),
        json!(["sessiond", 1]),
        json!([["sessiond"]]),
        json!(1),
        json!({ "sessiond": true }),
    ] {
        refused(&json!({ "aud": aud }));
    }
}

#[test]
fn a_scope_is_exactly_one_of_ours() {
    for scope in [
        json!(""),
        json!("admin"),
        json!("User"),
        json!("user backend"),
        json!("user user"),
        json!("user,backend"),
        json!("user\tbackend"),
        json!(["user", "read"]),
        json!(["user backend"]),
        json!([]),
        json!(["user", 1]),
        json!(1),
        json!({ "user": true }),
    ] {
        refused(&json!({ "scope": scope }));
    }
}

#[test]
fn apps_are_named_once_and_none_is_all() {
    refused(&json!({ "apps": ["games"] }));
    refused(&json!({ "app": "*" }));
    refused(&json!({ "app": null, "apps": ["*"] }));
    refused(&json!({ "app": null, "apps": [] }));
    refused(&json!({ "app": "payments" }));
    refused(&json!({ "app": null, "apps": ["games", "payments"] }));
}

#[test]
fn a_user_is_one_that_could_be() {
    refused(&json!({ "sub": "u".repeat(129) }));
    refused(&json!({ "sub": "a\u{0}" }));
    refused(&json!({ "sub": "a\u{7f}" }));
    refused(&json!({ "sub": "a\u{85}" }));
    refused(&json!({ "sessions": [] }));
    refused(&json!({ "sessions": ["s".repeat(129)] }));
    refused(&json!({ "role": "Member" }));
    refused(&json!({ "role": "host" }));
    // Whose it would be, it does not say.
    refused(&json!({ "role": "member", "scope": "backend" }));
}

#[test]
fn claims_are_one_object_without_repeated_names() {
    let (_folder, identity) = standard();
    let good = claims().to_string();
    let inner = good.strip_prefix('{').unwrap();
    for text in [
        format!(r#"{{"sub":"eve",{inner}"#),
        format!(r#"{{"\u0073ub":"eve",{inner}"#),
        format!(r#"{{"exp":1e400,{inner}"#),
        format!(r#"{{"x":{{"y":1,"y":2}},{inner}"#),
        format!("{good}{good}"),
        format!("{good}x"),
        format!("[{good}]"),
        format!("\u{feff}{good}"),
        good.replace("\"user\"", "'user'"),
        good.replace('}', ",}"),
        good.replace(&format!("{}", NOW_SECONDS + 3600), "1e400"),
        good.replace(&format!("{}", NOW_SECONDS + 3600), "NaN"),
        good.replace(&format!("{}", NOW_SECONDS + 3600), "0x7fffffff"),
        good.replace(&format!("{}", NOW_SECONDS + 3600), "Infinity"),
        format!(r#"{{"x":{}1{},{inner}"#, "[".repeat(40), "]".repeat(40)),
        String::new(),
        "{}".to_owned(),
        "null".to_owned(),
    ] {
        let header = r#"{"alg":"EdDSA"}"#;
        let token = sign(header, &text, &signer(Algorithm::EdDSA), Algorithm::EdDSA);
        assert!(check(&identity, &token, NOW).is_err(), "{text}");
    }
}

#[test]
fn an_issuer_grants_what_the_settings_let_it() {
    let folder = Folder::new();
    // The scope of users is all that an issuer has unless the settings say more.
    let toml = ISSUER_TOML.replace("scopes =", "# scopes =");
    let identity = folder.identity(&format!("{toml}{KEYS_TOML}"));
    assert!(check(&identity, &token(&claims()), NOW).is_ok());
    for scope in ["backend", "app", "read"] {
        let token = token(&claims_with(json!({ "scope": scope })));
        assert!(check(&identity, &token, NOW).is_err(), "{scope}");
    }
}

#[test]
fn one_issuers_key_signs_no_token_of_another() {
    let folder = Folder::new();
    let other = r#"
        [[issuers]]
        name = "other"
        issuer = "https://other.test"
        audiences = ["sessiond"]
        apps = ["payments"]
        [[issuers.keys]]
        public-key-file = "rsa-other.pub.pem"
    "#;
    let identity = folder.identity(&format!("{ISSUER_TOML}{KEYS_TOML}{other}"));
    let by = |changes| {
        let claims = claims_with(changes).to_string();
        sign(r#"{"alg":"RS256"}"#, &claims, &other_rsa(), Algorithm::RS256)
    };
    let good = json!({ "iss": "https://other.test", "app": "payments" });
    assert!(check(&identity, &by(good), NOW).is_ok());
    for wrong in [
        json!({}),
        json!({ "app": "payments" }),
        json!({ "iss": "https://other.test" }),
        json!({ "iss": "https://other.test", "app": "payments", "scope": "backend" }),
    ] {
        assert!(check(&identity, &by(wrong.clone()), NOW).is_err(), "{wrong}");
    }
}

#[test]
fn without_an_audience_in_the_settings_a_token_must_have_none() {
    let folder = Folder::new();
    let toml = ISSUER_TOML.replace("audiences =", "# audiences =");
    let identity = folder.identity(&format!("{toml}{KEYS_TOML}"));
    assert!(check(&identity, &token(&claims_with(json!({ "aud": null }))), NOW).is_ok());
    assert!(check(&identity, &token(&claims()), NOW).is_err());
}
