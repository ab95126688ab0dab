//! Events in JSON, as protobuf maps the messages of `event_service.proto` to it.

use crate::{
    engine::AppEvent,
    grpc::convert::event,
    proto::{self, EventDelivery},
};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use std::sync::LazyLock;

static DELIVERY: LazyLock<MessageDescriptor> =
    LazyLock::new(|| proto::message_type("EventDelivery"));

/// A delivery: an `EventDelivery` with these events.
pub fn delivery(
    process: u64,
    events: &[impl AsRef<AppEvent>],
    gap: Option<&Gap>,
) -> Result<Vec<u8>, String> {
    let delivery = EventDelivery {
        events: events.iter().map(|it| event::event(process, it.as_ref())).collect(),
        gap: gap.map(Gap::told),
    };
    let delivery = DynamicMessage::decode(DELIVERY.clone(), &*delivery.encode_to_vec());
    let delivery = delivery.map_err(|fault| fault.to_string())?;
    serde_json::to_vec(&delivery).map_err(|fault| fault.to_string())
}

/// That events are missing before those of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Tells gaps of a webhook apart; another one when more is missing.
    pub number: u64,
    /// Why.
    pub reason: proto::EventGapReason,
    /// How many, if that is known, or 0.
    pub missing: u64,
    /// Of which app; empty = of all.
    pub app: String,
    /// Of which session; empty = of all of the app.
    pub session: String,
}

impl Gap {
    fn told(&self) -> proto::EventGap {
        let Self { number: _, reason, missing, app, session } = self;
        proto::EventGap {
            reason: (*reason).into(),
            missing: *missing,
            app: app.clone(),
            session_id: session.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
