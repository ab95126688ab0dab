//! What a partition of a log holds, read while somebody else still writes it: the node that claims it
//! next has only the last of it left to read.

use super::load::{LoadError, Loaded, Loading};
use crate::{
    log::{Log, Partition, Reader, Seq},
    session::limits::Limits,
};
use std::sync::Arc;

/// A partition that is being read. After an error it is of no more use: what follows may be trimmed.
#[derive(Debug)]
pub struct ReadAhead<R> {
    loading: Loading,
    reader: R,
}

impl<R: Reader> ReadAhead<R> {
    /// Nothing is read yet.
    pub fn begin<L: Log<Reader = R>>(log: &L, partition: Partition, limits: &Arc<Limits>) -> Self {
        let reader = log.read(partition, Seq::START);
        Self { loading: Loading::new(limits.clone()), reader }
    }

    /// Reads all that there is now.
    pub async fn catch_up(&mut self) -> Result<(), LoadError> {
        self.loading.read(&mut self.reader, None).await
    }

    /// Waits until there may be more.
    pub async fn changed(&mut self) -> Result<(), LoadError> {
        Ok(self.reader.changed().await?)
    }

    /// Reads what is left up to a claim.
    pub async fn finish(mut self, term: Seq) -> Result<Loaded, LoadError> {
        self.loading.read_before(&mut self.reader, term).await?;
        Ok(self.loading.finish())
    }
}
