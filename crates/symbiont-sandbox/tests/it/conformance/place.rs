//! Where a case is tried: a driver, its sandboxes, and the probe in them.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use symbiont_sandbox::{
    Command, DockerDriver, Driver, GvisorDriver, GvisorOptions, ProcessDriver, Sandbox,
};
use symbiont_types::{CommandResult, SandboxConfig, SandboxError, SandboxId, SecurityTier};

use crate::{docker_socket, marker, processes_with, sandbox_of, shell, state, until};

/// Which driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Process,
    Docker,
    Gvisor,
}

impl Kind {
    pub(super) fn named(name: &str) -> Self {
        match name {
            "process" => Self::Process,
            "docker" => Self::Docker,
            "gvisor" => Self::Gvisor,
            name => panic!("no driver is called {name}"),
        }
    }
}

/// Why a case can't be tried on this host.
pub(super) struct NotHere(pub(super) String);

/// What a case came to.
pub(super) type Told = Result<String, NotHere>;

/// A driver that works here.
pub(super) struct Ground {
    pub(super) kind: Kind,
    pub(super) driver: Box<dyn Driver>,
}

impl Ground {
    pub(super) async fn of(kind: Kind) -> Result<Self, NotHere> {
        let state = state();
        let made: Result<Box<dyn Driver>, SandboxError> = match kind {
            Kind::Process => ProcessDriver::new(Some(&state)).map(|d| Box::new(d) as _),
            Kind::Docker => DockerDriver::new(Some(&state), Some(docker_socket()))
                .await
                .map(|driver| Box::new(driver) as _),
            Kind::Gvisor => GvisorDriver::new(Some(&state), GvisorOptions::default())
                .await
                .map(|driver| Box::new(driver) as _),
        };
        match made {
            Ok(driver) => Ok(Self { kind, driver }),
            Err(SandboxError::BackendUnavailable { reason })
                if reason.contains("is dockerd") || reason.contains("no `runsc`") =>
            {
                Err(NotHere(reason))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) fn config(&self) -> SandboxConfig {
        let tier =
            if self.kind == Kind::Gvisor { SecurityTier::Tier2 } else { SecurityTier::Tier1 };
        SandboxConfig { security_tier: tier, ..crate::config() }
    }

    /// A sandbox that runs, with the probe in it.
    pub(super) async fn place(&self) -> Result<Place, NotHere> {
        self.place_of(&self.config()).await
    }

    pub(super) async fn place_of(&self, config: &SandboxConfig) -> Result<Place, NotHere> {
        let sandbox = if self.kind == Kind::Docker {
            let sandbox = self.driver.create(SandboxId::new(), config).await.unwrap();
            match sandbox.start().await {
                Err(SandboxError::ImageMissing { image }) => return Err(NotHere(image)),
                started => started.unwrap(),
            }
            sandbox
        } else {
            sandbox_of(&*self.driver, config).await
        };
        let token = marker();
        sandbox.write_file(".probe", token.as_bytes(), 0o644).await.unwrap();
        sandbox.upload(&PROBE, "probe".as_ref()).await.unwrap();
        Ok(Place { sandbox, token })
    }
}

/// A sandbox with the probe in it.
pub(super) struct Place {
    pub(super) sandbox: Arc<dyn Sandbox>,
    pub(super) token: String,
}

impl Deref for Place {
    type Target = Arc<dyn Sandbox>;

    fn deref(&self) -> &Self::Target {
        &self.sandbox
    }
}

impl Place {
    pub(super) fn command(&self, words: &[&str]) -> Command {
        Command::new("/workspace/probe").args([self.token.as_str()]).args(words.iter().copied())
    }

    /// What the probe says.
    pub(super) async fn probe(&self, words: &[&str]) -> String {
        let result = self.exec(self.command(words)).await;
        let text = output(&result);
        assert!(!text.contains("no sandbox"), "{words:?}");
        text
    }

    /// What a script says.
    pub(super) async fn shell(&self, script: &str) -> String {
        output(&self.exec(shell(script)).await)
    }

    /// Whether nothing that held a lock is there any more, in the sandbox or on this host.
    pub(super) async fn left(&self, lock: &str) -> &'static str {
        let free = self.probe(&["free", lock]).await == "free";
        // Ourselves with the token: the probe just now.
        until(|| processes_with(&self.token).iter().all(|line| line.contains(" free "))).await;
        if free { "nothing is left" } else { "something is left" }
    }

    pub(super) async fn end(self) {
        self.sandbox.destroy().await.unwrap();
    }
}

/// The probe, built once for all tests.
static PROBE: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(built) = std::env::var_os("SYMBIONT_TEST_PROBE") {
        return built.into();
    }
    let source = concat!(include_str!("probe.rs"), include_str!("noise.rs"));
    let name = {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        format!("probe-{:016x}", hasher.finish())
    };
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let built = directory.join(&name);
    if built.exists() {
        return built;
    }
    // Others may be at it as well: whoever is last puts the same there.
    let place = tempfile::tempdir_in(&directory).unwrap();
    let (text, program) = (place.path().join("probe.rs"), place.path().join("probe"));
    std::fs::write(&text, source).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    // Where the C library has no static part there may be another.
    let musl = format!("--target={}-unknown-linux-musl", std::env::consts::ARCH);
    let mut complaints = String::new();
    for target in [None, Some(&musl)] {
        let output = std::process::Command::new(&rustc)
            .args(["--edition=2024", "-O", "-Cpanic=abort", "-Cstrip=symbols"])
            .args(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"])
            .args(target)
            .args([&text, std::path::Path::new("-o"), &program])
            .output()
            .unwrap();
        if output.status.success() {
            break;
        }
        complaints += &String::from_utf8_lossy(&output.stderr);
    }
    assert!(program.exists(), "{complaints}");
    std::fs::rename(&program, &built).unwrap();
    built
});

