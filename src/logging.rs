//! Log lines, on stderr: for people as text, for machines as one JSON object a line. However often
//! something happens, it fills no disk: each place in the program that writes lines has a
//! [rate](Rate), and what is over it is counted and reported with the next line from there.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};
use tracing::{
    Event, Level, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer},
    registry::LookupSpan,
};

/// Libraries whose lines are about what peers do: these write errors only, unless the filter names
/// them.
const QUIET: [&str; 4] = ["h2", "hyper", "tonic", "tower"];

/// Those that write nothing unless the filter names them: what they would, the program says itself.
const SILENT: [&str; 1] = ["async_nats"];

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `2026-01-31T12:00:00.000000Z  INFO sessiond: listening address=127.0.0.1:7000`
    Text,
    /// `{"timestamp":"...","level":"INFO","message":"listening","address":"127.0.0.1:7000",...}`
    Json,
}

/// Whether `filter` can be given to [`init`]: directives as `info` or `warn,sessiond=debug`.
pub fn is_filter(filter: &str) -> bool {
    !filter.trim().is_empty() && filter.is_ascii() && EnvFilter::try_new(filter).is_ok()
}

/// Starts logging for the whole process; to be called once.
pub fn init(format: Format, filter: &str) {
    let lines = lines(format, filter, stderr().is_terminal(), stderr, Instant::now);
    tracing::subscriber::set_global_default(lines).expect("logging starts once");
}

/// Writes the lines that a filter lets through.
fn lines<W, C>(
    format: Format,
    filter: &str,
    ansi: bool,
    writer: W,
    clock: C,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
    C: Fn() -> Instant + Send + Sync + 'static,
{
    let quiet = QUIET.map(|library| format!("{library}=error")).join(",");
    let silent = SILENT.map(|library| format!("{library}=off")).join(",");
    let lines = tracing_subscriber::fmt()
        // The last directive of a target counts, and one of a target before one of all.
        .with_env_filter(EnvFilter::new(format!("{quiet},{silent},{filter}")))
        .with_writer(writer)
        .with_ansi(ansi)
        // When stderr cannot be written to, there is nowhere left to say so.
        .log_internal_errors(false);
    let repeats = Mutex::default();
    match format {
        Format::Text => Box::new(
            lines.map_event_format(|line| Sparing { format, line, clock, repeats }).finish(),
        ),
        Format::Json => {
            let lines = lines.json().flatten_event(true);
            Box::new(
                lines.map_event_format(|line| Sparing { format, line, clock, repeats }).finish(),
            )
        }
    }
}

/// How many lines one place in the program writes.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// At once.
    most: u32,
    /// Then one each.
    each: Duration,
}

impl Rate {
    /// What goes wrong is reported at once and then once a minute; a user who asks to see everything
    /// sees a thousand lines a minute.
    fn of(level: Level) -> Self {
        match level {
            Level::ERROR | Level::WARN => Self { most: 1, each: Duration::from_secs(60) },
            _ => Self { most: 1000, each: Duration::from_millis(60) },
        }
    }
}

/// What happens again and again, to be reported at a [`Rate`].
#[derive(Debug, Default)]
struct Repeats {
    untold: u64,
    /// When it may be reported as often as at first again.
    rested_at: Option<Instant>,
}

impl Repeats {
    /// Once more; how often it was since it was reported last, if it is to be reported.
    fn count(&mut self, now: Instant, rate: Rate) -> Option<u64> {
        self.untold += 1;
        let rested_at = self.rested_at.map_or(now, |at| at.max(now)) + rate.each;
        if rested_at > now + rate.each * rate.most {
            return None;
        }
        self.rested_at = Some(rested_at);
        Some(std::mem::take(&mut self.untold))
    }
}

/// What of the settings a line is about, hashed: each hook, webhook and URL is reported at a rate of
/// its own, and so is each fault of a file, as somebody has just changed that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Topic(u64);

/// How many there are at most, with all places: no settings have so many.
const TOPICS: usize = 10_000;

impl Topic {
    const FIELDS: [&str; 5] = ["hook", "webhook", "url", "fault", "faults"];

    fn of(event: &Event<'_>) -> Self {
        let mut topic = Self::default();
        event.record(&mut topic);
        topic
    }
}

impl Visit for Topic {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if Self::FIELDS.contains(&field.name()) {
            let mut hasher = DefaultHasher::new();
            (self.0, field.name(), format!("{value:?}")).hash(&mut hasher);
            self.0 = hasher.finish();
        }
    }
}

/// Leaves out what is over the rate, and says in the next line how often it was: `repeated=12`.
struct Sparing<F, C> {
    format: Format,
    line: F,
    clock: C,
    /// By place, of which there are no more than the program has, and by what the line is about.
    repeats: Mutex<HashMap<(Identifier, Topic), Repeats>>,
}

