//! What `runsc` is told: a directory with a root in it, and a description beside that.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};
use symbiont_guest::protocol::Entry;
use symbiont_types::SandboxError;

use crate::request::invalid;

/// The guest's name in the instance's directory and in a sandbox's root.
pub(super) const GUEST_FILE: &str = ".symbiont-guest";
/// What the guest needs: to make a command's namespace, to become its user, to end it, and to give up
/// all else.
const CAPABILITIES: [&str; 5] =
    ["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_SETPCAP"];
/// The most descriptors that the sandbox's kernel gives to any process.
const DESCRIPTORS: u64 = 4096;

/// Refuses what can't be mounted here: a place within what is the host's, where `runsc` would have to
/// make a directory first.
pub(super) fn check(entries: &[Entry]) -> Result<(), SandboxError> {
    let path_of = |entry: &Entry| match entry {
        Entry::Bind { path, .. } | Entry::Link { path, .. } => Some(PathBuf::from(path)),
        _ => None,
    };
    let places: Vec<PathBuf> = entries.iter().filter_map(path_of).collect();
    for place in &places {
        if places.iter().any(|other| other != place && place.starts_with(other)) {
            return Err(invalid(format!(
                "the gvisor driver can't mount anything at `/{}`, within what is the host's",
                place.display()
            )));
        }
    }
    Ok(())
}

/// The description of a sandbox whose root is in `root`.
pub(super) fn describe(entries: &[Entry], root: &Path, hostname: &str) -> Value {
    let own = ["pid", "mount", "ipc", "uts", "network"];
    let namespaces: Vec<Value> = own.iter().map(|kind| json!({ "type": kind })).collect();
    let mounts: Vec<Value> = entries.iter().filter_map(mount).collect();
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": root, "readonly": true },
        "hostname": hostname,
        "mounts": mounts,
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": [format!("/{GUEST_FILE}")],
            "env": [],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": DESCRIPTORS, "hard": DESCRIPTORS }],
            // The guest forbids new privileges itself, when it has those that it keeps.
            "noNewPrivileges": false,
        },
        "linux": { "namespaces": namespaces },
    })
}

/// What is mounted for an entry; the rest is in the root itself, and `/dev` is `runsc`'s own.
fn mount(entry: &Entry) -> Option<Value> {
    match entry {
        Entry::Bind { source, path, read_only, device: false } => Some(json!({
            "destination": format!("/{path}"),
            "type": "bind",
            "source": String::from_utf8_lossy(source),
            "options": ["rbind", if *read_only { "ro" } else { "rw" }, "nosuid", "nodev"],
        })),
        // The number of files can't be limited; their pages count towards the memory.
        Entry::Memory { path, size, files: _, mode, executable } => {
            let mut options = vec![
                format!("size={size}"),
                format!("mode={mode:o}"),
                "uid=1000".to_owned(),
                "gid=1000".to_owned(),
                "nosuid".to_owned(),
                "nodev".to_owned(),
            ];
            if !executable {
                options.push("noexec".to_owned());
            }
            Some(json!({
                "destination": format!("/{path}"),
                "type": "tmpfs",
                "source": "tmpfs",
                "options": options,
            }))
        }
        Entry::Processes => Some(json!({
            "destination": "/proc",
            "type": "proc",
            "source": "proc",
            "options": ["nosuid", "nodev", "noexec"],
        })),
        Entry::Bind { device: true, .. }
        | Entry::Terminals
        | Entry::Directory(_)
        | Entry::Link { .. }
        | Entry::File { .. }
        | Entry::Own { .. } => None,
    }
}

/// Makes a sandbox's directory: its root, with a place for everything that is mounted, and its
/// description.
pub(super) fn make(
    directory: &Path,
    guest: &Path,
    entries: &[Entry],
    hostname: &str,
) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(directory)?;
    let root = directory.join("root");
    make_directory(&root)?;
    fs::hard_link(guest, root.join(GUEST_FILE))?;
    for entry in entries {
        match entry {
            Entry::Directory(path) | Entry::Memory { path, .. } => drop(beneath(&root, path)?),
            Entry::Processes => drop(beneath(&root, "proc")?),
            Entry::Link { path, .. } | Entry::File { path, .. } | Entry::Bind { path, .. }
                if path.starts_with("dev/") => {}
            Entry::Link { path, target } => {
                let target: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(target);
                symlink(target, named(&root, path)?)?;
            }
            Entry::File { path, content } => new_file(&named(&root, path)?)?.write_all(content)?,
            Entry::Bind { source, path, .. } => {
                let source: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(source);
                if fs::metadata(source)?.is_dir() {
                    beneath(&root, path)?;
                } else {
                    new_file(&named(&root, path)?)?;
                }
            }
            Entry::Terminals | Entry::Own { .. } => {}
        }
    }
    let description = describe(entries, &root, hostname);
    let mut file = new_file(&directory.join("config.json"))?;
    file.write_all(description.to_string().as_bytes())
}

fn new_file(path: &Path) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    // Whatever the mask of this process is: commands of another user are to find it.
    file.set_permissions(Permissions::from_mode(0o644))?;
    Ok(file)
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// The place of a name in a directory that is there now.
fn named(root: &Path, path: &str) -> io::Result<PathBuf> {
    let path = Path::new(path);
    let parent = beneath(root, &path.parent().unwrap_or(Path::new("")).to_string_lossy())?;
    Ok(parent.join(path.file_name().unwrap_or_default()))
}

/// A directory within the root, made if it is missing, by no link: those lead to the host's files.
fn beneath(root: &Path, path: &str) -> io::Result<PathBuf> {
    let mut at = root.to_owned();
    for part in Path::new(path).components() {
        let Component::Normal(name) = part else { continue };
        at.push(name);
        match make_directory(&at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        if !fs::symlink_metadata(&at)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
    }
    Ok(at)
}
