//! Programs that the tests call, and the Debian packages that they come in.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::steps::{Steps, expect_success, shown};

/// A program that some tests call.
struct Need {
    program: &'static str,
    package: &'static str,
    place: Place,
    /// What can't be tested without it.
    tests: &'static str,
}

/// Where a program has to be.
#[derive(Clone, Copy)]
enum Place {
    /// Anywhere on the path: a test runs it.
    Path,
    /// Among the host's programs, which is all that a sandbox sees.
    Sandbox,
}

const NEEDS: &[Need] = &[
    Need {
        program: "python3",
        package: "python3",
        place: Place::Sandbox,
        tests: "symbiont-sandbox: system calls, sockets and limits seen from inside a sandbox",
    },
    Need {
        program: "setpriv",
        package: "util-linux",
        place: Place::Path,
        tests: "symbiont-sandbox: the_same_for_an_ordinary_user",
    },
    Need {
        program: "unshare",
        package: "util-linux",
        place: Place::Path,
        tests: "symbiont-sandbox: without_user_namespaces_nothing_is_made",
    },
    Need {
        program: "script",
        package: "bsdutils",
        place: Place::Path,
        tests: "symbiont-cli, symbiont-sandbox: what happens at a terminal",
    },
    Need {
        program: "bwrap",
        package: "bubblewrap",
        place: Place::Path,
        tests: "symbiont-bench: the peer of the sandbox rows",
    },
    Need {
        program: "runc",
        package: "runc",
        place: Place::Path,
        tests: "symbiont-bench: the second peer of the sandbox rows",
    },
    Need {
        program: "busybox",
        package: "busybox-static",
        place: Place::Path,
        tests: "symbiont-sandbox: the docker driver",
    },
    Need {
        program: "dockerd",
        package: "docker.io",
        place: Place::Path,
        tests: "symbiont-sandbox: the docker driver",
    },
    Need {
        program: "runsc",
        package: "runsc",
        place: Place::Path,
        tests: "symbiont-sandbox: the gvisor driver; symbiont-bench: its rows",
    },
];

/// The directories of the host's programs, on the path of a login or not.
const SYSTEM: [&str; 6] =
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// Where a sandbox looks.
const INSIDE: [&str; 2] = ["/usr/bin", "/bin"];

/// Installs what is missing when that is possible, and notes what still is afterwards.
pub(crate) fn provide(steps: &mut Steps) -> Result<()> {
    let missing = packages(&missing(NEEDS));
    if missing.is_empty() {
        return Ok(());
    }
    let words = missing.join(" ");
    let hindrance = if !is_root() {
        Some("only root can install packages")
    } else if find("apt-get", Place::Path).is_none() {
        Some("there is no apt-get here")
    } else {
        let outcome = steps.act("packages", &format!("apt-get install {words}"), || {
            apt_get(&["update"])?;
            let install = ["install", "--yes", "--no-install-recommends"];
            apt_get(&[&install[..], &missing].concat())
        });
        if let Err(error) = outcome {
            // Without them there is still much to test.
            eprintln!("    not installed: {error:#}");
        }
        None
    };
    for need in self::missing(NEEDS) {
        let Need { program, package, tests, .. } = need;
        let why = hindrance.map_or_else(
            || "its installation did not succeed".to_owned(),
            |hindrance| format!("{hindrance}; apt-get install {package}"),
        );
        steps.left_out.push(format!("{tests}: there is no `{program}` ({why})"));
    }
    Ok(())
}

fn missing(needs: &'static [Need]) -> Vec<&'static Need> {
    needs.iter().filter(|need| find(need.program, need.place).is_none()).collect()
}

fn packages(needs: &[&Need]) -> Vec<&'static str> {
    let mut packages: Vec<_> = needs.iter().map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn find(program: &str, place: Place) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = match place {
        Place::Path => {
            std::env::split_paths(&path).chain(SYSTEM.iter().map(PathBuf::from)).collect()
        }
        Place::Sandbox => INSIDE.iter().map(PathBuf::from).collect(),
    };
    directories.iter().map(|directory| directory.join(program)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path)
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    // Stdout is for results.
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(std::io::stderr());
    let status = command.status()?;
    expect_success("apt-get", &shown(&command), status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_found_and_asked_for_once() {
        const NEEDS: &[Need] = &[
            Need { program: "sh", package: "dash", place: Place::Sandbox, tests: "" },
            Need { program: "no-such-program", package: "b", place: Place::Path, tests: "" },
            Need { program: "none-such", package: "a", place: Place::Sandbox, tests: "" },
            Need { program: "no-such-thing", package: "b", place: Place::Path, tests: "" },
        ];
        assert_eq!(packages(&missing(NEEDS)), ["a", "b"]);
    }
}
