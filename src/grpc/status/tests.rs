use super::*;
use crate::session::role::Role;
use http::HeaderMap;
use proptest::{collection, prelude::*};
use prost::Message;

/// Bytes of trailers that every client takes.
const TRAILERS_BYTES: usize = 8 * 1024;

/// Bytes of a refusal that goes in a message.
const IN_BAND_BYTES: usize = 3 * 1024;

/// Whatever somebody puts into a request.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,40}",
        "\\PC{0,2000}",
        "[\u{4e00}-\u{9fff}]{0,3000}",
        "[\u{1f300}-\u{1f5ff}]{0,2000}",
        "[%\\x00-\\x1f]{0,4000}",
    ]
}

fn faults() -> impl Strategy<Value = Vec<Violation>> {
    let one = prop_oneof![
        9 => (text(), text()).prop_map(|(field, text)| Violation::new(field, text)),
        1 => (1..100_000usize).prop_map(Violation::rest),
    ];
    prop_oneof![
        collection::vec(one, 1..12),
        (any::<char>(), 1..1500usize).prop_map(|(key, count)| {
            let key = key.to_string().repeat(20);
            (0..count)
                .map(|at| Violation::new(format!("set[\"{key}{at}\"]"), "has no kind"))
                .collect()
        }),
    ]
}

/// A list of every variant: one that is forgotten does not compile.
macro_rules! every_variant {
    ($text:ident, $number:ident, $faults:ident; $($pattern:pat => $refusal:expr;)*) => {
        fn every_refusal($text: &str, $number: u64, $faults: &[Violation]) -> Vec<Refusal> {
            #[allow(dead_code)]
            fn is_listed(refusal: &Refusal) {
                match refusal { $($pattern => {})* }
            }
            vec![$($refusal),*]
        }
    };
}

every_variant! {
    text, number, faults;
    Refusal::Invalid(_) => Refusal::Invalid(faults.to_vec());
    Refusal::SessionNotFound => Refusal::SessionNotFound;
    Refusal::SessionExists => Refusal::SessionExists;
    Refusal::NameTaken => Refusal::NameTaken;
    Refusal::NotAMember => Refusal::NotAMember;
    Refusal::WrongPassword => Refusal::WrongPassword;
    Refusal::TooManyGuesses { .. } =>
        Refusal::TooManyGuesses { most: number, each: number, retry_after: number };
    Refusal::PasswordsBusy { .. } =>
        Refusal::PasswordsBusy { limit: "passwords", most: number as usize, retry_after: number };
    Refusal::Locked => Refusal::Locked;
    Refusal::AlreadyInSession { .. } =>
        Refusal::AlreadyInSession { session: crate::session::ids::SessionId::new(&"\u{1f300}".repeat(32)).ok() };
    Refusal::Full { .. } => Refusal::Full { capacity: number as usize };
    Refusal::RoleTooLow { .. } => Refusal::RoleTooLow { needs: Role::Owner };
    Refusal::NotAWriter(_) => Refusal::NotAWriter(faults.to_vec());
    Refusal::SchemaNeedsSessionId => Refusal::SchemaNeedsSessionId;
    Refusal::NeedsHost => Refusal::NeedsHost;
    Refusal::NeedsSource => Refusal::NeedsSource;
    Refusal::NotOfThePair => Refusal::NotOfThePair;
    Refusal::NoConsent => Refusal::NoConsent;
    Refusal::TargetRank => Refusal::TargetRank;
    Refusal::Banned { .. } => Refusal::Banned { until: Some(number % 253_402_300_000_000_000) };
    Refusal::BanNotFound => Refusal::BanNotFound;
    Refusal::MemberNotFound => Refusal::MemberNotFound;
    Refusal::NoCandidate => Refusal::NoCandidate;
    Refusal::WrongKind => Refusal::WrongKind;
    Refusal::RevisionChanged(_) => Refusal::RevisionChanged(faults.to_vec());
    Refusal::UnknownPosition => Refusal::UnknownPosition;
    Refusal::RequestIdReused { .. } => Refusal::RequestIdReused { field: "write.request_id" };
    Refusal::StreamNotFound => Refusal::StreamNotFound;
    Refusal::StreamNameTaken => Refusal::StreamNameTaken;
    Refusal::NeedsCreator => Refusal::NeedsCreator;
    Refusal::FunctionNotFound => Refusal::FunctionNotFound;
    Refusal::BadExpression(_) => Refusal::BadExpression(text.to_owned());
    Refusal::StaleTerm { .. } => Refusal::StaleTerm { current: number };
    Refusal::NotTheHost => Refusal::NotTheHost;
    Refusal::LimitReached { .. } =>
        Refusal::LimitReached { limit: "sessions", most: number as usize };
    Refusal::RateLimited { .. } =>
        Refusal::RateLimited { per_second: number, retry_after: number };
    Refusal::Draining => Refusal::Draining;
    Refusal::NotEntitled => Refusal::NotEntitled;
    Refusal::NotImplemented { .. } => Refusal::NotImplemented { field: text.to_owned() };
    Refusal::NoStore => Refusal::NoStore;
    Refusal::Of { .. } => Refusal::NotAWriter(faults.to_vec()).of(text);
    Refusal::Malformed(_) => Refusal::Malformed(text.to_owned());
    Refusal::MessageTooLarge { .. } => Refusal::MessageTooLarge { most: number as usize };
    Refusal::ReplyTooLarge { .. } => Refusal::ReplyTooLarge { most: number as usize };
    Refusal::SeqNotRising { .. } => Refusal::SeqNotRising { seq: number, last: number };
    Refusal::Subscription { .. } => Refusal::Subscription {
        field: text.to_owned(),
        refusal: Box::new(Refusal::Invalid(faults.to_vec()).of(text)),
    };
    Refusal::WrongFirstMessage(_) => Refusal::WrongFirstMessage("must open the stream");
}

