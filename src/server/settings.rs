//! What the parts of a server are set to.

use super::{StartError, census::Bounds, http2::account::MOST_UNREAD};
use crate::{
    config::Config,
    engine::{EngineSettings, EventBounds, KeepingSettings, rule::JudgedApps},
    grpc::StreamSettings,
    object_stream,
    session::{
        limits::{Limits, Micros, NOTES},
        settings::Durability,
    },
};
use std::time::Duration;

fn micros(span: Duration) -> Micros {
    span.as_micros() as Micros
}

/// Refuses that sessions are stored by default where there is nothing to store them.
pub fn check_durability(config: &Config) -> Result<(), StartError> {
    let name = match config.durability {
        Some(Durability::Async) => "async",
        Some(Durability::Sync) => "sync",
        Some(Durability::None) | None => return Ok(()),
    };
    let is_stored = config.store.is_some() || config.cluster.is_some();
    if is_stored { Ok(()) } else { Err(StartError::NoStore(name)) }
}

/// Of an engine.
pub fn engine(config: &Config, judged: JudgedApps) -> EngineSettings {
    EngineSettings {
        shards: config.threads,
        tick: micros(config.tick_interval),
        user_ttl: micros(config.user_ttl),
        max_sessions: config.max_sessions,
        max_users: config.max_users,
        max_sessions_per_user: config.max_sessions_per_user,
        max_listeners_per_user: config.max_listeners_per_user,
        max_replay_bytes: config.max_replay_bytes,
        max_updates_per_second: config.max_updates_per_second as u64,
        max_changes_per_second: config.max_changes_per_second as u64,
        max_logs_bytes: config.max_logs_bytes,
        events: EventBounds {
            events: config.max_journal_events,
            bytes: config.max_journal_bytes,
            all_bytes: config.max_journals_bytes,
            watchers: config.max_event_watchers,
        },
        judged,
        keeping: (config.store.is_some() || config.cluster.is_some()).then(|| KeepingSettings {
            interval: micros(config.store_interval),
            durability: config.durability.unwrap_or(Durability::Async),
        }),
        limits: Limits {
            key_bytes: config.max_key_bytes,
            value_bytes: config.max_value_bytes,
            nesting: config.max_nesting,
            props_per_user: config.max_props_per_user,
            members: config.max_members,
            removals: config.max_removals,
            removal_memory: micros(config.removal_memory),
            join_timeout: micros(config.join_timeout),
            log_updates: config.max_log_updates,
            log_bytes: config.max_log_bytes,
            log_memory: micros(config.log_memory),
            notes: NOTES,
        },
    }
}

/// Of connections.
pub fn bounds(config: &Config) -> Bounds {
    Bounds {
        connections: config.max_connections,
        connections_per_address: config.max_connections_per_address,
        new_per_address: config.max_new_connections_per_address,
        streams_per_address: config.max_streams_per_address,
        handshakes_per_address: config.max_handshakes_per_address,
        unsent: config.max_unsent_bytes,
        unread: MOST_UNREAD,
        are_nodes: false,
    }
}

/// Of object streams.
pub fn objects(config: &Config) -> object_stream::Bounds {
    object_stream::Bounds {
        streams: config.max_object_streams,
        value_bytes: config.max_value_bytes,
    }
}

/// Of streams.
pub fn streams(config: &Config) -> StreamSettings {
    StreamSettings {
        max_request_bytes: config.max_request_bytes,
        max_gateway_bytes: config.max_gateway_request_bytes,
        max_gateway_users: config.max_gateway_users,
        drain_notice: micros(config.drain_notice),
        heartbeat: micros(config.heartbeat_interval),
        slow_limit: micros(config.slow_limit),
        first_message: micros(config.first_message_timeout),
        max_age: config.stream_max_age.map(micros),
        drain_spread: micros(config.drain_spread),
    }
}
