//! What a check costs, with a token that is remembered and one that is not.
//! `cargo test --test identity measure -- --ignored --nocapture`

use super::support::*;
use serde_json::json;
use std::time::Instant;

#[test]
#[ignore = "it measures"]
fn a_check() {
    const TOKENS: usize = 500;
    let (_folder, identity) = standard();
    for (algorithm, kid) in ALGORITHMS {
        let header = format!(r#"{{"alg":"{algorithm:?}","kid":"{kid}"}}"#);
        let key = signer(algorithm);
        let token = |number: usize| {
            let claims = claims_with(json!({ "jti": format!("{algorithm:?}-{number}") }));
            sign(&header, &claims.to_string(), &key, algorithm)
        };
        let tokens: Vec<_> = (0..TOKENS).map(token).collect();
        let each = || {
            let start = Instant::now();
            for token in &tokens {
                check(&identity, token, NOW).unwrap();
            }
            start.elapsed().as_nanos() as f64 / TOKENS as f64 / 1000.0
        };
        let (first, again) = (each(), each());
        println!("{algorithm:?}: {first:.1} us, {again:.1} us when it is remembered");
    }
}
