//! The tasks that a journal has, at start-up. What was under way when the process ended is decided
//! here.

use std::collections::HashMap;

use symbiont_store::StoreError;

use super::state::{Job, KeptInput, Phase, State};
use super::stored::{End, How, Progress, RunMark, Task, Wish};
use crate::clock::{from_micros, micros};
use crate::journal::{Change, Journal, PROGRESS, RUNS, TASKS, WISHES, rows};

/// Takes in every task, and returns what has to be recorded of what was decided.
pub(super) async fn restore(
    journal: &Journal,
    state: &mut State,
    retries: u32,
) -> Result<Change, StoreError> {
    let store = journal.store();
    let mut progress: HashMap<Vec<u8>, Progress> =
        rows(store, PROGRESS, &[]).await?.into_iter().collect();
    let marks: HashMap<Vec<u8>, RunMark> = rows(store, RUNS, &[]).await?.into_iter().collect();
    let wishes: HashMap<Vec<u8>, Wish> = rows(store, WISHES, &[]).await?.into_iter().collect();
    let mut kept: Vec<Task> =
        rows(store, TASKS, &[]).await?.into_iter().map(|(_, task)| task).collect();
    kept.sort_by_key(|task| task.sequence);
    let now = journal.now();
    let mut change = Change::new();
    for kept in kept {
        let key = kept.id.as_uuid().as_bytes().to_vec();
        let [priority, cancel] = Wish::keys(kept.id);
        let submitted = kept.submitted();
        let mut task = kept.task();
        if let Some(Wish::Priority(priority)) = wishes.get(&priority) {
            task.priority = *priority;
        }
        let cancelled_by = match wishes.get(&cancel) {
            Some(Wish::Cancel { by }) => Some(by.clone()),
            Some(Wish::Priority(_)) | None => None,
        };
        let before = progress.remove(&key);
        if let Some(progress) = &before {
            task.retry_count = progress.retries;
            task.scheduled_time = from_micros(progress.due);
        }
        let run = before.as_ref().and_then(|progress| progress.run);
        let effects = run.is_some() && marks.get(&key).map(|mark| mark.run) == run;
        let mut last_error = before.as_ref().and_then(|progress| progress.last_error.clone());
        let mut end = before.and_then(|progress| progress.end);
        if end.is_none() {
            let attempt = task.retry_count.saturating_add(1);
            let interrupted = "the process ended during the attempt";
            let how = match (cancelled_by, run) {
                (Some(by), _) => Some(How::Cancelled { by }),
                (None, None) => None,
                (None, Some(_)) if effects => Some(How::Unknown { attempt }),
                (None, Some(_)) if task.retry_count >= retries => {
                    Some(How::Failed { error: interrupted.to_owned(), attempts: attempt })
                }
                (None, Some(_)) => {
                    task.retry_count += 1;
                    last_error = Some(interrupted.to_owned());
                    None
                }
            };
            let decided = run.is_some() || how.is_some();
            end = how.map(|how| End { at: micros(now), how });
            if decided {
                let progress = Progress {
                    run: None,
                    retries: task.retry_count,
                    due: micros(task.scheduled_time),
                    last_error: last_error.clone(),
                    end: end.clone(),
                };
                change = change.put(PROGRESS, key.clone(), &progress).remove(RUNS, key);
            }
        }
        let phase = end.map_or(Phase::Waiting { last_error }, Phase::Ended);
        let job = Job {
            submitted,
            task,
            input: KeptInput::of(kept.input.as_ref()),
            accepted_at: from_micros(kept.accepted_at),
            sequence: kept.sequence,
            cancelled_by: None,
            wished: wishes.contains_key(&priority) || wishes.contains_key(&cancel),
            phase,
        };
        state.add(job, now);
    }
    state.sort_ended();
    Ok(change)
}
