use super::*;
use crate::{
    cluster::{MoveRefused, NotTold},
    engine::{AppLimit, Refusal as Engine, asked::Verdict},
    object_stream::Refusal as Objects,
    session::{
        error::{Limit, Rate, Refusal as Rule},
        ids::{AppId, SessionId},
        role::Role,
    },
};
use http::HeaderMap;
use proptest::{collection, prelude::*};
use prost::Message;

/// Bytes of trailers that every client takes.
const TRAILERS_BYTES: usize = 8 * 1024;

/// Bytes of a refusal that goes in a message.
const IN_BAND_BYTES: usize = 4 * 1024;

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

/// Lists of every variant: one that is forgotten does not compile.
macro_rules! every_variant {
    ($name:ident of $kind:ident: $text:ident, $number:ident, $faults:ident;
     $($pattern:pat => $refusal:expr;)*) => {
        #[allow(unused_variables)]
        fn $name($text: &str, $number: u64, $faults: &[Violation]) -> Vec<Refusal> {
            #[allow(dead_code)]
            fn is_listed(refusal: &$kind) {
                match refusal { $($pattern => {})* }
            }
            let listed: Vec<$kind> = vec![$($refusal),*];
            listed.into_iter().map(Into::into).collect()
        }
    };
}

every_variant! {
    every_rule of Rule: text, number, faults;
    Rule::Invalid(_) => Rule::Invalid(faults.to_vec());
    Rule::SessionNotFound => Rule::SessionNotFound;
    Rule::NotAMember => Rule::NotAMember;
    Rule::WrongPassword => Rule::WrongPassword;
    Rule::Locked => Rule::Locked;
    Rule::Full { .. } => Rule::Full { capacity: number as usize };
    Rule::RoleTooLow { .. } => Rule::RoleTooLow { needs: Role::Owner };
    Rule::NotAWriter(_) => Rule::NotAWriter(faults.to_vec());
    Rule::SessionIdNeeded => Rule::SessionIdNeeded;
    Rule::NotJudged => Rule::NotJudged;
    Rule::NeedsHost => Rule::NeedsHost;
    Rule::NeedsSource => Rule::NeedsSource;
    Rule::NotOfThePair => Rule::NotOfThePair;
    Rule::TargetRank => Rule::TargetRank;
    Rule::Banned { .. } => Rule::Banned { until: Some(number % 253_402_300_000_000_000) };
    Rule::BanNotFound => Rule::BanNotFound;
    Rule::MemberNotFound => Rule::MemberNotFound;
    Rule::NoCandidate => Rule::NoCandidate;
    Rule::WrongKind => Rule::WrongKind;
    Rule::RevisionChanged(_) => Rule::RevisionChanged(faults.to_vec());
    Rule::UnknownPosition => Rule::UnknownPosition;
    Rule::StaleTerm { .. } => Rule::StaleTerm { current: number };
    Rule::NotTheHost => Rule::NotTheHost;
    Rule::LimitReached { .. } =>
        Rule::LimitReached { limit: Limit::PropsPerUser, most: number as usize };
    Rule::RateLimited { .. } =>
        Rule::RateLimited { rate: Rate::Changes, per_second: number, retry_after: number };
    Rule::OfUser { .. } =>
        Rule::OfUser { at: number as usize, why: Box::new(Rule::Invalid(faults.to_vec())) };
}

every_variant! {
    every_of_engine of Engine: text, number, faults;
    Engine::Rules(_) => Engine::NOT_FOUND;
    Engine::SessionExists => Engine::SessionExists;
    Engine::NameTaken => Engine::NameTaken;
    Engine::AlreadyInSession { .. } =>
        Engine::AlreadyInSession { session: SessionId::new(&"\u{1f300}".repeat(32)).ok() };
    Engine::NoConsent => Engine::NoConsent;
    Engine::TooManyGuesses { .. } =>
        Engine::TooManyGuesses { most: number, each: number, retry_after: number };
    Engine::PasswordsBusy { .. } =>
        Engine::PasswordsBusy { limit: "passwords", most: number as usize, retry_after: number };
    Engine::RequestIdReused { .. } => Engine::RequestIdReused { field: "write.request_id" };
    Engine::LimitReached { .. } =>
        Engine::LimitReached { limit: "sessions", most: number as usize };
    Engine::AppLimit { .. } => Engine::AppLimit {
        app: AppId::new(&"\u{1f300}".repeat(32)).expect("an id"),
        limit: AppLimit::PasswordTime,
        most: number % 64_000_000,
        retry_after: Some(number),
    };
    Engine::OfUser { .. } =>
        Engine::OfUser { at: number as usize, why: Box::new(Engine::SessionExists) };
    Engine::Judged(_) => Engine::Judged(Box::new(Verdict::Rule {
        name: text.into(),
        message: text.into(),
        why: Some(text.to_owned()),
    }));
    Engine::NotJudged { .. } =>
        Engine::NotJudged { session: SessionId::new("somewhere").expect("an id") };
    Engine::NoStore => Engine::NoStore;
    Engine::StoreFull => Engine::StoreFull;
    Engine::Starting => Engine::Starting;
    Engine::Draining => Engine::Draining;
}

