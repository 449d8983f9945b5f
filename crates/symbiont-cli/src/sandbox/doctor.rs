//! `symbiont sandbox doctor`: which drivers work here, and what the others lack.

use serde_json::{Value, json};
use symbiont_runtime::{
    DefaultSandboxOrchestrator, DriverStatus, SandboxExt, SandboxOrchestratorConfig,
};

use super::end::failure;
use crate::doctor::Host;
use crate::screen::{self, BAD, BOLD, CARE, DIM, GOOD, styled};
use crate::{Exit, Failure, Output, text};

const EXAMPLES: &str = "\
Examples:
  symbiont sandbox doctor
  symbiont sandbox doctor -o json

Exit codes:
  0  at least one driver works
  1  none does; what each of them lacks is told
  2, 125 as of `symbiont sandbox`";

/// Finds out which drivers make sandboxes here.
///
/// Each of them is tried: a command runs in a sandbox of its. Of one that fails it is told why, and what
/// to do about it; of one that works, what it can't apply here.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The socket of the engine behind `docker`. /var/run/docker.sock if nothing is said.
    #[arg(long, value_name = "SOCKET")]
    engine: Option<std::path::PathBuf>,
    /// `text` for people, `json` for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
}

pub(super) async fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let config = SandboxOrchestratorConfig {
        engine_socket: arguments.engine.clone(),
        ..SandboxOrchestratorConfig::default()
    };
    let orchestrator = DefaultSandboxOrchestrator::new(config).await.map_err(failure)?;
    let drivers = screen::patiently("trying each driver", orchestrator.drivers()).await;
    orchestrator.shutdown().await;
    let host = Host::look();
    match arguments.output {
        Output::Text => screen::report(&told(&drivers, &host))?,
        Output::Json => screen::result(format!("{}\n", described(&drivers, &host)).as_bytes())?,
    }
    Ok(if works(&drivers) { Exit::Success } else { Exit::Failed })
}

fn works(drivers: &[DriverStatus]) -> bool {
    drivers.iter().any(|driver| driver.available)
}

fn told(drivers: &[DriverStatus], host: &Host) -> String {
    let mut out = format!("{}\n", styled(BOLD, "Drivers"));
    for driver in drivers {
        let mark = match driver.available {
            true => styled(GOOD, "works  "),
            false => styled(CARE, "missing"),
        };
        let (name, tier) = (&driver.driver, driver.tier);
        let detail = screen::wrapped(&text::line(&driver.detail), 27, std::io::stdout());
        out.push_str(&format!("  {name:<8} {tier}  {mark}  {detail}\n"));
        for degraded in &driver.degraded {
            let what = styled(DIM, "without:");
            let degraded = screen::wrapped(&text::line(degraded), 36, std::io::stdout());
            out.push_str(&format!("{:>27}{what} {degraded}\n", ""));
        }
    }
    out.push_str(&format!("\n{}\n", styled(BOLD, "Host")));
    out.push_str(&host.rows());
    let (style, verdict) = match works(drivers) {
        true => (GOOD, "Commands can run in sandboxes here."),
        false => (BAD, "No driver works here: there are no sandboxes."),
    };
    out.push_str(&format!("\n{}\n", styled(style, verdict)));
    out
}

fn described(drivers: &[DriverStatus], host: &Host) -> Value {
    let driver = |driver: &DriverStatus| {
        json!({
            "driver": driver.driver,
            "tier": driver.tier.to_string(),
            "available": driver.available,
            "detail": driver.detail,
            "degraded": driver.degraded,
        })
    };
    json!({
        "drivers": drivers.iter().map(driver).collect::<Vec<_>>(),
        "host": host.described(),
    })
}
