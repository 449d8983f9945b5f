//! Images with our guest in them.
//!
//! The guest has to be inside a container's files before the container starts. So each image gets a
//! layer with it, once: the engine builds that from the image and the guest, without a network, and
//! keeps it under a name made of the digests of both. The built-in image is made the same way, from
//! nothing but the host's static busybox.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};
use symbiont_types::SandboxError;
use tokio::sync::Mutex;

use crate::docker::engine::{Content, Engine, LONG, SHORT, quoted};

/// Where the guest is in an image.
pub(crate) const GUEST_PATH: &str = "/.symbiont-guest";
/// The repository of the images that we make.
const REPOSITORY: &str = "symbiont-guest";
/// Where a static busybox may be.
const BUSYBOX: [&str; 4] =
    ["/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox", "/bin/busybox.static"];
/// The largest busybox that is taken.
const MAX_BUSYBOX: u64 = 16 << 20;
/// What a program that is no root finds out about the built-in image.
const SETTINGS: [(&str, &str); 5] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/workspace:/bin/sh\nagent:x:1000:1000:agent:/workspace:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"),
    ("etc/resolv.conf", "nameserver 127.0.0.1\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
];

/// The images that have a guest, as far as we know.
#[derive(Debug, Default)]
pub(crate) struct Images {
    /// Ours by the id of the image that they were made from. Held while one is made.
    made: Mutex<HashMap<String, Arc<str>>>,
}

/// What a sandbox's files come from.
#[derive(Debug, Clone)]
pub(crate) enum Base {
    /// The host's busybox.
    Busybox,
    /// An image that the engine has.
    Image(String),
}

impl Images {
    /// The name of the image that is `base` with the guest, made if it is missing.
    pub(crate) async fn with_guest(
        &self,
        engine: &Engine,
        base: &Base,
        guest: &'static [u8],
    ) -> Result<Arc<str>, SandboxError> {
        let mut made = self.made.lock().await;
        let (key, recipe) = match base {
            Base::Busybox => {
                let busybox = tokio::task::spawn_blocking(static_busybox)
                    .await
                    .map_err(|_| SandboxError::ShuttingDown)??;
                let digest = Sha256::digest(&busybox);
                (format!("busybox {digest:x}"), Recipe::Busybox(busybox))
            }
            Base::Image(name) => {
                let id =
                    image_id(engine, name).await?.ok_or_else(|| SandboxError::ImageMissing {
                        image: format!(
                            "`{name}`: the engine has none of this name; `docker load` or \
                             `docker pull` it first"
                        ),
                    })?;
                (id.clone(), Recipe::From(id))
            }
        };
        if let Some(name) = made.get(&key)
            && image_id(engine, name).await?.is_some()
        {
            return Ok(Arc::clone(name));
        }
        let digest = Sha256::new()
            .chain_update(recipe.dockerfile())
            .chain_update(Sha256::digest(guest))
            .chain_update(&key)
            .finalize();
        let name: Arc<str> = format!("{REPOSITORY}:{}", &format!("{digest:x}")[..32]).into();
        if image_id(engine, &name).await?.is_none() {
            build(engine, &name, &recipe, guest).await?;
        }
        made.insert(key, Arc::clone(&name));
        Ok(name)
    }
}

/// How an image is made.
enum Recipe {
    /// From an image of this id.
    From(String),
    /// From nothing but this program.
    Busybox(Vec<u8>),
}

impl Recipe {
    fn dockerfile(&self) -> String {
        match self {
            Self::From(id) => format!("FROM {id}\nCOPY guest {GUEST_PATH}\n"),
            Self::Busybox(_) => format!(
                "FROM scratch\nCOPY files /\nRUN [\"/bin/busybox\", \"--install\", \"-s\"]\nCOPY \
                 guest {GUEST_PATH}\n"
            ),
        }
    }

    /// What the engine builds from.
    fn context(&self, guest: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |path: &str, mode: u32, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            if path.ends_with('/') {
                header.set_entry_type(tar::EntryType::Directory);
            }
            archive.append_data(&mut header, path, content)
        };
        add("Dockerfile", 0o644, self.dockerfile().as_bytes())?;
        add("guest", 0o555, guest)?;
        if let Self::Busybox(busybox) = self {
            for directory in ["bin", "sbin", "usr/bin", "usr/sbin", "proc", "tmp", "workspace"] {
                add(&format!("files/{directory}/"), 0o755, &[])?;
            }
            add("files/bin/busybox", 0o755, busybox)?;
            for (path, content) in SETTINGS {
                add(&format!("files/{path}"), 0o644, content.as_bytes())?;
            }
        }
        archive.into_inner()
    }
}

async fn image_id(engine: &Engine, name: &str) -> Result<Option<String>, SandboxError> {
    let path = format!("/images/{}/json", quoted(name));
    let answer =
        engine.ask("look for an image", Method::GET, &path, Content::Nothing, SHORT).await?;
    match answer.status {
        StatusCode::NOT_FOUND => Ok(None),
        status if status.is_success() => Ok(answer.json()["Id"].as_str().map(str::to_owned)),
        _ => Err(SandboxError::InvalidArgument {
            what: format!("the image `{name}`: {}", answer.message()),
        }),
    }
}

async fn build(
    engine: &Engine,
    name: &str,
    recipe: &Recipe,
    guest: &[u8],
) -> Result<(), SandboxError> {
    let failed = |reason: String| SandboxError::CreateFailed {
        reason: format!("docker: make an image with the guest: {reason}"),
    };
    let context = recipe.context(guest).map_err(|error| failed(error.to_string()))?;
    let path = format!("/build?t={}&networkmode=none&rm=1&forcerm=1&q=1", quoted(name));
    let answer =
        engine.ask("make an image", Method::POST, &path, Content::Tar(context), LONG).await?;
    if !answer.status.is_success() {
        return Err(failed(answer.message()));
    }
    // It answers success before it has begun, and tells of a failure in what follows.
    let wrong = String::from_utf8_lossy(&answer.body)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|line| line["error"].as_str().map(str::to_owned));
    match wrong {
        Some(reason) => Err(failed(reason)),
        None => Ok(()),
    }
}

/// The host's busybox, which needs no library.
fn static_busybox() -> Result<Vec<u8>, SandboxError> {
    BUSYBOX.iter().map(PathBuf::from).find_map(|path| read_static(&path)).ok_or_else(|| {
        SandboxError::ImageMissing {
            image: format!(
                "`busybox`: the built-in one is made of the host's static busybox, and there is none at \
                 {}; Debian has it in the package busybox-static, or name an image",
                BUSYBOX.join(", ")
            ),
        }
    })
}

/// A program, if it is one that is linked statically: it names no interpreter that would load others.
fn read_static(path: &Path) -> Option<Vec<u8>> {
    const INTERPRETER: u32 = 3; // PT_INTERP
    let mut program = Vec::new();
    File::open(path).ok()?.take(MAX_BUSYBOX).read_to_end(&mut program).ok()?;
    // The header of a 64-bit ELF file: where its table is, how long an entry is, and how many.
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, length: usize| {
        let bytes = program.get(at..at + length)?;
        let mut number = [0; 8];
        number[..length].copy_from_slice(bytes);
        usize::try_from(u64::from_le_bytes(number)).ok()
    };
    let (table, length, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let kinds = (0..count).map(|entry| number(table.checked_add(entry * length)?, 4));
    for kind in kinds {
        if kind? == INTERPRETER as usize {
            return None;
        }
    }
    Some(program)
}
