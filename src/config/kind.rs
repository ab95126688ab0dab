//! What the value of a setting may be: how its text is read, and what people learn about it.

use super::{listen::Listen, networks::Networks};
use crate::{logging, session::settings::Durability};
use std::{path::PathBuf, time::Duration};

/// The values a setting takes.
pub struct Kind<T> {
    /// The word that stands for the value in the help.
    pub value_name: &'static str,
    /// The values in words; completes "expected ...".
    pub takes: String,
    /// Nothing, for a text that is no such value or is out of range.
    pub read: Read<T>,
}

type Read<T> = Box<dyn Fn(&str) -> Option<T>>;

impl<T> Kind<T> {
    fn new(
        value_name: &'static str,
        takes: impl Into<String>,
        read: impl Fn(&str) -> Option<T> + 'static,
    ) -> Self {
        Kind { value_name, takes: takes.into(), read: Box::new(read) }
    }
}

pub fn duration(range: &str) -> Kind<Duration> {
    Kind::new("DURATION", format!("a duration in {range}"), within(range, read_duration))
}

/// A duration, or 0 for none.
pub fn duration_or_none(range: &str) -> Kind<Option<Duration>> {
    let within = within(range, read_duration);
    let read = move |text: &str| match read_duration(text)? {
        Duration::ZERO => Some(None),
        _ => within(text).map(Some),
    };
    Kind::new("DURATION", format!("0 or a duration in {range}"), read)
}

pub fn bytes(range: &str) -> Kind<usize> {
    Kind::new("SIZE", format!("a size in {range}"), within(range, read_bytes))
}

pub fn count(range: &str) -> Kind<usize> {
    Kind::new("COUNT", format!("a count in {range}"), within(range, read_count))
}

/// The word that stands for the value of a [`switch`].
pub const SWITCH: &str = "SWITCH";

/// Something that is allowed or not.
pub fn switch() -> Kind<bool> {
    Kind::new(SWITCH, "true or false", |text| text.parse().ok())
}

/// The same, or none: what suits the other settings.
pub fn switch_or_auto() -> Kind<Option<bool>> {
    Kind::new(SWITCH, "auto, true or false", |text| match text {
        "auto" => Some(None),
        text => text.parse().ok().map(Some),
    })
}

pub fn listen() -> Kind<Listen> {
    Kind::new("HOST:PORT", "HOST:PORT, :PORT or PORT", Listen::read)
}

/// Where to listen, or none.
pub fn listen_or_none() -> Kind<Option<Listen>> {
    Kind::new("HOST:PORT", "none, HOST:PORT, :PORT or PORT", |text| match text {
        "none" => Some(None),
        text => Listen::read(text).map(Some),
    })
}

/// Networks, or none.
pub fn networks() -> Kind<Networks> {
    Kind::new("NETWORKS", "none or networks such as 10.0.0.0/8,2001:db8::1", Networks::of)
}

/// Sent as metadata, hence ASCII, and without outer blanks, which would be lost on the way.
pub fn node_name() -> Kind<String> {
    Kind::new("NAME", "1..128 printable ASCII characters", |text| {
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let fits = (1..=128).contains(&text.len()) && text.trim() == text;
        (printable && fits).then(|| text.to_owned())
    })
}

/// URLs with commas between, or none. The code that opens them says what is wrong with one.
pub fn urls_or_none() -> Kind<Option<String>> {
    Kind::new("URLS", "none or URLs such as nats://nats-1:4222,nats://nats-2:4222", |text| {
        match text {
            "none" => Some(None),
            text if text.is_empty() || text.chars().any(|it| it.is_control() || it == ' ') => None,
            text => Some(Some(text.to_owned())),
        }
    })
}

/// Part of the names of subjects and streams of NATS.
pub fn cluster_name() -> Kind<String> {
    Kind::new("NAME", "1..32 of A-Z, a-z, 0-9, - and _", |text| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let fits = (1..=32).contains(&text.len()) && text.bytes().all(is_part);
        fits.then(|| text.to_owned())
    })
}

