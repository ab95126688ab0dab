//! What is known of what was written: numbers that rise, so that what is found tells how much of it is there.

use sessiond::proto::Position;
use std::time::{Duration, Instant};

/// Something that is written again and again by one writer, each time with the next number.
#[derive(Debug, Clone, Default)]
pub struct Register {
    /// The last number that was answered, or found.
    pub acked: u64,
    /// The last number that was sent. After a kill it may be there or not.
    pub sent: u64,
    /// What was answered since the server was started.
    pub answers: Vec<Answer>,
}

/// That a number was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Which.
    pub number: u64,
    /// When.
    pub at: Instant,
    /// The frame that shows it, where the answer says so.
    pub position: Option<Position>,
}

/// How much of what was answered must be there.
#[derive(Debug, Clone, Copy)]
pub enum Must {
    /// All of it.
    Whole,
    /// All but what was answered so shortly before this moment.
    Until(Instant, Duration),
    /// Nothing.
    Any,
}

impl Register {
    /// The number to send now.
    pub fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// A number was answered, and so were all before it.
    pub fn answered(&mut self, number: u64, position: Option<Position>) {
        self.acked = self.acked.max(number);
        self.answers.push(Answer { number, at: Instant::now(), position });
    }

    /// Whether what was found may be. Returns how old it was at the kill.
    pub fn judge(&self, found: u64, must: Must) -> Result<Duration, String> {
        let Self { acked, sent, .. } = self;
        if found > *sent {
            return Err(format!("found {found}, but sent only up to {sent}"));
        }
        if found >= *acked {
            return Ok(Duration::ZERO);
        }
        let (kill, most) = match must {
            Must::Any => return Ok(Duration::ZERO),
            Must::Until(kill, most) => (kill, most),
            Must::Whole => return Err(format!("found {found}, but {acked} was answered")),
        };
        let Some(lost) = self.answers.iter().find(|answer| answer.number > found) else {
            return Err(format!("found {found}, but {acked} was there before the last start"));
        };
        let age = kill.saturating_duration_since(lost.at);
        if age > most {
            let number = lost.number;
            return Err(format!(
                "found {found}, but {number} was answered {age:?} before the kill"
            ));
        }
        Ok(age)
    }

    /// Goes on from what was found.
    pub fn go_on(&mut self, found: u64) {
        self.acked = found;
        self.answers.clear();
    }
}

#[test]
fn what_is_found_is_held_against_what_was_answered() {
    let mut register = Register::default();
    for number in 1..=3 {
        assert_eq!(register.send(), number);
        register.answered(number, None);
    }
    register.send();
    let later = Instant::now() + Duration::from_secs(1);
    let until = |ms| Must::Until(later, Duration::from_millis(ms));
    assert!(register.judge(3, Must::Whole).is_ok());
    assert!(register.judge(4, Must::Whole).is_ok());
    assert!(register.judge(5, Must::Whole).is_err(), "nobody has sent it");
    assert!(register.judge(2, Must::Whole).is_err(), "it was answered");
    assert!(register.judge(2, until(2_000)).is_ok());
    assert!(register.judge(2, until(500)).is_err(), "it is too old to be lost");
    register.go_on(4);
    assert!(register.judge(3, until(2_000)).is_err(), "it was found before");
}
