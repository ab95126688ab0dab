//! Questions and answers as protobuf writes them in JSON.

use crate::proto::{self, AuthorizeRequest, AuthorizeResponse};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use std::sync::LazyLock;

static TYPES: LazyLock<[MessageDescriptor; 2]> =
    LazyLock::new(|| ["AuthorizeRequest", "AuthorizeResponse"].map(proto::message_type));

/// A question as JSON.
pub fn question(question: &AuthorizeRequest) -> Result<Vec<u8>, String> {
    let message = DynamicMessage::decode(TYPES[0].clone(), &*question.encode_to_vec());
    let message = message.map_err(|fault| fault.to_string())?;
    serde_json::to_vec(&message).map_err(|fault| fault.to_string())
}

/// The answer that JSON is.
pub fn answer(json: &[u8]) -> Result<AuthorizeResponse, String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize(TYPES[1].clone(), &mut reader);
    // What it quotes of the answer is not for logs.
    let place = |fault: serde_json::Error| {
        format!(
            "its answer is no AuthorizeResponse, at line {} column {}",
            fault.line(),
            fault.column()
        )
    };
    let message = message.map_err(place)?;
    reader.end().map_err(place)?;
    AuthorizeResponse::decode(&*message.encode_to_vec())
        .map_err(|_| "its answer is too deep".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_protobuf_writes_it() {
        let json = br#"{"allowed": true, "set": {"x": {"integer": "7"}}, "omit": ["y"],
            "role": "ROLE_SPECTATOR", "settings": {"capacity": 3}, "settingsMask": "capacity,locked"}"#;
        let read = answer(json).expect("it is one");
        assert!(read.allowed && read.omit == ["y"] && read.role() == proto::Role::Spectator);
        let settings = read.settings.as_ref().and_then(|settings| settings.capacity);
        assert_eq!(settings, Some(3));
        let mask = read.settings_mask.expect("it is there");
        assert_eq!(mask.paths, ["capacity", "locked"]);
        for nonsense in
            [&b""[..], b"true", b"{\"alowed\": true}", b"{\"allowed\": true} x", b"\xff"]
        {
            assert!(answer(nonsense).is_err());
        }
    }

    #[test]
    fn a_question_is_written_as_protobuf_reads_it() {
        let asked = AuthorizeRequest {
            operation: proto::JudgedOperation::Join.into(),
            user_id: "ada".to_owned(),
            ..Default::default()
        };
        let json = question(&asked).expect("it is written");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("it is JSON");
        assert_eq!(
            json,
            serde_json::json!({"operation": "JUDGED_OPERATION_JOIN", "userId": "ada"})
        );
    }
}