impl<S, N, F, C> FormatEvent<S, N> for Sparing<F, C>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
    C: Fn() -> Instant,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let rate = Rate::of(*event.metadata().level());
        let (place, topic) = (event.metadata().callsite(), Topic::of(event));
        let times = {
            let mut repeats = self.repeats.lock();
            let topic = if repeats.len() < TOPICS { topic } else { Topic::default() };
            repeats.entry((place, topic)).or_default().count((self.clock)(), rate)
        };
        match times {
            None => Ok(()),
            Some(1) => self.line.format_event(context, writer, event),
            Some(times) => {
                let mut line = String::new();
                self.line.format_event(context, Writer::new(&mut line), event)?;
                let line = line.trim_end();
                match (self.format, line.strip_suffix('}')) {
                    (Format::Json, Some(line)) => writeln!(writer, "{line},\"repeated\":{times}}}"),
                    _ => writeln!(writer, "{line} repeated={times}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
    };

    #[test]
    fn a_filter_is_made_of_directives() {
        for filter in ["info", "OFF", "warn,sessiond=debug", "info,sessiond::engine[tick]=trace"] {
            assert!(is_filter(filter), "{filter}");
        }
        for wrong in ["", " ", "info,sessiond=loud", "a=b=c", "sessiond[=info", "é=info"] {
            assert!(!is_filter(wrong), "{wrong}");
        }
    }

    #[test]
    fn what_goes_wrong_is_told_at_once_and_then_once_a_minute_with_its_number() {
        let (mut repeats, begin) = (Repeats::default(), Instant::now());
        let mut after =
            |seconds| repeats.count(begin + Duration::from_secs(seconds), Rate::of(Level::WARN));
        assert_eq!([0, 1, 59].map(&mut after), [Some(1), None, None]);
        assert_eq!([60, 61, 119].map(&mut after), [Some(3), None, None]);
        assert_eq!(after(3600), Some(3));
    }

    #[test]
    fn what_was_asked_for_is_told_a_thousand_times_a_minute() {
        let (mut repeats, begin) = (Repeats::default(), Instant::now());
        let mut told = |seconds| {
            let now = begin + Duration::from_secs(seconds);
            (0..5000).filter_map(|_| repeats.count(now, Rate::of(Level::DEBUG))).count()
        };
        assert_eq!([0, 6, 66, 3600].map(&mut told), [1000, 100, 1000, 1000]);
    }

    /// What a program logs that may let seconds pass.
    fn logged(format: Format, filter: &str, program: impl FnOnce(&AtomicU64)) -> Vec<String> {
        let written = Written::default();
        let seconds = Arc::new(AtomicU64::new(0));
        let (writer, passed, begin) = (written.clone(), seconds.clone(), Instant::now());
        let clock = move || begin + Duration::from_secs(passed.load(Ordering::Relaxed));
        let lines = lines(format, filter, false, move || writer.clone(), clock);
        tracing::subscriber::with_default(lines, || program(&seconds));
        let text = String::from_utf8(written.0.lock().clone()).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_line_can_be_caused_without_bound() {
        for format in [Format::Text, Format::Json] {
            let lines = logged(format, "trace", |_| {
                for ack in 0..100_000 {
                    tracing::warn!(target: "sessiond", ack, "nobody asked for it");
                    tracing::debug!(ack, "a connection failed");
                }
                tracing::warn!("something else");
            });
            let times = |text| lines.iter().filter(|line| line.contains(text)).count();
            assert_eq!(times("nobody asked for it"), 1);
            assert_eq!(times("a connection failed"), 1000);
            assert_eq!(times("something else"), 1, "each place has a rate of its own");
        }
    }

    #[test]
    fn each_fault_of_the_settings_is_told() {
        let lines = logged(Format::Text, "info", |_| {
            for fault in ["a", "b", "a"] {
                tracing::error!(%fault, "what was read before stays in force");
            }
            for hook in ["door", "gate", "door"] {
                tracing::warn!(hook, app = hook.len(), "a hook failed");
            }
        });
        assert_eq!(lines.len(), 4, "{lines:?}");
    }

    #[test]
    fn a_line_says_how_often_it_was_left_out_before() {
        let lines = |format| {
            logged(format, "info", |seconds| {
                for second in 0..=60 {
                    seconds.store(second, Ordering::Relaxed);
                    tracing::warn!(who = "eve", "refused");
                }
            })
        };
        let text = lines(Format::Text);
        assert_eq!(text.len(), 2);
        assert!(text[0].ends_with("refused who=\"eve\""), "{text:?}");
        assert!(text[1].ends_with("refused who=\"eve\" repeated=60"), "{text:?}");
        let json = lines(Format::Json);
        let json: Vec<serde_json::Value> =
            json.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(json.len(), 2);
        assert!(json.iter().all(|line| line["who"] == "eve" && line["message"] == "refused"));
        assert_eq!((&json[0]["repeated"], &json[1]["repeated"]), (&().into(), &60.into()));
    }

    #[test]
    fn libraries_write_errors_only_unless_the_filter_names_them() {
        let told = |filter| {
            let lines = logged(Format::Text, filter, |_| {
                tracing::warn!(target: "h2::proto::ping_pong", "an ack");
                tracing::error!(target: "h2::proto", "a fault");
                tracing::warn!(target: "tonic::status", "a status");
                tracing::warn!(target: "hyper_util", "a body");
                tracing::warn!(target: "tower", "a layer");
                tracing::error!(target: "async_nats::connector", "a refusal");
                tracing::warn!(target: "sessiond", "its own");
            });
            let text = |line: String| line.split(": ").last().map(str::to_owned);
            lines.into_iter().filter_map(text).collect::<Vec<_>>()
        };
        for filter in ["info", "trace", "trace,sessiond=info"] {
            assert_eq!(told(filter), ["a fault", "its own"], "{filter}");
        }
        assert_eq!(told("info,h2=warn"), ["an ack", "a fault", "its own"]);
        assert_eq!(told("info,async_nats=error"), ["a fault", "a refusal", "its own"]);
        assert_eq!(told("error,h2::proto::ping_pong=trace,tonic=debug").len(), 3);
    }
}
