//! Which system calls commands may make, and walls that must be there.

use std::sync::Arc;

use symbiont_sandbox::{Control, Driver, Options, Profile, Sandbox};
use symbiont_types::{SandboxConfig, SandboxError, SandboxId, SandboxStatus};

use super::directories::drivers;
use super::{again, config, driver, group_name, groups_of, has, passed, run, shell, started, told};

async fn of(driver: &dyn Driver, profile: Profile) -> Option<Arc<dyn Sandbox>> {
    let config = SandboxConfig { security_tier: driver.tier(), ..config() };
    let options = Options { profile, ..Options::lenient() };
    started(driver.create_with(SandboxId::new(), &config, &options).await.unwrap()).await
}

#[test]
fn a_call_is_allowed_in_one_profile_and_not_in_another() {
    let fifo = "mkfifo p 2>/dev/null && echo yes || echo no";
    let fixed = "setarch -R true 2>/dev/null && echo yes || echo no";
    let traced = "python3 -c 'import ctypes; print(ctypes.CDLL(None).ptrace(0, 0, 0, 0))'";
    let socket = "python3 -c 'import socket; socket.socket()' 2>/dev/null && echo yes || echo no";
    run(async {
        for driver in drivers().await {
            for (number, profile) in Profile::ALL.into_iter().enumerate() {
                let Some(sandbox) = of(&*driver, profile).await else { continue };
                let report = sandbox.report().seccomp.unwrap();
                assert!(report.starts_with(&format!("{}: allow list", profile.name())), "{report}");
                let mut cases = vec![(fifo, ["no", "yes", "yes"])];
                match driver.name() {
                    // The image is one program, which is not Python.
                    "docker" => cases.push((
                        "linux64 -R true 2>/dev/null && echo yes || echo no",
                        ["no", "no", "yes"],
                    )),
                    // Its kernel has no such personality.
                    "gvisor" => {
                        cases.extend([(traced, ["-1", "-1", "0"]), (socket, ["no", "yes", "yes"])]);
                    }
                    _ => cases.extend([
                        (fixed, ["no", "no", "yes"]),
                        (traced, ["-1", "-1", "0"]),
                        (socket, ["no", "yes", "yes"]),
                    ]),
                }
                for (script, want) in cases {
                    let got = told(&sandbox.exec(shell(script)).await);
                    let what = format!("{} {profile:?}: {script}", driver.name());
                    assert_eq!(got, format!("0:{}\n", want[number]), "{what}");
                }
                // In each of them ordinary work is done, and no wall is taken down.
                let work = "echo b > f; echo a >> f; sort f | tr '\\n' ' '; \
                            mount -t tmpfs x /tmp 2>/dev/null || echo no";
                assert_eq!(told(&sandbox.exec(shell(work)).await), "0:a b no\n");
                sandbox.destroy().await.unwrap();
            }
        }
    });
}

#[test]
fn a_name_of_a_profile_or_of_a_limit_is_read() {
    for profile in Profile::ALL {
        assert_eq!(profile.name().parse(), Ok(profile));
    }
    for control in Control::ALL {
        assert_eq!(control.name().parse(), Ok(control));
    }
    let text = "loose".parse::<Profile>().unwrap_err().to_string();
    assert!(text.contains("`strict`, `default`, `compat`"), "{text}");
}

/// Only [`without_landlock_there_is_no_sandbox`] starts it so that it does something.
#[test]
fn where_landlock_is_hidden() {
    if std::env::var_os("SYMBIONT_TEST_NO_LANDLOCK").is_none() {
        return;
    }
    let filter = seccompiler::SeccompFilter::new(
        [(libc::SYS_landlock_create_ruleset, Vec::new())].into_iter().collect(),
        seccompiler::SeccompAction::Allow,
        seccompiler::SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    // Before there are other threads.
    seccompiler::apply_filter(&program).unwrap();
    run(async {
        let driver = driver();
        let allowed = |control| Options {
            allow_degraded: Control::ALL.into_iter().filter(|it| *it != control).collect(),
            ..Options::default()
        };
        let options = allowed(Control::Landlock);
        let sandbox = driver.create_with(SandboxId::new(), &config(), &options).await.unwrap();
        match sandbox.start().await {
            Err(SandboxError::IsolationUnavailable { control, .. }) => {
                assert_eq!(control, "Landlock");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(sandbox.status(), SandboxStatus::Failed { .. }));
        let refused = sandbox.exec(shell("echo ran")).await;
        assert!(matches!(refused, Err(SandboxError::InvalidState { .. })), "{refused:?}");
        assert_eq!(groups_of(&group_name(&sandbox)), Vec::<std::path::PathBuf>::new());
        sandbox.destroy().await.unwrap();

        // Who may be without it is, and is told so.
        let options = allowed(Control::Memory);
        let options = Options {
            allow_degraded: [options.allow_degraded, vec![Control::Memory]].concat(),
            ..options
        };
        let sandbox = driver.create_with(SandboxId::new(), &config(), &options).await.unwrap();
        sandbox.start().await.unwrap();
        let report = sandbox.report();
        assert_eq!(report.landlock, None);
        assert!(report.degraded.iter().any(|line| line.starts_with("Landlock")), "{report:?}");
        assert_eq!(told(&sandbox.exec(shell("echo ran")).await), "0:ran\n");
        sandbox.destroy().await.unwrap();
    });
}

#[test]
fn without_landlock_there_is_no_sandbox() {
    passed(again(&[], "profiles::where_landlock_is_hidden", "SYMBIONT_TEST_NO_LANDLOCK"));
}

#[test]
fn with_every_limit_there_is_one_where_the_host_holds_them() {
    run(async {
        let driver = driver();
        let options = Options::default();
        let made = driver.create_with(SandboxId::new(), &config(), &options).await;
        let sandbox = match made {
            Ok(sandbox) => sandbox,
            Err(SandboxError::IsolationUnavailable { control, .. }) => {
                eprintln!("not run: this host can't hold the limit of {control}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        sandbox.start().await.unwrap();
        assert!(sandbox.report().landlock.is_some() && has(&sandbox, "memory"));
        sandbox.destroy().await.unwrap();
    });
}
