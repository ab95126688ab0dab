//! What is planted in a simulation, and must be found.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    Nothing,
    /// The log stores whatever comes, after whatever is there.
    NoExpectation,
    /// The log also stores what a writer sends whose term is over.
    OldTermAccepted,
    /// An owner answers however long ago something of it was stored.
    AnswersForEver,
    /// A partition is released before what is left of it is stored.
    ReleasesBeforeTheFlush,
    /// A beat counts although a later one of its node was heard.
    OldBeatsCount,
}
