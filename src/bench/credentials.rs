//! The credentials of a load, and the files of the server that asks for them.

use super::{Result, folder::Folder};
use crate::identity::{
    Apps, Scope,
    api_key::{ApiKey, hex},
    key_file::Entry,
    now,
    signing::SigningKey,
};
use http::HeaderValue;
use serde_json::{Map, Value};
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Longer than any row takes, and shorter than the server allows.
const LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

const SETTINGS: &str = r#"key-file = "keys.toml"

[[issuers]]
name = "bench"
audiences = ["sessiond"]
apps = "*"
scopes = ["user", "app"]

[[issuers.keys]]
secret-file = "issuer.secret"
encoding = "hex"
"#;

/// A token of a backend that may do everything in some apps, an API key of one that may in all, and
/// tokens of users. The files go with this.
#[derive(Debug)]
pub struct Credentials {
    apps: Vec<String>,
    signing: SigningKey,
    key: HeaderValue,
    settings: PathBuf,
    _folder: Folder,
}

impl Credentials {
    /// New ones, the backend's token for these apps. Tokens are signed with a secret that nothing else is signed with.
    pub fn new(apps: Vec<String>) -> Result<Self> {
        let folder = Folder::new()?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| format!("no randomness: {error}"))?;
        let secret = folder.write("issuer.secret", hex(&secret).as_bytes())?;
        let signing = SigningKey::open(&secret, Some("hex"), None)?;
        let key = ApiKey::generate()?;
        let kind = Scope::App.kind_without_user().ok_or("the scope app is of no user")?;
        let entry = Entry::new(&key, Apps::All, kind, now());
        folder.write("keys.toml", entry.to_toml().as_bytes())?;
        let settings = folder.write("identity.toml", SETTINGS.as_bytes())?;
        let key = bearer(&key.reveal())?;
        Ok(Self { apps, signing, key, settings, _folder: folder })
    }

    /// The identity file of the server.
    pub fn settings(&self) -> &Path {
        &self.settings
    }

    /// The header with a token of the backend.
    pub fn token(&self) -> Result<HeaderValue> {
        self.sign(Scope::App, "backend", "apps", self.apps.clone().into())
    }

    /// The header with the API key of the backend.
    pub fn key(&self) -> HeaderValue {
        self.key.clone()
    }

    /// The header with a token of a user.
    pub fn of_user(&self, app: &str, user: &str) -> Result<HeaderValue> {
        self.sign(Scope::User, user, "app", app.into())
    }

    fn sign(&self, scope: Scope, sub: &str, app: &str, apps: Value) -> Result<HeaderValue> {
        let issued = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let claims: [(&str, Value); 6] = [
            (app, apps),
            ("scope", scope.word().into()),
            ("sub", sub.into()),
            ("aud", "sessiond".into()),
            ("iat", issued.as_secs().into()),
            ("exp", (issued + LIFE).as_secs().into()),
        ];
        let claims: Map<_, _> =
            claims.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        bearer(&self.signing.sign(None, "JWT", &claims)?)
    }
}

fn bearer(credential: &str) -> Result<HeaderValue> {
    Ok(HeaderValue::try_from(format!("Bearer {credential}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Identity, Kind, Presented};

    #[test]
    fn the_server_takes_each_for_what_it_is() {
        let credentials = Credentials::new(vec!["a".to_owned(), "b".to_owned()]).unwrap();
        let identity = Identity::open(credentials.settings()).unwrap();
        let grant = |header: &HeaderValue| {
            let authorization = &[header.as_bytes()];
            identity.check(&Presented { authorization, certificate: None }, now()).unwrap()
        };
        for (header, of_all) in [(credentials.token().unwrap(), false), (credentials.key(), true)] {
            let grant = grant(&header);
            assert!(matches!(grant.kind, Kind::Backend { .. }), "{grant:?}");
            assert!(grant.allows_app("a") && grant.allows_app("b"));
            assert_eq!(grant.allows_app("c"), of_all);
        }
        let grant = grant(&credentials.of_user("b", "ada").unwrap());
        assert!(matches!(&grant.kind, Kind::User(user) if &**user == "ada"), "{grant:?}");
        assert!(grant.allows_app("b") && !grant.allows_app("a"));
    }
}
