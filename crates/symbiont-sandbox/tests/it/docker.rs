//! The docker driver alone; what all drivers share is in the table of all.

use std::sync::Arc;
use std::time::Instant;

use symbiont_sandbox::{Command, DockerDriver, Driver, Sandbox, TerminalSize};
use symbiont_types::{SandboxError, SandboxId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn a_container_runs_commands() {
    super::run(async {
        let driver = match DockerDriver::new(None, None).await {
            Ok(driver) => driver,
            Err(error) => return eprintln!("not run: {error}"),
        };
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

#[test]
fn a_container_is_talked_to_and_paused() {
    super::run(async {
        let driver = match DockerDriver::new(None, None).await {
            Ok(driver) => driver,
            Err(error) => return eprintln!("not run: {error}"),
        };
        let sandbox = driver.create(SandboxId::new(), &super::config()).await.unwrap();
        sandbox.start().await.unwrap();
        eprintln!("{:?}", sandbox.report());
        let terminal = Some(TerminalSize { rows: 24, columns: 80 });
        let command = Command { terminal, ..super::shell("stty size; read x; echo got $x") };
        let mut process = sandbox.spawn(command).await.unwrap();
        let mut stdout = process.stdout.take().unwrap();
        let mut size = [0; 7];
        stdout.read_exact(&mut size).await.unwrap();
        assert_eq!(&size, b"24 80\r\n");
        sandbox.pause().await.unwrap();
        let refused = sandbox.exec(Command::new("true")).await;
        assert!(matches!(refused, Err(SandboxError::InvalidState { .. })), "{refused:?}");
        sandbox.resume().await.unwrap();
        process.stdin.as_mut().unwrap().write_all(b"it\n").await.unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "it\r\ngot it\r\n");
        assert_eq!(super::told(&process.wait().await), "0:");
        sandbox.pause().await.unwrap();
        sandbox.destroy().await.unwrap();
    });
}