/// A host and a port, or none.
pub fn host_and_port_or_none() -> Kind<Option<String>> {
    Kind::new("HOST:PORT", "none or HOST:PORT", |text| match text {
        "none" => Some(None),
        text => {
            let (host, port) = text.rsplit_once(':')?;
            let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
            let fits = is_port && port.parse().is_ok_and(|port: u16| port > 0);
            let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
            (fits && is_host).then(|| Some(text.to_owned()))
        }
    })
}

pub fn format() -> Kind<logging::Format> {
    Kind::new("FORMAT", "text or json", |text| match text {
        "text" => Some(logging::Format::Text),
        "json" => Some(logging::Format::Json),
        _ => None,
    })
}

pub fn filter() -> Kind<String> {
    Kind::new("FILTER", "a filter such as info or warn,sessiond=debug", |text| {
        logging::is_filter(text).then(|| text.to_owned())
    })
}

/// A folder, or none.
pub fn folder_or_none() -> Kind<Option<PathBuf>> {
    path_or_none("FOLDER")
}

/// A file, or none.
pub fn file_or_none() -> Kind<Option<PathBuf>> {
    path_or_none("FILE")
}

fn path_or_none(value_name: &'static str) -> Kind<Option<PathBuf>> {
    Kind::new(value_name, "none or a path", |text| match text {
        "none" => Some(None),
        path if path.is_empty() || path.chars().any(char::is_control) => None,
        path => Some(Some(path.into())),
    })
}

/// A durability; none = the one that suits the store.
pub fn durability() -> Kind<Option<Durability>> {
    Kind::new("DURABILITY", "auto, none, async or sync", |text| match text {
        "auto" => Some(None),
        "none" => Some(Some(Durability::None)),
        "async" => Some(Some(Durability::Async)),
        "sync" => Some(Some(Durability::Sync)),
        _ => None,
    })
}

/// Reads a value between the two ends of `range`, which may be either.
fn within<T: PartialOrd>(
    range: &str,
    read: fn(&str) -> Option<T>,
) -> impl Fn(&str) -> Option<T> + use<T> {
    let ends = range.split_once("..").and_then(|(least, most)| Some(read(least)?..=read(most)?));
    let range = ends.expect("a range is declared as least..most");
    move |text| read(text).filter(|value| range.contains(value))
}

fn read_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

fn read_bytes(text: &str) -> Option<usize> {
    const UNITS: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("B", 1)];
    let in_unit = |(unit, size)| Some((text.strip_suffix(unit)?.trim_end(), size));
    let (number, size) = UNITS.into_iter().find_map(in_unit).unwrap_or((text, 1));
    read_count(number)?.checked_mul(size)
}

fn read_count(text: &str) -> Option<usize> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts<T>(kind: &Kind<T>, text: &str) -> bool {
        (kind.read)(text).is_some()
    }

    #[test]
    fn sizes_are_written_with_or_without_a_unit() {
        assert_eq!(read_bytes("4096"), Some(4096));
        assert_eq!(read_bytes("4096B"), Some(4096));
        assert_eq!(read_bytes("64KiB"), Some(65_536));
        assert_eq!(read_bytes("2 MiB"), Some(2_097_152));
        for wrong in
            ["", "KiB", "64KB", "64k", "-1", "1.5KiB", "99999999999999999999", "99999999999999MiB"]
        {
            assert_eq!(read_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_duration_is_written_0() {
        let kind = duration_or_none("10s..7d");
        assert_eq!((kind.read)("0"), Some(None));
        assert_eq!((kind.read)("0s"), Some(None));
        assert_eq!((kind.read)("10s"), Some(Some(Duration::from_secs(10))));
        assert_eq!((kind.read)("9s"), None);
        assert_eq!((kind.read)("never"), None);
    }

    #[test]
    fn a_node_name_can_travel_as_metadata() {
        let kind = node_name();
        assert!(accepts(&kind, "eu-west 1"));
        assert!(accepts(&kind, &"n".repeat(128)));
        for wrong in ["", " a", "a ", "a\tb", "é", &"n".repeat(129)] {
            assert!(!accepts(&kind, wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_count_takes_no_unit() {
        assert!(accepts(&count("1..4096"), "1024"));
        assert!(!accepts(&count("1..4096"), "1KiB"));
    }
}
