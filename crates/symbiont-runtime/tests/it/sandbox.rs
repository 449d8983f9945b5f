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

fn sandbox_config() -> SandboxConfig {
    SandboxConfig {
        agent_id: AgentId::new(),
        security_tier: SecurityTier::Tier1,
        resource_limits: ResourceLimits { memory_mb: 64, ..ResourceLimits::default() },
        network_config: NetworkConfig::default(),
        filesystem_config: FilesystemConfig { scratch_mb: 16, ..FilesystemConfig::default() },
        environment_variables: HashMap::new(),
    }
}

async fn orchestrator(
    adjust: impl FnOnce(&mut SandboxOrchestratorConfig),
) -> Result<DefaultSandboxOrchestrator, SandboxError> {
    let mut config = SandboxOrchestratorConfig::default();
    adjust(&mut config);
    DefaultSandboxOrchestrator::new(config).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn max_sandboxes_is_never_exceeded() {
    for most in [1, 7] {
        let orchestrator = orchestrator(|c| c.max_sandboxes = most).await.unwrap();
        let orchestrator = std::sync::Arc::new(orchestrator);
        for _ in 0..5 {
            let making: Vec<_> = (0..100)
                .map(|_| {
                    let orchestrator = std::sync::Arc::clone(&orchestrator);
                    tokio::spawn(async move { orchestrator.create_sandbox(sandbox_config()).await })
                })
                .collect();
            let mut made = Vec::new();
            for one in making {
                match one.await.unwrap() {
                    Ok(id) => made.push(id),
                    Err(error) => {
                        assert!(matches!(error, SandboxError::ResourceLimit { .. }), "{error}");
                    }
                }
            }
            assert_eq!(made.len(), most);
            for id in made {
                orchestrator.destroy_sandbox(id).await.unwrap();
                orchestrator.destroy_sandbox(id).await.unwrap();
            }
        }
        // One that can't be made takes no place.
        let mut wrong = sandbox_config();
        wrong.resource_limits.memory_mb = 0;
        for _ in 0..most {
            assert!(orchestrator.create_sandbox(wrong.clone()).await.is_err());
        }
        assert!(orchestrator.create_sandbox(sandbox_config()).await.is_ok());
        orchestrator.shutdown().await;
    }
}

#[tokio::test]
async fn output_cap_bounds_what_is_kept() {
    for cap in [10, 1000] {
        let orchestrator = orchestrator(|c| c.output_cap = cap).await.unwrap();
        let id = orchestrator.create_sandbox(sandbox_config()).await.unwrap();
        orchestrator.start_sandbox(id).await.unwrap();
        let arguments = vec!["-c".to_owned(), "500".to_owned(), "/dev/zero".to_owned()];
        let result = orchestrator.execute_command(id, "head", arguments).await.unwrap();
        assert_eq!((result.stdout.len(), result.stdout_truncated), (cap.min(500), cap < 500));
        orchestrator.shutdown().await;
    }
}

#[tokio::test]
async fn drivers_are_those_that_are_named() {
    for (names, works) in [(&["process"][..], true), (&[], false)] {
        let drivers = names.iter().map(|name| (*name).to_owned()).collect();
        let orchestrator = orchestrator(|c| c.drivers = drivers).await.unwrap();
        let tier = &orchestrator.tiers().await[0];
        assert_eq!(tier.driver.is_some(), works, "{tier:?}");
        match orchestrator.create_sandbox(sandbox_config()).await {
            Ok(_) => assert!(works),
            Err(error) => assert!(!works && error.to_string().contains("switched off"), "{error}"),
        }
        orchestrator.shutdown().await;
    }
    let config = sandbox_config();
    let one = |tier1, name: &str| {
        let drivers = vec![name.to_owned()];
        orchestrator(move |c| (c.tier1, c.drivers) = (tier1, drivers))
    };
    let pinned = one(Tier1::Docker, "process").await.unwrap();
    let error = pinned.create_sandbox(config.clone()).await.unwrap_err();
    assert!(error.to_string().contains("`docker` driver is switched off"), "{error}");
    let third = SandboxConfig { security_tier: SecurityTier::Tier3, ..config };
    let error = pinned.create_sandbox(third).await.unwrap_err();
    assert!(
        matches!(&error, SandboxError::TierUnavailable { tier: SecurityTier::Tier3, reason }
            if reason.contains("ask for Tier2")),
        "{error}"
    );
    let error = orchestrator(|c| c.drivers = vec!["other".to_owned()]).await.unwrap_err();
    assert!(error.to_string().contains("no driver `other`"), "{error}");
}

#[tokio::test]
async fn allow_emulation_needs_what_could_emulate() {
    assert!(orchestrator(|c| c.allow_emulation = false).await.is_ok());
    let error = orchestrator(|c| c.allow_emulation = true).await.unwrap_err();
    assert!(error.to_string().contains("allow_emulation"), "{error}");
}

#[tokio::test]
async fn a_tier_says_what_its_driver_can_not_apply() {
    let orchestrator = orchestrator(|_| ()).await.unwrap();
    let tiers = orchestrator.tiers().await;
    assert!(tiers[0].detail.contains("not applied here: "), "{}", tiers[0].detail);
    // Each of the others serves, or says why not.
    for tier in &tiers[1..] {
        assert!(tier.driver.is_some() || tier.detail.contains(' '), "{tier:?}");
    }
    let drivers = orchestrator.drivers().await;
    let names: Vec<_> = drivers.iter().map(|driver| driver.driver.as_str()).collect();
    assert_eq!(names, ["process", "docker", "gvisor"]);
    assert!(drivers[0].available && !drivers[0].detail.is_empty(), "{drivers:?}");
    assert!(drivers.iter().all(|driver| !driver.detail.is_empty()), "{drivers:?}");
    orchestrator.shutdown().await;
}

#[tokio::test]
async fn an_agent_s_commands_and_files_are_in_its_own_tier() {
    for (tier, driver) in [("tier1", "process"), ("tier2", "gvisor")] {
        let runtime = runtime(|_| {}).await;
        let source = r#"agent a { with sandbox = "TIER" {
            fs.write("note", "by fs ");
            return exec("sh", ["-c", "cat note; echo and exec"]).stdout + fs.read("note");
        } }"#;
        let outcome = crate::support::run(&runtime, &source.replace("TIER", tier), "{}").await;
        if let RunOutcome::Failed(failure) = &outcome
            && failure.kind == "TierUnavailable"
        {
            eprintln!("not run: {failure}");
            continue;
        }
        let want = "\"by fs and exec\\nby fs \"";
        assert!(matches!(&outcome, RunOutcome::Returned(json) if &**json == want), "{outcome:?}");
        let created = records(&runtime, "sandbox.created").await;
        assert_eq!(created.len(), 1);
        assert_eq!(created[0].metadata["driver"], driver);
        let started = records(&runtime, "sandbox.started").await;
        assert!(started[0].details.contains("memory "), "{}", started[0].details);
        runtime.shutdown().await;
    }
}

