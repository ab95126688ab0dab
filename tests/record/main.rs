//! What is written of sessions: every version that there ever was is read, and damage is seen.

mod damage;
mod entries;
mod golden;
