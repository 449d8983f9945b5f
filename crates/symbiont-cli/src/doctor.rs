//! `symbiont doctor`: what this host can do for agents, found out by trying.

use std::fs;

use serde_json::{Value, json};
use symbiont_runtime::{
    Profile, ResourceKind, ResourceManager, Runtime, RuntimeConfig, SandboxExt, SecurityTier,
    SystemResourceStatus, TierStatus,
};

use crate::screen::{self, BAD, BOLD, CARE, DIM, GOOD, styled};
use crate::{Exit, Failure, Output, text};

const EXAMPLES: &str = "\
Examples:
  symbiont doctor
  symbiont doctor --output json

Exit codes:
  0  Tier1 works: agents that run commands and use files can run here
  1  it does not; what is missing is told";

/// Finds out what this host can do for agents.
///
/// Each tier of isolation that this version serves is tried: a command runs in a sandbox. What is
/// missing is told with what to do about it, and so is what a sandbox does without here.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// `text` for people, `json` for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let config = RuntimeConfig { profile: Profile::Dev, ..Default::default() };
    let runtime = Runtime::open(config).await.map_err(Failure::failed)?;
    let tiers = runtime.sandbox().tiers().await;
    let resources = runtime.resources().get_system_resources().await;
    for error in runtime.shutdown().await {
        screen::say(&Failure::failed(error));
    }
    let findings = Findings { tiers, resources, host: Host::look() };
    match arguments.output {
        Output::Text => screen::report(&findings.text())?,
        Output::Json => screen::result(format!("{}\n", findings.json()).as_bytes())?,
    }
    Ok(if findings.is_fit() { Exit::Success } else { Exit::Failed })
}

/// What the kernel says of itself.
pub(crate) struct Host {
    kernel: Option<String>,
    user: Option<u32>,
    user_namespaces: Result<(), String>,
    cgroups: Result<&'static str, String>,
}

impl Host {
    pub(crate) fn look() -> Self {
        let text = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let kernel = text("/proc/sys/kernel/osrelease");
        let user = text("/proc/self/status").and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("Uid:"))?.to_owned();
            line.split_whitespace().nth(2)?.parse().ok()
        });
        let off = |path: &str, value: &str| text(path).is_some_and(|text| text == value);
        let user_namespaces = if fs::metadata("/proc/self/ns/user").is_err() {
            Err("this kernel has none (CONFIG_USER_NS)".to_owned())
        } else if off("/proc/sys/user/max_user_namespaces", "0") {
            Err("none may be made: raise user.max_user_namespaces with sysctl".to_owned())
        } else if user != Some(0) && off("/proc/sys/kernel/unprivileged_userns_clone", "0") {
            Err("only root may make them: set kernel.unprivileged_userns_clone=1 with sysctl"
                .to_owned())
        } else if user != Some(0)
            && off("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1")
        {
            Err("AppArmor keeps them from ordinary users: set \
                 kernel.apparmor_restrict_unprivileged_userns=0 with sysctl"
                .to_owned())
        } else {
            Ok(())
        };
        let is_there = |path: &str| fs::metadata(path).is_ok();
        let cgroups = if is_there("/sys/fs/cgroup/cgroup.controllers") {
            Ok("v2")
        } else if is_there("/sys/fs/cgroup/memory") || is_there("/sys/fs/cgroup/pids") {
            Ok("v1")
        } else {
            Err("none is mounted at /sys/fs/cgroup".to_owned())
        };
        Self { kernel, user, user_namespaces, cgroups }
    }

    fn row(name: &str, words: &str) -> String {
        format!("  {} {words}\n", styled(DIM, &format!("{name:<16}")))
    }

    /// For people.
    pub(crate) fn rows(&self) -> String {
        let unknown = || "not known".to_owned();
        let user = match self.user {
            Some(0) => "root".to_owned(),
            Some(id) => format!("an ordinary user ({id})"),
            None => unknown(),
        };
        let namespaces = match &self.user_namespaces {
            Ok(()) => "there".to_owned(),
            Err(why) => styled(CARE, why),
        };
        let groups = match &self.cgroups {
            Ok(version) => (*version).to_owned(),
            Err(why) => styled(CARE, why),
        };
        [
            ("kernel", self.kernel.as_deref().map_or_else(unknown, text::line)),
            ("user", user),
            ("user namespaces", namespaces),
            ("control groups", groups),
        ]
        .map(|(name, words)| Self::row(name, &words))
        .concat()
    }

    /// For programs.
    pub(crate) fn described(&self) -> Value {
        let (namespaces, groups) = (&self.user_namespaces, &self.cgroups);
        json!({
            "kernel": self.kernel,
            "uid": self.user,
            "user_namespaces": {
                "available": namespaces.is_ok(),
                "detail": namespaces.as_ref().err(),
            },
            "cgroups": { "version": groups.as_ref().ok(), "detail": groups.as_ref().err() },
        })
    }
}

