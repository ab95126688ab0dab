//! How a node joins: it waits for whatever is not there yet, and gives up at once on what no waiting
//! mends.

use crate::{
    cluster::{Cluster, JoinError, NodeInfo, NotTold, Settings},
    log::{
        LogError,
        jetstream::{self, Connection, JetStreamLog, Servers},
    },
    server::StartError,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// After how long it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long a server has to say that it does not permit something.
const OBJECTION: Duration = Duration::from_millis(200);

/// How often it is said what is waited for.
const REMINDER: Duration = Duration::from_secs(60);

/// What a node joins with.
#[derive(Debug)]
pub struct Joining {
    pub servers: Servers,
    pub log: jetstream::Settings,
    pub settings: Settings,
    pub me: NodeInfo,
}

impl Joining {
    /// Joins, however long it takes until the servers of NATS are there and agree on their leaders.
    pub async fn join(self) -> Result<(Cluster, JetStreamLog), StartError> {
        let mut waiting = Waiting::default();
        let connection = loop {
            match Connection::open(&self.servers).await {
                Ok(connection) => break connection,
                Err(error) => waiting.wait(error.into()).await?,
            }
        };
        loop {
            match self.join_over(&connection).await {
                Ok(joined) => {
                    waiting.is_over();
                    return Ok(joined);
                }
                Err(error) => waiting.wait(error).await?,
            }
        }
    }

    async fn join_over(
        &self,
        connection: &Connection,
    ) -> Result<(Cluster, JetStreamLog), StartError> {
        let log = JetStreamLog::open(connection, self.log.clone()).await?;
        let before = connection.losses();
        let client = connection.client().clone();
        let settings = Settings { is_new: log.is_new(), ..self.settings.clone() };
        let cluster = match Cluster::join(client, &settings, self.me.clone()).await {
            // It has not heard itself, and no wonder.
            Err(JoinError::Unheard { .. }) if connection.losses() > before => {
                return Err(LogError::Unreachable("the connection was lost".into()).into());
            }
            Err(JoinError::Notes(NotTold::Failed(why))) => {
                return Err(LogError::NotReady(why.into()).into());
            }
            outcome => outcome?,
        };
        let subjects = cluster.probe().await;
        sleep(OBJECTION).await;
        let denied = subjects.iter().filter_map(|it| connection.denied().of(it));
        let denied: Vec<_> = denied.map(|words| words.to_string()).collect();
        if !denied.is_empty() {
            return Err(LogError::NotPermitted(denied.join("; ").into()).into());
        }
        Ok((cluster, log))
    }
}

/// What is waited for.
#[derive(Debug, Default)]
struct Waiting {
    told_at: Option<Instant>,
}

impl Waiting {
    /// Waits a little because of an error, unless no waiting mends it.
    async fn wait(&mut self, error: StartError) -> Result<(), StartError> {
        match &error {
            StartError::Log(why) if why.may_pass() => {
                if self.told_at.is_none_or(|at| at.elapsed() >= REMINDER) {
                    tracing::warn!("waiting to join the cluster: {why}");
                    self.told_at = Some(Instant::now());
                }
                sleep(RETRY).await;
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn is_over(&self) {
        if self.told_at.is_some() {
            tracing::info!("the cluster is there");
        }
    }
}
