//! How long a sandbox takes, beside `bwrap` in the same run.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use symbiont_sandbox::{Command, Driver, ProcessDriver};
use symbiont_types::{
    AgentId, FilesystemConfig, NetworkConfig, ResourceLimits, SandboxConfig, SandboxError,
    SandboxId, SecurityTier,
};

const ROUNDS: usize = 300;
const BWRAP: [&str; 16] = [
    "--unshare-all",
    "--ro-bind",
    "/usr",
    "/usr",
    "--symlink",
    "usr/lib64",
    "/lib64",
    "--symlink",
    "usr/lib",
    "/lib",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--",
    "true",
];

#[tokio::main]
async fn main() -> Result<(), SandboxError> {
    let driver = ProcessDriver::new(None)?;
    let config = SandboxConfig {
        agent_id: AgentId::new(),
        security_tier: SecurityTier::Tier1,
        resource_limits: ResourceLimits::default(),
        network_config: NetworkConfig::default(),
        filesystem_config: FilesystemConfig::default(),
        environment_variables: HashMap::new(),
    };
    let mut times: [(&str, Vec<Duration>); 6] =
        ["start", "first exec", "exec", "destroy", "start + exec + destroy", "bwrap"]
            .map(|name| (name, Vec::new()));
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let sandbox = driver.create(SandboxId::new(), &config).await?;
        sandbox.start().await?;
        let started = Instant::now();
        sandbox.exec(Command::new("true")).await?;
        let first = Instant::now();
        sandbox.exec(Command::new("true")).await?;
        let second = Instant::now();
        sandbox.destroy().await?;
        let destroyed = Instant::now();
        let bwrap = std::process::Command::new("bwrap").args(BWRAP).status();
        let done = Instant::now();
        let parts = [
            started - begin,
            first - started,
            second - first,
            destroyed - second,
            destroyed - begin - (second - first),
        ];
        for ((_, times), part) in times.iter_mut().zip(parts) {
            times.push(part);
        }
        if bwrap.is_ok_and(|status| status.success()) {
            times[5].1.push(done - destroyed);
        }
    }
    for (name, mut times) in times {
        times.sort();
        let at = |hundredths: usize| times.get(times.len() * hundredths / 100);
        println!("{name}: p50 {:?}, p95 {:?}, {} rounds", at(50), at(95), times.len());
    }
    Ok(())
}
