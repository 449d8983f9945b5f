//! An engine for the tests of the docker driver: a `dockerd` of our own, which shares nothing with one
//! that the host may have.
//!
//! A keeper starts it, and holds the end of a pipe whose other end is ours alone. However this process
//! ends, by itself, by Control-C or by SIGKILL, the pipe ends as well: then the keeper has the engine
//! end, waits for it, and removes its folder.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::steps::Steps;

/// By which the tests are told where an engine listens.
pub(crate) const VARIABLE: &str = "SYMBIONT_TEST_DOCKER";
/// How long it may take to answer; on a cold machine it takes some seconds.
const START: Duration = Duration::from_secs(90);
/// How often it is asked whether it is there: it tells nobody.
const ASK: Duration = Duration::from_millis(50);
/// `FOLDER PROGRAM ARGUMENT...`: runs the program until standard input ends.
const KEEPER: &str = r#"
place=$1; shift
exec 3<&0 </dev/null
"$@" >"$place/log" 2>&1 3<&- & program=$!
{ read -r _ <&3; [ -e "$place/over" ] || kill "$program"; } & end=$!
wait "$program"
: >"$place/over"
wait "$end"
rm -rf --one-file-system "$place"
"#;

/// An engine that runs until this goes.
pub(crate) struct Engine(Kept);

impl Engine {
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.place.join("socket")
    }
}

/// Starts one, unless the caller has named one; notes why there is none.
pub(crate) fn start(steps: &mut Steps) -> Option<Engine> {
    if std::env::var_os(VARIABLE).is_some() {
        return None;
    }
    let started = steps.act("an engine for the tests", "dockerd, in a folder of its own", || {
        let program = program().context("there is no `dockerd`")?;
        let place = std::env::temp_dir().join(format!("symbiont-engine-{}", std::process::id()));
        std::fs::create_dir(&place).with_context(|| place.display().to_string())?;
        std::fs::write(place.join("config.json"), "{}")?;
        let engine = Engine(Kept::start(&place, &program, &arguments(&place))?);
        engine.0.until(START, || answers(&engine.socket()))?;
        Ok(engine)
    });
    match started {
        Ok(engine) => Some(engine),
        Err(error) => {
            // Without one there is still much to test, and the host may have one.
            eprintln!("    not started: {error:#}");
            let what = "symbiont-sandbox: the docker driver with an engine of its own";
            steps.left_out.push(format!("{what}: {error:#}"));
            None
        }
    }
}

fn program() -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|directory| Path::new(directory).join("dockerd"))
        .find(|path| path.is_file())
}

fn arguments(place: &Path) -> Vec<String> {
    let at = |name: &str| place.join(name).display().to_string();
    vec![
        format!("--config-file={}", at("config.json")),
        format!("--data-root={}", at("data")),
        format!("--exec-root={}", at("exec")),
        format!("--pidfile={}", at("pid")),
        format!("--host=unix://{}", at("socket")),
        // Should the host have a containerd, it is used.
        "--containerd-namespace=symbiont-tests".to_owned(),
        "--containerd-plugins-namespace=symbiont-tests-plugins".to_owned(),
        // Nothing of the host's network is touched.
        "--bridge=none".to_owned(),
        "--iptables=false".to_owned(),
        "--ip-forward=false".to_owned(),
        "--ip-masq=false".to_owned(),
        "--shutdown-timeout=5".to_owned(),
    ]
}

fn answers(socket: &Path) -> bool {
    let asked = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    asked().is_ok_and(|answer| answer.ends_with("OK"))
}

/// A program in a folder that goes with it.
struct Kept {
    keeper: Child,
    place: PathBuf,
}

impl Kept {
    fn start(place: &Path, program: &Path, arguments: &[String]) -> Result<Self> {
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(place)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What a terminal sends to its foreground is not for it.
            .process_group(0)
            .spawn()?;
        Ok(Self { keeper, place: place.to_owned() })
    }

    /// Waits until it does what it is for.
    fn until(&self, limit: Duration, done: impl Fn() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !done() {
            if self.place.join("over").exists() {
                bail!("it has ended: {}", self.says());
            }
            if begun.elapsed() > limit {
                bail!("it does not answer for {limit:?}: {}", self.says());
            }
            std::thread::sleep(ASK);
        }
        Ok(())
    }

    /// The last of what it wrote.
    fn says(&self) -> String {
        let log = std::fs::read_to_string(self.place.join("log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        last.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program in a folder, that says in a file that it runs.
    fn kept(script: &str) -> (Kept, PathBuf) {
        let name = format!("xtask-kept-{}-{}", std::process::id(), script.len());
        let place = std::env::temp_dir().join(name);
        std::fs::create_dir(&place).unwrap();
        let words = ["-c", script, "sh", place.to_str().unwrap()].map(str::to_owned);
        (Kept::start(&place, Path::new("/bin/sh"), &words).unwrap(), place)
    }

    #[test]
    fn what_is_kept_ends_with_whoever_has_it_kept() {
        let (kept, place) = kept("echo $$ > $1/number; mv $1/number $1/on; exec sleep 600");
        let on = place.join("on");
        kept.until(START, || on.exists()).unwrap();
        let number = std::fs::read_to_string(&on).unwrap();
        let process = Path::new("/proc").join(number.trim());
        assert!(process.exists());
        drop(kept);
        assert!(!process.exists() && !place.exists());
    }

    #[test]
    fn what_ends_by_itself_says_why() {
        let (kept, place) = kept("echo first; echo why >&2; exit 3");
        let error = kept.until(START, || false).unwrap_err();
        assert_eq!(error.to_string(), "it has ended: first / why");
        drop(kept);
        assert!(!place.exists());
    }
}
