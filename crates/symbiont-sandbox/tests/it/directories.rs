//! Directories with all that is in them, into sandboxes of every driver and out of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbiont_sandbox::{
    DockerDriver, Driver, GvisorDriver, GvisorOptions, Omission, ProcessDriver, Sandbox,
    Transferred,
};
use symbiont_types::{SandboxConfig, SandboxError, SandboxId};

use super::{config, run, shell, started, state, told, try_each};

/// One sandbox of each driver that works here, one after the other.
#[track_caller]
fn each(test: impl AsyncFn(&Arc<dyn Sandbox>)) {
    run(async {
        for driver in drivers().await {
            let config = SandboxConfig { security_tier: driver.tier(), ..config() };
            let sandbox = driver.create(SandboxId::new(), &config).await.unwrap();
            let Some(sandbox) = started(sandbox).await else { continue };
            test(&sandbox).await;
            sandbox.destroy().await.unwrap();
        }
    });
}

pub(crate) async fn drivers() -> Vec<Box<dyn Driver>> {
    let mut drivers: Vec<Box<dyn Driver>> =
        vec![Box::new(ProcessDriver::new(Some(&state())).unwrap())];
    let socket = std::env::var_os("SYMBIONT_TEST_DOCKER").map(PathBuf::from);
    match DockerDriver::new(Some(&state()), socket).await {
        Ok(driver) => drivers.push(Box::new(driver)),
        Err(error) => eprintln!("not run: docker: {error}"),
    }
    match GvisorDriver::new(Some(&state()), GvisorOptions::default()).await {
        Ok(driver) => drivers.push(Box::new(driver)),
        Err(error) => eprintln!("not run: gvisor: {error}"),
    }
    drivers
}

/// All that is in a directory: permissions of what is no link, and content.
fn all_of(root: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if meta.is_file() {
                fs::read(&path).unwrap()
            } else {
                left.push(path.clone());
                Vec::new()
            };
            let mode = if meta.is_symlink() { 0 } else { meta.permissions().mode() & 0o7777 };
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            found.insert(name, (mode, content));
        }
    }
    found
}

fn counts(done: &Transferred) -> (u64, u64, u64, u64) {
    (done.files, done.directories, done.links, done.bytes)
}

fn omitted(done: &Transferred) -> Vec<(&str, Omission)> {
    done.omitted.iter().map(|it| (it.path.to_str().unwrap(), it.why)).collect()
}

