//! Which app the first message of a call is about, read without the rest: that decides who answers it.
//! The node that answers then says what is wrong with the message.

use super::{compression, convert::door::DEFAULT_APP, encode::PREFIX, field};
use bytes::Bytes;
use prost::{
    bytes::Buf,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

/// The field of the app: of all requests the same.
const APP: u32 = field::get_session_info_request::APP;

/// The calls whose app stands in a part of the first message: in which field that is, and in which one
/// of it the app.
const WITHIN: [(&str, u32, u32); 2] = [
    (
        "/sessiond.v1.DeliveryService/StreamUserProps",
        field::stream_user_props_request::OPEN,
        field::stream_open::APP,
    ),
    (
        "/sessiond.v1.DeliveryService/Gateway",
        field::gateway_request::HELLO,
        field::gateway_hello::APP,
    ),
];

/// The app that a message names, whose prefix comes first; the one by default if it names none that
/// can be read.
/// What is compressed has at most `most` bytes.
pub fn app_of(path: &str, message: &Bytes, is_gzip: bool, most: usize) -> String {
    let Some((&[flag, ..], _)) = message.split_first_chunk::<PREFIX>() else {
        return DEFAULT_APP.to_owned();
    };
    let message = message.slice(PREFIX..);
    let message = match flag {
        0 => message,
        _ if is_gzip => compression::inflate(&message, most).unwrap_or_default(),
        _ => return DEFAULT_APP.to_owned(),
    };
    let within = WITHIN.iter().find(|(other, ..)| *other == path);
    let app = match within {
        None => last(message, APP),
        // Parts that come twice are merged.
        Some((_, part, app)) => {
            parts(message, *part).into_iter().filter_map(|it| last(it, *app)).last()
        }
    };
    let app = app.and_then(|app| String::from_utf8(app.into()).ok()).unwrap_or_default();
    if app.is_empty() { DEFAULT_APP.to_owned() } else { app }
}

/// What a message ends with as the value of a field of bytes.
fn last(message: Bytes, wanted: u32) -> Option<Bytes> {
    parts(message, wanted).pop()
}

/// Each value of a field of bytes, as far as the message can be read.
fn parts(mut message: Bytes, wanted: u32) -> Vec<Bytes> {
    let mut found = Vec::new();
    while message.has_remaining() {
        let Ok((number, kind)) = decode_key(&mut message) else { break };
        if number == wanted && kind == WireType::LengthDelimited {
            let Ok(length) = decode_varint(&mut message) else { break };
            if length > message.remaining() as u64 {
                break;
            }
            found.push(message.split_to(length as usize));
        } else if skip_field(kind, number, &mut message, DecodeContext::default()).is_err() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{self, stream_user_props_request};
    use prost::Message;
    use prost_types::FileDescriptorSet;

    fn framed(message: &impl Message) -> Bytes {
        let mut bytes = vec![0; PREFIX];
        bytes[1..].copy_from_slice(&(message.encoded_len() as u32).to_be_bytes());
        message.encode(&mut bytes).expect("there is room");
        bytes.into()
    }

    fn found(path: &str, message: &Bytes) -> String {
        app_of(path, message, false, 1 << 16)
    }

    #[test]
    fn each_call_names_its_app_in_the_same_field_or_in_its_first_part() {
        let files = FileDescriptorSet::decode(proto::DESCRIPTORS).expect("descriptors");
        let own = files.file.iter().filter(|file| file.package() == "sessiond.v1");
        let (mut services, mut messages) = (Vec::new(), Vec::new());
        for file in own {
            services.extend(&file.service);
            messages.extend(&file.message_type);
        }
        let message = |name: &str| {
            let name = name.rsplit('.').next().unwrap_or_default();
            *messages.iter().find(|message| message.name() == name).expect("it is there")
        };
        for service in
            services.iter().filter(|it| !["AdminService", "HookService"].contains(&it.name()))
        {
            for method in &service.method {
                let path = format!("/sessiond.v1.{}/{}", service.name(), method.name());
                let (mut request, mut number) = (message(method.input_type()), APP);
                if let Some((_, part, app)) = WITHIN.iter().find(|(other, ..)| *other == path) {
                    let part = request.field.iter().find(|field| field.number() == *part as i32);
                    request = message(part.expect("it has the part").type_name());
                    number = *app;
                }
                let app = request.field.iter().find(|field| field.name() == "app");
                assert_eq!(app.map(|app| app.number()), Some(number as i32), "{path}");
            }
        }
    }

    #[test]
    fn the_app_is_found_wherever_it_stands() {
        let path = "/sessiond.v1.SessionService/GetSessionInfo";
        let request = proto::GetSessionInfoRequest { app: "games".into(), ..Default::default() };
        assert_eq!(found(path, &framed(&request)), "games");
        let open = proto::StreamOpen { app: "chat".into(), ..Default::default() };
        let open = stream_user_props_request::Message::Open(open);
        let request = proto::StreamUserPropsRequest { message: Some(open), ..Default::default() };
        assert_eq!(found(WITHIN[0].0, &framed(&request)), "chat");
        let hello = proto::GatewayHello { app: "iot".into(), ..Default::default() };
        let request = proto::GatewayRequest { hello: Some(hello), ..Default::default() };
        assert_eq!(found(WITHIN[1].0, &framed(&request)), "iot");
        // The last one counts, as it does for a decoder.
        let twice: Bytes = [&framed(&request)[PREFIX..], b"\x12\x05\x12\x03two"].concat().into();
        let twice: Bytes = [&[0, 0, 0, 0, twice.len() as u8], &twice[..]].concat().into();
        assert_eq!(found(WITHIN[1].0, &twice), "two");
    }

    #[test]
    fn a_message_that_cannot_be_read_names_no_app() {
        let path = "/sessiond.v1.SessionService/GetSessionInfo";
        for bytes in
            [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02\x0a\x09", b"\0\0\0\0\x01\xff", b"\x01\0\0\0\0"]
        {
            assert_eq!(found(path, &Bytes::copy_from_slice(bytes)), DEFAULT_APP);
        }
        let request =
            framed(&proto::GetSessionInfoRequest { app: "games".into(), ..Default::default() });
        for end in 0..request.len() {
            found(path, &request.slice(..end));
        }
    }
}
