//! `sessiond token`: makes tokens, for trials and tests.

use super::{
    Result,
    key::{apps, until},
    print,
};
use crate::{
    identity::{Algorithm, Apps, Scope, api_key::hex, now, signing::SigningKey},
    session::{
        ids::{SessionId, UserId},
        limits::SECOND,
        role::Role,
    },
};
use serde_json::{Map, Value};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// What to do with tokens.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a token, and print it
    New(Box<NewArgs>),
}

#[derive(Debug, clap::Args)]
struct NewArgs {
    /// The key that signs it: a secret, or a private key in PEM (PKCS #8)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// How a secret is written in its file
    #[arg(long, value_name = "ENCODING", default_value = "text")]
    #[arg(value_parser = ["text", "base64", "hex"])]
    encoding: String,
    /// The algorithm; unless given HS256, RS256, ES256, ES384 or EdDSA, as the key is
    #[arg(long, value_name = "NAME")]
    alg: Option<String>,
    /// The name of the key
    #[arg(long, value_name = "NAME")]
    kid: Option<String>,
    /// The type of the token
    #[arg(long, value_name = "TYPE", default_value = "JWT")]
    typ: String,
    /// The user who has it
    #[arg(long, value_name = "USER")]
    sub: Option<String>,
    /// An app that it is for; may be given several times
    #[arg(long, value_name = "APP", required = true)]
    app: Vec<String>,
    /// What it may do: act as its user (user), as any user (backend), also as the app itself (app), or
    /// read only (read)
    #[arg(long, value_name = "SCOPE", default_value = "user")]
    #[arg(value_parser = ["user", "backend", "app", "read"])]
    scope: String,
    /// The highest role that its user may use, whichever it has
    #[arg(long, value_name = "ROLE")]
    #[arg(value_parser = Role::ALL.map(Role::word))]
    role: Option<String>,
    /// How long it is valid
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    #[arg(value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// Its issuer
    #[arg(long, value_name = "ISSUER")]
    iss: Option<String>,
    /// For whom it is; may be given several times
    #[arg(long, value_name = "AUDIENCE")]
    aud: Vec<String>,
    /// A session that it may touch, and no other; may be given several times
    #[arg(long, value_name = "SESSION")]
    session: Vec<String>,
}

/// Does it.
pub fn run(arguments: TokenArgs) -> Result<ExitCode> {
    let Verb::New(arguments) = arguments.verb;
    let token = token(&arguments)?;
    print(format!("{token}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn token(arguments: &NewArgs) -> Result<String> {
    let unknown = |name: &String| format!("there is no algorithm {name:?}");
    let read = |name: &String| Algorithm::read(name).ok_or_else(|| unknown(name));
    let algorithm = arguments.alg.as_ref().map(read).transpose()?;
    let key = SigningKey::open(&arguments.key, Some(&arguments.encoding), algorithm)?;
    key.sign(arguments.kid.as_deref(), &arguments.typ, &claims(arguments)?)
}

/// The claims, which the server would accept.
fn claims(arguments: &NewArgs) -> Result<Map<String, Value>> {
    let scope = Scope::read(&arguments.scope).ok_or("there is no such scope")?;
    if scope == Scope::User {
        let sub = arguments.sub.as_deref().ok_or("a token of a user needs --sub")?;
        UserId::new(sub).map_err(|fault| format!("the user {fault}"))?;
    }
    let Apps::Only(apps) = apps(&arguments.app)? else {
        return Err("a token names its apps: '*' is only for keys".into());
    };
    if arguments.role.is_some() && scope != Scope::User {
        return Err("--role is for the scope user".into());
    }
    for session in &arguments.session {
        SessionId::new(session).map_err(|fault| format!("the session {fault}"))?;
    }
    let now = now();
    let mut jti = [0; 16];
    getrandom::fill(&mut jti).map_err(|error| format!("no randomness: {error}"))?;
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| _ = claims.insert(name.to_owned(), value);
    let texts = |list: &[String]| list.iter().map(|text| Value::from(&**text)).collect::<Vec<_>>();
    let mut names: Vec<Value> = apps.iter().map(|app| Value::from(&**app)).collect();
    match names.pop() {
        Some(app) if names.is_empty() => put("app", app),
        last => put("apps", names.into_iter().chain(last).collect()),
    }
    put("scope", scope.word().into());
    let texts_of = [("sub", &arguments.sub), ("iss", &arguments.iss), ("role", &arguments.role)];
    for (name, text) in texts_of {
        if let Some(text) = text {
            put(name, text.as_str().into());
        }
    }
    match &arguments.aud[..] {
        [] => {}
        [one] => put("aud", one.as_str().into()),
        several => put("aud", texts(several).into()),
    }
    if !arguments.session.is_empty() {
        put("sessions", texts(&arguments.session).into());
    }
    put("iat", (now / SECOND).into());
    put("exp", (until(now, arguments.ttl)? / SECOND).into());
    put("jti", hex(&jti).into());
    Ok(claims)
}
