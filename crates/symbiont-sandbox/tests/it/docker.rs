//! The docker driver alone: what a container is to its caller and to the engine.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use symbiont_sandbox::{Command, DockerDriver, Driver, Sandbox, TerminalSize};
use symbiont_types::{SandboxConfig, SandboxError, SandboxId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ENDS, config, group_name, marker, processes_with, run, shell, told, try_each, until};

const SOCKET: &str = "/var/run/docker.sock";

/// The driver; nothing where no engine answers.
async fn driver() -> Option<DockerDriver> {
    match DockerDriver::new(Some(&super::state()), None).await {
        Ok(driver) => Some(driver),
        Err(SandboxError::BackendUnavailable { reason }) if reason.contains("is dockerd") => {
            eprintln!("not run: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// One that runs; nothing where there is no busybox to make its image of.
async fn sandbox_of(driver: &DockerDriver, config: &SandboxConfig) -> Option<Arc<dyn Sandbox>> {
    let sandbox = driver.create(SandboxId::new(), config).await.unwrap();
    match sandbox.start().await {
        Ok(()) => Some(sandbox),
        Err(SandboxError::ImageMissing { image }) => {
            eprintln!("not run: {image}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Does something with a sandbox, and ends it.
#[track_caller]
fn within(test: impl AsyncFnOnce(&Arc<dyn Sandbox>)) {
    run(async {
        let Some(driver) = driver().await else { return };
        let Some(sandbox) = sandbox_of(&driver, &config()).await else { return };
        test(&sandbox).await;
        sandbox.destroy().await.unwrap();
    });
}

/// Asks the engine itself, past the driver.
fn engine(method: &str, path: &str, content: &Value) -> Value {
    let mut stream = UnixStream::connect(SOCKET).unwrap();
    let content = content.to_string();
    let length = content.len();
    // Of a server of version 1.0 nobody expects more than one answer.
    let head = format!(
        "{method} /v1.41{path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + &content).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_default()
}

/// The containers that have a name like this, whatever state they are in.
fn containers(name: &str) -> usize {
    let all = engine("GET", "/containers/json?all=1", &Value::Null);
    let all = all.as_array().unwrap();
    all.iter().filter(|container| container["Names"].to_string().contains(name)).count()
}

/// The containers that bear the label of a sandbox.
fn labelled(id: SandboxId) -> usize {
    let all = engine("GET", "/containers/json?all=1", &Value::Null);
    let id = json!(id.to_string());
    let all = all.as_array().unwrap();
    all.iter().filter(|container| container["Labels"]["dev.symbiont.id"] == id).count()
}

#[test]
fn a_command_tells_how_it_ended() {
    within(async |sandbox| {
        try_each(sandbox, &ENDS).await;
        let sealed = [
            ("touch /workspace/a /tmp/a && echo ok", "0:ok"),
            ("touch /a /bin/a 2>/dev/null || echo sealed", "0:sealed"),
        ];
        try_each(sandbox, &sealed).await;
    });
}

#[test]
fn what_the_host_has_is_not_there() {
    within(async |sandbox| {
        for (script, want) in [
            (
                "ls -d /root /home /etc/shadow /var/run /sys /work /.symbiont-guest 2>/dev/null",
                "1:",
            ),
            ("ls -d /proc/1 /proc/meminfo /proc/sys 2>/dev/null", "1:"),
            ("grep -c : /proc/net/dev 2>/dev/null || echo none", "0:none\n"),
            ("ip -o link | grep -c LOOPBACK", "0:1\n"),
            ("ip -o link | grep -c '[<,]UP'", "1:0\n"),
            ("mount -t tmpfs x /tmp 2>/dev/null || echo no", "0:no\n"),
            ("unshare -U true 2>/dev/null || echo no", "0:no\n"),
            ("grep -h CapEff /proc/self/status", "0:CapEff:\t0000000000000000\n"),
        ] {
            assert_eq!(told(&sandbox.exec(shell(script)).await), want, "{script}");
        }
    });
}

#[test]
fn limits_hold_and_are_told() {
    within(async |sandbox| {
        let report = sandbox.report();
        let want = ["memory 256 MiB", "processes 256", "processor cores 1"];
        assert_eq!(report.limits, want);
        assert_eq!((report.driver.as_str(), report.network.as_str()), ("docker", "none"));
        if report.degraded.iter().any(|line| line.contains("control groups can't be seen")) {
            eprintln!("not run: the engine's control groups can't be seen from here");
        } else {
            let hog = shell("exec dd if=/dev/zero of=/dev/null bs=512M count=1");
            assert_eq!(told(&sandbox.exec(hog).await).split(':').next(), Some("oom"));
        }
        assert_eq!(told(&sandbox.exec(shell("echo fine")).await), "0:fine\n");
    });
}

#[test]
fn the_end_of_its_time_ends_all_of_a_command() {
    within(async |sandbox| {
        let marker = marker();
        let script = format!("setsid sh -c 'sleep 3600; : {marker}' & sleep 3600");
        let command = Command { timeout: Duration::from_millis(500), ..shell(&script) };
        assert_eq!(told(&sandbox.exec(command).await), "timeout:");
        assert_eq!(processes_with(&marker), Vec::<String>::new());
        assert_eq!(told(&sandbox.exec(shell("echo fine")).await), "0:fine\n");
    });
}

#[test]
fn files_go_in_and_out() {
    within(async |sandbox| {
        let place = tempfile::tempdir().unwrap();
        let (there, back) = (place.path().join("there"), place.path().join("back"));
        let content: Vec<u8> = (0..3_000_001_u32).map(|n| n.to_le_bytes()[0]).collect();
        std::fs::write(&there, &content).unwrap();
        assert_eq!(sandbox.upload(&there, "in").await, Ok(3_000_001));
        assert_eq!(told(&sandbox.exec(shell("cp in out; wc -c < out")).await), "0:3000001\n");
        assert_eq!(sandbox.download("out", &back).await, Ok(3_000_001));
        assert!(std::fs::read(&back).unwrap() == content);
        let missing = sandbox.download("none", &back).await;
        assert!(missing.is_err(), "{missing:?}");
    });
}

#[test]
fn a_container_is_talked_to_and_paused() {
    within(async |sandbox| {
        let terminal = Some(TerminalSize { rows: 24, columns: 80 });
        let command = Command { terminal, ..shell("stty size; read x; echo got $x") };
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
        assert_eq!(told(&process.wait().await), "0:");
        // One that is paused can be ended.
        sandbox.pause().await.unwrap();
    });
}

#[test]
fn nothing_is_left_of_a_destroyed_one_and_others_are_not_touched() {
    run(async {
        let Some(driver) = driver().await else { return };
        let Some(sandbox) = sandbox_of(&driver, &config()).await else { return };
        assert_eq!((containers(&group_name(&sandbox)), labelled(sandbox.id())), (1, 1));
        let ours = engine("GET", &format!("/containers/{}/json", group_name(&sandbox)), &json!(0));
        // Named and labelled like one of ours, by somebody who shares no directory with us.
        let other = format!("sbx-{}", uuid::Uuid::new_v4().simple());
        let labels = json!({
            "dev.symbiont.id": SandboxId::new().to_string(),
            "dev.symbiont.instance": "dead",
            "dev.symbiont.place": "elsewhere",
        });
        let image = json!({ "Image": ours["Image"], "Cmd": ["/none"], "Labels": labels });
        let made = engine("POST", &format!("/containers/create?name={other}"), &image);
        assert!(made["Id"].is_string(), "{made}");
        sandbox.destroy().await.unwrap();
        assert_eq!((containers(&group_name(&sandbox)), labelled(sandbox.id())), (0, 0));
        assert_eq!(sandbox.destroy().await, Ok(()));
        let _next = self::driver().await.unwrap();
        let untouched = containers(&other);
        engine("DELETE", &format!("/containers/{other}?force=1"), &Value::Null);
        assert_eq!(untouched, 1);
    });
}

#[test]
#[ignore = "the next test kills it"]
fn a_host_that_will_be_killed() {
    let Some(file) = std::env::var_os("SYMBIONT_TEST_DOCKER_HOST") else { return };
    run(async {
        let driver = driver().await.unwrap();
        let sandbox = sandbox_of(&driver, &config()).await.unwrap();
        std::fs::write(Path::new(&file), group_name(&sandbox)).unwrap();
        let _never = sandbox.exec(shell("setsid sleep 3600 & sleep 3600")).await;
    });
}

#[test]
fn a_killed_host_leaves_no_container() {
    // The image is there when it is the other's turn.
    within(async |_| {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("name");
        let mut host = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "docker::a_host_that_will_be_killed", "--nocapture"])
            .env("SYMBIONT_TEST_DOCKER_HOST", &file)
            .spawn()
            .unwrap();
        let told = || std::fs::read_to_string(&file).unwrap_or_default();
        until(|| told().len() == 36).await;
        assert_eq!(containers(&told()), 1);
        host.kill().unwrap();
        host.wait().unwrap();
        // The guest ends by itself, and the next one to come removes what is left.
        let path = format!("/containers/{}/json", told());
        until(|| engine("GET", &path, &Value::Null)["State"]["Running"] == json!(false)).await;
        let _next = driver().await.unwrap();
        assert_eq!(containers(&told()), 0);
    });
}
