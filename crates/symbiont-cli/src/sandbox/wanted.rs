//! What a sandbox is asked to be: from arguments to what the runtime takes.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};
use symbiont_runtime::{
    AgentId, CPU_CORES, CgroupLayout, Command, Control, DefaultSandboxOrchestrator, Duration,
    FilesystemConfig, IsolationReport, MEMORY_MB, NetworkConfig, Omission, Omitted, PROCESSES,
    ResourceLimits, RootFilesystem, SandboxConfig, SandboxError, SandboxExt, SandboxId,
    SandboxOptions, SandboxOrchestrator, SandboxOrchestratorConfig, SecurityTier, Tier1,
};

use super::end::{failure, of_files};
use crate::screen::{self, DIM, styled};
use crate::{Exit, Failure, Output, text};

/// The longest that anything may run.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What a sandbox is asked to be.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Wanted {
    /// How far it is from the host: 1 is namespaces or a container, 2 a kernel of its own (gVisor), 3 a
    /// virtual machine. 1 if nothing is said.
    #[arg(long, value_name = "1|2|3", value_parser = clap::value_parser!(u8).range(1..=3))]
    tier: Option<u8>,
    /// What makes it, which also says the tier. If nothing is said, tier 1 is made by `docker` where
    /// --rootfs is an image and by `process` otherwise.
    #[arg(long, value_enum, value_name = "NAME")]
    driver: Option<DriverName>,
    /// What its programs are: `host` for those of this host, read-only; a directory, which is known by
    /// its slash (`./root`); any other word is an image of the engine. Without it, `docker` has a
    /// built-in busybox and the others have the host's.
    #[arg(long, value_name = "host|DIR|IMAGE")]
    rootfs: Option<OsString>,
    /// Memory of all its processes together, in MiB, its files included: from 8 to 4194304. 512 if
    /// nothing is said.
    #[arg(long, value_name = "MB", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(MEMORY_MB))]
    memory: Option<u64>,
    /// Processor cores, also a part of one: from 0.01 to 4096. 1 if nothing is said.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = cores)]
    cpus: Option<f64>,
    /// Processes and threads at once: from 16 to 4096. 256 if nothing is said.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(PROCESSES))]
    pids: Option<u64>,
    /// A variable of its environment, beside PATH, HOME, LANG and TMPDIR: 128 at most, with values of at
    /// most 4096 bytes, and none that has programs load or run something else first, such as LD_PRELOAD.
    /// May be repeated.
    #[arg(long = "env", value_name = "K=V")]
    environment: Vec<OsString>,
    /// A file or directory of the host that it gets a copy of, as /workspace/NAME or at GUEST, beneath
    /// /workspace or /tmp. One that is not there, or may not be read, ends this with 125. May be repeated.
    #[arg(long = "file", value_name = "HOST[:GUEST]")]
    files: Vec<OsString>,
    /// A limit that it may be without where the host can't hold it: `memory`, `processes`, `processor
    /// time` or `Landlock`. The first three may be without being named here where nothing is said of them
    /// above, and --report shows it. May be repeated.
    #[arg(long, value_name = "LIMIT", value_parser = control)]
    allow_degraded: Vec<Control>,
    /// The socket of the engine behind `docker`, which is the driver then. /var/run/docker.sock if
    /// nothing is said.
    #[arg(long, value_name = "SOCKET")]
    engine: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DriverName {
    /// Namespaces of this kernel.
    Process,
    /// A container of an engine.
    Docker,
    /// A kernel of its own.
    Gvisor,
}

