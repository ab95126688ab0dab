//! API keys: what a file says of them.

use super::support::*;
use sessiond::{
    identity::{
        Apps, CredentialId, Denied, Identity, Kind,
        api_key::ApiKey,
        key_file::{self, Entry, KeyFile},
    },
    session::ids::AppId,
};
use std::sync::Arc;

const BACKEND: Kind = Kind::Backend { may_act_as_app: false };

fn entry(key: &ApiKey) -> Entry {
    let apps = Apps::Only(["games", "chat"].map(|app| AppId::new(app).unwrap()).into());
    Entry::new(key, apps, BACKEND, NOW)
}

/// A file with these entries, and an identity that has it.
fn with(entries: &[Entry]) -> (Folder, Arc<Identity>) {
    let folder = Folder::new();
    for entry in entries {
        key_file::add(&folder.path("keys.toml"), entry).unwrap();
    }
    let identity = folder.identity("key-file = \"keys.toml\"");
    (folder, identity)
}

#[test]
fn a_key_allows_what_its_file_says() {
    let (one, two) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
    let mut all = Entry::new(&two, Apps::All, Kind::Backend { may_act_as_app: true }, NOW);
    all.note = Some("a \"note\"".into());
    let (_folder, identity) = with(&[entry(&one), all]);
    let grant = check(&identity, &one.reveal(), NOW).unwrap();
    assert_eq!((&grant.kind, &grant.id), (&BACKEND, &CredentialId::Key(one.id().into())));
    assert!(grant.allows_app("chat") && !grant.allows_app("payments"));
    assert_eq!((grant.expires, grant.issued), (None, Some(NOW)));
    let grant = check(&identity, &two.reveal(), NOW).unwrap();
    assert_eq!(grant.kind, Kind::Backend { may_act_as_app: true });
    assert!(grant.allows_app("payments"));
}

#[test]
fn a_key_that_is_damaged_or_not_known_is_refused() {
    let key = ApiKey::generate().unwrap();
    let (_folder, identity) = with(&[entry(&key)]);
    let text = key.reveal();
    for end in "sessiond_".len()..text.len() {
        assert_eq!(check(&identity, &text[..end], NOW), Err(Denied::DamagedKey), "cut at {end}");
    }
    assert_eq!(check(&identity, &format!("{text}0"), NOW), Err(Denied::DamagedKey));
    assert_eq!(check(&identity, &format!("{text}{text}"), NOW), Err(Denied::DamagedKey));
    let other = ApiKey::generate().unwrap();
    assert_eq!(check(&identity, &other.reveal(), NOW), Err(Denied::UnknownApiKey));
    // The id of one with the secret of another, and with a right checksum.
    let mut mixed = entry(&other).to_toml();
    mixed = mixed.replace(other.id(), key.id());
    let folder = Folder::new();
    folder.write_secret("keys.toml", mixed.as_bytes());
    let identity = folder.identity("key-file = \"keys.toml\"");
    assert_eq!(check(&identity, &key.reveal(), NOW), Err(Denied::UnknownApiKey));
}

#[test]
fn an_old_and_a_new_key_are_valid_together_until_the_old_is_revoked() {
    let (old, new) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
    let (folder, identity) = with(&[entry(&old), entry(&new)]);
    let grant = check(&identity, &old.reveal(), NOW).unwrap();
    assert!(check(&identity, &new.reveal(), NOW).is_ok());
    key_file::revoke(&folder.path("keys.toml"), old.id(), NOW + MINUTE).unwrap();
    assert!(check(&identity, &old.reveal(), NOW).is_ok(), "not read yet");
    identity.reload_if_changed();
    assert_eq!(check(&identity, &old.reveal(), NOW), Err(Denied::Revoked));
    assert_eq!(identity.holds(&grant, NOW), Err(Denied::Revoked));
    assert!(check(&identity, &new.reveal(), NOW).is_ok());
    assert!(key_file::revoke(&folder.path("keys.toml"), old.id(), NOW).is_err());
    assert!(key_file::revoke(&folder.path("keys.toml"), "00000000", NOW).is_err());
}

#[test]
fn a_key_expires() {
    let key = ApiKey::generate().unwrap();
    let mut entry = entry(&key);
    entry.expires = Some(NOW + MINUTE);
    let (_folder, identity) = with(&[entry]);
    let grant = check(&identity, &key.reveal(), NOW + MINUTE - 1).unwrap();
    assert_eq!(identity.holds(&grant, NOW + MINUTE - 1), Ok(()));
    assert_eq!(identity.holds(&grant, NOW + MINUTE), Err(Denied::KeyExpired));
    assert_eq!(check(&identity, &key.reveal(), NOW + MINUTE), Err(Denied::KeyExpired));
}