struct Findings {
    tiers: Vec<TierStatus>,
    resources: SystemResourceStatus,
    host: Host,
}

impl Findings {
    /// Whether agents that need a sandbox can run here at all.
    fn is_fit(&self) -> bool {
        self.tiers.iter().any(|tier| tier.tier == SecurityTier::Tier1 && tier.driver.is_some())
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n", styled(BOLD, "Isolation"));
        for tier in &self.tiers {
            let (mark, words) = match &tier.driver {
                Some(driver) => {
                    (styled(GOOD, "works  "), format!("the {driver} driver: {}", tier.detail))
                }
                None => (styled(CARE, "missing"), tier.detail.clone()),
            };
            out.push_str(&format!("  {}  {mark}  {}\n", tier.tier, text::line(&words)));
        }
        out.push_str(&format!("\n{}\n", styled(BOLD, "Host")));
        out.push_str(&self.host.rows());
        let unknown = || "not known".to_owned();
        let mut row = |name: &str, words: String| out.push_str(&Host::row(name, &words));
        for (name, kind) in [("memory", ResourceKind::Memory), ("cores", ResourceKind::Cpu)] {
            let words = self.resources.kind(kind).map_or_else(unknown, |status| {
                let figure = |number: f64| match kind {
                    ResourceKind::Cpu => format!("{number:.1}"),
                    ResourceKind::Memory | ResourceKind::Disk | ResourceKind::Network => {
                        format!("{:.1} GiB", number / f64::from(1 << 30))
                    }
                };
                status.total.zip(status.available).map_or_else(unknown, |(total, available)| {
                    format!("{}, {} of it for agents", figure(total), figure(available))
                })
            });
            row(name, words);
        }
        for degraded in &self.resources.degraded {
            row("not enforced", text::line(degraded));
        }
        let (style, verdict) = if self.is_fit() {
            (GOOD, "Agents can run here.")
        } else {
            (BAD, "Agents that run commands or use files can't run here: Tier1 does not work.")
        };
        out.push_str(&format!("\n{}\n", styled(style, verdict)));
        out
    }

    fn json(&self) -> Value {
        let tiers: Vec<Value> = self
            .tiers
            .iter()
            .map(|tier| {
                json!({
                    "tier": tier.tier.to_string(),
                    "available": tier.driver.is_some(),
                    "driver": tier.driver,
                    "detail": tier.detail,
                })
            })
            .collect();
        let resources: Vec<Value> = self
            .resources
            .kinds
            .iter()
            .map(|status| {
                json!({
                    "kind": status.kind.to_string(),
                    "total": status.total,
                    "available": status.available,
                })
            })
            .collect();
        let mut all = self.host.described();
        all["fit"] = json!(self.is_fit());
        all["tiers"] = json!(tiers);
        all["resources"] = json!(resources);
        all["degraded"] = json!(self.resources.degraded);
        all
    }
}
