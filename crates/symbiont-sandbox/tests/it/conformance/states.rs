//! What fails while a sandbox is made.

use symbiont_sandbox::{Command, Driver};
use symbiont_types::{SandboxError, SandboxId, SandboxStatus};

use super::place::{Ground, NotHere, Told, how};
use crate::{again, config, driver, group_name, groups_of, is_root, passed, run};

/// Calls of the kernel by which a guest builds its walls.
const STEPS: [(&str, i64); 13] = [
    ("open_tree", libc::SYS_open_tree),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("fsopen", libc::SYS_fsopen),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("move_mount", libc::SYS_move_mount),
    ("mount", libc::SYS_mount),
    ("pivot_root", libc::SYS_pivot_root),
    ("umount2", libc::SYS_umount2),
    ("sethostname", libc::SYS_sethostname),
    ("setresuid", libc::SYS_setresuid),
    ("setresgid", libc::SYS_setresgid),
    ("capset", libc::SYS_capset),
];

pub(super) async fn case_70_a_set_up_that_fails_at_each_step(_: &Ground) -> Told {
    if !is_root() {
        return Err(NotHere("an ordinary user's sandbox is made in fewer steps".to_owned()));
    }
    let mut all = Vec::new();
    for (call, _) in STEPS {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("told");
        let test = "conformance::states::where_a_call_fails";
        let mut command = again(&[], test, "SYMBIONT_TEST_UNUSED");
        command.env("SYMBIONT_TEST_FAILING", call).env("SYMBIONT_TEST_TOLD", &file);
        passed(command);
        all.push(format!("{call}: {}", std::fs::read_to_string(&file).unwrap()));
    }
    Ok(format!("CreateFailed, at {}", all.join("; ")))
}

/// Only the case above starts it so that it does something.
#[test]
fn where_a_call_fails() {
    let Ok(failing) = std::env::var("SYMBIONT_TEST_FAILING") else { return };
    let (_, call) = STEPS.iter().find(|(call, _)| *call == failing).unwrap();
    let filter = seccompiler::SeccompFilter::new(
        [(*call, Vec::new())].into_iter().collect(),
        seccompiler::SeccompAction::Allow,
        seccompiler::SeccompAction::Errno(libc::EIO.cast_unsigned()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    // Before there are other threads.
    seccompiler::apply_filter(&program).unwrap();
    run(async {
        let driver = driver();
        let sandbox = driver.create(SandboxId::new(), &config()).await.unwrap();
        let error = sandbox.start().await.unwrap_err();
        assert!(matches!(sandbox.status(), SandboxStatus::Failed { .. }));
        assert_eq!(how(&sandbox.exec(Command::new("true")).await), "InvalidState");
        assert_eq!(groups_of(&group_name(&sandbox)), Vec::<std::path::PathBuf>::new());
        sandbox.destroy().await.unwrap();
        let SandboxError::CreateFailed { reason } = error else { panic!("{error:?}") };
        let step = reason.strip_suffix(": Input/output error (os error 5)").unwrap();
        std::fs::write(std::env::var_os("SYMBIONT_TEST_TOLD").unwrap(), step).unwrap();
    });
}