/// Where the probe is.
pub(crate) fn probe_program() -> PathBuf {
    PROBE.clone()
}

/// How a command ended: `exit 0`, `signal 9`, `timed out`, `out of memory`, or an error's name.
pub(super) fn how(result: &Result<CommandResult, SandboxError>) -> String {
    match result {
        Ok(result) if result.timed_out => "timed out".to_owned(),
        Ok(result) if result.oom_killed => "out of memory".to_owned(),
        Ok(result) => match (result.exit_code, result.signal) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no end".to_owned(),
        },
        Err(error) => name(error),
    }
}

/// An error's name.
pub(super) fn name(error: &SandboxError) -> String {
    let text = format!("{error:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// `ok`, or an error's name.
pub(super) fn ok<T>(result: Result<T, SandboxError>) -> String {
    result.map_or_else(|error| name(&error), |_| "ok".to_owned())
}

/// What a command wrote, or how it ended if it did not end well.
pub(super) fn output(result: &Result<CommandResult, SandboxError>) -> String {
    match result {
        Ok(ended) if ended.is_success() => {
            String::from_utf8_lossy(&ended.stdout).trim_end().to_owned()
        }
        Ok(ended) => {
            let both = [ended.stdout.as_slice(), &ended.stderr].concat();
            let text = String::from_utf8_lossy(&both).trim_end().to_owned();
            format!("{} {text}", how(result)).trim_end().to_owned()
        }
        Err(error) => name(error),
    }
}

/// Lines `name answer` as `answer: name name; answer: name`, in the order of the answers.
pub(super) fn grouped(lines: &str) -> String {
    let mut groups: std::collections::BTreeMap<&str, Vec<&str>> = Default::default();
    for line in lines.lines() {
        let (name, answer) = line.rsplit_once(' ').unwrap_or((line, "nothing"));
        groups.entry(answer).or_default().push(name);
    }
    let text = groups.iter().map(|(answer, names)| format!("{answer}: {}", names.join(" ")));
    text.collect::<Vec<_>>().join("; ")
}

/// A command that has this long.
pub(super) fn within(command: Command, timeout: Duration, grace: Duration) -> Command {
    Command { timeout, grace, ..command }
}
