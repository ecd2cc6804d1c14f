//! The one connection that writes, on a thread of its own.
//!
//! Jobs that wait at the same moment share one transaction, each in a savepoint: what one refuses touches
//! no other, and the disk is synchronised once for all of them. A job's answer is given only after the
//! commit, so what a caller was told is durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::DatabaseError;

/// Most jobs of one transaction: bounds how long the first waits for the last.
const MAX_GROUP: usize = 64;

/// A piece of work on the connection.
trait Job: Send {
    /// Does it; whether its changes are kept.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Answers its caller: with its own result when the commit went well, else with that error.
    fn finish(self: Box<Self>, committed: Result<(), &str>);
}

struct Task<F, T, E> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Job for Task<F, T, E>
where
    F: FnOnce(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: From<DatabaseError> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else { return false };
        // A panic must not take the writer with it. Its savepoint is rolled back, and the caller is told.
        let result = catch_unwind(AssertUnwindSafe(|| work(connection)));
        let keep = matches!(result, Ok(Ok(_)));
        self.result = result.ok();
        keep
    }

    fn finish(self: Box<Self>, committed: Result<(), &str>) {
        let answer = match (committed, self.result) {
            (Err(reason), _) => Err(DatabaseError::Commit(reason.to_owned()).into()),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(DatabaseError::Stopped.into()),
        };
        // A caller that no longer waits has gone; its work is done all the same.
        let _ = self.answer.send(answer);
    }
}

/// Hands jobs to the writing thread.
pub(crate) struct Writer {
    jobs: Option<Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(connection: Connection) -> std::io::Result<Self> {
        let (jobs, waiting) = channel();
        let thread = std::thread::Builder::new().name("sqlite-writer".into()).spawn(move || {
            serve(&connection, &waiting);
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `work` in a transaction; an error rolls back all that it wrote.
    pub(crate) async fn run<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Task { work: Some(work), result: None, answer });
        let jobs = self.jobs.as_ref().ok_or(DatabaseError::Stopped)?;
        jobs.send(job).map_err(|_| DatabaseError::Stopped)?;
        result.await.map_err(|_| DatabaseError::Stopped)?
    }
}

impl Drop for Writer {
    /// Ends the thread after the jobs that it has, so that the file is closed when its last handle is gone.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Its only panics are caught job by job.
            let _ = thread.join();
        }
    }
}

fn serve(connection: &Connection, waiting: &Receiver<Box<dyn Job>>) {
    while let Ok(first) = waiting.recv() {
        let mut group = vec![first];
        while group.len() < MAX_GROUP {
            let Ok(next) = waiting.try_recv() else { break };
            group.push(next);
        }
        let committed = commit(connection, &mut group).map_err(|e| e.to_string());
        if committed.is_err() && !connection.is_autocommit() {
            // SQLite ends a transaction by itself after some errors; else it must not stay open.
            if let Err(e) = connection.execute_batch("ROLLBACK") {
                tracing::error!(error = %e, "a failed transaction could not be rolled back");
            }
        }
        for job in group {
            job.finish(match &committed {
                Ok(()) => Ok(()),
                Err(reason) => Err(reason),
            });
        }
    }
}

fn commit(connection: &Connection, group: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    for job in group {
        connection.execute_batch("SAVEPOINT job")?;
        if !job.run(connection) {
            connection.execute_batch("ROLLBACK TO job")?;
        }
        connection.execute_batch("RELEASE job")?;
    }
    connection.execute_batch("COMMIT")
}
