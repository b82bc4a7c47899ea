//! Graceful stop: the first signal asks, the second exits now.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Int,
    /// `kill`, or a scheduler that wants the machine back.
    Term,
    /// A scheduler's warning before the time limit (`sbatch --signal=USR1@120`).
    Usr1,
}

impl Signal {
    const ALL: [Self; 3] = [Self::Int, Self::Term, Self::Usr1];

    fn number(self) -> i32 {
        match self {
            Self::Int => SIGINT,
            Self::Term => SIGTERM,
            Self::Usr1 => SIGUSR1,
        }
    }

    /// The shell's convention, 128 + n: 130, 143 and, on Linux, 138.
    pub fn exit_code(self) -> u8 {
        128 + self.number() as u8
    }

    /// `SIGINT`, `SIGTERM` or `SIGUSR1`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int => "SIGINT",
            Self::Term => "SIGTERM",
            Self::Usr1 => "SIGUSR1",
        }
    }
}

/// The number of the first signal received, 0 for none.
static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Takes over SIGINT, SIGTERM and SIGUSR1 for the rest of the process; further calls do nothing.
pub fn install() -> io::Result<()> {
    let received = Arc::new(AtomicUsize::new(0));
    if RECEIVED.set(received.clone()).is_err() {
        return Ok(());
    }
    let armed = Arc::new(AtomicBool::new(false));
    for signal in Signal::ALL {
        let number = signal.number();
        // Handlers of one signal run in this order: the exit must see `armed` as it was before this signal.
        flag::register_conditional_shutdown(number, i32::from(signal.exit_code()), armed.clone())?;
        flag::register(number, armed.clone())?;
        flag::register_usize(number, received.clone(), number as usize)?;
    }
    Ok(())
}

/// The signal that asked this process to stop, if any. Cheap: ask once per step.
pub fn requested() -> Option<Signal> {
    let number = RECEIVED.get()?.load(Ordering::Relaxed);
    Signal::ALL.into_iter().find(|signal| signal.number() as usize == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_remembered() {
        assert_eq!(requested(), None);
        install().unwrap();
        install().unwrap();
        assert_eq!(requested(), None);
        signal_hook::low_level::raise(SIGUSR1).unwrap();
        assert_eq!(requested(), Some(Signal::Usr1));
        assert_eq!((Signal::Int.exit_code(), Signal::Term.exit_code()), (130, 143));
    }
}
