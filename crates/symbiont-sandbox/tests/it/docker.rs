//! The docker driver alone: what a container is to its caller and to the engine.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use symbiont_sandbox::{DockerDriver, Driver, Sandbox};
use symbiont_types::{RootFilesystem, SandboxConfig, SandboxError, SandboxId};

use super::{config, group_name, run, shell, started, until};

/// The driver; nothing where no engine answers.
async fn driver() -> Option<DockerDriver> {
    match DockerDriver::new(Some(&super::state()), Some(super::docker_socket())).await {
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
    started(sandbox).await
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
pub(crate) fn engine(method: &str, path: &str, content: &Value) -> Value {
    let mut stream = UnixStream::connect(super::docker_socket()).unwrap();
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

/// Which sandbox a container is, and whose, neither its image says nor its environment.
#[test]
fn no_image_says_whose_a_container_is() {
    within(async |made| {
        let image = format!("symbiont-test-{}", uuid::Uuid::new_v4().simple());
        let labels = ["id", "instance", "place", "other"]
            .map(|name| format!("dev.symbiont.{name}%3Dtheirs"))
            .join("%20");
        let of = group_name(made);
        let path = format!("/commit?container={of}&repo={image}&changes=LABEL%20{labels}");
        let committed = engine("POST", &path, &json!({}));
        assert!(committed["Id"].is_string(), "{committed}");
        let mut config = config();
        config.filesystem_config.rootfs = RootFilesystem::Image(image.clone());
        config.environment_variables.insert("dev.symbiont.id".into(), "theirs".into());
        let driver = driver().await.unwrap();
        let sandbox = driver.create(SandboxId::new(), &config).await.unwrap();
        sandbox.start().await.unwrap();
        let config = |sandbox: &Arc<dyn Sandbox>| {
            let path = format!("/containers/{}/json", group_name(sandbox));
            engine("GET", &path, &Value::Null)["Config"].take()
        };
        let (theirs, ours) = (config(&sandbox), config(made));
        sandbox.destroy().await.unwrap();
        for image in [theirs["Image"].as_str().unwrap(), &image] {
            engine("DELETE", &format!("/images/{image}?force=1"), &Value::Null);
        }
        let (theirs, ours) = (&theirs["Labels"], &ours["Labels"]);
        // What the image says beside is nobody's affair.
        assert_eq!(theirs["dev.symbiont.other"], "theirs");
        assert_eq!(theirs["dev.symbiont.id"], sandbox.id().to_string());
        assert_eq!(theirs["dev.symbiont.place"], ours["dev.symbiont.place"]);
        let instance = theirs["dev.symbiont.instance"].as_str().unwrap();
        assert_ne!(instance, "theirs");
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
        // Another test's driver may have come first, and be at it.
        until(|| containers(&told()) == 0).await;
    });
}
