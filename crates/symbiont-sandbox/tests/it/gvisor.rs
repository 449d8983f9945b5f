//! The gvisor driver: a kernel of its own for each sandbox.

use std::sync::Arc;
use std::time::Instant;

use symbiont_sandbox::{Command, Driver, GvisorDriver, GvisorOptions, Sandbox};
use symbiont_types::{SandboxConfig, SandboxError, SandboxId, SecurityTier};

use super::{run, shell, told};

fn config() -> SandboxConfig {
    SandboxConfig { security_tier: SecurityTier::Tier2, ..super::config() }
}

/// The driver; nothing where there is no `runsc`.
async fn driver() -> Option<GvisorDriver> {
    match GvisorDriver::new(Some(&super::state()), GvisorOptions::default()).await {
        Ok(driver) => Some(driver),
        Err(SandboxError::BackendUnavailable { reason }) if reason.contains("no `runsc`") => {
            eprintln!("not run: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn sandbox(driver: &GvisorDriver) -> Arc<dyn Sandbox> {
    let sandbox = driver.create(SandboxId::new(), &config()).await.unwrap();
    sandbox.start().await.unwrap();
    sandbox
}

/// Runs scripts in one sandbox, one after the other.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    run(async {
        let Some(driver) = driver().await else { return };
        let sandbox = sandbox(&driver).await;
        for (script, want) in cases {
            let got = told(&sandbox.exec(shell(script)).await);
            assert_eq!(got.trim_end(), *want, "{script}");
        }
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn look() {
    run(async {
        let driver = driver().await.unwrap();
        for _ in 0..3 {
            let began = Instant::now();
            let sandbox = sandbox(&driver).await;
            eprintln!("start {:?}", began.elapsed());
            eprintln!("{:#?}", sandbox.report());
            let began = Instant::now();
            let result = sandbox.exec(shell("id; ls -la / /dev /proc /workspace; cat /proc/self/mounts; nproc; echo hi > /workspace/x; cat /workspace/x; hostname; pwd; env; cat /proc/self/status; ls /proc/1/fd; cat /proc/1/environ; cat /proc/self/oom_score_adj")).await;
            eprintln!("exec {:?}\n{}", began.elapsed(), told(&result));
            for _ in 0..8 {
                let began = Instant::now();
                sandbox.exec(Command::new("true")).await.unwrap();
                eprintln!("exec {:?}", began.elapsed());
            }
            eprintln!("{:?}", sandbox.usage().await);
            let began = Instant::now();
            sandbox.destroy().await.unwrap();
            eprintln!("destroy {:?}", began.elapsed());
        }
    });
}
