//! `sessiond key` and `sessiond token`, tried on the real program.

use super::support::*;
use sessiond::identity::{Kind, api_key::ApiKey, now};
use std::process::{Command, Output};

fn sessiond(folder: &Folder, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessiond"));
    command.env_clear().current_dir(folder.path("")).args(arguments.split_whitespace());
    command.output().unwrap()
}

fn printed(folder: &Folder, arguments: &str) -> String {
    let output = sessiond(folder, arguments);
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

fn refusal(folder: &Folder, arguments: &str) -> String {
    let output = sessiond(folder, arguments);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments}: {err}");
    assert!(err.starts_with("sessiond: ") && err.lines().count() == 1, "{err}");
    err
}

#[test]
fn a_key_is_made_listed_and_revoked() {
    let folder = Folder::new();
    let key = printed(&folder, "key new --app games --app chat --file keys.toml --note lobby");
    let key = key.trim_end();
    let id = ApiKey::read(key.as_bytes()).expect("a key").id().to_owned();
    let file = std::fs::read_to_string(folder.path("keys.toml")).unwrap();
    assert!(!file.contains(&key[18..]), "only a hash is stored");
    let identity = folder.identity("key-file = \"keys.toml\"");
    let grant = check(&identity, key, now()).unwrap();
    assert_eq!(grant.kind, Kind::Backend { may_act_as_app: false });
    assert!(grant.allows_app("games") && grant.allows_app("chat") && !grant.allows_app("x"));

    let other = printed(&folder, "key new --app * --scope app --ttl 90d --file keys.toml");
    let list = printed(&folder, "key list keys.toml");
    assert!(
        list.starts_with("ID") && list.contains("valid") && list.ends_with("\n2 keys\n"),
        "{list}"
    );
    printed(&folder, &format!("key revoke {id} --file keys.toml"));
    let list: serde_json::Value =
        serde_json::from_str(&printed(&folder, "key list keys.toml --format json")).unwrap();
    let of_id = list.as_array().unwrap().iter().find(|it| it["id"] == *id).unwrap();
    assert_eq!(of_id["state"], "revoked");
    identity.reload_if_changed();
    assert!(check(&identity, key, now()).is_err());
    let grant = check(&identity, other.trim_end(), now()).unwrap();
    assert_eq!(grant.kind, Kind::Backend { may_act_as_app: true });
    assert!(grant.expires.is_some());
}

#[test]
fn without_a_file_the_entry_is_printed_beside_the_key() {
    let folder = Folder::new();
    let output = sessiond(&folder, "key new --app games");
    folder.write_secret("keys.toml", &output.stderr);
    let identity = folder.identity("key-file = \"keys.toml\"");
    let key = String::from_utf8(output.stdout).unwrap();
    assert!(check(&identity, key.trim_end(), now()).is_ok());
}

#[test]
fn tokens_of_every_kind_of_key_are_made() {
    let folder = Folder::new();
    let identity = folder.identity(&format!("{ISSUER_TOML}{KEYS_TOML}"));
    for (key, more) in [
        ("secret", "--kid secret"),
        ("secret", "--alg HS512"),
        ("rsa.pem", "--kid rsa"),
        ("rsa.pem", "--alg PS384"),
        ("p256.pem", ""),
        ("p384.pem", ""),
        ("ed25519.pem", "--ttl 5m --session one --typ at+jwt"),
    ] {
        let arguments = format!(
            "token new --key {key} --sub ada --app games --iss {ISSUER} --aud sessiond {more}"
        );
        let token = printed(&folder, &arguments);
        let grant = check(&identity, token.trim_end(), now()).unwrap();
        assert!(matches!(&grant.kind, Kind::User(user) if &**user == "ada"), "{arguments}");
        let arguments = arguments.replace("--sub ada", "--scope app --app chat");
        let token = printed(&folder, &arguments);
        assert!(check(&identity, token.trim_end(), now()).unwrap().allows_app("chat"));
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_a_line() {
    let folder = Folder::new();
    folder.write_secret("short", b"secret");
    folder.write("open", SECRET);
    folder.allow("open", 0o644);
    for (arguments, reason) in [
        ("key new --app games --scope user", "invalid value 'user'"),
        ("key new --file keys.toml", "--app <APP>"),
        ("key new --app games --app * --file keys.toml", "'*' is all apps"),
        ("key new --app games --ttl 0s --file keys.toml", "a ttl is longer than 0"),
        ("key new --app games --file absent/keys.toml", "absent/keys"),
        ("key list absent.toml", "cannot read absent.toml"),
        ("key list secret", "secret:1"),
        ("key revoke 00000000 --file absent.toml", "cannot read absent.toml"),
        ("key revoke x --file absent.toml", "eight hexadecimal digits"),
        ("token new --key short --sub ada --app games", "has 6 bytes; HS256 needs at least 32"),
        ("token new --key open --sub ada --app games", "chmod 600"),
        ("token new --key absent --sub ada --app games", "cannot read absent"),
        ("token new --key rsa.pub.pem --sub ada --app games", "no private key"),
        ("token new --key rsa.pem --alg ES256 --sub ada --app games", "ES256 does not take"),
        ("token new --key secret --alg none --sub ada --app games", "no algorithm \"none\""),
        ("token new --key secret --app games", "needs --sub"),
        ("token new --key secret --sub ada --app *", "a token names its apps"),
    ] {
        let line = refusal(&folder, arguments);
        assert!(line.contains(reason), "{arguments}: {line}");
        assert!(!line.contains("for tests only"), "{line}");
    }
    assert!(!folder.path("keys.toml").exists());
}
