//! The examples of RFC 7515 and RFC 8037. Their claims are none of ours, so a signature that is right
//! shows in what is refused: a claim, and no signature.

use super::support::*;
use sessiond::identity::Denied;

const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

/// While the tokens of RFC 7515 were valid.
const THEN: u64 = 1_300_819_000 * SECOND;

const KEYS: &str = r#"{"keys":[
{"kty":"oct","alg":"HS256","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"},
{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
]}"#;

#[test]
fn the_examples_of_the_rfcs_are_signed_right() {
    let folder = Folder::new();
    folder.write_secret("keys.json", KEYS.as_bytes());
    let identity = folder.identity(
        r#"
        [[issuers]]
        issuer = "joe"
        apps = "*"
        [[issuers.keys]]
        jwks-file = "keys.json"
        algorithms = ["HS256", "RS256", "ES256", "EdDSA"]
        "#,
    );
    let scope = Denied::Claim { claim: "scope", fault: "is missing" };
    let no_object = Denied::Malformed("its claims are not one JSON object without repeated names");
    for (header, claims, signature, expected) in [
        (
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            CLAIMS,
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            scope,
        ),
        (
            "eyJhbGciOiJSUzI1NiJ9",
            CLAIMS,
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
            scope,
        ),
        (
            "eyJhbGciOiJFUzI1NiJ9",
            CLAIMS,
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            scope,
        ),
        (
            "eyJhbGciOiJFZERTQSJ9",
            "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            no_object,
        ),
    ] {
        let token = format!("{header}.{claims}.{signature}");
        assert_eq!(check(&identity, &token, THEN), Err(expected), "{header}");
        let changed = format!("{header}.{claims}.A{}", &signature[1..]);
        assert_eq!(check(&identity, &changed, THEN), Err(Denied::Signature), "{header}");
    }
    // The example without a signature.
    let token = format!("eyJhbGciOiJub25lIn0.{CLAIMS}.");
    assert_eq!(check(&identity, &token, THEN), Err(Denied::Algorithm));
}
