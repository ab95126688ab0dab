//! Tokens: JSON Web Tokens, read as RFC 8725 asks. What a token says of itself is believed only when
//! its signature is right, and never about how to verify it.

use super::{
    algorithm::Algorithm,
    denied::Denied,
    grant::{Apps, CredentialId, Grant, Kind, Origin, Scope},
    issuer::Issuer,
    json,
    key::{KID_BYTES, VerifyingKey},
};
use crate::session::{
    ids::{AppId, SessionId, UserId},
    limits::{Micros, SECOND},
    role::Role,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, sync::Arc};

/// The largest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 << 10;

/// The longest `jti`, and the longest subject of a backend, in bytes.
const TEXT_BYTES: usize = 256;

/// The first second that no date of four digits has.
const END_OF_TIME: f64 = 253_402_300_800.0;

/// A token whose form is right. Nothing of it is verified.
#[derive(Debug)]
pub struct Unverified<'a> {
    /// The algorithm that it claims to be signed by.
    pub algorithm: Algorithm,
    /// The name of its key.
    pub kid: Option<String>,
    typ: Option<String>,
    message: &'a [u8],
    claims: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    pub fn read(token: &'a [u8]) -> Result<Self, Denied> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Denied::TooLong);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(head), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Denied::Malformed("it has not three parts"));
        };
        let header = decode(head).and_then(|bytes| {
            json::object(&bytes).ok_or(Denied::Malformed("its header is not one JSON object"))
        })?;
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(Denied::Critical);
        }
        let text = |name, fault| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= KID_BYTES => Ok(Some(text.clone())),
            Some(_) => Err(Denied::Malformed(fault)),
        };
        let name = text("alg", "its alg is not a short string")?
            .ok_or(Denied::Malformed("its header has no alg"))?;
        let kid = text("kid", "its kid is not a short string")?;
        let typ = text("typ", "its typ is not a short string")?;
        let algorithm = Algorithm::read(&name).ok_or(Denied::Algorithm)?;
        let signature = decode(signature)?;
        if signature.is_empty() {
            return Err(Denied::Signature);
        }
        let message = &token[..head.len() + 1 + claims.len()];
        Ok(Self { algorithm, kid, typ, message, claims, signature })
    }

    /// Whether a key could have signed it, by its name.
    pub fn may_be_of(&self, key: &VerifyingKey) -> bool {
        match (&self.kid, &key.kid) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        }
    }

    /// Whether a key signed it.
    pub fn is_of(&self, key: &VerifyingKey) -> Option<bool> {
        key.verifies(self.algorithm, self.message, &self.signature)
    }

    /// What the token allows. Its signature is right, by a key of the issuer.
    pub fn grant(
        &self,
        issuer: &Issuer,
        key: &VerifyingKey,
        times: Times,
    ) -> Result<Grant, Denied> {
        if issuer.typ.as_ref().is_some_and(|typ| !is_type(typ, self.typ.as_deref())) {
            return Err(Denied::Type);
        }
        let claims = decode(self.claims)?;
        let claims = json::object(&claims).ok_or(Denied::Malformed(
            "its claims are not one JSON object without repeated names",
        ))?;
        Claims(&claims).grant(issuer, key.print(), times)
    }
}

/// What times are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The present.
    pub now: Micros,
    /// How far clocks may differ.
    pub leeway: Micros,
    /// How far away the end of a token may be.
    pub longest_life: Micros,
}

struct Claims<'a>(&'a Map<String, Value>);

