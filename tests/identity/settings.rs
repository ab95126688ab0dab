//! The file of settings: every fault is named with its place.

use super::support::*;

/// The faults of a file, which has an issuer whose key is this.
fn faults_of_key(key: &str) -> Vec<String> {
    let toml = format!("{ISSUER_TOML}[[issuers.keys]]\n{key}");
    let folder = Folder::new();
    folder.write_secret("short", &SECRET[..31]);
    folder.write_secret("pem", &public_key("rsa.pub.pem"));
    folder.write_secret("der", &der("rsa.pub.pem"));
    folder.write_secret("hex", "0a".repeat(32).as_bytes());
    folder.write_secret("jwk", br#"{"kty":"oct","k":"AA","padding":"                       "}"#);
    folder.write("open", SECRET);
    folder.allow("open", 0o644);
    folder.write_secret(
        "oct.json",
        format!(r#"{{"keys":[{{"kty":"oct","k":"{}"}}]}}"#, b64(SECRET)).as_bytes(),
    );
    folder.write("big", vec![b'x'; (4 << 20) + 1]);
    match folder.try_identity(&toml) {
        Ok(_) => Vec::new(),
        Err(faults) => faults,
    }
}

fn der(name: &str) -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let pem = public_key(name);
    let lines = pem.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"-"));
    STANDARD.decode(lines.collect::<Vec<_>>().concat()).unwrap()
}

#[test]
fn keys_are_what_they_are_said_to_be() {
    for key in [
        "secret-file = \"secret\"",
        "secret-file = \"hex\"\nencoding = \"hex\"",
        "public-key-file = \"rsa.pub.pem\"",
        "public-key-file = \"rsa.pub.pem\"\nalgorithms = [\"PS512\"]",
        "jwks-file = \"oct.json\"\nalgorithms = [\"HS256\"]",
        "jwks-url = \"https://issuer.test/keys\"",
        "jwks-url = \"http://127.0.0.1:1/keys\"",
        "jwks-url = \"http://[::1]:1/keys\"",
    ] {
        assert_eq!(faults_of_key(key), [""; 0], "{key}");
    }
    for (key, fault) in [
        ("secret-file = \"short\"", "has 31 bytes; HS256 needs at least 32"),
        (
            "secret-file = \"hex\"\nencoding = \"hex\"\nalgorithms = [\"HS384\"]",
            "has 32 bytes; HS384 needs at least 48",
        ),
        (
            "secret-file = \"hex\"\nencoding = \"hex\"\nalgorithms = [\"HS512\"]",
            "needs at least 64",
        ),
        ("secret-file = \"secret\"\nencoding = \"base64\"", "is not base64"),
        ("secret-file = \"secret\"\nencoding = \"rot13\"", "expected text, base64 or hex"),
        ("secret-file = \"pem\"", "not secret"),
        ("secret-file = \"der\"", "not secret"),
        ("secret-file = \"jwk\"", "not secret"),
        ("secret-file = \"rsa.pem\"", "not a secret alone"),
        ("secret-file = \"open\"", "chmod 600"),
        ("secret-file = \"absent\"", "cannot read"),
        ("secret-file = \".\"", "is no file"),
        ("public-key-file = \"big\"", "more than 4194304 bytes"),
        ("secret-file = \"secret\"\nalgorithms = [\"RS256\"]", "RS256 does not take"),
        ("public-key-file = \"rsa.pub.pem\"\nalgorithms = [\"HS256\"]", "HS256 does not take"),
        ("public-key-file = \"rsa.pub.pem\"\nalgorithms = [\"ES256\"]", "ES256 does not take"),
        ("public-key-file = \"p256.pub.pem\"\nalgorithms = [\"ES384\"]", "ES384 does not take"),
        ("public-key-file = \"rsa.pub.pem\"\nalgorithms = [\"none\"]", "expected a list of HS256"),
        ("public-key-file = \"rsa.pub.pem\"\nalgorithms = []", "expected a list of HS256"),
        ("public-key-file = \"rsa-1024.pub.pem\"", "1024 bits; it must have 2048 to 8192"),
        ("public-key-file = \"p521.pub.pem\"", "not RSA, P-256, P-384 or Ed25519"),
        ("public-key-file = \"rsa.pem\"", "BEGIN PUBLIC KEY"),
        ("public-key-file = \"secret\"", "BEGIN PUBLIC KEY"),
        ("jwks-file = \"secret\"", "is no JSON object"),
        ("jwks-file = \"oct.json\"", "no key that could verify"),
        ("jwks-url = \"http://issuer.test/keys\"", "expected an https URL"),
        ("jwks-url = \"http://127.0.0.1.evil.test/keys\"", "expected an https URL"),
        ("jwks-url = \"http://localhost@evil.test/keys\"", "expected an https URL"),
        ("jwks-url = \"https://user:secret@issuer.test/keys\"", "expected an https URL"),
        ("jwks-url = \"file:///etc/passwd\"", "expected an https URL"),
        ("jwks-url = \"https:///keys\"", "expected an https URL"),
        ("jwks-url = \"https://issuer.test/keys\"\nalgorithms = [\"HS256\"]", "no secret"),
        (
            "jwks-url = \"https://issuer.test/keys\"\nca-file = \"p256.pub.pem\"",
            "has no certificate",
        ),
        (
            "jwks-url = \"https://issuer.test/keys\"\nrefresh = \"1s\"",
            "expected a duration of 1m to 1day",
        ),
        ("jwks-url = \"https://issuer.test/keys\"\nkid = \"a\"", "is only for secret-file"),
        ("secret-file = \"secret\"\nrefresh = \"5m\"", "is only for jwks-url"),
        ("kid = \"a\"", "give one of"),
        ("secret-file = \"secret\"\npublic-key-file = \"rsa.pub.pem\"", "give one of"),
        (
            "secret = \"for you\"\nsecret-file = \"secret\"",
            "no such key; the nearest is \"secret-file\"",
        ),
    ] {
        let faults = faults_of_key(key);
        assert_eq!(faults.len(), 1, "{key}: {faults:?}");
        assert!(faults[0].contains(fault), "{key}: {faults:?}");
        assert!(faults[0].contains("identity.toml: issuers[0].keys[0]"), "{key}: {faults:?}");
    }
}

