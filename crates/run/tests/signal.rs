//! The first signal asks, the second ends the process at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::raise;
use smolt_run::signal::{Signal, install, requested};

#[test]
#[ignore = "the child of the test below"]
fn child() {
    install().unwrap();
    raise(SIGINT).unwrap();
    assert_eq!(requested(), Some(Signal::Int));
    raise(SIGTERM).unwrap();
    unreachable!("the second signal exits");
}

#[test]
fn the_second_signal_exits_with_its_code() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
}