/// A sandbox that can be made.
#[derive(Debug)]
pub(super) struct Request {
    orchestrator: SandboxOrchestratorConfig,
    config: SandboxConfig,
    options: SandboxOptions,
    /// Variables of the environment of its commands.
    environment: Vec<(OsString, OsString)>,
    /// Files of the host, and where they go.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Wanted {
    /// What is wrong with the arguments is found here, before anything is made. Each command may run
    /// for `timeout`.
    pub(super) fn read(self, timeout: Duration) -> Result<Request, Failure> {
        // Whoever names an engine means it.
        let driver = self.driver.or(self.engine.as_ref().map(|_| DriverName::Docker));
        let (tier, tier1) = tier(self.tier, driver)?;
        let rootfs = root(self.rootfs.as_deref(), driver)?;
        let environment = variables(&self.environment)?;
        let files = self.files.iter().map(|given| file(given)).collect::<Result<_, _>>()?;
        let mut allow_degraded = self.allow_degraded;
        for (control, asked) in [
            (Control::Memory, self.memory.is_some()),
            (Control::Processes, self.pids.is_some()),
            (Control::ProcessorTime, self.cpus.is_some()),
        ] {
            if !asked {
                allow_degraded.push(control);
            }
        }
        let default = ResourceLimits::default();
        let mut options = SandboxOptions { allow_degraded, ..SandboxOptions::default() };
        options.processes = self.pids.unwrap_or(options.processes);
        Ok(Request {
            orchestrator: SandboxOrchestratorConfig {
                tier1,
                engine_socket: self.engine,
                ..SandboxOrchestratorConfig::default()
            },
            config: SandboxConfig {
                agent_id: AgentId::new(),
                security_tier: tier,
                resource_limits: ResourceLimits {
                    memory_mb: self.memory.unwrap_or(default.memory_mb),
                    cpu_cores: self.cpus.unwrap_or(default.cpu_cores),
                    execution_timeout: timeout,
                    ..default
                },
                network_config: NetworkConfig::default(),
                filesystem_config: FilesystemConfig { rootfs, ..FilesystemConfig::default() },
                // They are given with each command, as theirs may be any bytes.
                environment_variables: HashMap::new(),
            },
            options,
            environment,
            files,
        })
    }
}

impl Request {
    pub(super) fn memory_mb(&self) -> u64 {
        self.config.resource_limits.memory_mb
    }

    /// What each of its commands is given.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        self.environment.clone()
    }

    pub(super) async fn orchestrator(&self) -> Result<DefaultSandboxOrchestrator, Failure> {
        DefaultSandboxOrchestrator::new(self.orchestrator.clone()).await.map_err(failure)
    }

    /// Makes the sandbox, with its files in it, and puts its id into `made` as soon as there is
    /// something to be removed. Gives what of directories was left out.
    pub(super) async fn make(
        &self,
        orchestrator: &DefaultSandboxOrchestrator,
        made: &mut Option<SandboxId>,
    ) -> Result<Vec<Omitted>, Failure> {
        let (config, options) = (self.config.clone(), self.options.clone());
        let id = orchestrator.create_with(config, options).await.map_err(failure)?;
        *made = Some(id);
        orchestrator.start_sandbox(id).await.map_err(failure)?;
        let mut omitted = Vec::new();
        for (from, to) in &self.files {
            match from.is_dir() {
                true => {
                    let carried = orchestrator.upload_directory(id, from, to).await;
                    omitted.append(&mut carried.map_err(of_files)?.omitted);
                }
                false => drop(orchestrator.upload(id, from, to).await.map_err(of_files)?),
            }
        }
        Ok(omitted)
    }
}

/// The names and values of variables.
pub(super) fn variables(given: &[OsString]) -> Result<Vec<(OsString, OsString)>, Failure> {
    let pair = |pair: &OsString| {
        let parts = halves(pair, |bytes| bytes.iter().position(|byte| *byte == b'='));
        parts.ok_or_else(|| {
            Failure::usage(format!("--env `{}` has no value", pair.display()))
                .help("write it as --env NAME=VALUE; nothing is taken from this environment")
        })
    };
    let env: Vec<_> = given.iter().map(pair).collect::<Result<_, _>>()?;
    let mut command = Command::new("true");
    command.env.clone_from(&env);
    match command.check() {
        Ok(()) => Ok(env),
        Err(SandboxError::InvalidArgument { what }) => {
            Err(Failure::usage(format!("--env: {what}")))
        }
        Err(other) => Err(failure(other)),
    }
}

/// What is before and after the byte at a place.
fn halves(
    word: &OsStr,
    place: impl FnOnce(&[u8]) -> Option<usize>,
) -> Option<(OsString, OsString)> {
    let bytes = word.as_bytes();
    let at = place(bytes)?;
    let half = |bytes| OsStr::from_bytes(bytes).to_owned();
    Some((half(&bytes[..at]), half(&bytes[at + 1..])))
}

