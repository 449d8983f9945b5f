//! Sandboxes as agents and their owners meet them.

use symbiont_runtime::*;

use crate::support::{config, records, runtime, started};

/// The sandboxes that were ever made, the oldest first.
async fn made(runtime: &Runtime) -> Vec<SandboxId> {
    let made = records(runtime, "sandbox.created").await;
    made.iter().map(|event| event.metadata["sandbox"].parse().expect("an id")).collect()
}

#[tokio::test]
async fn the_loss_of_a_sandbox_is_told_once() {
    // Lost between two calls, and while one is being made.
    for (waiting, operation, phase) in
        [("sleep(2s);", "fs.write", "end"), (r#"exec("sleep", ["60"]);"#, "sandbox.exec", "begin")]
    {
        let runtime = runtime(|_| {}).await;
        let source = r#"agent a { with {
            let told = [];
            fs.write("kept", "1");
            try { WAIT told = told + [fs.exists("kept")]; } catch (SandboxError e) { told = told + [e.message]; }
            return told + [fs.exists("kept")];
        } }"#;
        let mut feed = runtime.watch();
        let config = config("a", &source.replace("WAIT", waiting), ExecutionMode::Ephemeral);
        let id = started(&runtime, config).await;
        loop {
            let event = feed.recv().await.expect("a record");
            let is = |key, value| {
                event.metadata.get::<str>(key).is_some_and(|text| text.starts_with::<&str>(value))
            };
            if is("operation", operation) && is("phase", phase) {
                break;
            }
        }
        runtime.sandbox().destroy_sandbox(made(&runtime).await[0]).await.expect("it goes");
        let report = runtime.lifecycle().settled(id).await.expect("it exists").expect("it has run");
        let RunOutcome::Returned(json) = report.outcome.clone() else { panic!("{report:?}") };
        let told: Vec<serde_json::Value> = serde_json::from_str(&json).expect("a list");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].as_str().is_some_and(|text| text.contains("its files are lost")),
            "{told:?}"
        );
        assert_eq!(told[1], false, "the successor is empty");
        assert_eq!(made(&runtime).await.len(), 2, "{operation}");
        runtime.shutdown().await;
    }
}
