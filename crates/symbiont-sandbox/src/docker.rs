//! The driver that has an engine make a container, by the Engine API.
//!
//! The guest is the container's first process, and speaks over the container's standard streams: a
//! command costs frames and no call of the engine. Within the container it builds the same walls as
//! everywhere else, so that a command sees the same sandbox, with the image's files instead of the
//! host's, and stands behind two rows of walls.
//!
//! # What holds
//!
//! - Nothing of the host is mounted into a container. It has no capability, no network, and a root that
//!   can't be written.
//! - When this process ends, the guest reads the end of its input and the container ends. What is
//!   left of it is removed by whoever starts next with the same state directory, which has the engine
//!   in the record of the dead instance, and knows the container by its labels; containers of anyone
//!   else are not touched.
//! - Before an engine is asked for a container it is written down that it may have been.
//!
//! # What is not here
//!
//! The system call filter around a container is our own and lets the guest build its walls, which the
//! engine's filter and its AppArmor profile forbid; commands run under the guest's filter as well. Images are taken as they are: who
//! made them is not looked at.

mod engine;
mod image;
mod walls;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use symbiont_types::{RootFilesystem, SandboxConfig, SandboxError, SandboxId, SecurityTier};

use crate::api::{Control, Driver, Options, Probe, Sandbox};
use crate::instance::{self, Instance, Range};
use crate::layout::{self, Root};
use crate::sandbox::Seat;
use crate::{request, seccomp};
use engine::{Content, Engine, quoted};
use image::{Base, Images};
use walls::DockerWalls;

/// Where an engine listens unless something else is said.
const SOCKET: &str = "/var/run/docker.sock";
/// Labels by which our containers are known. Nothing that a caller says becomes a label.
const ID: &str = "dev.symbiont.id";
const INSTANCE: &str = "dev.symbiont.instance";
const PLACE: &str = "dev.symbiont.place";

/// Makes sandboxes out of containers.
#[derive(Debug)]
pub struct DockerDriver {
    host: Arc<Host>,
}

/// What all sandboxes of one driver share.
#[derive(Debug)]
struct Host {
    engine: Engine,
    images: Images,
    instance: Instance,
    filters: seccomp::Filters,
    /// Whether user ids can be given out.
    root: bool,
    /// Of the engine's machine.
    processors: u64,
    /// What the engine says it is.
    version: String,
    /// Limits that the engine can't hold, and why.
    missing: Vec<String>,
}

impl Host {
    fn take_ids(&self) -> Result<Option<Range>, SandboxError> {
        if !self.root {
            return Ok(None);
        }
        self.instance.take_ids().map(Some).map_err(|error| SandboxError::CreateFailed {
            reason: format!("take user ids: {error}"),
        })
    }

    fn labels(&self, id: SandboxId) -> Value {
        json!({
            ID: id.to_string(),
            INSTANCE: self.instance.name,
            PLACE: self.instance.place,
        })
    }
}

/// Removes the containers of instances of a place that are dead, and nothing without both labels.
async fn remove_dead(
    engine: &Engine,
    place: &str,
    is_dead: impl Fn(&str) -> bool,
) -> Result<(), SandboxError> {
    let filter = json!({ "label": [format!("{PLACE}={place}")] });
    let path = format!("/containers/json?all=1&filters={}", quoted(&filter.to_string()));
    let answer = engine.must("list containers", Method::GET, &path, Content::Nothing).await?;
    let mut left = Ok(());
    for container in answer.json().as_array().into_iter().flatten() {
        let labels = &container["Labels"];
        let (Some(id), Some(name)) = (container["Id"].as_str(), labels[INSTANCE].as_str()) else {
            continue;
        };
        if labels[PLACE] != *place || !is_dead(name) {
            continue;
        }
        let path = format!("/containers/{}?force=1&v=1", quoted(id));
        let what = "remove a container";
        let gone = engine.ask(what, Method::DELETE, &path, Content::Nothing, engine::SHORT).await;
        let gone = gone.and_then(|answer| match answer.status {
            // Somebody else is at it.
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(SandboxError::BackendUnavailable {
                reason: format!("docker: {what}: {}", answer.message()),
            }),
        });
        if let Err(error) = gone {
            tracing::warn!(container = id, %error, "a dead instance's container stays");
            left = Err(error);
        }
    }
    left
}

/// Removes the containers that one dead instance has left in the engine behind a socket.
pub(crate) async fn sweep(socket: &Path, place: &str, name: &str) -> Result<(), SandboxError> {
    remove_dead(&Engine::at(socket), place, |other| other == name).await
}