#[test]
fn a_grant_ends_when_its_entry_says_something_else() {
    let key = ApiKey::generate().unwrap();
    let (folder, identity) = with(&[entry(&key)]);
    let grant = check(&identity, &key.reveal(), NOW).unwrap();
    assert_eq!(identity.holds(&grant, NOW), Ok(()));
    let less = Entry::new(&key, Apps::Only([AppId::new("chat").unwrap()].into()), BACKEND, NOW);
    folder.write_secret("keys.toml", less.to_toml().as_bytes());
    identity.reload().unwrap();
    assert_eq!(identity.holds(&grant, NOW), Err(Denied::Withdrawn));
    assert!(!check(&identity, &key.reveal(), NOW).unwrap().allows_app("games"));
}

#[test]
fn a_note_of_a_key_may_change_and_what_it_allows_may_not() {
    let key = ApiKey::generate().unwrap();
    let mut entry = entry(&key);
    (entry.expires, entry.note) = (Some(NOW + MINUTE), Some("of the lobby".into()));
    let (folder, identity) = with(std::slice::from_ref(&entry));
    let grant = check(&identity, &key.reveal(), NOW).unwrap();
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut entry = entry.clone();
        change(&mut entry);
        entry
    };
    let with_note = |note: Option<&str>| with(&|it| it.note = note.map(Into::into));
    for same in [with_note(Some("of the arena")), with_note(None)] {
        folder.write_secret("keys.toml", same.to_toml().as_bytes());
        identity.reload().unwrap();
        assert_eq!(identity.holds(&grant, NOW), Ok(()), "{same:?}");
    }
    let reader = with(&|it| it.kind = Kind::Reader);
    let later = with(&|it| it.expires = Some(NOW + 2 * MINUTE));
    let all = with(&|it| it.apps = Apps::All);
    for other in [reader, later, all] {
        folder.write_secret("keys.toml", other.to_toml().as_bytes());
        identity.reload().unwrap();
        assert_eq!(identity.holds(&grant, NOW), Err(Denied::Withdrawn), "{other:?}");
    }
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let (folder, _) = with(&[entry(&ApiKey::generate().unwrap())]);
    for (mode, is_good) in [
        (0o600, true),
        (0o400, true),
        (0o640, true),
        (0o440, true),
        (0o660, false),
        (0o604, false),
        (0o644, false),
        (0o602, false),
        (0o777, false),
    ] {
        folder.allow("keys.toml", mode);
        let read = KeyFile::open(&folder.path("keys.toml"));
        assert_eq!(read.is_ok(), is_good, "{mode:o}: {read:?}");
        let faults = read.err().map(|faults| faults[0].to_string()).unwrap_or_default();
        assert!(is_good || faults.contains("chmod 600"), "{faults}");
    }
}

#[test]
fn what_people_wrote_stays_when_a_key_is_added_or_revoked() {
    let folder = Folder::new();
    let path = folder.path("keys.toml");
    let (one, two) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
    folder.write_secret("keys.toml", b"# Ask the people on call before you change this.");
    folder.allow("keys.toml", 0o640);
    key_file::add(&path, &entry(&one)).unwrap();
    key_file::add(&path, &entry(&two)).unwrap();
    key_file::revoke(&path, one.id(), NOW).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# Ask the people on call"), "{text}");
    let keys = KeyFile::open(&path).unwrap();
    assert_eq!(keys.entries().count(), 2);
    assert_eq!(keys.entry(one.id()).unwrap().revoked, Some(NOW));
    assert_eq!(keys.entry(two.id()).unwrap(), &entry(&two));
    assert!(key_file::add(&path, &entry(&two)).is_err(), "it is there already");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn every_fault_of_a_file_is_named() {
    let folder = Folder::new();
    let path = folder.path("keys.toml");
    let hash = "sha256:".to_owned() + &"0".repeat(64);
    let good = format!(
        "id = \"00000001\"\nhash = \"{hash}\"\napps = \"*\"\nscope = \"app\"\ncreated = \"2026-01-01T00:00:00Z\"\n"
    );
    assert!(KeyFile::read(&path, &format!("[[keys]]\n{good}")).is_ok());
    for (wrong, faults) in [
        ("keys = 1".to_owned(), 1),
        ("other = 1".to_owned(), 1),
        ("[[keys]]".to_owned(), 5),
        (format!("[[keys]]\n{good}[[keys]]\n{good}"), 1),
        (format!("[[keys]]\n{good}secret = \"x\""), 1),
        (format!("[[keys]]\n{}", good.replace("\"*\"", "[]")), 1),
        (format!("[[keys]]\n{}", good.replace("\"*\"", "[\"*\"]")), 1),
        (format!("[[keys]]\n{}", good.replace("\"app\"", "\"user\"")), 1),
        (format!("[[keys]]\n{}", good.replace("\"app\"", "\"root\"")), 1),
        (format!("[[keys]]\n{}", good.replace("sha256:0", "sha256:")), 2),
        (format!("[[keys]]\n{}", good.replace("00000001", "1")), 2),
        (format!("[[keys]]\n{good}expires = \"soon\""), 1),
        ("[[keys]".to_owned(), 1),
    ] {
        let told = KeyFile::read(&path, &wrong).expect_err(&wrong);
        assert_eq!(told.len(), faults, "{wrong}: {told:?}");
    }
}
