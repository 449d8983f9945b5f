//! The life of one agent, as a table.

use symbiont_types::{AgentState, LifecycleError};

/// Something that moves an agent from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its program is to be parsed and checked.
    Initialize,
    /// The same for an agent that is to run anew, from wherever it rests.
    Reinitialize,
    /// The process died while it was being initialized.
    Rewind,
    /// It is fit to run.
    Initialized,
    /// An operator starts it.
    Start,
    /// A task, a message or a tick begins a run, or what a run waited for has come.
    Run,
    /// Its run waits for something outside.
    Block,
    /// Its run has returned, and it rests.
    Finish(Rest),
    /// Its run, or its initialization, failed and nothing recovered it.
    Fail,
    /// An operator stops it.
    Stop,
    /// It is put aside.
    Suspend,
    /// It goes on from where it was put aside.
    Resume(AgentState),
    /// It is to end.
    Terminate,
    /// It has ended.
    Terminated,
}

/// How an agent rests after a run, by its execution mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Persistent and event-driven agents wait for more.
    Waiting,
    /// Scheduled agents are ready for their next tick.
    Ready,
    /// Ephemeral agents are done.
    Completed,
}

/// The state that follows `from` when `event` happens.
///
/// An agent's whole life is this table: nothing else in the runtime assigns an [`AgentState`].
///
/// # Errors
///
/// `InvalidStateTransition` with where the event would have led.
#[rustfmt::skip]
pub fn transition(from: AgentState, event: Event) -> Result<AgentState, LifecycleError> {
    use AgentState::*;
    let (to, allowed) = match event {
        Event::Initialize              => (Initializing, matches!(from, Created | Completed | Failed)),
        Event::Reinitialize            => (Initializing, matches!(from, Ready | Suspended | Completed | Failed)),
        Event::Rewind                  => (Created,      matches!(from, Initializing)),
        Event::Initialized             => (Ready,        matches!(from, Initializing)),
        Event::Start                   => (Running,      matches!(from, Ready)),
        Event::Run                     => (Running,      matches!(from, Ready | Waiting)),
        Event::Block                   => (Waiting,      matches!(from, Running)),
        Event::Finish(Rest::Waiting)   => (Waiting,      matches!(from, Running)),
        Event::Finish(Rest::Ready)     => (Ready,        matches!(from, Running)),
        Event::Finish(Rest::Completed) => (Completed,    matches!(from, Running)),
        Event::Fail                    => (Failed,       matches!(from, Initializing | Running | Waiting)),
        Event::Stop                    => (Ready,        matches!(from, Running | Waiting)),
        Event::Suspend                 => (Suspended,    matches!(from, Ready | Running | Waiting)),
        Event::Resume(to)              => (to,           matches!((from, to), (Suspended, Ready | Running | Waiting))),
        Event::Terminate               => (Terminating,  !matches!(from, Terminating | Terminated)),
        Event::Terminated              => (Terminated,   matches!(from, Terminating)),
    };
    if !allowed {
        return Err(LifecycleError::InvalidStateTransition { from, to });
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use AgentState::{
        Completed, Created, Failed, Initializing, Ready, Running, Suspended, Terminating, Waiting,
    };
    use Event::{
        Block, Fail, Finish, Initialize, Initialized, Reinitialize, Resume, Rewind, Run, Start,
        Stop, Suspend, Terminate,
    };

    use super::*;

    /// Plays `events` from `start`; `want` is the walk, with `!` at the first refusal.
    #[track_caller]
    fn check(start: AgentState, events: &[Event], want: &str) {
        let (mut state, mut walk) = (start, start.to_string());
        for &event in events {
            match transition(state, event) {
                Ok(next) => (state, walk) = (next, format!("{walk} > {next}")),
                Err(_) => return assert_eq!(format!("{walk} ! {event:?}"), want),
            }
        }
        assert_eq!(walk, want);
    }

    #[test]
    fn a_whole_life() {
        check(
            Created,
            &[Initialize, Initialized, Start, Finish(Rest::Completed), Initialize, Initialized],
            "Created > Initializing > Ready > Running > Completed > Initializing > Ready",
        );
        check(
            Ready,
            &[Start, Block, Run, Finish(Rest::Waiting), Run, Fail, Terminate, Event::Terminated],
            "Ready > Running > Waiting > Running > Waiting > Running > Failed > Terminating > Terminated",
        );
    }

    #[test]
    fn a_suspended_agent_resumes_before_anything_else() {
        check(Running, &[Suspend, Resume(Running)], "Running > Suspended > Running");
        check(Running, &[Suspend, Start], "Running > Suspended ! Start");
        check(Running, &[Suspend, Fail], "Running > Suspended ! Fail");
        check(Suspended, &[Resume(AgentState::Terminated)], "Suspended ! Resume(Terminated)");
        check(Suspended, &[Reinitialize], "Suspended > Initializing");
    }

    /// Every state with every event, against the table of the specification written another way
    /// round: what each state allows.
    #[test]
    fn every_state_with_every_event() {
        let events = [
            ("initialize", Initialize),
            ("reinitialize", Reinitialize),
            ("rewind", Rewind),
            ("initialized", Initialized),
            ("start", Start),
            ("run", Run),
            ("block", Block),
            ("finish", Finish(Rest::Completed)),
            ("fail", Fail),
            ("stop", Stop),
            ("suspend", Suspend),
            ("resume", Resume(Ready)),
            ("terminate", Terminate),
            ("terminated", Event::Terminated),
        ];
        let table = [
            (Created, "initialize terminate"),
            (Initializing, "rewind initialized fail terminate"),
            (Ready, "reinitialize start run suspend terminate"),
            (Running, "block finish fail stop suspend terminate"),
            (Suspended, "reinitialize resume terminate"),
            (Waiting, "run fail stop suspend terminate"),
            (Completed, "initialize reinitialize terminate"),
            (Failed, "initialize reinitialize terminate"),
            (Terminating, "terminated"),
            (AgentState::Terminated, ""),
        ];
        for (state, want) in table {
            let allowed = events.iter().filter(|(_, event)| transition(state, *event).is_ok());
            let names: Vec<&str> = allowed.map(|(name, _)| *name).collect();
            assert_eq!(names.join(" "), want, "{state}");
        }
    }
}