/// A number of processor cores.
fn cores(given: &str) -> Result<f64, String> {
    let number: f64 = given.parse().map_err(|_| "it is no number".to_owned())?;
    match CPU_CORES.contains(&number) {
        true => Ok(number),
        false => Err(format!("{given} is not in {}..={}", CPU_CORES.start(), CPU_CORES.end())),
    }
}

/// A limit that is known by its name.
fn control(given: &str) -> Result<Control, String> {
    given.parse().map_err(|error| match error {
        SandboxError::InvalidArgument { what } => what,
        other => other.to_string(),
    })
}

/// Refuses a path that no sandbox follows.
pub(super) fn climbs_not(path: &Path) -> Result<(), String> {
    match path.components().any(|part| part == Component::ParentDir) {
        true => Err("`..` is not followed".to_owned()),
        false => Ok(()),
    }
}

/// Refuses a path in a sandbox that nothing can be written to, in any sandbox.
pub(super) fn writable(path: &Path) -> Result<(), String> {
    climbs_not(path)?;
    match path.is_relative() || ["/workspace", "/tmp"].iter().any(|top| path.starts_with(top)) {
        true => Ok(()),
        false => Err("what is written must lie beneath /workspace or /tmp".to_owned()),
    }
}

fn tier(tier: Option<u8>, driver: Option<DriverName>) -> Result<(SecurityTier, Tier1), Failure> {
    use DriverName::{Docker, Gvisor, Process};
    use SecurityTier::{Tier1 as First, Tier2 as Second, Tier3 as Third};
    match (tier, driver) {
        (None | Some(1), None) => Ok((First, Tier1::Auto)),
        (None | Some(1), Some(Process)) => Ok((First, Tier1::Process)),
        (None | Some(1), Some(Docker)) => Ok((First, Tier1::Docker)),
        (Some(2), None) | (None | Some(2), Some(Gvisor)) => Ok((Second, Tier1::Auto)),
        (Some(3), None) => Ok((Third, Tier1::Auto)),
        (Some(tier), _) => Err(Failure::usage(format!("that --driver does not serve tier {tier}"))
            .help("process and docker serve tier 1, gvisor tier 2; one of --tier and --driver will do")),
    }
}

fn root(given: Option<&OsStr>, driver: Option<DriverName>) -> Result<RootFilesystem, Failure> {
    let Some(given) = given else { return Ok(RootFilesystem::Host) };
    if given.as_bytes().contains(&b'/') {
        return directory(Path::new(given));
    }
    match given.to_str() {
        Some("host") if driver == Some(DriverName::Docker) => {
            Err(Failure::usage("a container does not have the host's programs")
                .help("leave --rootfs out for a built-in busybox, or name an image"))
        }
        Some("host") => Ok(RootFilesystem::Host),
        Some("") => Err(Failure::usage("--rootfs is empty")),
        Some(_) if driver == Some(DriverName::Process) => {
            Err(Failure::usage("the process driver serves no images")
                .help("--driver docker does; a directory is known by its slash"))
        }
        Some(image) => Ok(RootFilesystem::Image(image.to_owned())),
        None => {
            Err(Failure::usage(format!("--rootfs `{}`: names of images are text", given.display())))
        }
    }
}

/// A directory of the host whose programs it has.
fn directory(path: &Path) -> Result<RootFilesystem, Failure> {
    let unfit = |why: String| {
        Failure::new(Exit::NoSandbox, text::block(&format!("--rootfs `{}`: {why}", path.display())))
    };
    // Names of images have slashes as well.
    let whole = fs::canonicalize(path).map_err(|error| {
        unfit(error.to_string())
            .help("a value with a slash is a directory; give an image a name without one")
    })?;
    match whole.is_dir() {
        true => Ok(RootFilesystem::Dir(whole)),
        false => Err(unfit("it is no directory".to_owned())),
    }
}

/// Why something was left out of a directory.
fn why(omitted: &Omitted) -> &'static str {
    match omitted.why {
        Omission::Special => "is a pipe, a socket or a device",
        Omission::Unreadable => "may not be read",
        Omission::LeadsOut => "is a link that leads out of the directory",
    }
}

