//! The docker driver alone; what all drivers share is in the table of all.

use std::sync::Arc;
use std::time::Instant;

use symbiont_sandbox::{Command, DockerDriver, Driver, Sandbox};
use symbiont_types::SandboxId;

#[test]
fn a_container_runs_commands() {
    super::run(async {
        let driver = DockerDriver::new(None, None).await.unwrap();
        for _ in 0..2 {
            let began = Instant::now();
            let sandbox: Arc<dyn Sandbox> =
                driver.create(SandboxId::new(), &super::config()).await.unwrap();
            sandbox.start().await.unwrap();
            eprintln!("start {:?}", began.elapsed());
            eprintln!("{:#?}", sandbox.report());
            let began = Instant::now();
            let result = sandbox.exec(Command::new("sh").args(["-c", "id; ls -la / /dev /proc; cat /proc/mounts; nproc; echo hi > /workspace/x; cat /workspace/x; hostname; pwd; env"])).await.unwrap();
            eprintln!(
                "exec {:?}\n{}\n{}",
                began.elapsed(),
                String::from_utf8_lossy(&result.stdout),
                String::from_utf8_lossy(&result.stderr)
            );
            for _ in 0..3 {
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