#[test]
fn nothing_secret_is_in_a_fault() {
    for key in [
        "secret-file = \"short\"",
        "secret-file = \"open\"",
        "secret-file = \"secret\"\nencoding = \"base64\"",
    ] {
        let faults = faults_of_key(key).concat();
        assert!(!faults.contains("for tests only") && !faults.contains("0123456789"), "{faults}");
    }
}

#[test]
fn every_fault_is_named_at_once() {
    let folder = Folder::new();
    let toml = r#"
        leeway = "1h"
        max-token-life = 5
        colour = "red"
        key-file = "absent.toml"
        [[issuers]]
        scopes = ["root"]
        [[issuers]]
        name = "a"
        apps = "all"
        [[issuers.keys]]
        secret-file = "absent"
        [[certificates]]
        dns = "a"
        uri = "b"
        apps = []
        scope = "user"
        [revocations]
        tokens = "x"
        [[revocations.users]]
        app = ""
        [[revocations.issued-before]]
        issuer = "b"
        time = "yesterday"
    "#;
    let faults = folder.try_identity(toml).unwrap_err();
    for expected in [
        "/identity.toml: leeway: expected a duration",
        "/identity.toml: max-token-life: expected a duration",
        "/identity.toml: colour: there is no such key",
        "key-file: cannot read /absent.toml",
        "/identity.toml: issuers[0].scopes: expected",
        "/identity.toml: issuers[0].apps: must be given",
        "/identity.toml: issuers[0].keys: at least one",
        "/identity.toml: issuers[1].apps: expected",
        "/identity.toml: issuers[1].keys[0].secret-file: cannot read",
        "/identity.toml: certificates[0]: give one of",
        "/identity.toml: certificates[0].apps: expected",
        "/identity.toml: certificates[0].user: is given with",
        "/identity.toml: revocations.tokens: expected",
        "/identity.toml: revocations.users[0].app: expected",
        "/identity.toml: revocations.users[0].user: must be given",
        "/identity.toml: revocations.issued-before[0].issuer: no issuer",
        "/identity.toml: revocations.issued-before[0].time: expected",
    ] {
        assert!(faults.iter().any(|it| it.starts_with(expected)), "{expected} in {faults:#?}");
    }
}

#[test]
fn a_file_must_let_somebody_call() {
    for toml in ["", "leeway = \"1s\"", "issuers = []"] {
        let faults = Folder::new().try_identity(toml).unwrap_err();
        assert!(faults[0].contains("nobody could call"), "{faults:?}");
    }
    let faults = Folder::new().try_identity("[[issuers]\n").unwrap_err();
    assert!(faults[0].starts_with("/identity.toml:1: "), "{faults:?}");
}

