//! Files that go in and out, and names that lead elsewhere.

use std::time::{Duration, Instant};

use symbiont_sandbox::{Command, EntryKind, Sandbox};
use symbiont_types::SandboxError;
use tokio::io::AsyncReadExt;

use super::place::{Ground, Told, how, name, ok};

/// The reason of a refusal.
fn reason(error: SandboxError) -> String {
    match error {
        SandboxError::PathForbidden { reason, .. } => reason,
        error => name(&error),
    }
}

pub(super) async fn case_15_a_file_of_a_tebibyte(ground: &Ground) -> Told {
    let place = ground.place().await?;
    // Some file systems have no files that large.
    let made = "truncate -s 1T sparse 2>/dev/null || truncate -s 100G sparse";
    assert_eq!(place.shell(made).await, "");
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("file");
    let begun = Instant::now();
    let told = [
        ok(place.download("sparse".as_ref(), &target).await),
        ok(place.read_file("sparse", 1 << 20).await),
    ];
    let at_once = begun.elapsed() < Duration::from_secs(2);
    place.end().await;
    Ok(format!("{} at once: {at_once}, a file here: {}", told.join(" "), target.exists()))
}

pub(super) async fn case_22_paths_that_climb(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let mut told = Vec::new();
    let paths =
        ["../x", "/etc/passwd", "a/../../x", "/workspacex/y", "a\0b", "", "..\\x", "%2e%2e/x"];
    for path in paths {
        told.push(format!("{path:?} {}", ok(place.write_file(path, b"y", 0o644).await)));
    }
    assert_eq!(place.read_file("%2e%2e/x", 9).await.unwrap(), b"y");
    place.end().await;
    Ok(told.join(", "))
}

pub(super) async fn case_23_a_link_on_the_way_in(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let made = "ln -s /etc link; ln -s /etc/passwd file; echo plain > plain; ln -s plain near";
    assert_eq!(place.shell(made).await, "");
    let before = place.shell("cat /etc/passwd").await;
    let mut told = Vec::new();
    for path in ["link/passwd", "link/new", "file", "near"] {
        told.push(ok(place.write_file(path, b"y", 0o644).await));
    }
    let same = place.shell("cat /etc/passwd").await == before;
    let plain = place.shell("cat plain").await;
    place.end().await;
    Ok(format!("{}; /etc is as it was: {same}, and so is what was there: {plain}", told.join(" ")))
}

pub(super) async fn case_24_links_on_the_way_out(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let made = "ln -s /etc/passwd out; ln -s ../etc/passwd up; ln -s out chain; ln -s loop loop; \
                ln -s /etc directory; echo plain > plain; ln -s plain near; ln plain hard";
    assert_eq!(place.shell(made).await, "");
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("file");
    let mut told = Vec::new();
    for path in ["out", "up", "chain", "directory/passwd", "loop", "near"] {
        let got = place.download(path.as_ref(), &target).await;
        told.push(format!("{path}: {}", got.map_or_else(reason, |_| "followed".to_owned())));
    }
    for path in ["near", "hard"] {
        let got = place.read_file(path, 99).await;
        told.push(format!(
            "{path} by one name: {}",
            got.map_or_else(reason, |_| "read".to_owned())
        ));
    }
    place.end().await;
    Ok(told.join("; "))
}

pub(super) async fn case_25_what_is_no_file(ground: &Ground) -> Told {
    let place = ground.place().await?;
    assert_eq!(place.shell("mkfifo fifo; mkdir directory; ln -s /dev/zero zero").await, "");
    assert_eq!(place.probe(&["bind", "socket"]).await, "");
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("file");
    let mut told = Vec::new();
    for path in ["fifo", "socket", "directory", "/dev/zero", "zero"] {
        let begun = Instant::now();
        let got = place.download(path.as_ref(), &target).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{path} hangs");
        told.push(format!("{path} {}", ok(got)));
    }
    for path in ["fifo", "socket", "directory"] {
        told.push(format!("into {path} {}", ok(place.write_file(path, b"x", 0o644).await)));
    }
    place.end().await;
    Ok(told.join(", "))
}

pub(super) async fn case_26_a_mode_that_gives_rights(ground: &Ground) -> Told {
    let place = ground.place().await?;
    place.write_file("file", b"x", 0o6777).await.unwrap();
    let mode = place.stat("file".as_ref()).await.unwrap().unwrap().mode;
    let inside = place.shell("find file -user 1000 -perm 0777").await;
    place.end().await;
    Ok(format!("{mode:o}, the command's own: {}", inside == "file"))
}

/// The names in the working directory that are not those of the probe.
async fn names(sandbox: &dyn Sandbox) -> Vec<String> {
    let all = sandbox.list(".").await.unwrap();
    let names = all.into_iter().map(|entry| entry.name.to_string_lossy().into_owned());
    names.filter(|name| !name.contains("probe")).collect()
}

