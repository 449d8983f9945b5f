//! The gvisor driver: a kernel of its own for each sandbox.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbiont_sandbox::{Driver, GvisorDriver, GvisorOptions, Sandbox};
use symbiont_types::{
    FilesystemConfig, Mount, RootFilesystem, SandboxConfig, SandboxError, SandboxId, SecurityTier,
};

use super::{group_name, groups_of, processes_with, run, sandbox_of, shell, told, until};

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
    sandbox_of(driver, &config()).await
}

/// What a sandbox is on this host's disk.
fn directory_of(sandbox: &Arc<dyn Sandbox>) -> Option<PathBuf> {
    let name = group_name(sandbox);
    let all = symbiont_directory().join("gvisor");
    let instances = std::fs::read_dir(all).into_iter().flatten().flatten();
    instances.map(|instance| instance.path().join(&name)).find(|path| path.exists())
}

fn symbiont_directory() -> PathBuf {
    if super::is_root() { PathBuf::from("/run/symbiont") } else { super::state() }
}

/// `runsc` gives its output to the user of its sandbox, and must be given nothing of the host for that.
#[test]
fn what_belongs_to_the_host_stays_its_own() {
    use std::os::unix::fs::MetadataExt;
    run(async {
        let Some(driver) = driver().await else { return };
        let owner = || std::fs::metadata("/dev/null").map(|null| (null.uid(), null.gid())).unwrap();
        let before = owner();
        let sandbox = sandbox(&driver).await;
        assert_eq!(owner(), before);
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn no_more_processes_than_there_may_be() {
    run(async {
        let Some(driver) = driver().await else { return };
        let mut config = config();
        config.resource_limits.memory_mb = 2048;
        let sandbox = sandbox_of(&driver, &config).await;
        // Of a command and of all of its children.
        let forks = "python3 -c 'import os,time\nn=0\ntry:\n while n<1000:\n  if os.fork()==0: time.sleep(60); os._exit(0)\n  n+=1\nexcept BlockingIOError: print(\"no more\", 200<n<256)'";
        for _ in 0..2 {
            assert_eq!(told(&sandbox.exec(shell(forks)).await), "0:no more True\n");
        }
        eprintln!("{:?}", sandbox.usage().await);
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn what_a_sandbox_can_not_be_is_refused() {
    run(async {
        let Some(driver) = driver().await else { return };
        let with = |files: FilesystemConfig| SandboxConfig { filesystem_config: files, ..config() };
        let mount = |target: &str, read_only| {
            with(FilesystemConfig {
                mounts: vec![Mount {
                    source: "/usr/share".into(),
                    target: target.to_owned(),
                    read_only,
                }],
                ..config().filesystem_config
            })
        };
        let image = RootFilesystem::Image("busybox".to_owned());
        for (config, want) in [
            (mount("/data", false), "mounts that can be written"),
            (mount("/usr/local/x", true), "within what is the host's"),
            (mount("/bin/x", true), "within what is the host's"),
            (with(FilesystemConfig { rootfs: image, ..config().filesystem_config }), "busybox"),
            (super::config(), "tier"),
        ] {
            let error = driver.create(SandboxId::new(), &config).await.unwrap_err().to_string();
            assert!(error.to_lowercase().contains(want), "{error}");
        }
        let seen = sandbox_of(&driver, &mount("/data/in", true)).await;
        let script = shell("test -d /data/in/doc && touch /data/in/x 2>/dev/null || echo sealed");
        assert_eq!(told(&seen.exec(script).await), "0:sealed\n");
        seen.destroy().await.unwrap();
        let none = GvisorOptions { program: Some("/bin/true".into()), ..GvisorOptions::default() };
        let error = GvisorDriver::new(Some(&super::state()), none).await.unwrap_err().to_string();
        assert!(error.contains("was not tried"), "{error}");
        let none = GvisorOptions { platform: Some("none".into()), ..GvisorOptions::default() };
        let broken = GvisorDriver::new(Some(&super::state()), none).await.unwrap();
        let sandbox = broken.create(SandboxId::new(), &config()).await.unwrap();
        let error = sandbox.start().await.unwrap_err().to_string();
        assert!(error.contains("runsc says"), "{error}");
        assert_eq!(directory_of(&sandbox), None);
    });
}

#[test]
#[ignore = "a part of `a_killed_host_leaves_nothing`"]
fn a_host_that_will_be_killed() {
    let Some(file) = std::env::var_os("SYMBIONT_TEST_GVISOR_HOST") else { return };
    run(async {
        let driver = driver().await.unwrap();
        let sandbox = sandbox(&driver).await;
        std::fs::write(Path::new(&file), group_name(&sandbox)).unwrap();
        let _never = sandbox.exec(shell("setsid sleep 3600 & sleep 3600")).await;
    });
}

#[test]
fn a_killed_host_leaves_nothing() {
    run(async {
        if driver().await.is_none() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("name");
        let mut host = std::process::Command::new(std::env::current_exe().unwrap());
        let mut host = host
            .args(["--ignored", "--exact", "gvisor::a_host_that_will_be_killed", "--nocapture"])
            .env("SYMBIONT_TEST_GVISOR_HOST", &file)
            .spawn()
            .unwrap();
        until(|| std::fs::read_to_string(&file).is_ok_and(|name| name.len() == 36)).await;
        let name = std::fs::read_to_string(&file).unwrap();
        assert!(!processes_with(&name).is_empty());
        host.kill().unwrap();
        host.wait().unwrap();
        until(|| processes_with(&name).is_empty()).await;
        // The next one to come removes what is left; another test's may have come, and not be done.
        let next = driver().await.unwrap();
        until(|| groups_of(&name).is_empty()).await;
        let directories = symbiont_directory().join("gvisor");
        until(|| {
            let mut all = std::fs::read_dir(&directories).unwrap().flatten();
            all.all(|instance| !instance.path().join(&name).exists())
        })
        .await;
        drop(next);
    });
}

#[test]
fn the_probe_tells_what_works() {
    run(async {
        let Some(driver) = driver().await else { return };
        let probe = driver.probe().await;
        assert!(probe.available, "{}", probe.detail);
        assert!(probe.detail.contains("gVisor"), "{}", probe.detail);
    });
}
