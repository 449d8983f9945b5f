//! What a sandbox is asked to be: from arguments to what the runtime takes.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Value, json};
use symbiont_runtime::{
    AgentId, CgroupLayout, Control, DefaultSandboxOrchestrator, Duration, FilesystemConfig,
    IsolationReport, NetworkConfig, Omission, Omitted, ResourceLimits, RootFilesystem,
    SandboxConfig, SandboxExt, SandboxId, SandboxOptions, SandboxOrchestrator,
    SandboxOrchestratorConfig, SecurityTier, Tier1,
};

use crate::screen::{self, DIM, styled};
use crate::{Exit, Failure, text};

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
    rootfs: Option<String>,
    /// Memory of all its processes together, in MiB, its files included. 512 if nothing is said.
    #[arg(long, value_name = "MB")]
    memory: Option<u64>,
    /// Processor cores, also a part of one. 1 if nothing is said.
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// Processes and threads at once. 256 if nothing is said.
    #[arg(long, value_name = "N")]
    pids: Option<u64>,
    /// A variable of its environment, beside PATH, HOME, LANG and TMPDIR. May be repeated.
    #[arg(long = "env", value_name = "K=V")]
    environment: Vec<String>,
    /// A file of the host that it gets a copy of, as /workspace/NAME or at GUEST, beneath /workspace or
    /// /tmp. May be repeated.
    #[arg(long = "file", value_name = "HOST[:GUEST]")]
    files: Vec<String>,
    /// A limit that it may be without where the host can't hold it: `memory`, `processes` or `processor
    /// time`. Those for which nothing is said above always may, and --report shows it. May be repeated.
    #[arg(long, value_name = "LIMIT")]
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
    /// Files of the host, and where they go.
    files: Vec<(String, String)>,
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
                environment_variables: environment.into_iter().collect(),
            },
            options,
            files,
        })
    }
}

impl Request {
    pub(super) async fn orchestrator(&self) -> Result<DefaultSandboxOrchestrator, Failure> {
        DefaultSandboxOrchestrator::new(self.orchestrator.clone()).await.map_err(super::failure)
    }

    /// Makes the sandbox, with its files in it, and puts its id into `made` as soon as there is
    /// something to be removed.
    pub(super) async fn make(
        &self,
        orchestrator: &DefaultSandboxOrchestrator,
        made: &mut Option<SandboxId>,
    ) -> Result<(), Failure> {
        let made = async {
            let (config, options) = (self.config.clone(), self.options.clone());
            let id = orchestrator.create_with(config, options).await?;
            *made = Some(id);
            orchestrator.start_sandbox(id).await?;
            for (from, to) in &self.files {
                match Path::new(from).is_dir() {
                    true => {
                        let carried = orchestrator.upload_directory(id, from.as_ref(), to).await?;
                        left_out(carried.omitted.iter().map(omission));
                    }
                    false => orchestrator.upload_file(id, from, to).await?,
                }
            }
            Ok(())
        };
        made.await.map_err(super::failure)
    }
}

/// The names and values of variables.
pub(super) fn variables(given: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let pair = |pair: &String| match pair.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(Failure::usage(format!("--env `{pair}` has no value"))
            .help("write it as --env NAME=VALUE; nothing is taken from this environment")),
    };
    given.iter().map(pair).collect()
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

fn root(given: Option<&str>, driver: Option<DriverName>) -> Result<RootFilesystem, Failure> {
    match given {
        None => Ok(RootFilesystem::Host),
        Some("host") if driver == Some(DriverName::Docker) => {
            Err(Failure::usage("a container does not have the host's programs")
                .help("leave --rootfs out for a built-in busybox, or name an image"))
        }
        Some("host") => Ok(RootFilesystem::Host),
        Some("") => Err(Failure::usage("--rootfs is empty")),
        Some(path) if path.contains('/') => {
            let unfit = |why: String| Failure::usage(format!("--rootfs `{path}`: {why}"));
            let whole = fs::canonicalize(path).map_err(|error| unfit(error.to_string()));
            // Names of images have slashes as well.
            let whole = whole.map_err(|failure| {
                failure
                    .help("a value with a slash is a directory; give an image a name without one")
            })?;
            match whole.is_dir() {
                true => Ok(RootFilesystem::Dir(whole)),
                false => Err(unfit("it is no directory".to_owned())),
            }
        }
        Some(image) => Ok(RootFilesystem::Image(image.to_owned())),
    }
}

/// Something that was left out of a directory, and why.
pub(super) fn omission(omitted: &Omitted) -> String {
    let why = match omitted.why {
        Omission::Special => "is a pipe, a socket or a device",
        Omission::Unreadable => "may not be read",
        Omission::LeadsOut => "is a link that leads out of the directory",
    };
    format!("`{}` {why}", text::line(&omitted.path.to_string_lossy()))
}

/// Tells what was left out.
pub(super) fn left_out(omitted: impl ExactSizeIterator<Item = String>) {
    let count = omitted.len();
    for what in omitted.take(MOST_TOLD) {
        screen::tell(&format!("left out: {what}\n"));
    }
    if count > MOST_TOLD {
        screen::tell(&format!("left out: {} more\n", count - MOST_TOLD));
    }
}

/// How much of what was left out is told.
const MOST_TOLD: usize = 20;

/// A file or a directory of the host, and where it goes.
fn file(given: &str) -> Result<(String, String), Failure> {
    // A name may have a colon in it.
    let (from, to) = match given.rsplit_once(':') {
        Some((from, to)) if !Path::new(given).exists() => (from, Some(to)),
        _ => (given, None),
    };
    let unfit = |why: String| Failure::usage(format!("--file `{from}`: {why}"));
    let about = fs::metadata(from).map_err(|error| unfit(error.to_string()))?;
    if !about.is_file() && !about.is_dir() {
        return Err(unfit("it is no regular file and no directory".to_owned()));
    }
    let to = match to {
        Some("") => return Err(unfit("nothing follows the colon".to_owned())),
        Some(to) => to.to_owned(),
        None => {
            let name = Path::new(from).file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| unfit("it has no name".to_owned()))?;
            format!("/workspace/{name}")
        }
    };
    Ok((from.to_owned(), to))
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
        format!("{} {}\n", styled(DIM, &format!("{name:<18}")), text::line(&value))
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
pub(super) async fn cleared(
    orchestrator: &DefaultSandboxOrchestrator,
    id: Option<SandboxId>,
    ended: Result<Exit, Failure>,
) -> Result<Exit, Failure> {
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
        let read = |given, driver| root(given, driver).ok();
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