every_variant! {
    every_of_objects of Objects: text, number, faults;
    Objects::Invalid(_) => Objects::Invalid(faults.to_vec());
    Objects::NotFound => Objects::NotFound;
    Objects::NameTaken => Objects::NameTaken;
    Objects::NeedsCreator => Objects::NeedsCreator;
    Objects::FunctionNotFound => Objects::FunctionNotFound;
    Objects::BadExpression(_) => Objects::BadExpression(text.to_owned());
    Objects::LimitReached { .. } =>
        Objects::LimitReached { limit: "streams", most: number as usize };
}

every_variant! {
    every_of_calls of Refusal: text, number, faults;
    Refusal::NoView => Refusal::NoView;
    Refusal::NotOwner => Refusal::NotOwner;
    Refusal::NodeLost { .. } =>
        Refusal::NodeLost { is_stream: number.is_multiple_of(2), retry_after: number };
    Refusal::Overloaded { .. } => Refusal::Overloaded { retry_after: number };
    Refusal::UnknownHandle { .. } => Refusal::UnknownHandle { handle: number as u32 };
    Refusal::MoreRefused { .. } => Refusal::MoreRefused { others: number as usize };
    Refusal::Rules(_) => Refusal::NOT_FOUND;
    Refusal::Engine(_) => Refusal::DRAINING;
    Refusal::Objects(_) => Refusal::Objects(Objects::NotFound);
    Refusal::Invalid(_) => Refusal::Invalid(faults.to_vec());
    Refusal::NotEntitled => Refusal::NotEntitled;
    Refusal::Uncovered(_) => Refusal::Uncovered(crate::grpc::error::Uncovered::OtherSessions);
    Refusal::NoIdentity => Refusal::NoIdentity;
    Refusal::NoCluster => Refusal::NoCluster;
    Refusal::NotTold(_) => Refusal::NotTold(NotTold::Failed(text.to_owned()));
    Refusal::NotMoved(_) => Refusal::NotMoved(MoveRefused::NoSuchNode(text.to_owned()));
    Refusal::KeysUnavailable { .. } => Refusal::KeysUnavailable { why: text.to_owned() };
    Refusal::Unauthenticated { .. } =>
        Refusal::Unauthenticated { why: text.to_owned(), fault: crate::grpc::error::CredentialFault::Expired };
    Refusal::TooManyRefused { .. } =>
        Refusal::TooManyRefused { most: number, retry_after: number };
    Refusal::NotImplemented { .. } => Refusal::NotImplemented { field: text.to_owned() };
    Refusal::Of { .. } => Refusal::Rules(Rule::NotAWriter(faults.to_vec())).of(text);
    Refusal::Malformed(_) => Refusal::Malformed(text.to_owned());
    Refusal::MessageTooLarge { .. } => Refusal::MessageTooLarge { most: number as usize };
    Refusal::ReplyTooLarge { .. } => Refusal::ReplyTooLarge { most: number as usize };
    Refusal::SeqNotRising { .. } => Refusal::SeqNotRising { seq: number, last: number };
    Refusal::Subscription { .. } => Refusal::Subscription {
        field: text.to_owned(),
        why: Box::new(Refusal::Invalid(faults.to_vec()).of(text)),
    };
    Refusal::WrongFirstMessage(_) => Refusal::WrongFirstMessage("must open the stream");
}

fn every_refusal(text: &str, number: u64, faults: &[Violation]) -> Vec<Refusal> {
    [every_rule, every_of_engine, every_of_objects, every_of_calls]
        .into_iter()
        .flat_map(|every| every(text, number, faults))
        .collect()
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
            let status = node().status_with(&refusal, &About::default(), [("acked_seq", number.to_string())]);
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
            let told = in_band(&refusal, number, "s".repeat(128), &about);
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
        let in_band = in_band(&refusal, 0, String::new(), &About::default()).fields;
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
