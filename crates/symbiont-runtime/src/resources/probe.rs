//! What the host has, read from the kernel.

use std::fs;
use std::path::Path;

/// Memory, thousandths of a core, disk space, bytes/s of network; `None` where the host does not
/// tell.
pub(crate) fn totals(directory: &Path) -> [Option<u64>; 4] {
    [memory(), cores(), disk(directory), network()]
}

/// What the host has, or what the control group of this process may use, if that is less.
fn memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let host = info.lines().find_map(|line| {
        let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim();
        kib.parse::<u64>().ok()
    })?;
    let host = host * 1024;
    Some(group_limit().map_or(host, |limit| limit.min(host)))
}

fn group_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let file = if controllers.is_empty() {
            format!("/sys/fs/cgroup{path}/memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")
        } else {
            return None;
        };
        fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    limits.min()
}

fn cores() -> Option<u64> {
    std::thread::available_parallelism().ok().map(|cores| cores.get() as u64 * 1000)
}

/// What is free where the data is kept.
fn disk(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The speed of the links that are up, added.
fn network() -> Option<u64> {
    let links = fs::read_dir("/sys/class/net").ok()?;
    let speeds = links.filter_map(|link| {
        let path = link.ok()?.path();
        let up = fs::read_to_string(path.join("operstate")).ok()?.trim() == "up";
        let megabits: i64 = fs::read_to_string(path.join("speed")).ok()?.trim().parse().ok()?;
        (up && megabits > 0).then_some(megabits.unsigned_abs() * 125_000)
    });
    let sum: u64 = speeds.sum();
    (sum > 0).then_some(sum)
}

/// The share of the last ten seconds in which some task stalled for lack of memory, processor and
/// disk, where the kernel tells (pressure stall information).
pub(crate) fn pressure() -> Option<[f32; 3]> {
    let of = |name: &str| -> Option<f32> {
        let text = fs::read_to_string(format!("/proc/pressure/{name}")).ok()?;
        let some = text.lines().find(|line| line.starts_with("some"))?;
        let average = some.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?;
        average.parse::<f32>().ok().map(|percent| percent / 100.0)
    };
    Some([of("memory")?, of("cpu")?, of("io")?])
}
