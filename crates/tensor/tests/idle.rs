//! Threads that wait for work take no CPU. In a test of its own, because it looks at the whole process.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use smolt_tensor::pool::Pool;
use std::fs;
use std::time::Duration;

/// Context switches into sleep of each worker so far, and whether it sleeps now.
fn workers() -> Vec<(u64, bool)> {
    let field = |status: &str, name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].trim().to_string()
    };
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let all = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok());
    all.filter(|status| field(status, "Name:").starts_with("smolt-"))
        .map(|status| {
            let slept = field(&status, "voluntary_ctxt_switches:").parse().unwrap();
            (slept, field(&status, "State:").starts_with('S'))
        })
        .collect()
}

/// Shortly after its last region, a pool sleeps, and stays asleep until the next: no spinning, no polling.
#[test]
fn idle_workers_sleep() {
    let pool = Pool::new(4);
    pool.run(64, |_| ());
    // Long enough for a machine that has other things to do.
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(10));
        if workers().iter().all(|&(_, sleeps)| sleeps) {
            break;
        }
    }
    let before = workers();
    assert_eq!(before.len(), 3);
    assert!(before.iter().all(|&(_, sleeps)| sleeps), "{before:?}");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(workers(), before, "a worker woke although there was nothing to do");
    pool.run(64, |_| ());
}
