//! The only place that spawns.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The background tasks of one component: asked to stop together, waited for together.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    stop: CancellationToken,
    cut: CancellationToken,
    running: TaskTracker,
}

impl Tasks {
    /// Told when the tasks are asked to stop.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Whether they have been asked.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether they have been asked, and all have ended.
    pub(crate) fn is_done(&self) -> bool {
        self.running.is_closed() && self.running.is_empty()
    }

    /// Runs `task` in the background until it ends or is cut off.
    pub(crate) fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cut = self.cut.clone();
        self.running.spawn(async move {
            cut.run_until_cancelled(task).await;
        });
    }

    /// Runs `task` to its end although the caller may stop waiting for it: what was begun is not
    /// left half done. `None` when it was cut off or panicked.
    pub(crate) fn detached<F>(&self, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let cut = self.cut.clone();
        self.running.spawn(async move { cut.run_until_cancelled(task).await })
    }

    /// Runs `task` to its end as [`Tasks::detached`] does, without a task of its own if it ends
    /// at once. `None` when it was cut off.
    pub(crate) async fn finish<F>(&self, task: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let mut task = Box::pin(task);
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(task.as_mut().poll(cx))).await {
            return Some(output);
        }
        self.detached(task).await.ok().flatten()
    }

    /// Cuts off everything at once: nobody is there to work for any more.
    pub(crate) fn abandon(&self) {
        self.stop.cancel();
        self.cut.cancel();
    }

    /// Asks, waits up to `grace`, then drops what is left and says how many that was.
    pub(crate) async fn stop(&self, grace: Duration) -> usize {
        self.stop.cancel();
        self.running.close();
        if timeout(grace, self.running.wait()).await.is_ok() {
            return 0;
        }
        let late = self.running.len();
        self.cut.cancel(); // Every task was spawned inside `cut.run_until_cancelled`.
        self.running.wait().await;
        late
    }
}

impl Drop for Tasks {
    /// A component that is dropped without a shutdown leaves nobody working for it.
    fn drop(&mut self) {
        self.abandon();
    }
}

/// Held by the handles of a component whose tasks hold the component: when the last handle is gone,
/// so are they.
#[derive(Debug)]
pub(crate) struct Leash(pub(crate) Arc<Tasks>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stop_waits_for_the_polite_and_cuts_off_the_rest() {
        let tasks = Tasks::default();
        let stopping = tasks.stopping();
        tasks.spawn(async move { stopping.cancelled().await });
        tasks.spawn(std::future::pending());
        assert_eq!(tasks.stop(Duration::from_secs(1)).await, 1);
        assert_eq!(tasks.stop(Duration::from_secs(1)).await, 0);
    }

    #[tokio::test]
    async fn a_detached_task_outlives_whoever_asked_for_it() {
        let tasks = Tasks::default();
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        drop(tasks.detached(async move {
            begun.await.expect("the sender lives");
            end.send(()).expect("the receiver lives");
        }));
        begin.send(()).expect("the task waits");
        ended.await.expect("the task went on although its handle was dropped");
    }
}
