//! Whatever is presented, nothing panics, and nothing but a good credential is accepted.

use super::support::*;
use proptest::prelude::*;
use sessiond::identity::{Certificate, Identity, Presented, api_key::ApiKey};
use std::sync::{Arc, LazyLock};

static STAGE: LazyLock<(Folder, Arc<Identity>)> = LazyLock::new(standard);
static SETTINGS: LazyLock<Folder> = LazyLock::new(Folder::new);

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn any_bytes_are_refused(value in proptest::collection::vec(any::<u8>(), 0..400), now: u64) {
        let bearer = [b"Bearer ", &value[..]].concat();
        let key = [b"Bearer sessiond_", &value[..]].concat();
        for value in [&value, &bearer, &key] {
            prop_assert!(check_values(&STAGE.1, &[value], now).is_err());
        }
    }

    #[test]
    fn any_three_parts_are_refused(head in "[ -~]{0,60}", claims in "\\PC{0,80}", tail: Vec<u8>) {
        let token = format!("{}.{}.{}", b64(head), b64(claims), b64(tail));
        prop_assert!(check(&STAGE.1, &token, NOW).is_err());
    }

    #[test]
    fn any_claims_that_are_signed_are_judged_without_panic(
        name in "exp|nbf|iat|sub|app|apps|scope|aud|iss|sessions|role|jti",
        value in json(),
    ) {
        let mut claims = claims();
        claims[name] = value;
        let _ = check(&STAGE.1, &token(&claims), NOW);
    }

    #[test]
    fn any_certificate_is_judged_without_panic(subject: String, dns: Vec<String>) {
        let certificate = Certificate { subject, dns, ..Certificate::default() };
        let presented = Presented { authorization: &[], certificate: Some(&certificate) };
        prop_assert!(STAGE.1.check(&presented, NOW).is_err());
    }

    #[test]
    fn any_text_is_no_key(text: Vec<u8>) {
        prop_assert!(ApiKey::read(&text).is_none());
    }

    #[test]
    fn any_settings_are_read_or_refused(text in "(\\[\\[|\\[|\\]|issuers|keys|certificates|revocations|=|\"|\\n|\\.| |1|a){0,60}") {
        prop_assert!(SETTINGS.try_identity(&text).is_err());
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        "user|games|sessiond|owner".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
