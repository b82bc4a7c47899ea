//! What this process may use: memory, processors, disk. Container limits count, not the machine's size.

use std::fs;
use std::path::{Path, PathBuf};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// The memory limit of this process's control groups (v2 or v1) in bytes; `None` without a limit or outside Linux.
pub fn cgroup_memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    memory_limit_under(Path::new(CGROUP_ROOT), &groups)
}

/// The processor quota of this process's control groups, in processors; `None` without a quota or outside Linux.
pub fn cgroup_cpu_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    cpu_quota_under(Path::new(CGROUP_ROOT), &groups)
}

/// The machine's memory in bytes.
pub fn total_memory() -> Option<u64> {
    #[cfg(target_os = "macos")]
    {
        mac::total_memory()
    }
    #[cfg(not(target_os = "macos"))]
    {
        field_kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
    }
}

/// The memory this process may use in bytes: the smaller of the machine's and the control groups'.
pub fn memory_limit() -> Option<u64> {
    match (total_memory(), cgroup_memory_limit()) {
        (Some(total), Some(limit)) => Some(total.min(limit)),
        (total, limit) => total.or(limit),
    }
}

/// The most memory this process has held so far, in bytes (`VmHWM`; `getrusage` on macOS).
pub fn peak_rss_bytes() -> Option<u64> {
    #[cfg(target_os = "macos")]
    {
        mac::peak_rss_bytes()
    }
    #[cfg(not(target_os = "macos"))]
    {
        field_kib(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
    }
}

/// Processors this process may run on (affinity), without the quota.
pub fn cores() -> usize {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| allowed_cpus(&status))
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
}

/// Threads worth starting: the smaller of [`cores`] and the quota rounded up, at least 1.
pub fn available_threads() -> usize {
    let quota = cgroup_cpu_quota().map_or(usize::MAX, |quota| quota.ceil() as usize);
    cores().min(quota).max(1)
}

/// The processor's name, where the system tells it.
pub fn cpu_model() -> Option<String> {
    #[cfg(target_os = "macos")]
    {
        mac::cpu_model()
    }
    #[cfg(not(target_os = "macos"))]
    {
        let info = fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = info.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    }
}

