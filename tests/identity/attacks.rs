//! The attacks that RFC 8725 tells of, and others: all are refused.

use super::support::*;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;
use sessiond::identity::{Denied, Identity, MAX_TOKEN_BYTES};

/// Refused, and nothing of what was presented is in the reason.
fn refused(identity: &Identity, token: &str) -> Denied {
    let answer = check(identity, token, NOW);
    let denied = answer.expect_err(token);
    let text = denied.to_string();
    assert!(!text.is_empty() && text.len() < 200);
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!text.contains(part), "{text}");
    }
    denied
}

fn by(header: &str, algorithm: Algorithm) -> String {
    sign(header, &claims().to_string(), &signer(algorithm), algorithm)
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let (_folder, identity) = standard();
    let claims = b64(claims().to_string());
    for alg in ["none", "None", "NONE", "nOnE", "", " none", "none\\u0000"] {
        for kid in ["", r#","kid":"rsa""#, r#","kid":"secret""#] {
            let header = b64(format!(r#"{{"alg":"{alg}"{kid}}}"#));
            for signature in ["", "AA", "e30"] {
                refused(&identity, &format!("{header}.{claims}.{signature}"));
            }
            refused(&identity, &format!("{header}.{claims}"));
        }
    }
    for (algorithm, kid) in ALGORITHMS {
        let header = b64(format!(r#"{{"alg":"{algorithm:?}","kid":"{kid}"}}"#));
        for length in [0, 1, 31, 32, 48, 64, 96, 256] {
            let zeros = b64(vec![0; length]);
            refused(&identity, &format!("{header}.{claims}.{zeros}"));
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let (_folder, identity) = standard();
    for file in ["rsa.pub.pem", "p256.pub.pem", "p384.pub.pem", "ed25519.pub.pem"] {
        let pem = public_key(file);
        let trimmed = pem.trim_ascii().to_vec();
        let lines: Vec<_> =
            pem.split(|byte| *byte == b'\n').filter(|it| !it.starts_with(b"-")).collect();
        for secret in [pem.clone(), trimmed, lines.concat()] {
            let secret = EncodingKey::from_secret(&secret);
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                for kid in ["rsa", "p256", "p384", "ed25519", "secret"] {
                    let header = format!(r#"{{"alg":"{algorithm:?}","kid":"{kid}"}}"#);
                    let token = sign(&header, &claims().to_string(), &secret, algorithm);
                    refused(&identity, &token);
                }
            }
        }
    }
}

#[test]
fn an_algorithm_that_is_not_the_keys_is_refused() {
    let folder = Folder::new();
    let narrow = KEYS_TOML
        .replace(r#"["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]"#, r#"["RS256"]"#)
        .replace(r#"["HS256", "HS384", "HS512"]"#, r#"["HS256"]"#);
    let identity = folder.identity(&format!("{ISSUER_TOML}{narrow}"));
    for (algorithm, kid) in ALGORITHMS {
        let is_good = !["HS384", "HS512", "RS384", "RS512", "PS256", "PS384", "PS512"]
            .contains(&&*format!("{algorithm:?}"));
        for kid in [format!(r#","kid":"{kid}""#), String::new()] {
            let token = by(&format!(r#"{{"alg":"{algorithm:?}"{kid}}}"#), algorithm);
            let answer = check(&identity, &token, NOW);
            assert_eq!(answer.is_ok(), is_good, "{algorithm:?}: {answer:?}");
        }
        // What the header claims is not what signed it.
        for (other, _) in ALGORITHMS.into_iter().filter(|(other, _)| *other != algorithm) {
            refused(&identity, &by(&format!(r#"{{"alg":"{other:?}","kid":"{kid}"}}"#), algorithm));
        }
    }
    for alg in
        ["HS1", "RS1", "ES512", "ES256K", "Ed448", "hs256", "eddsa", "EDDSA", "dir", "A128KW"]
    {
        refused(&identity, &by(&format!(r#"{{"alg":"{alg}","kid":"p256"}}"#), Algorithm::ES256));
    }
}

#[test]
fn signatures_of_nothing_and_of_other_keys_are_refused() {
    let (_folder, identity) = standard();
    let message = |alg: &str, kid: &str| {
        format!(
            "{}.{}",
            b64(format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#)),
            b64(claims().to_string())
        )
    };
    // r = s = 0 (CVE-2022-21449), r = 0, s = 0, and both of the order of the group.
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap()).collect();
    let one: Vec<u8> = [vec![0; 31], vec![1]].concat();
    let zero = vec![0; 32];
    for (r, s) in [(&zero, &zero), (&zero, &one), (&one, &zero), (&order, &order), (&one, &one)] {
        let signature = b64([r.clone(), s.clone()].concat());
        refused(&identity, &format!("{}.{signature}", message("ES256", "p256")));
    }
    refused(&identity, &format!("{}.{}", message("ES384", "p384"), b64([0; 96])));
    // The point at infinity and small orders.
    for first in [0u8, 1] {
        let mut signature = [0; 64];
        signature[0] = first;
        refused(&identity, &format!("{}.{}", message("EdDSA", "ed25519"), b64(signature)));
    }
    for kid in ["rsa", "p256"] {
        let header = format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#);
        let token = sign(&header, &claims().to_string(), &other_rsa(), Algorithm::RS256);
        refused(&identity, &token);
    }
    let short = EncodingKey::from_secret(&SECRET[..63]);
    let header = r#"{"alg":"HS256","kid":"secret"}"#;
    refused(&identity, &sign(header, &claims().to_string(), &short, Algorithm::HS256));
}

#[test]
fn an_ecdsa_signature_in_der_is_refused() {
    let (_folder, identity) = standard();
    let token = by(r#"{"alg":"ES256","kid":"p256"}"#, Algorithm::ES256);
    let (message, signature) = token.rsplit_once('.').unwrap();
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let number = |half: &[u8]| [&[2, 33, 0][..], half].concat();
    let numbers = [number(&raw[..32]), number(&raw[32..])].concat();
    let der = [&[0x30, numbers.len() as u8][..], &numbers].concat();
    refused(&identity, &format!("{message}.{}", b64(der)));
    for other in [&raw[..63], &raw[1..], &[&raw[..], &[0]].concat()[..]] {
        refused(&identity, &format!("{message}.{}", b64(other)));
    }
}

#[test]
fn the_header_chooses_no_key() {
    let (_folder, identity) = standard();
    let jwk = r#"{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}"#;
    let own = EncodingKey::from_secret(b"secret");
    for more in [
        format!(r#""jwk":{jwk}"#),
        r#""jku":"https://evil.test/jwks.json""#.to_owned(),
        r#""x5u":"https://evil.test/cert.pem""#.to_owned(),
        r#""x5c":["MIIB"]"#.to_owned(),
        r#""kid":"../../../dev/null""#.to_owned(),
        r#""kid":"/dev/null""#.to_owned(),
        r#""kid":"secret' OR '1'='1""#.to_owned(),
        r#""kid":"secret\u0000""#.to_owned(),
        r#""kid":"$(id)""#.to_owned(),
        r#""kid":"""#.to_owned(),
        r#""kid":"SECRET""#.to_owned(),
        format!(r#""kid":"{}""#, "k".repeat(4000)),
        r#""kid":1"#.to_owned(),
        r#""kid":null"#.to_owned(),
        r#""kid":["secret"]"#.to_owned(),
        r#""kid":{"a":1}"#.to_owned(),
    ] {
        for key in [&own, &EncodingKey::from_secret(b"")] {
            let header = format!(r#"{{"alg":"HS256",{more}}}"#);
            refused(&identity, &sign(&header, &claims().to_string(), key, Algorithm::HS256));
        }
    }
    // Even with a right signature, a name that is not the key's is refused.
    let wrong = sign(
        r#"{"alg":"EdDSA","kid":"p256"}"#,
        &claims().to_string(),
        &signer(Algorithm::EdDSA),
        Algorithm::EdDSA,
    );
    refused(&identity, &wrong);
}

#[test]
fn extensions_and_other_wrappings_are_refused() {
    let (_folder, identity) = standard();
    for header in [
        r#"{"alg":"EdDSA","crit":["exp"],"exp":1}"#,
        r#"{"alg":"EdDSA","crit":[]}"#,
        r#"{"alg":"EdDSA","crit":null}"#,
        r#"{"alg":"EdDSA","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"EdDSA","b64":false}"#,
        r#"{"alg":"EdDSA","b64":true}"#,
        r#"{"alg":"EdDSA","alg":"EdDSA"}"#,
        r#"{"alg":"none","alg":"EdDSA"}"#,
        r#"{"alg":"EdDSA","\u0061lg":"none"}"#,
        r#"{"alg":"EdDSA","kid":"ed25519","kid":"p256"}"#,
        r#"{"ALG":"EdDSA"}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":["EdDSA"]}"#,
        r#"{"alg":null}"#,
        r#"{"alg":1}"#,
        r#"{"alg":"EdDSA","typ":1}"#,
        r#"{"alg":"EdDSA"} x"#,
        r#"{"alg":"EdDSA""#,
        r#"[{"alg":"EdDSA"}]"#,
        r#""EdDSA""#,
        "",
        "null",
    ] {
        refused(&identity, &by(header, Algorithm::EdDSA));
    }
    // A token in a token, signed by a good key.
    let inner = by(r#"{"alg":"EdDSA"}"#, Algorithm::EdDSA);
    for text in [inner.clone(), json!(inner).to_string()] {
        let header = r#"{"alg":"EdDSA","cty":"JWT"}"#;
        refused(&identity, &sign(header, &text, &signer(Algorithm::EdDSA), Algorithm::EdDSA));
    }
    // An encrypted one has five parts.
    let jwe = format!(
        "{}.{}.{}.{}.{}",
        b64(r#"{"alg":"RSA-OAEP","enc":"A128GCM","zip":"DEF"}"#),
        b64("k"),
        b64("iv"),
        b64("c"),
        b64("t")
    );
    refused(&identity, &jwe);
    // The JSON forms of a JWS are no tokens.
    let (head, rest) = inner.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    let flat = json!({ "protected": head, "payload": payload, "signature": signature });
    refused(&identity, &flat.to_string());
}

#[test]
fn a_token_has_one_form() {
    let (_folder, identity) = standard();
    let token = by(r#"{"alg":"EdDSA","kid":"ed25519"}"#, Algorithm::EdDSA);
    assert!(check(&identity, &token, NOW).is_ok());
    let parts: Vec<&str> = token.split('.').collect();
    for at in 0..3 {
        for change in [
            |part: &str| format!("{part}="),
            |part: &str| format!("{part}=="),
            |part: &str| format!(" {part}"),
            |part: &str| format!("{part} "),
            |part: &str| format!("{part}\n"),
            |part: &str| format!("{part}%3D"),
            |part: &str| format!("{part}\0"),
            |part: &str| format!("{part},"),
            |part: &str| format!("{}+/{}", &part[..4], &part[6..]),
            |part: &str| format!("{}\r\n{}", &part[..4], &part[4..]),
            // The last character of 64 bytes has bits to spare.
            |part: &str| {
                let last = part.as_bytes()[part.len() - 1];
                format!("{}{}", &part[..part.len() - 1], char::from(last ^ 1))
            },
            |_: &str| String::new(),
        ] {
            let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            parts[at] = change(&parts[at]);
            let other = parts.join(".");
            if other.trim() != token {
                refused(&identity, &other);
            }
        }
    }
    for other in [
        format!(".{token}"),
        format!("{token}."),
        format!("{token}.e30"),
        format!("{token},{token}"),
        format!("{token} {token}"),
        format!("\"{token}\""),
        parts.join(".."),
        parts[..2].join("."),
        "..".to_owned(),
        ".".to_owned(),
        "a.b.c".to_owned(),
        "\u{e9}.\u{e9}.\u{e9}".to_owned(),
    ] {
        refused(&identity, &other);
    }
}

#[test]
fn a_token_that_is_cut_or_changed_anywhere_is_refused() {
    let (_folder, identity) = standard();
    for algorithm in [Algorithm::HS256, Algorithm::EdDSA, Algorithm::ES256] {
        let token = by(&format!(r#"{{"alg":"{algorithm:?}"}}"#), algorithm);
        for end in 0..token.len() {
            let value = format!("Bearer {}", &token[..end]);
            assert!(check_values(&identity, &[value.as_bytes()], NOW).is_err(), "cut at {end}");
        }
        for at in 0..token.len() {
            for bit in 0..8 {
                let mut value = format!("Bearer {token}").into_bytes();
                value[7 + at] ^= 1 << bit;
                // A blank in front is none of the token's.
                let answer = check_values(&identity, &[&value], NOW);
                assert!(answer.is_err(), "bit {bit} of {at} changed in {token}");
            }
        }
        assert!(check(&identity, &token, NOW).is_ok());
    }
}

#[test]
fn a_huge_token_is_refused_before_it_is_read() {
    let (_folder, identity) = standard();
    let padded = |length: usize| {
        let claims = claims_with(json!({ "padding": "x".repeat(length) }));
        token(&claims)
    };
    let fits = (5000..6000).map(padded).take_while(|token| token.len() <= MAX_TOKEN_BYTES).last();
    assert!(check(&identity, &fits.unwrap(), NOW).is_ok());
    assert_eq!(refused(&identity, &padded(6200)), Denied::TooLong);
    assert_eq!(refused(&identity, &"a".repeat(10 << 20)), Denied::TooLong);
    assert_eq!(refused(&identity, &".".repeat(MAX_TOKEN_BYTES + 1)), Denied::TooLong);
    refused(&identity, &".".repeat(MAX_TOKEN_BYTES));
}

#[test]
fn exactly_one_credential_is_presented() {
    let (_folder, identity) = standard();
    let good = format!("Bearer {}", token(&claims()));
    let good = good.as_bytes();
    assert_eq!(check_values(&identity, &[], NOW), Err(Denied::Missing));
    assert_eq!(check_values(&identity, &[good, good], NOW), Err(Denied::Several));
    assert_eq!(check_values(&identity, &[good, b""], NOW), Err(Denied::Several));
    for other in [
        &b""[..],
        b"Bearer",
        b"Bearer ",
        b"Basic YWRhOmFkYQ==",
        b"Bearer\t",
        b"Token x",
        b"Bear",
        b"\xff\xfe\xfd\xfc\xfb\xfa \xf9",
        &good[7..],
        &[b"Bearer:", &good[6..]].concat(),
        &[b"BearerBearer", &good[6..]].concat(),
        &[b"Bearer\t", &good[7..]].concat(),
        &[b" ", good].concat(),
    ] {
        let answer = check_values(&identity, &[other], NOW);
        assert_eq!(answer, Err(Denied::Scheme), "{}", String::from_utf8_lossy(other));
    }
}