pub(super) async fn case_27_a_caller_that_goes_half_way(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let sandbox = std::sync::Arc::clone(&place.sandbox);
    // What is not whole need not have a name, but it takes room.
    let used = async || -> u64 { place.probe(&["used", "/workspace"]).await.parse().unwrap() };
    let before = used().await;
    let content = vec![7; 100 << 20];
    let upload = tokio::spawn(async move { sandbox.write_file("file", &content, 0o644).await });
    // Some of it has arrived.
    let begun = Instant::now();
    loop {
        if used().await > before {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20) && !upload.is_finished());
    }
    upload.abort();
    let cut = upload.await.is_err_and(|error| error.is_cancelled());
    while used().await > before {
        assert!(begun.elapsed() < Duration::from_secs(20), "it stays");
    }
    let left = names(&**place).await;
    place.end().await;
    Ok(format!("cut off: {cut}, left: {left:?}"))
}

pub(super) async fn case_28_another_size_than_was_said(ground: &Ground) -> Told {
    let place = ground.place().await?;
    // The kernel says of these that they have nothing, and a page.
    let (more, less) = ("/proc/self/status", "/sys/devices/system/cpu/online");
    let told = [
        ok(place.upload(more.as_ref(), "more".as_ref()).await),
        ok(place.upload(less.as_ref(), "less".as_ref()).await),
    ];
    let left = async || names(&**place).await;
    let begun = Instant::now();
    while left().await.iter().any(|name| name.starts_with(".symbiont")) {
        assert!(begun.elapsed() < Duration::from_secs(10), "it stays");
    }
    let left = left().await;
    place.end().await;
    Ok(format!("more: {}, less: {}, left: {left:?}", told[0], told[1]))
}

pub(super) async fn case_131_what_is_beside_an_upload(ground: &Ground) -> Told {
    let place = ground.place().await?;
    // By whatever number its stream is called.
    let made = "n=0; while test $n -lt 200; do : > .symbiont-$n; mkdir -p b/.symbiont-$n/d; n=$((n+1)); done";
    assert_eq!(place.shell(made).await, "");
    let local = tempfile::tempdir().unwrap();
    std::fs::write(local.path().join("x"), "x").unwrap();
    let file = ok(place.write_file("file", b"x", 0o644).await);
    let directory = ok(place.upload_directory(local.path(), "b/c".as_ref()).await);
    let left = place.shell("echo .symbiont-* b/.symbiont-*/d | wc -w").await;
    place.end().await;
    Ok(format!("file {file}, directory {directory}, left: {left}"))
}

pub(super) async fn case_132_who_takes_the_place_of_an_upload(ground: &Ground) -> Told {
    let place = ground.place().await?;
    assert_eq!(place.shell("mkdir d").await, "");
    let mut replace = place.spawn(place.command(&["replace", "d"])).await.unwrap();
    let mut ready = [0; 6];
    replace.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
    let content = vec![b'x'; 1 << 20];
    let (mut stored, mut refused) = (0, 0);
    for round in 0..100 {
        let path = format!("d/{round}");
        match place.write_file(&path, &content, 0o644).await {
            Ok(()) => {
                assert!(place.read_file(&path, 1 << 20).await.unwrap() == content, "another's");
                stored += 1;
            }
            Err(_) => refused += 1,
        }
    }
    replace.kill();
    how(&replace.wait().await);
    place.end().await;
    Ok(format!("its own content or an error, {} times", stored + refused))
}

pub(super) async fn case_72_names_of_all_kinds(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let local = tempfile::tempdir().unwrap();
    let (there, back) = (local.path().join("there"), local.path().join("back"));
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| n.to_le_bytes()[0] ^ 7).collect();
    std::fs::write(&there, &content).unwrap();
    let long = "n".repeat(255);
    let names = [
        "a",
        "b/c/d",
        "/tmp/x",
        "…🦀",
        "with space\nline",
        "-rf",
        "*",
        "\"'`$x",
        "\u{1b}[31m",
        &long,
    ];
    for name in names {
        assert_eq!(place.upload(&there, name.as_ref()).await, Ok(3_000_001), "{name}");
        assert_eq!(place.download(name.as_ref(), &back).await, Ok(3_000_001), "{name}");
        assert!(std::fs::read(&back).unwrap() == content, "{name}");
        let shown = Command::new("cat").args(["--", name]);
        let ended = place.exec(Command { output_cap: 4 << 20, ..shown }).await.unwrap();
        assert!(ended.stdout == content, "{name}");
    }
    let too_long = ok(place.write_file(&"n".repeat(256), b"x", 0o644).await);
    place.end().await;
    Ok(format!("{} names there and back; one of 256 bytes: {too_long}", names.len()))
}

