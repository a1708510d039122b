//! Memory that is available to the process.

use std::fs;
use std::path::Path;

/// Whether this many bytes of memory are available now: to the process, within the limits of its
/// control groups (containers, services), and of the machine. An allocation that fails amid the work
/// ends the program without a message, and beyond the other two the system kills it, so callers check
/// before it.
pub fn is_memory_free(bytes: u128) -> bool {
    let fits = available_bytes(Path::new("/")).is_none_or(|free| bytes <= u128::from(free));
    let mut probe: Vec<u8> = Vec::new();
    let free =
        fits && usize::try_from(bytes).is_ok_and(|size| probe.try_reserve_exact(size).is_ok());
    // Keeps the compiler from removing the unused allocation.
    std::hint::black_box(&probe);
    free
}

/// Bytes that the machine and the control groups have left, by the files of Linux below `root`; `None`
/// where there are no such files.
fn available_bytes(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok();
    let machine = machine.and_then(|text| {
        let field = |name| kibibytes(&text, name);
        Some(field("MemAvailable:")? + field("SwapFree:").unwrap_or(0))
    });
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let groups = groups.lines().filter_map(|line| {
        // ID:CONTROLLERS:PATH; version 2 has no controllers.
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let mount = root.join("sys/fs/cgroup");
        let path = path.trim_start_matches('/');
        match controllers {
            "" => left_in_groups(&mount, path, "memory.max", "memory.current"),
            _ if controllers.split(',').any(|name| name == "memory") => left_in_groups(
                &mount.join("memory"),
                path,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            ),
            _ => None,
        }
    });
    groups.chain(machine).min()
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// The least that a group and those above it have left. In a container the path may be that of the
/// host, of which only the top is there.
fn left_in_groups(mount: &Path, path: &str, limit: &str, usage: &str) -> Option<u64> {
    let group = mount.join(path);
    let groups = group
        .ancestors()
        .take_while(|group| group.starts_with(mount));
    groups
        .filter_map(|group| {
            let number = |file: &str| {
                fs::read_to_string(group.join(file))
                    .ok()?
                    .trim()
                    .parse()
                    .ok()
            };
            let (limit, usage): (u64, u64) = (number(limit)?, number(usage)?);
            // Cached files give way. Version 1 counts those of the groups below as total_.
            let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
            let field = |name: &str| {
                let value = |line: &str| line.strip_prefix(name)?.trim().parse::<u64>().ok();
                stat.lines().find_map(value)
            };
            let cached = ["inactive_file ", "active_file "].map(|name| {
                let total = field(&format!("total_{name}"));
                total.or_else(|| field(name)).unwrap_or(0)
            });
            let used = usage.saturating_sub(cached.iter().sum());
            Some(limit.saturating_sub(used))
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root folder of these files.
    fn root_of(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("written");
        }
        root
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal: 9000 kB\nMemAvailable:    5000 kB\nSwapFree: 1000 kB\n",
    );

    #[test]
    fn the_tightest_limit_counts() {
        let free = |files: &[(&str, &str)]| available_bytes(root_of(files).path());
        assert_eq!(free(&[]), None);
        assert_eq!(free(&[MEMINFO]), Some(6000 << 10));
        let group = |path: &'static str| ("proc/self/cgroup", path);
        // Version 2: the group above is tighter, and has cached files.
        let above = [
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/memory.current", "700000\n"),
            (
                "sys/fs/cgroup/a/memory.stat",
                "anon 5\ninactive_file 100000\nactive_file 20000\n",
            ),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "1\n"),
        ];
        let files = [&[MEMINFO, group("0::/a/b\n")], &above[..]].concat();
        assert_eq!(free(&files), Some(420_000));
        // A container shows the top of its own groups only.
        let inside = [
            ("sys/fs/cgroup/memory.max", "2000000\n"),
            ("sys/fs/cgroup/memory.current", "500000\n"),
        ];
        let files = [&[MEMINFO, group("0::/../host/path\n")], &inside[..]].concat();
        assert_eq!(free(&files), Some(1_500_000));
        // Version 1, beside an empty version 2.
        let first = [
            ("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "3000000\n"),
            ("sys/fs/cgroup/memory/c/memory.usage_in_bytes", "1500000\n"),
            (
                "sys/fs/cgroup/memory/c/memory.stat",
                "inactive_file 7\ntotal_inactive_file 500000\n",
            ),
        ];
        let files = [
            &[MEMINFO, group("5:cpu:/c\n4:memory:/c\n0::/\n")],
            &first[..],
        ]
        .concat();
        assert_eq!(free(&files), Some(2_000_000));
    }
}