#[test]
fn issuers_have_names_of_their_own() {
    let toml = format!("{ISSUER_TOML}{KEYS_TOML}{ISSUER_TOML}{KEYS_TOML}");
    let faults = Folder::new().try_identity(&toml).unwrap_err();
    assert_eq!(faults, ["/identity.toml: issuers: two have the name \"tests\""]);
}

/// A second issuer, with this key.
fn second_issuer(key: &str) -> String {
    let other =
        "[[issuers]]\nname = \"others\"\nissuer = \"https://other.test\"\napps = [\"chat\"]\n";
    format!("{ISSUER_TOML}{KEYS_TOML}{other}[[issuers.keys]]\n{key}\n")
}

#[test]
fn two_issuers_never_have_the_same_key() {
    let folder = Folder::new();
    // The same secret in another file, written in another way.
    let hex: String = SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
    folder.write_secret("copy", format!("{hex}\n").as_bytes());
    let set = |key: &str| format!("{{\"keys\":[{key}]}}");
    let oct = format!(r#"{{"kty":"oct","k":"{}"}}"#, b64(SECRET));
    let ed25519 = der("ed25519.pub.pem");
    let x = b64(&ed25519[ed25519.len() - 32..]);
    folder.write_secret("oct.json", set(&oct).as_bytes());
    folder.write("okp.json", set(&format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#)));
    for key in [
        "secret-file = \"secret\"",
        "secret-file = \"copy\"\nencoding = \"hex\"\nalgorithms = [\"HS512\"]",
        "jwks-file = \"oct.json\"\nalgorithms = [\"HS384\"]",
        "public-key-file = \"rsa.pub.pem\"\nalgorithms = [\"PS512\"]",
        "public-key-file = \"p256.pub.pem\"",
        "jwks-file = \"okp.json\"",
    ] {
        let faults = folder.try_identity(&second_issuer(key)).expect_err(key);
        let told = "/identity.toml: issuers: \"tests\" and \"others\" have the same key: ";
        assert!(faults.len() == 1 && faults[0].starts_with(told), "{key}: {faults:?}");
    }
    let at_url = "[[issuers.keys]]\njwks-url = \"https://issuer.test/keys\"\n";
    let twice = second_issuer("jwks-url = \"https://issuer.test/keys\"")
        .replace(KEYS_TOML, &format!("{KEYS_TOML}{at_url}"));
    let faults = folder.try_identity(&twice).expect_err("the same URL");
    assert!(faults[0].contains("have the same key"), "{faults:?}");

    let other = "public-key-file = \"ed25519.pub.pem\"";
    let identity = folder.identity(&format!("{ISSUER_TOML}[[issuers.keys]]\n{other}\n"));
    let grant = check(&identity, &token(&claims()), NOW).expect("it is good");
    folder.write("identity.toml", second_issuer(other));
    let faults = identity.reload().expect_err("nor when it is read again");
    assert!(faults[0].to_string().contains("have the same key"), "{faults:?}");
    assert_eq!(identity.holds(&grant, NOW), Ok(()), "what was read before stays in force");
}

#[test]
fn a_secret_is_any_bytes_but_for_one_end_of_a_line() {
    use jsonwebtoken::{Algorithm, EncodingKey};
    let header = r#"{"alg":"HS256"}"#;
    let of = |secret: &[u8]| {
        let key = EncodingKey::from_secret(secret);
        sign(header, &claims().to_string(), &key, Algorithm::HS256)
    };
    let mut random: Vec<u8> = (0..32).map(|at| 0xff - at * 7).collect();
    random[0] = b'{';
    assert!(std::str::from_utf8(&random).is_err());
    let ends = |bytes: &[u8], end: &[u8]| [bytes, end].concat();
    for (file, secret) in [
        (random.clone(), random.clone()),
        (ends(&random, b"\n"), random.clone()),
        (ends(&random, b"\r\n"), random.clone()),
        (ends(&random, b" \n"), ends(&random, b" ")),
        (ends(&random, b"\n\n"), ends(&random, b"\n")),
    ] {
        let folder = Folder::new();
        folder.write_secret("random", &file);
        let key = "[[issuers.keys]]\nsecret-file = \"random\"\n";
        let identity = folder.identity(&format!("{ISSUER_TOML}{key}"));
        assert!(check(&identity, &of(&secret), NOW).is_ok(), "{file:?}");
        assert!(check(&identity, &of(&ends(&secret, b"\n")), NOW).is_err(), "{file:?}");
    }
}
