//! Words that the tools have in common: moments, sizes, ids.

use crate::session::limits::{Micros, SECOND};
use std::time::{Duration, UNIX_EPOCH};

/// The first moment that has no four-digit year, in seconds.
const END_OF_YEARS: u64 = 253_402_300_800;

/// A moment in UTC, with microseconds and without loss.
pub fn moment(at: Micros) -> String {
    if at / SECOND >= END_OF_YEARS {
        return format!("{at}us");
    }
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_micros(at)).to_string()
}

/// A moment for a table: to the second.
pub fn second(at: Micros) -> String {
    if at / SECOND >= END_OF_YEARS {
        return format!("{at}us");
    }
    let whole = Duration::from_secs(at / SECOND);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + whole).to_string()
}

/// Reads what [`moment`] wrote.
pub fn read_moment(text: &str) -> Option<Micros> {
    if let Some(micros) = text.strip_suffix("us") {
        return micros.parse().ok();
    }
    let at = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(at.as_micros()).ok()
}

/// A span.
pub fn span(span: Micros) -> String {
    humantime::format_duration(Duration::from_micros(span)).to_string()
}

/// A number of bytes.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().unwrap_or(&"");
    while size >= 1024.0
        && let Some(next) = units.next()
    {
        (size, unit) = (size / 1024.0, next);
    }
    format!("{size:.1} {unit}")
}

/// A number of things.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A name in a line of its own kind: what would end the line or move the cursor is written out.
pub fn plain(name: &str) -> String {
    if name.chars().any(char::is_control) { name.escape_debug().to_string() } else { name.into() }
}

/// A table under its heads; of each column is said whether it holds numbers, which stand on the right.
pub fn table<const N: usize>(columns: &[(&str, bool); N], rows: &[[String; N]]) -> String {
    let widths: Vec<usize> = (0..N)
        .map(|at| {
            let of_rows = rows.iter().map(|row| row[at].chars().count());
            of_rows.chain([columns[at].0.len()]).max().unwrap_or_default()
        })
        .collect();
    let line = |cells: &[&str]| {
        let cell = |(at, cell): (usize, &&str)| {
            let fill = " ".repeat(widths[at].saturating_sub(cell.chars().count()));
            if columns[at].1 { format!("{fill}{cell}") } else { format!("{cell}{fill}") }
        };
        let cells: Vec<_> = cells.iter().enumerate().map(cell).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let head: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    let rows = rows.iter().map(|row| line(&row.each_ref().map(String::as_str)));
    std::iter::once(line(&head)).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_it_was() {
        for at in [0, 1, 1_700_000_000_123_456, 253_402_300_799_999_999, u64::MAX] {
            assert_eq!(read_moment(&moment(at)), Some(at), "{}", moment(at));
        }
        assert_eq!(moment(1_700_000_000_000_000), "2023-11-14T22:13:20.000000Z");
        assert_eq!(read_moment("yesterday"), None);
    }

    #[test]
    fn sizes_have_one_digit_behind_the_point() {
        let sizes = [0, 1023, 1024, 1536, 5 << 20, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "16777216.0 TiB"]);
    }
}
