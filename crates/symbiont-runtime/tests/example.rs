//! The reference's *Complete Agent Lifecycle*, run as it stands: it succeeds, its task is seen to
//! run and its message to arrive. It lives in a binary of its own because it listens to the whole
//! process.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

#[expect(unused_variables, reason = "the reference's own text, byte for byte")]
mod agent_lifecycle {
    include!("../examples/agent_lifecycle.rs");

    pub(crate) fn run() -> Result<(), Box<dyn std::error::Error>> {
        main()
    }
}

/// Takes down what the runtime says of itself.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("symbiont_runtime")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                write!(self.0, "{}={value:?} ", field.name()).expect("a string takes everything");
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().expect("nobody panics with it").push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn the_complete_agent_lifecycle_of_the_reference_runs_as_it_stands() {
    let listener = Listener::default();
    tracing::subscriber::set_global_default(listener.clone()).expect("nobody listens yet");
    agent_lifecycle::run().expect("the program returns Ok");
    let lines = listener.0.lock().expect("nobody panics with it");
    let one = |words: &[&str]| {
        let fits = |line: &&String| words.iter().all(|word| line.contains(word));
        assert_eq!(lines.iter().filter(fits).count(), 1, "{words:?} in {lines:#?}");
    };
    one(&["task ended", "Completed"]);
    one(&["message delivered"]);
}

/// The program is the reference's, byte for byte: this is its SHA-256.
#[test]
fn the_example_is_the_reference_byte_for_byte() {
    let text = include_bytes!("../examples/agent_lifecycle.rs");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "b616134dfede56ea49ee042b2da792fd729e5ab61218955893f5612e13540517");
}