/// What was left out, for programs.
pub(super) fn omissions(omitted: &[Omitted]) -> Vec<Value> {
    let one = |one: &Omitted| json!({ "path": one.path.to_string_lossy(), "why": why(one) });
    omitted.iter().map(one).collect()
}

/// Tells what was left out, if anything was.
pub(super) fn left_out(omitted: &[Omitted], output: Output) {
    let omitted = omissions(omitted);
    match output {
        Output::Json if omitted.is_empty() => {}
        Output::Json => {
            screen::tell(&text::json(&format!("{}\n", json!({ "omitted": omitted }))));
        }
        Output::Text => tell_left_out(&omitted),
    }
}

/// Tells people what was left out.
pub(super) fn tell_left_out(omitted: &[Value]) {
    let word = |one: &Value, name: &str| text::line(one[name].as_str().unwrap_or_default());
    for one in omitted.iter().take(MOST_TOLD) {
        screen::tell(&format!("left out: `{}` {}\n", word(one, "path"), word(one, "why")));
    }
    if omitted.len() > MOST_TOLD {
        screen::tell(&format!("left out: {} more\n", omitted.len() - MOST_TOLD));
    }
}

/// How much of what was left out is told.
const MOST_TOLD: usize = 20;

/// A file or a directory of the host, and where it goes.
fn file(given: &OsStr) -> Result<(PathBuf, PathBuf), Failure> {
    // A name may have a colon in it.
    let colon = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b':');
    let (from, to) = match halves(given, colon) {
        Some((from, to)) if !Path::new(given).exists() => (from, Some(to)),
        _ => (given.to_owned(), None),
    };
    let from = PathBuf::from(from);
    let told = |why: &dyn Display| format!("--file `{}`: {why}", from.display());
    let to = match to {
        Some(to) if to.is_empty() => {
            return Err(Failure::usage(told(&"nothing follows the colon")));
        }
        Some(to) => PathBuf::from(to),
        None if from.as_os_str().is_empty() => return Err(Failure::usage(told(&"it is empty"))),
        None => Path::new("/workspace").join(from.file_name().ok_or_else(|| {
            Failure::usage(told(&"it has no name")).help("say where it goes, as HOST:GUEST")
        })?),
    };
    writable(&to).map_err(|why| Failure::usage(told(&format!("`{}`: {why}", to.display()))))?;
    copied(&from, told)?;
    Ok((from, to))
}

/// Refuses what can't be copied from this host, in the words of `told`.
pub(super) fn copied(from: &Path, told: impl Fn(&dyn Display) -> String) -> Result<(), Failure> {
    let unfit = |why: &dyn Display| Failure::new(Exit::NoSandbox, text::block(&told(why)));
    let about = fs::metadata(from).map_err(|error| unfit(&error))?;
    match about.is_file() || about.is_dir() {
        true => Ok(()),
        false => Err(unfit(&"it is no regular file and no directory")),
    }
}

/// A time such as `90`, `1.5s`, `500ms`, `2m`, `1h`: above zero, and at most a day.
pub(super) fn duration(given: &str) -> Result<Duration, String> {
    let at = given.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(given.len());
    let (number, unit) = given.split_at(at);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err("a time is a number and one of `ms`, `s`, `m`, `h`, `d`".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "a time begins with a number".to_owned())?;
    let time = Duration::try_from_secs_f64(number * seconds).unwrap_or(Duration::MAX);
    if time.is_zero() {
        return Err("it must be above zero".to_owned());
    }
    if time > LONGEST {
        return Err("the longest is 24h".to_owned());
    }
    Ok(time)
}

/// Which walls stand, for people.
pub(super) fn told(report: &IsolationReport) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let mut rows = vec![
        ("driver", report.driver.clone()),
        ("namespaces", report.namespaces.join(", ")),
        ("users", report.user_mapping.clone()),
        ("no new privileges", yes(report.no_new_privileges)),
        ("no capabilities", yes(report.capabilities_dropped)),
        ("control groups", layout(report.cgroup).to_owned()),
        ("limits", report.limits.join(", ")),
        ("network", report.network.clone()),
        ("root", report.rootfs.clone()),
        ("system calls", report.seccomp.clone().unwrap_or_else(|| "all".to_owned())),
        ("Landlock", report.landlock.map_or("not in force".to_owned(), |v| format!("version {v}"))),
    ];
    rows.extend(report.degraded.iter().map(|what| ("not applied", what.clone())));
    let row = |(name, value): (&str, String)| {
        let value = screen::wrapped(&text::line(&value), 19, std::io::stderr());
        format!("{} {value}\n", styled(DIM, &format!("{name:<18}")))
    };
    rows.into_iter().map(row).collect()
}