pub(super) async fn case_102_a_directory_that_becomes_a_link(ground: &Ground) -> Told {
    let place = ground.place().await?;
    assert_eq!(place.shell("mkdir d; echo own > d/passwd").await, "");
    let mut swap = place.spawn(place.command(&["swap", "d"])).await.unwrap();
    let mut ready = [0; 6];
    swap.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
    let local = tempfile::tempdir().unwrap();
    let target = local.path().join("file");
    let (mut own, mut refused) = (0, 0);
    let begun = Instant::now();
    // Both must have been seen: otherwise nothing was swapped.
    while own < 2 || refused < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{own} {refused}");
        for read in [
            place.read_file("d/passwd", 1 << 20).await,
            place
                .download("d/passwd".as_ref(), &target)
                .await
                .map(|_| std::fs::read(&target).unwrap()),
        ] {
            match read {
                Ok(content) => {
                    assert_eq!(String::from_utf8_lossy(&content), "own\n");
                    own += 1;
                }
                Err(SandboxError::PathForbidden { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        match place.write_file("d/new", b"x", 0o644).await {
            Ok(()) | Err(SandboxError::PathForbidden { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    swap.kill();
    how(&swap.wait().await);
    let outside = place.shell("test -e /etc/new && echo there").await;
    place.end().await;
    Ok(format!("its own file or PathForbidden, nothing in /etc: {}", outside == "exit 1"))
}

pub(super) async fn case_103_two_thousand_directories_deep(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let made = place.probe(&["deep", "2000"]).await;
    let path = vec!["d"; 2000].join("/");
    let told = [
        ok(place.stat(path.as_ref()).await),
        ok(place.write_file(&format!("{path}/file"), b"x", 0o644).await),
        ok(place.remove("d").await),
    ];
    let next = how(&place.exec(Command::new("true")).await);
    place.end().await;
    Ok(format!("{made}; stat {}, write {}, remove {}; the next: {next}", told[0], told[1], told[2]))
}

pub(super) async fn case_104_more_names_than_are_listed(ground: &Ground) -> Told {
    let place = ground.place().await?;
    assert_eq!(place.shell("mkdir many").await, "");
    assert_eq!(place.probe(&["many", "5000", "many"]).await, "");
    let listed = ok(place.list("many").await);
    let kind = place.stat("many".as_ref()).await.unwrap().unwrap().kind;
    let next = how(&place.exec(Command::new("true")).await);
    place.end().await;
    Ok(format!("{listed}, still a directory: {}; the next: {next}", kind == EntryKind::Directory))
}

pub(super) async fn case_39_where_a_command_starts(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let made = "ln -s /proc/self/fd l; ln -s /proc/self/cwd c; ln -s /proc/1/root r; mkdir d; ln -s d e; \
                ln -s /nowhere n; ln -s n m";
    assert_eq!(place.shell(made).await, "");
    let at = |cwd: &str| Command { cwd: Some(cwd.to_owned()), ..Command::new("pwd") };
    let mut told = Vec::new();
    let refused = [
        "/proc/self/fd/3",
        "/proc/self/cwd",
        "../..",
        "c",
        "l/3",
        "l/4",
        "l/5",
        "l/7",
        "r",
        "n",
        "m",
        "x",
    ];
    for cwd in refused {
        told.push(how(&place.exec(at(cwd)).await));
    }
    assert!(told.iter().all(|told| told == "PathForbidden" || told == "ExecFailed"), "{told:?}");
    let followed = super::place::output(&place.exec(at("e")).await);
    place.end().await;
    Ok(format!("{} refused; a link to a directory: {followed}", told.len()))
}

pub(super) async fn case_110_files_of_others_by_another_name(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let made = "for f in /etc/passwd /bin/sh /proc/self/status; do ln $f hard 2>/dev/null && echo linked; \
                mv $f moved 2>/dev/null && echo moved; done; echo tried";
    let told = place.shell(made).await;
    place.end().await;
    Ok(told)
}

pub(super) async fn case_121_what_is_removed(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let made = "mkdir -p d full/x; ln -s /etc link; ln -s full way; echo x > file";
    assert_eq!(place.shell(made).await, "");
    let mut told = Vec::new();
    for path in ["file", "link", "d", "missing", "full", "way/x", "/etc/passwd", "../x"] {
        told.push(format!("{path} {}", ok(place.remove(path).await)));
    }
    let mut left = names(&**place).await;
    left.sort();
    place.write_file("empty", b"", 0o600).await.unwrap();
    let empty = place.read_file("empty", 0).await == Ok(Vec::new());
    place.end().await;
    Ok(format!("{}; left: {}; an empty file is one: {empty}", told.join(", "), left.join(" ")))
}