fn node() -> Node {
    let name = "n".repeat(METADATA_BYTES + 1);
    Node { name, started_at: "2026-01-01T00:00:00Z".to_owned() }
}

/// Bytes of a status in trailers, as HTTP/2 counts them.
fn trailers_bytes(status: &Status) -> usize {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).expect("it is encoded");
    trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_refusal_fits_the_trailers_of_every_client(
        text in text(),
        number in any::<u64>(),
        faults in faults(),
    ) {
        for refusal in every_refusal(&text, number, &faults) {
            let status = node().status_with(&refusal, [("acked_seq", number.to_string())]);
            let bytes = trailers_bytes(&status);
            // The header that names the node stands beside them where a call is refused at once.
            prop_assert!(bytes < TRAILERS_BYTES - 256, "{bytes} bytes: {refusal:?}");
            let position = proto::Position { epoch: number, revision: number };
            let about = About {
                session: Subject::Id(text.clone()),
                user: text.clone(),
                target: text.clone(),
                stream: text.clone(),
                positions: vec![("min_position", position), ("since", position)],
                role: Some(Role::Moderator),
                at: Some(position),
            };
            let bytes = trailers_bytes(&node().status_about(&refusal, &about));
            prop_assert!(bytes < TRAILERS_BYTES - 256, "{bytes} bytes: {refusal:?}");
            let told = in_band(&refusal, number, "s".repeat(128));
            prop_assert!(told.encoded_len() < IN_BAND_BYTES, "{}: {refusal:?}", told.encoded_len());
        }
        let end = node().end(Code::PermissionDenied, ErrorReason::Kicked, &text, Some(number));
        prop_assert!(trailers_bytes(&end) < TRAILERS_BYTES / 2);
    }

    #[test]
    fn every_fault_is_named_or_counted(faults in faults()) {
        let all: usize = faults.iter().map(|fault| fault.unnamed.max(1)).sum();
        let refusal = Refusal::Invalid(faults);
        let details = node().status(&refusal).get_error_details();
        let mut fields = details.bad_request().expect("it names fields").field_violations.clone();
        let in_band = in_band(&refusal, 0, String::new()).fields;
        prop_assert_eq!(
            in_band.iter().map(|it| (&it.field, &it.description)).collect::<Vec<_>>(),
            fields.iter().map(|it| (&it.field, &it.description)).collect::<Vec<_>>()
        );
        let rest = |text: &str| -> Option<usize> {
            text.rsplit_once("and ")?.1.strip_suffix(" more")?.parse().ok()
        };
        let unnamed = fields.last().and_then(|last| match &*last.field {
            "" => rest(&last.description),
            _ => None,
        });
        if unnamed.is_some() {
            fields.pop();
        }
        prop_assert_eq!(fields.len() + unnamed.unwrap_or(0), all);
        let message = node().status(&refusal).message().to_owned();
        let is_whole = message.len() <= MESSAGE_BYTES;
        prop_assert!(is_whole && rest(&message).unwrap_or(0) >= unnamed.unwrap_or(0), "{}", message);
    }
}

#[test]
fn a_long_text_is_cut_between_two_characters_and_says_so() {
    let cut_to = |text: &str, most| cut(text, most).into_owned();
    assert_eq!(cut_to("abcdef", 6), "abcdef");
    assert_eq!(cut_to("abcdefg", 6), "abc…");
    // Each of these has three bytes.
    assert_eq!(cut_to("一二三四", 12), "一二三四");
    assert_eq!(cut_to("一二三四五", 12), "一二三…");
    assert_eq!(cut_to("一二三四五", 11), "一二…");
}
