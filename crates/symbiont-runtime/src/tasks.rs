//! The only place that spawns.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
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

    /// Does `work` to its end although the caller may stop waiting for it: what was begun is not left
    /// half done. It is a task of its own only when it has to wait. `None` when it was cut off.
    pub(crate) async fn finish<F>(&self, work: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.hand_over(work, |_| std::future::ready(())).await
    }

    /// Does `work` to its end, as [`Tasks::finish`] does, and hands its output to the caller, or to
    /// `unclaimed` when the caller has gone: the output is in one of these two hands, always.
    ///
    /// The work is begun in the caller's own poll. When it has to wait it goes on as a task at once,
    /// and not only when the caller is dropped: a caller who holds the future without polling it
    /// would otherwise hold up everyone who waits for what the work has in hand.
    pub(crate) async fn hand_over<F, G, U>(&self, work: F, unclaimed: G) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
        G: FnOnce(F::Output) -> U + Send + 'static,
        U: Future<Output = ()> + Send + 'static,
    {
        let under_way = self.running.token();
        let cut = self.cut.clone();
        let mut work = Box::pin(async move { cut.run_until_cancelled(work).await });
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            return output;
        }
        let (give, get) = oneshot::channel();
        let tracker = self.running.clone();
        self.running.spawn(async move {
            if let Some(output) = work.await {
                let contents = Some((output, unclaimed));
                // One that can't be given is dropped, and with that unclaimed.
                let _ = give.send(Parcel { contents, tracker, handle: Handle::current() });
            }
        });
        drop(under_way);
        get.await.ok().map(Parcel::open)
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

/// An output on its way to whoever asked for it.
struct Parcel<T, G, U>
where
    T: Send + 'static,
    G: FnOnce(T) -> U + Send + 'static,
    U: Future<Output = ()> + Send + 'static,
{
    contents: Option<(T, G)>,
    tracker: TaskTracker,
    handle: Handle,
}

impl<T, G, U> Parcel<T, G, U>
where
    T: Send + 'static,
    G: FnOnce(T) -> U + Send + 'static,
    U: Future<Output = ()> + Send + 'static,
{
    fn open(mut self) -> T {
        let (output, _) = self.contents.take().expect("a parcel is opened once");
        output
    }
}

impl<T, G, U> Drop for Parcel<T, G, U>
where
    T: Send + 'static,
    G: FnOnce(T) -> U + Send + 'static,
    U: Future<Output = ()> + Send + 'static,
{
    fn drop(&mut self) {
        if let Some((output, unclaimed)) = self.contents.take() {
            self.tracker.spawn_on(unclaimed(output), &self.handle);
        }
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
    async fn work_that_was_begun_outlives_whoever_asked_for_it() {
        let tasks = Tasks::default();
        let (begin, begun) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel::<()>();
        let mut asked = Box::pin(tasks.finish(async move {
            begun.await.expect("the sender lives");
            end.send(()).expect("the receiver lives");
        }));
        assert!(poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx).is_pending())).await);
        drop(asked);
        begin.send(()).expect("the task waits");
        ended.await.expect("the task went on although its handle was dropped");
    }

    /// Where the output of some work arrives, by how the caller behaves.
    async fn hands(wait: bool, stay: bool) -> (Option<u8>, Option<u8>) {
        let tasks = Tasks::default();
        let (begin, begun) = oneshot::channel::<()>();
        let (leave, left) = oneshot::channel::<u8>();
        let work = async move {
            if wait {
                begun.await.expect("the sender lives");
            }
            7
        };
        let unclaimed = |output| async move { leave.send(output).expect("the receiver lives") };
        let asked = tasks.hand_over(work, unclaimed);
        let claimed = if stay {
            begin.send(()).expect("the work waits");
            asked.await
        } else {
            let answer = tokio::select! {
                biased;
                output = asked => output,
                () = std::future::ready(()) => None,
            };
            let _ = begin.send(()); // Work that does not wait is over.
            answer
        };
        (claimed, left.await.ok())
    }

    #[tokio::test]
    async fn an_output_is_in_the_callers_hands_or_unclaimed() {
        assert_eq!(hands(false, true).await, (Some(7), None));
        assert_eq!(hands(true, true).await, (Some(7), None));
        assert_eq!(hands(false, false).await, (Some(7), None), "it was there at the first look");
        assert_eq!(hands(true, false).await, (None, Some(7)));
    }

    #[tokio::test]
    async fn an_output_that_arrived_and_was_not_looked_at_is_unclaimed() {
        let tasks = Tasks::default();
        let (begin, begun) = oneshot::channel::<()>();
        let (leave, left) = oneshot::channel::<u8>();
        let work = async move {
            begun.await.expect("the sender lives");
            7
        };
        let unclaimed = |output| async move { leave.send(output).expect("the receiver lives") };
        let mut asked = Box::pin(tasks.hand_over(work, unclaimed));
        assert!(poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx).is_pending())).await);
        begin.send(()).expect("the work waits");
        assert_eq!(tasks.stop(Duration::from_secs(10)).await, 0, "the work went on unpolled");
        drop(asked);
        assert_eq!(left.await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_waits_is_waited_for_and_cut_off() {
        let tasks = Tasks::default();
        let mut asked = Box::pin(tasks.finish(std::future::pending::<()>()));
        assert!(poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx).is_pending())).await);
        assert_eq!(tasks.stop(Duration::from_secs(1)).await, 1);
        assert_eq!(asked.await, None);
    }
}