impl DockerDriver {
    /// A driver over the engine that listens at `socket`, or at `/var/run/docker.sock`. It keeps what it
    /// must remember in `state_dir`, as [`ProcessDriver`](crate::ProcessDriver::new) does.
    ///
    /// Removes the containers that instances which are dead have left.
    ///
    /// # Errors
    ///
    /// `BackendUnavailable` when no engine answers there, or an older one than 20.10.
    pub async fn new(
        state_dir: Option<&Path>,
        socket: Option<PathBuf>,
    ) -> Result<Self, SandboxError> {
        let socket = socket.unwrap_or_else(|| PathBuf::from(SOCKET));
        let engine = Engine::at(&socket);
        let info = engine.must("ask what it is", Method::GET, "/info", Content::Nothing).await;
        let info = info.map_err(|error| match error {
            SandboxError::CreateFailed { reason } => SandboxError::BackendUnavailable { reason },
            other => other,
        })?;
        let info = info.json();
        let (instance, _) = Instance::meet(state_dir, Some(&socket), |_| Vec::new())?;
        let host = Host {
            engine,
            images: Images::default(),
            instance,
            filters: seccomp::Filters::new(true),
            root: instance::gives_ids(),
            processors: info["NCPU"].as_u64().unwrap_or(1),
            version: info["ServerVersion"].as_str().unwrap_or("of no version").to_owned(),
            missing: missing(&info),
        };
        let (place, instance) = (&host.instance.place, &host.instance);
        // Those that come to light late are not among the recorded ones any more: all of a place count.
        let swept = remove_dead(&host.engine, place, |name| !instance.is_alive(name)).await;
        if let Err(error) = swept {
            tracing::warn!(%error, "something of dead instances stays");
        }
        Ok(Self { host: Arc::new(host) })
    }

    fn plan(
        &self,
        id: SandboxId,
        config: &SandboxConfig,
        options: &Options,
    ) -> Result<Arc<dyn Sandbox>, SandboxError> {
        let missing = &self.host.missing;
        request::sandbox(config, options, missing, self.name(), self.tier())?;
        let files = &config.filesystem_config;
        let base = match &files.rootfs {
            RootFilesystem::Host => Base::Busybox,
            RootFilesystem::Image(name) => Base::Image(name.clone()),
            RootFilesystem::Dir(directory) => {
                return Err(SandboxError::InvalidArgument {
                    what: format!(
                        "the docker driver takes no directory as root (`{}`); make an image of it, or \
                         use the process driver",
                        directory.display()
                    ),
                });
            }
        };
        if !files.mounts.is_empty() {
            return Err(SandboxError::IsolationUnavailable {
                control: "mounts".to_owned(),
                reason: "the docker driver mounts nothing of the host; copy files in instead"
                    .to_owned(),
            });
        }
        let filters = self.host.filters.of(options.profile);
        let setup = layout::plan(config, options, Root::Container, true, filters)?;
        let host = Arc::clone(&self.host);
        let walls = DockerWalls::new(host, id, config.clone(), options, base, setup);
        let report = walls.planned();
        let landlock = !options.allow_degraded.contains(&Control::Landlock);
        Ok(Arc::new(Seat::new(walls, id, config.clone(), report, landlock)))
    }
}

#[async_trait]
impl Driver for DockerDriver {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn tier(&self) -> SecurityTier {
        SecurityTier::Tier1
    }

    async fn probe(&self) -> Probe {
        let plan = |id, config: &_| self.plan(id, config, &Options::lenient());
        let probe = crate::api::probe(self.tier(), plan).await;
        let engine = &self.host.version;
        Probe { detail: format!("engine {engine}; {}", probe.detail), ..probe }
    }

    async fn create_with(
        &self,
        id: SandboxId,
        config: &SandboxConfig,
        options: &Options,
    ) -> Result<Arc<dyn Sandbox>, SandboxError> {
        self.plan(id, config, options)
    }
}

/// What an engine says that it can't limit.
fn missing(info: &Value) -> Vec<String> {
    let known = [
        ("MemoryLimit", Control::Memory),
        ("PidsLimit", Control::Processes),
        ("CpuCfsQuota", Control::ProcessorTime),
    ];
    // One that does not say is one that fails when it is asked.
    let lacks = known.into_iter().filter(|(name, _)| info[*name] == false);
    lacks.map(|(_, control)| format!("{}: the engine can't limit it", control.name())).collect()
}
