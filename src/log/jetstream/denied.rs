//! What the servers do not permit. The sender of such a message gets no reply to it: the refusal comes
//! by itself, and names the subject.

use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// Of so many subjects it is known at most.
const MOST: usize = 64;

/// What was refused for want of a permission.
#[derive(Debug, Clone, Default)]
pub struct Denied {
    inner: Arc<Inner>,
}

/// What a server has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// That it does not permit something, for the first time.
    Denied,
    /// The same again.
    DeniedAgain,
    /// Something else.
    Other,
}

#[derive(Debug, Default)]
struct Inner {
    /// What the server said, by subject; none = that is forgotten.
    words: Mutex<BTreeMap<String, Option<Arc<str>>>>,
    changed: watch::Sender<()>,
}

impl Denied {
    /// A server says something.
    pub fn hear(&self, words: &str) -> Said {
        let Some(subject) = subject_of(words) else { return Said::Other };
        let mut all = self.inner.words.lock();
        if all.len() >= MOST {
            all.clear();
        }
        let before = all.insert(subject.to_owned(), Some(words.into()));
        self.inner.changed.send_replace(());
        if before.is_some() { Said::DeniedAgain } else { Said::Denied }
    }

    /// What was refused of a subject.
    pub fn of(&self, subject: &str) -> Option<Arc<str>> {
        self.inner.words.lock().get(subject).cloned().flatten()
    }

    /// Permissions may be other ones by now.
    pub fn forget(&self, subject: &str) {
        if let Some(words) = self.inner.words.lock().get_mut(subject) {
            *words = None;
        }
    }

    /// Waits until a subject is refused.
    pub async fn wait_for(&self, subject: &str) -> Arc<str> {
        let mut changes = self.inner.changed.subscribe();
        loop {
            if let Some(words) = self.of(subject) {
                return words;
            }
            // It is a part of this.
            let _ = changes.changed().await;
        }
    }
}

/// The subject of a refusal for want of a permission: `Permissions Violation for Publish to "a.b"`.
fn subject_of(words: &str) -> Option<&str> {
    let is_it = words.to_ascii_lowercase().starts_with("permissions violation");
    words.split('"').nth(1).filter(|_| is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_subject_until_it_is_forgotten() {
        let denied = Denied::default();
        let words = "Permissions Violation for Publish to \"$JS.API.INFO\"";
        assert_eq!(denied.hear(words), Said::Denied);
        assert_eq!(denied.hear("Maximum Connections Exceeded"), Said::Other);
        assert_eq!(denied.of("$JS.API.INFO").as_deref(), Some(words));
        assert_eq!(denied.of("$JS.API"), None);
        denied.forget("$JS.API.INFO");
        assert_eq!(denied.of("$JS.API.INFO"), None);
        assert_eq!(denied.hear(words), Said::DeniedAgain);
    }
}