impl Claims<'_> {
    fn grant(&self, issuer: &Issuer, key: [u8; 32], times: Times) -> Result<Grant, Denied> {
        let Times { now, leeway, longest_life } = times;
        if let Some(expected) = &issuer.iss {
            let iss = self.text("iss", TEXT_BYTES * 8)?.ok_or(Denied::Issuer)?;
            if iss != expected {
                return Err(Denied::Issuer);
            }
        }
        self.check_audience(&issuer.audiences)?;
        let exp = self.moment("exp")?.ok_or(claim("exp", "is missing"))?;
        if now >= exp.saturating_add(leeway) {
            return Err(Denied::Expired);
        }
        if exp > now.saturating_add(longest_life).saturating_add(leeway) {
            return Err(Denied::LivesTooLong);
        }
        if self.moment("nbf")?.is_some_and(|nbf| nbf > now.saturating_add(leeway)) {
            return Err(Denied::NotYet);
        }
        let issued = self.moment("iat")?;
        if issued.is_some_and(|iat| iat > now.saturating_add(leeway)) {
            return Err(Denied::NotYet);
        }
        let scope = self.scope()?;
        if !issuer.scopes.contains(&scope) {
            return Err(Denied::BeyondIssuer("this scope"));
        }
        let subject = self.text("sub", TEXT_BYTES)?;
        let kind = match scope.kind_without_user() {
            Some(kind) => kind,
            None => {
                let sub = subject.ok_or(claim("sub", "is missing"))?;
                Kind::User(UserId::new(sub).map_err(|_| claim("sub", "is no id of a user"))?)
            }
        };
        let apps = self.apps()?;
        if !apps.is_within(&issuer.apps) {
            return Err(Denied::BeyondIssuer("these apps"));
        }
        let most = match self.text("role", TEXT_BYTES)? {
            None => Role::Owner,
            Some(_) if scope != Scope::User => {
                return Err(claim("role", "stands beside another scope than user"));
            }
            Some(word) => Role::read(word).ok_or(claim("role", "is no role"))?,
        };
        let jti = self.text("jti", TEXT_BYTES)?.map(Arc::from);
        Ok(Grant {
            apps,
            kind,
            sessions: self.sessions()?,
            most,
            expires: Some(exp.saturating_add(leeway)),
            issued,
            id: CredentialId::Token { issuer: issuer.name.clone(), jti },
            subject: subject.map(Arc::from),
            origin: Origin::Token { issuer: issuer.print, key },
        })
    }

    fn check_audience(&self, audiences: &BTreeSet<String>) -> Result<(), Denied> {
        let is_ours = match self.0.get("aud") {
            // A token for nobody in particular is for us only where the settings expect no audience,
            // and one for somebody else never is.
            None => audiences.is_empty(),
            Some(Value::String(one)) => audiences.contains(one),
            Some(Value::Array(list)) => {
                let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
                let texts = texts.ok_or(claim("aud", "is not a string or a list of strings"))?;
                texts.iter().any(|text| audiences.contains(*text))
            }
            Some(_) => return Err(claim("aud", "is not a string or a list of strings")),
        };
        if is_ours { Ok(()) } else { Err(Denied::Audience) }
    }

    /// The one scope of ours. Tokens of others carry words of their own beside it.
    fn scope(&self) -> Result<Scope, Denied> {
        const FAULT: &str = "must have exactly one of user, backend, app and read";
        let words: Vec<&str> = match self.0.get("scope") {
            None => return Err(claim("scope", "is missing")),
            Some(Value::String(text)) => text.split(' ').collect(),
            Some(Value::Array(list)) => {
                let texts: Option<_> = list.iter().map(Value::as_str).collect();
                texts.ok_or(claim("scope", "is not a string or a list of strings"))?
            }
            Some(_) => return Err(claim("scope", "is not a string or a list of strings")),
        };
        let mut ours = words.into_iter().filter_map(Scope::read);
        match (ours.next(), ours.next()) {
            (Some(scope), None) => Ok(scope),
            _ => Err(claim("scope", FAULT)),
        }
    }

    fn apps(&self) -> Result<Apps, Denied> {
        let one = self.text("app", TEXT_BYTES)?;
        let (names, name): (Vec<&str>, _) = match (one, self.0.get("apps")) {
            (Some(_), Some(_)) => return Err(claim("app", "stands beside apps")),
            (None, None) => return Err(claim("app", "is missing")),
            (Some(app), None) => (vec![app], "app"),
            (None, Some(list)) => (texts("apps", list)?, "apps"),
        };
        let mut apps = BTreeSet::new();
        for app in names {
            // In the settings this word means all apps; in a token it would be a name.
            let id = AppId::new(app).ok().filter(|_| app != "*");
            apps.insert(id.ok_or(claim(name, "is not the name of an app"))?);
        }
        Ok(Apps::Only(apps))
    }

    fn sessions(&self) -> Result<Option<BTreeSet<SessionId>>, Denied> {
        let Some(list) = self.0.get("sessions") else { return Ok(None) };
        let ids = texts("sessions", list)?.into_iter().map(SessionId::new);
        let ids: Result<_, _> = ids.collect();
        ids.map(Some).map_err(|_| claim("sessions", "has a text that is no id of a session"))
    }

    /// A text of at most so many bytes, without control characters; whatever else is there is a fault.
    fn text(&self, name: &'static str, most: usize) -> Result<Option<&str>, Denied> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Err(claim(name, "is empty")),
            Some(Value::String(text)) if text.len() > most => Err(claim(name, "is too long")),
            Some(Value::String(text)) if text.chars().any(char::is_control) => {
                Err(claim(name, "has control characters"))
            }
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(claim(name, "is not a string")),
        }
    }

    /// A NumericDate: seconds since 1970, with or without a fraction.
    fn moment(&self, name: &'static str) -> Result<Option<Micros>, Denied> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let Value::Number(number) = value else { return Err(claim(name, "is not a number")) };
        let seconds = number.as_f64().filter(|seconds| (0.0..END_OF_TIME).contains(seconds));
        let seconds = seconds.ok_or(claim(name, "is not a time after 1970"))?;
        // Whole seconds of that size are exact.
        Ok(Some((seconds * SECOND as f64) as Micros))
    }
}

/// A list of strings, with at least one.
fn texts<'a>(name: &'static str, value: &'a Value) -> Result<Vec<&'a str>, Denied> {
    let list = value.as_array().ok_or(claim(name, "is not a list"))?;
    if list.is_empty() {
        return Err(claim(name, "is empty"));
    }
    let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
    texts.ok_or(claim(name, "is not a list of strings"))
}

fn claim(claim: &'static str, fault: &'static str) -> Denied {
    Denied::Claim { claim, fault }
}

/// Whether a type is the expected one. RFC 7515 leaves out `application/` and the case.
fn is_type(expected: &str, typ: Option<&str>) -> bool {
    fn short(typ: &str) -> &str {
        let is_long = typ.get(..12).is_some_and(|it| it.eq_ignore_ascii_case("application/"));
        if is_long { &typ[12..] } else { typ }
    }
    typ.is_some_and(|typ| short(typ).eq_ignore_ascii_case(short(expected)))
}

/// Base64url in its only form: no padding, no blanks, no bits left over.
fn decode(part: &[u8]) -> Result<Vec<u8>, Denied> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Denied::Malformed("a part of it is not base64url"))
}
