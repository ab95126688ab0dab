//! Why a caller is refused.

/// Why a credential does not count. It holds nothing of the credential, so that its text can go to
/// the caller and into a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// Nothing was presented.
    #[error("a credential is needed: the metadata authorization with Bearer and a token or a key")]
    Missing,
    /// More than one was.
    #[error("only one credential may be given")]
    Several,
    /// The metadata is of another scheme.
    #[error("the metadata authorization must be Bearer, a space, and a token or a key")]
    Scheme,
    /// The token is larger than [`MAX_TOKEN_BYTES`](super::MAX_TOKEN_BYTES).
    #[error("the token has more than {} bytes", super::MAX_TOKEN_BYTES)]
    TooLong,
    /// The credential is no token.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// The token says that it must not be read by those who do not know some extension.
    #[error("the token asks for an extension (crit or b64) that is not known")]
    Critical,
    /// The token is of another type than its issuer's tokens are.
    #[error("the token is of another type (typ)")]
    Type,
    /// No key fits.
    #[error("the token is signed by no known key")]
    UnknownKey,
    /// There are too many keys to try.
    #[error("the token must name its key (kid)")]
    NeedsKid,
    /// The key is for other algorithms.
    #[error("the token is not signed by an algorithm (alg) of its key")]
    Algorithm,
    /// The signature does not fit.
    #[error("the signature of the token is wrong")]
    Signature,
    /// A claim is not what it must be.
    #[error("the claim {claim} of the token {fault}")]
    Claim {
        /// Its name.
        claim: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The issuer is not the one whose key it is.
    #[error("the token has another issuer (iss) than its key")]
    Issuer,
    /// It is meant for others.
    #[error("the token is meant for another audience (aud)")]
    Audience,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// It is valid for longer than tokens may be.
    #[error("the token is valid for longer than is allowed")]
    LivesTooLong,
    /// Its issuer may not give that.
    #[error("the issuer of the token may not grant {0}")]
    BeyondIssuer(&'static str),
    /// It was revoked.
    #[error("the credential has been revoked")]
    Revoked,
    /// The keys at a URL have not been read, or not for too long.
    #[error("the keys of tokens cannot be had at the moment")]
    KeysUnavailable,
    /// The key is not known, and the keys are being read again to look for it.
    #[error("the key of the token is being looked for")]
    KeysOnTheWay,
    /// The key is not as it was printed.
    #[error("the key is damaged: characters are missing or changed")]
    DamagedKey,
    /// There is no such key.
    #[error("the key is not known")]
    UnknownApiKey,
    /// The time of the key is over.
    #[error("the key has expired")]
    KeyExpired,
    /// No entry of the table fits.
    #[error("the client certificate is not known")]
    UnknownCertificate,
    /// The time of the certificate is over.
    #[error("the client certificate has expired")]
    CertificateExpired,
    /// What the credential hung on is no longer in the settings.
    #[error("the credential is no longer accepted")]
    Withdrawn,
}

impl Denied {
    /// Whether the same credential may be good in a moment: the caller should try again (UNAVAILABLE),
    /// not fetch another one (UNAUTHENTICATED).
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::KeysUnavailable | Self::KeysOnTheWay)
    }
}
