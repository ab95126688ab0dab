//! WatchEvents as tests read it.

use super::{GLANCE, Refused, Service, in_time, streams::Ending};
use sessiond::proto::{
    Event, EventActorKind, EventGap, EventJournal, EventStart, WatchEventsRequest,
    WatchEventsResponse, event::What, event_service_client::EventServiceClient,
};
use tokio::time::timeout;
use tonic::{Status, Streaming};

/// A stream of events.
pub struct EventsWatcher {
    down: Streaming<WatchEventsResponse>,
    /// Where to continue.
    pub cursor: String,
    /// The gaps that it was told of.
    pub gaps: Vec<EventGap>,
    /// What the journal had in the beginning.
    pub journal: EventJournal,
    /// How many messages came.
    pub messages: usize,
}

impl EventsWatcher {
    /// A stream that was answered; returns with the first message read, and its events.
    pub async fn begin(down: Streaming<WatchEventsResponse>) -> Result<(Self, Vec<Event>), Status> {
        let (cursor, gaps, journal, messages) = Default::default();
        let mut watcher = Self { down, cursor, gaps, journal, messages };
        let first = watcher.next_message().await?;
        watcher.journal = first.journal.expect("the first message says what there is");
        Ok((watcher, first.events))
    }

    /// The next message, or how the stream ended.
    pub async fn next_message(&mut self) -> Result<WatchEventsResponse, Status> {
        let message = in_time(self.down.message()).await?;
        let message = message.ok_or_else(|| Status::ok("the stream is over"))?;
        assert_eq!(message.journal.is_some(), self.messages == 0, "in the first message only");
        self.messages += 1;
        if message.go_away.is_none() {
            assert!(!message.cursor.is_empty(), "every message says where it is");
            self.cursor.clone_from(&message.cursor);
        }
        self.gaps.extend(message.gap.clone());
        Ok(message)
    }

    /// The next message with events: its events.
    pub async fn next(&mut self) -> Vec<Event> {
        loop {
            let message = self.next_message().await.expect("the stream goes on");
            if !message.events.is_empty() {
                return message.events;
            }
        }
    }

    /// The events of a message that is there or about to come; none = nothing came for a short while.
    pub async fn glance(&mut self) -> Option<Vec<Event>> {
        timeout(GLANCE, self.next()).await.ok()
    }

    /// Reads on to the end.
    pub async fn end(&mut self) -> Ending {
        let mut go_away = None;
        loop {
            match self.next_message().await {
                Ok(message) => go_away = message.go_away.or(go_away),
                Err(status) => return Ending { ended: None, go_away, status },
            }
        }
    }
}

impl Service {
    /// Watches events with the first message read; returns its events too.
    pub async fn open_events(
        &self,
        request: WatchEventsRequest,
    ) -> Result<(EventsWatcher, Vec<Event>), Status> {
        let mut client = EventServiceClient::new(self.channel());
        let answer = in_time(client.watch_events(request)).await;
        EventsWatcher::begin(super::node_of(answer.expect("streams are refused in their trailers")))
            .await
    }

    /// Watches what happens in the default app from now on.
    pub async fn watch_events(&self) -> EventsWatcher {
        let (watcher, events) = self.open_events(Default::default()).await.expect("it opens");
        assert!(events.is_empty(), "it begins with the next event: {events:?}");
        watcher
    }

    /// The refusal of such a call.
    pub async fn refused_events(&self, request: WatchEventsRequest) -> Refused {
        let answer = self.open_events(request).await;
        super::refused(answer.map(|(watcher, _)| watcher.cursor))
    }

    /// Everything that the journal of an app has.
    pub async fn all_events(&self, app: &str) -> Vec<Event> {
        let start = EventStart::Earliest.into();
        let request = WatchEventsRequest { app: app.to_owned(), start, ..Default::default() };
        let (mut watcher, mut events) = self.open_events(request).await.expect("it opens");
        let journal = watcher.journal;
        while events.last().map_or(journal.first_sequence, |it| it.sequence + 1)
            < journal.next_sequence
        {
            events.extend(watcher.next().await);
        }
        events
    }
}

/// An event in a line: what, to whom, details, and who did it.
pub fn line(event: &Event) -> String {
    let what = event.what.as_ref().expect("every event says what happened");
    let (name, told) = match what {
        What::SessionOpened(it) => ("opened", format!("{:?}", it.kind())),
        What::SessionEnded(it) => ("ended", format!("{:?}", it.reason())),
        What::UserJoined(it) => ("joined", format!("{:?}", it.role())),
        What::UserLeft(it) => ("left", format!("{:?}", it.reason())),
        What::RoleChanged(it) => ("role", format!("{:?} to {:?}", it.from_role(), it.to_role())),
        What::OwnerChanged(it) => ("owner", format!("after {:?}", it.from_user_id)),
        What::HostChanged(it) => ("host", format!("after {:?} term {}", it.from_user_id, it.term)),
        What::UserKicked(it) => ("kicked", it.reason.clone()),
        What::UserBanned(it) => ("banned", it.reason.clone()),
        What::UserUnbanned(_) => ("unbanned", String::new()),
        What::SettingsChanged(it) => ("settings", it.names.join("+")),
        What::SessionReset(it) => ("reset", format!("new schema {}", it.new_schema)),
        What::SeatsReserved(it) => ("reserved", it.user_ids.join("+")),
        What::SeatsReleased(it) => ("released", it.user_ids.join("+")),
        What::CredentialsRevoked(it) => ("revoked", format!("{:?}", it.revocation)),
        What::CredentialsRestored(it) => ("restored", format!("{:?}", it.revocation)),
        What::HookRefused(it) => {
            let reason = match &*it.reason {
                "" => String::new(),
                reason => format!(" ({reason})"),
            };
            ("hook", format!("{} {:?}: {}{reason}", it.hook, it.operation(), it.message))
        }
        What::RuleRefused(it) => {
            let why = if it.not_evaluated { " (not evaluated)" } else { "" };
            ("rule", format!("{} {:?}: {}{why}", it.rule, it.operation(), it.message))
        }
    };
    let actor = event.actor.as_ref().expect("every event says who");
    let by = match actor.kind() {
        EventActorKind::User => actor.user_id.clone(),
        EventActorKind::App => "the app".to_owned(),
        EventActorKind::Service => "nobody".to_owned(),
        EventActorKind::Unspecified => panic!("never sent"),
    };
    let words = [name, &event.user_id, &told].into_iter().filter(|it| !it.is_empty());
    format!("{} by {by}", words.collect::<Vec<_>>().join(" "))
}

/// The same of several.
pub fn lines(events: &[Event]) -> Vec<String> {
    events.iter().map(line).collect()
}