/// The names in a directory of the host.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn they_go_in_and_come_out_as_they_were() {
    each(async |sandbox| {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        fs::create_dir_all(from.join("a/b/empty")).unwrap();
        let large: Vec<u8> = (0..1_000_003_u32).map(|n| n.to_le_bytes()[0] ^ 5).collect();
        fs::write(from.join("a/large"), &large).unwrap();
        fs::write(from.join("a/b/none"), "").unwrap();
        fs::write(from.join("odd \n\u{1f980}"), "x").unwrap();
        fs::write(from.join("n".repeat(255)), "long").unwrap();
        for number in 0..520 {
            fs::write(from.join(format!("a/b/{number}")), number.to_string()).unwrap();
        }
        symlink("b/none", from.join("a/near")).unwrap();
        symlink("../from", from.join("around")).unwrap();
        symlink("/etc/passwd", from.join("far")).unwrap();
        let mode = |path: &str, mode| {
            fs::set_permissions(from.join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("a/large", 0o4755);
        mode("a/b/none", 0o400);
        mode("a/b", 0o1777);

        let sent = sandbox.upload_directory(&from, "some/where/".as_ref()).await.unwrap();
        assert_eq!(counts(&sent), (524, 3, 1, 1_000_003 + 5 + 1450));
        assert_eq!(omitted(&sent), [("around", Omission::LeadsOut), ("far", Omission::LeadsOut)]);
        let cases = [
            ("cat some/where/a/near some/where/a/b/42; cat some/where/n*", "0:42long"),
            ("test -x some/where/a/large && test ! -u some/where/a/large && echo plain", "0:plain"),
            ("cd some/where/a/b/empty && pwd", "0:/workspace/some/where/a/b/empty"),
            ("test ! -e some/where/far && cd some && echo *", "0:where"),
        ];
        try_each(sandbox, &cases).await;

        let to = place.path().join("to");
        let got = sandbox.download_directory("/workspace/some/where".as_ref(), &to).await.unwrap();
        assert_eq!(counts(&got), counts(&sent));
        assert_eq!(omitted(&got), []);
        let mut want = all_of(&from);
        want.retain(|name, _| name != "far" && name != "around");
        for (name, mode) in [("a/large", 0o755), ("a/b", 0o777)] {
            want.get_mut(name).unwrap().0 = mode;
        }
        assert!(all_of(&to) == want, "{:?}", all_of(&to).keys());

        // As an archive they are the same.
        let archive = place.path().join("it.tar");
        let told = sandbox.export("some/where".as_ref(), &archive).await.unwrap();
        assert_eq!(counts(&told), counts(&sent));
        let unpacked = place.path().join("unpacked");
        tar::Archive::new(fs::File::open(&archive).unwrap()).unpack(&unpacked).unwrap();
        let contents = |path: &Path| -> BTreeMap<String, Vec<u8>> {
            all_of(path).into_iter().map(|(name, (_, content))| (name, content)).collect()
        };
        assert!(contents(&unpacked) == contents(&to));
        assert_eq!(names(place.path()), ["from", "it.tar", "to", "unpacked"]);
    });
}

#[test]
fn what_commands_left_there_harms_nobody() {
    each(async |sandbox| {
        let prepare = "mkdir -p w/d w/secret && cd w && ln -s /etc/passwd file && ln -s .. up && \
                       ln -s d/../../.. climb && ln -s d near && ln -s loop loop && mkfifo pipe && \
                       echo x > d/f && ln d/f hard && echo no > closed && chmod 0 closed && \
                       chmod 0 secret && chmod 2755 d && chmod 6755 d/f && ln -s /workspace/w whole";
        assert_eq!(told(&sandbox.exec(shell(prepare)).await), "0:");
        let place = tempfile::tempdir().unwrap();
        let to = place.path().join("to");
        // An empty directory may be there.
        fs::create_dir(&to).unwrap();
        let got = sandbox.download_directory("w".as_ref(), &to).await.unwrap();
        assert_eq!(counts(&got), (2, 1, 2, 4));
        let want = [
            ("climb", Omission::LeadsOut),
            ("closed", Omission::Unreadable),
            ("file", Omission::LeadsOut),
            ("pipe", Omission::Special),
            ("secret", Omission::Unreadable),
            ("up", Omission::LeadsOut),
            ("whole", Omission::LeadsOut),
        ];
        assert_eq!(omitted(&got), want);
        let all = all_of(&to);
        let modes: Vec<_> = all.iter().map(|(name, (mode, _))| (name.as_str(), *mode)).collect();
        assert_eq!(
            modes,
            [("d", 0o755), ("d/f", 0o755), ("hard", 0o755), ("loop", 0), ("near", 0)]
        );

        // Where something is, it stays; and nothing is left beside it.
        for (name, make) in [
            ("full", (|path| fs::create_dir_all(path.join("x")).unwrap()) as fn(&Path)),
            ("file", |path| fs::write(path, "mine").unwrap()),
            ("link", |path| symlink("elsewhere", path).unwrap()),
            ("missing/x", |_| {}),
        ] {
            make(&place.path().join(name));
            let before = names(place.path());
            let refused = sandbox.download_directory("w".as_ref(), &place.path().join(name)).await;
            assert!(
                matches!(refused, Err(SandboxError::InvalidArgument { .. })),
                "{name}: {refused:?}"
            );
            assert_eq!(names(place.path()), before, "{name}");
        }
        for path in ["../x", "/etc", "w/file", "w/near", "w/hard", "none", "/proc/self", "w/up/w"] {
            let refused =
                sandbox.download_directory(path.as_ref(), &place.path().join("new")).await;
            assert!(
                matches!(refused, Err(SandboxError::PathForbidden { .. })),
                "{path}: {refused:?}"
            );
            let refused = sandbox.export(path.as_ref(), &place.path().join("new.tar")).await;
            assert!(
                matches!(refused, Err(SandboxError::PathForbidden { .. })),
                "{path}: {refused:?}"
            );
        }
        assert_eq!(told(&sandbox.exec(shell("echo fine")).await), "0:fine\n");
    });
}

#[test]
fn there_is_an_end_to_what_is_copied() {
    each(async |sandbox| {
        let place = tempfile::tempdir().unwrap();
        let to = place.path().join("to");
        let sparse = "mkdir huge deep && { truncate -s 1T huge/f 2>/dev/null || \
                      truncate -s 100G huge/f; } && cd deep && \
                      i=0 && while [ $i -lt 70 ]; do mkdir d && cd d && i=$((i+1)); done";
        assert_eq!(told(&sandbox.exec(shell(sparse)).await), "0:");
        let refused = sandbox.download_directory("huge".as_ref(), &to).await;
        assert!(matches!(refused, Err(SandboxError::TransferTooLarge { .. })), "{refused:?}");
        let refused = sandbox.download_directory("deep".as_ref(), &to).await;
        let Err(SandboxError::ResourceLimit { kind }) = refused else { panic!("{refused:?}") };
        let at = format!("64 directories within each other, at `deep{}`: ", "/d".repeat(64));
        assert!(kind.starts_with(&at), "{kind}");
        assert_eq!(names(place.path()), [""; 0]);
        let deep = place.path().join("deep");
        fs::create_dir_all(deep.join("d/".repeat(70))).unwrap();
        let refused = sandbox.upload_directory(&deep, "new".as_ref()).await;
        let Err(SandboxError::ResourceLimit { kind }) = refused else { panic!("{refused:?}") };
        assert!(kind.contains(&format!("at `{}{}`", deep.display(), "/d".repeat(64))), "{kind}");
        fs::remove_dir_all(&deep).unwrap();
        assert!(sandbox.stat("new".as_ref()).await.unwrap().is_none());

        // More than there is room for, and a name that is taken; nothing of it stays.
        let from = place.path().join("from");
        fs::create_dir_all(from.join("d")).unwrap();
        fs::File::create(from.join("d/big")).unwrap().set_len(100 << 20).unwrap();
        let fill =
            "head -c 104857600 /dev/zero > full; mkdir taken; touch taken/x file; ln -s / link";
        assert_eq!(told(&sandbox.exec(shell(fill)).await), "0:");
        let refused = sandbox.upload_directory(&from, "new".as_ref()).await;
        assert_eq!(refused, Err(SandboxError::StorageFull));
        fs::File::create(from.join("d/big")).unwrap().set_len(200 << 20).unwrap();
        let refused = sandbox.upload_directory(&from, "new".as_ref()).await;
        assert!(matches!(refused, Err(SandboxError::TransferTooLarge { .. })), "{refused:?}");
        fs::remove_file(from.join("d/big")).unwrap();
        for path in ["taken", "file", "/workspace", "link", "link/x", "/usr/new", "a/../b", ""] {
            let refused = sandbox.upload_directory(&from, path.as_ref()).await;
            let forbidden = matches!(
                refused,
                Err(SandboxError::PathForbidden { .. } | SandboxError::NotRegular { .. })
            );
            assert!(forbidden, "{path}: {refused:?}");
        }
        let left =
            "rm full; cd /workspace; for f in * .*; do echo $f; done | grep -v '^[.]*$' | sort";
        let want = "0:deep\nfile\nhuge\nlink\ntaken\n";
        assert_eq!(told(&sandbox.exec(shell(left)).await), want);
    });
}

#[test]
fn whoever_gives_up_leaves_nothing() {
    each(async |sandbox| {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        fs::create_dir_all(from.join("d")).unwrap();
        for number in 0..300 {
            fs::write(from.join(format!("d/{number}")), [1; 4096]).unwrap();
        }
        // Given up at a different step each time, until one is fast enough.
        let mut patience = std::time::Duration::from_micros(200);
        while tokio::time::timeout(patience, sandbox.upload_directory(&from, "in".as_ref()))
            .await
            .is_err()
        {
            let nothing = "test ! -e in && for f in .*; do echo $f; done | grep -v '^[.]*$'";
            assert_eq!(told(&sandbox.exec(shell(nothing)).await), "1:", "after {patience:?}");
            patience *= 2;
        }
        let to = place.path().join("to");
        patience = std::time::Duration::from_micros(200);
        while tokio::time::timeout(patience, sandbox.download_directory("in".as_ref(), &to))
            .await
            .is_err()
        {
            // What was under way on the disk is done, and then undone, unless it was the last of it.
            let settled = [&["from"][..], &["from", "to"]];
            super::until(|| settled.iter().any(|these| names(place.path()) == *these)).await;
            if to.exists() {
                assert_eq!(names(&to.join("d")).len(), 300);
                fs::remove_dir_all(&to).unwrap();
            }
            patience *= 2;
        }
        assert_eq!(names(&to.join("d")).len(), 300);
    });
}