#[tokio::test]
async fn a_state_directory_is_one_process_s() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("state");
    let ours = || orchestrator(|c| c.state_directory = Some(place.clone()));
    let first = ours().await.unwrap();
    let error = ours().await.unwrap_err();
    let holder = format!("in use by process {}", std::process::id());
    assert!(
        matches!(&error, SandboxError::InvalidArgument { what } if what.contains(&holder)),
        "{error}"
    );
    first.shutdown().await;
    ours().await.unwrap().shutdown().await;
    // Those that name none run side by side.
    let (one, other) = (orchestrator(|_| ()).await.unwrap(), orchestrator(|_| ()).await.unwrap());
    for orchestrator in [&one, &other] {
        assert!(orchestrator.create_sandbox(sandbox_config()).await.is_ok());
    }
    one.shutdown().await;
    other.shutdown().await;
}

/// Only [`without_a_driver_what_needs_no_sandbox_runs`] starts it so that it does something.
#[tokio::test]
async fn where_no_driver_can_be() {
    let Some(directory) = std::env::var_os("SYMBIONT_TEST_NO_DRIVER") else { return };
    let runtime = runtime(|c| c.sandbox.state_directory = Some(directory.into())).await;
    let tier = &runtime.sandbox().tiers().await[0];
    assert!(tier.driver.is_none() && tier.detail.contains("state directory"), "{tier:?}");
    let error = runtime.sandbox().create_sandbox(sandbox_config()).await.unwrap_err();
    assert!(matches!(error, SandboxError::TierUnavailable { .. }), "{error:?}");
    let outcome = crate::support::run(&runtime, "agent a { with { return 1; } }", "{}").await;
    assert!(matches!(&outcome, RunOutcome::Returned(json) if &**json == "1"), "{outcome:?}");
    let source = r#"agent a { with { exec("true"); } }"#;
    let outcome = crate::support::run(&runtime, source, "{}").await;
    assert!(matches!(&outcome, RunOutcome::Failed(_)), "{outcome:?}");
    runtime.shutdown().await;
}

#[test]
fn without_a_driver_what_needs_no_sandbox_runs() {
    // As an ordinary user, as root's directory is not a matter of settings.
    let own = std::env::current_exe().unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(own)
        .args(["--exact", "sandbox::where_no_driver_can_be", "--nocapture"])
        .env("SYMBIONT_TEST_NO_DRIVER", "/proc/symbiont-state")
        .output();
    match output {
        Err(error) => eprintln!("not run: unshare: {error}"),
        Ok(output) if String::from_utf8_lossy(&output.stderr).starts_with("unshare:") => {
            eprintln!("not run: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output) => assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}