/// Bytes that can still be written to the file system of `path`, which need not exist yet.
pub fn free_disk_space(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let absolute = std::path::absolute(path).ok()?;
    let existing = absolute.ancestors().find(|folder| folder.exists())?;
    let name = std::ffi::CString::new(existing.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` is a NUL-terminated string and `stat` points to enough writable memory for one statvfs.
    let result = unsafe { libc::statvfs(name.as_ptr(), stat.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: statvfs returned 0, so it filled the whole structure.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)] // 32-bit block counts on macOS
    Some((stat.f_bavail as u64).saturating_mul(stat.f_frsize as u64))
}

/// Folders of the control group and its ancestors for v1 `controller`, or for v2 where that is "".
fn group_folders(root: &Path, groups: &str, controller: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if !controllers.split(',').any(|name| name == controller) || path.contains("..") {
            continue;
        }
        let base = if controller.is_empty() { root.to_owned() } else { root.join(controllers) };
        let bases = [base, root.join(controller)];
        for base in bases {
            let relative = Path::new(path.trim_start_matches('/'));
            // Inside a container the path can be the host's; the ancestors end at the mounted root, which exists.
            folders.extend(relative.ancestors().map(|ancestor| base.join(ancestor)));
        }
    }
    folders
}

fn memory_limit_under(root: &Path, groups: &str) -> Option<u64> {
    let read = |controller: &str, file: &str| {
        group_folders(root, groups, controller)
            .into_iter()
            .filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok())
            // Version 1 spells "no limit" as a number near 2^63.
            .filter(|&limit| limit < 1 << 60)
            .min()
    };
    read("", "memory.max").into_iter().chain(read("memory", "memory.limit_in_bytes")).min()
}

fn cpu_quota_under(root: &Path, groups: &str) -> Option<f64> {
    let second = group_folders(root, groups, "").into_iter().filter_map(|folder| {
        let text = fs::read_to_string(folder.join("cpu.max")).ok()?;
        let (quota, period) = text.trim().split_once(' ')?;
        ratio(quota, period)
    });
    let first = group_folders(root, groups, "cpu").into_iter().filter_map(|folder| {
        let quota = fs::read_to_string(folder.join("cpu.cfs_quota_us")).ok()?;
        let period = fs::read_to_string(folder.join("cpu.cfs_period_us")).ok()?;
        ratio(quota.trim(), period.trim())
    });
    second.chain(first).min_by(f64::total_cmp)
}

/// `None` for "max" and -1, which mean no quota.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(not(target_os = "macos"))]
fn field_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Counts a list such as `0-3,8`.
fn allowed_cpus(status: &str) -> Option<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut count = 0usize;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

#[cfg(target_os = "macos")]
mod mac {
    use std::ffi::CStr;

    fn sysctl(name: &CStr, buffer: &mut [u8]) -> Option<usize> {
        let mut size = buffer.len();
        // SAFETY: `name` ends in NUL; `buffer` has `size` writable bytes and sysctl writes no more than that.
        let result = unsafe {
            libc::sysctlbyname(name.as_ptr(), buffer.as_mut_ptr().cast(), &mut size, std::ptr::null_mut(), 0)
        };
        (result == 0).then_some(size)
    }

    pub(super) fn total_memory() -> Option<u64> {
        let mut bytes = [0u8; 8];
        sysctl(c"hw.memsize", &mut bytes).filter(|&size| size == 8)?;
        Some(u64::from_ne_bytes(bytes))
    }

    pub(super) fn cpu_model() -> Option<String> {
        let mut bytes = [0u8; 256];
        sysctl(c"machdep.cpu.brand_string", &mut bytes)?;
        CStr::from_bytes_until_nul(&bytes).ok().map(|text| text.to_string_lossy().into_owned())
    }

    pub(super) fn peak_rss_bytes() -> Option<u64> {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
        // SAFETY: `usage` points to writable memory for one rusage.
        let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
        // SAFETY: getrusage returned 0, so it filled the structure. macOS counts in bytes.
        (result == 0).then(|| unsafe { usage.assume_init() }.ru_maxrss as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn version_2_takes_the_smallest_of_all_ancestors() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "a/memory.max", "1000\n");
        put(root, "a/b/memory.max", "max\n");
        put(root, "a/b/cpu.max", "150000 100000\n");
        put(root, "a/cpu.max", "max 100000\n");
        assert_eq!(memory_limit_under(root, "0::/a/b\n"), Some(1000));
        assert_eq!(cpu_quota_under(root, "0::/a/b\n"), Some(1.5));
        assert_eq!(memory_limit_under(root, "0::/\n"), None);
        assert_eq!(memory_limit_under(root, "garbage\n::\n0::/../x\n"), None);
    }

    #[test]
    fn version_1_and_foreign_paths() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "memory/memory.limit_in_bytes", "9223372036854771712\n");
        put(root, "memory/docker/x/memory.limit_in_bytes", "2000\n");
        put(root, "cpu/cpu.cfs_quota_us", "200000\n");
        put(root, "cpu/cpu.cfs_period_us", "100000\n");
        let groups = "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n";
        assert_eq!(memory_limit_under(root, groups), Some(2000));
        assert_eq!(cpu_quota_under(root, groups), Some(2.0), "falls back to the mounted root");
        put(root, "cpu/cpu.cfs_quota_us", "-1\n");
        assert_eq!(cpu_quota_under(root, groups), None);
    }

    #[test]
    fn cpu_lists_are_counted() {
        assert_eq!(allowed_cpus("Name:\tx\nCpus_allowed_list:\t0-3,8\n"), Some(5));
        assert_eq!(allowed_cpus("Cpus_allowed_list:\t3-1\n"), None);
        assert_eq!(allowed_cpus(""), None);
    }

    #[test]
    fn this_machine_answers() {
        assert!(available_threads() >= 1 && available_threads() <= cores());
        assert!(total_memory().unwrap() > 1 << 20);
        assert!(peak_rss_bytes().unwrap() > 1 << 16);
        assert!(free_disk_space(Path::new("not/yet/there")).is_some());
    }
}
