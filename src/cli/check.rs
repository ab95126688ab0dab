//! `sessiond store check`: what is wrong with a store.

use super::{
    Result, block_on, code, contents::Contents, print, source, store::CheckArgs, text::count,
};
use std::process::ExitCode;

/// Does it.
pub fn run(arguments: &CheckArgs) -> Result<ExitCode> {
    block_on(async {
        let salvage = arguments.store.salvage;
        let log = source::open(&arguments.store.folder, salvage)?;
        let mut entries = source::Entries::of(&log);
        let mut contents = Contents::default();
        loop {
            match entries.next().await {
                Ok(Some(entry)) => contents.take(&entry),
                Ok(None) => break,
                Err(reason) => {
                    let last = contents.last;
                    contents.add_fault(format!("nothing is read behind entry {last}: {reason}"));
                    break;
                }
            }
        }
        contents.close();
        source::add_gaps(&log, &mut contents);
        print(report(&contents).as_bytes())?;
        Ok(code(contents.faults.is_empty()))
    })
}

fn report(contents: &Contents) -> String {
    let faults = contents.faults.len() as u64 + contents.more_faults;
    let mut text: String = contents.faults.iter().map(|fault| format!("{fault}\n")).collect();
    if contents.more_faults > 0 {
        text += &format!("and {} more\n", contents.more_faults);
    }
    let entries = count(contents.entries, "entry", "entries");
    let sessions = count(contents.sessions().len() as u64, "session", "sessions");
    let found = match faults {
        0 => "nothing is wrong".to_owned(),
        _ => count(faults, "fault", "faults"),
    };
    text + &format!("{entries}, {sessions}: {found}\n")
}