/// The same for programs.
pub(super) fn described(report: &IsolationReport) -> Value {
    json!({
        "driver": report.driver,
        "namespaces": report.namespaces,
        "user_mapping": report.user_mapping,
        "no_new_privileges": report.no_new_privileges,
        "capabilities_dropped": report.capabilities_dropped,
        "cgroup": layout(report.cgroup),
        "limits": report.limits,
        "network": report.network,
        "rootfs": report.rootfs,
        "seccomp": report.seccomp,
        "landlock": report.landlock,
        "degraded": report.degraded,
    })
}

fn layout(layout: CgroupLayout) -> &'static str {
    match layout {
        CgroupLayout::None => "none",
        CgroupLayout::V1 => "v1",
        CgroupLayout::V2 => "v2",
        CgroupLayout::Hybrid => "hybrid",
    }
}

/// Destroys a sandbox. What could not be removed is told, and makes a failure of what went well.
pub(super) async fn cleared<T>(
    orchestrator: &DefaultSandboxOrchestrator,
    id: Option<SandboxId>,
    ended: Result<T, Failure>,
) -> Result<T, Failure> {
    let destroyed = match id {
        Some(id) => orchestrator.destroy_sandbox(id).await,
        None => Ok(()),
    };
    orchestrator.shutdown().await;
    match (destroyed, ended) {
        (Err(left), Ok(_)) => {
            let what = format!("something of the sandbox is left: {left}");
            Err(Failure::new(Exit::NoSandbox, text::block(&what)))
        }
        (_, ended) => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (given, want) in [
            ("90", Some(90_000)),
            ("1.5s", Some(1500)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("24h", Some(86_400_000)),
            ("1d", Some(86_400_000)),
            ("25h", None),
            ("0", None),
            ("0ms", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("5 s", None),
            ("s", None),
            ("", None),
            ("1e3s", None),
            ("99999999999999999999999d", None),
        ] {
            let got = duration(given).ok();
            assert_eq!(got, want.map(Duration::from_millis), "{given:?}");
        }
    }

    #[test]
    fn a_driver_and_a_tier_agree_or_are_refused() {
        use DriverName::{Docker, Gvisor, Process};
        for (asked, driver, want) in [
            (None, None, Some(SecurityTier::Tier1)),
            (None, Some(Gvisor), Some(SecurityTier::Tier2)),
            (Some(1), Some(Docker), Some(SecurityTier::Tier1)),
            (Some(2), Some(Gvisor), Some(SecurityTier::Tier2)),
            (Some(3), None, Some(SecurityTier::Tier3)),
            (Some(1), Some(Gvisor), None),
            (Some(2), Some(Process), None),
            (Some(3), Some(Docker), None),
        ] {
            assert_eq!(
                tier(asked, driver).ok().map(|(tier, _)| tier),
                want,
                "{asked:?} {driver:?}"
            );
        }
    }

    #[test]
    fn a_root_is_the_host_a_directory_or_an_image() {
        let read = |given: Option<&str>, driver| root(given.map(OsStr::new), driver).ok();
        let image = |name: &str| Some(RootFilesystem::Image(name.to_owned()));
        assert_eq!(read(None, Some(DriverName::Docker)), Some(RootFilesystem::Host));
        assert_eq!(read(Some("host"), None), Some(RootFilesystem::Host));
        assert_eq!(read(Some("host"), Some(DriverName::Docker)), None);
        assert_eq!(read(Some("/usr/.."), None), Some(RootFilesystem::Dir("/".into())));
        assert_eq!(read(Some("/nowhere/x"), None), None);
        assert_eq!(read(Some("/etc/passwd"), None), None);
        assert_eq!(read(Some("busybox:1"), None), image("busybox:1"));
        assert_eq!(read(Some(""), None), None);
    }
}
