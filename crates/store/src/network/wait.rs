//! The hidden runtime, and waiting for it from ordinary threads.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Starts a task on the runtime, which starts itself when it is first needed and stays until the process ends.
///
/// `Err` is the operating system's reason for refusing threads.
pub(super) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> Result<JoinHandle<T>, String> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("smolt-network")
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the threads of the network: {error}"))
    });
    runtime.as_ref().map(|runtime| runtime.spawn(task)).map_err(Clone::clone)
}

/// Runs a task on the runtime and waits for its result. Never from a task of this runtime, whose thread it would block.
pub(super) fn call<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Result<T, String> {
    park_on(spawn(task)?).map_err(|error| format!("a task of the network failed: {error}"))
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future that only waits for other threads. Unlike the runtime's own `block_on` it does not panic in a thread
/// that belongs to some runtime.
pub(super) fn park_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_inside_the_runtime_of_somebody_else_is_no_panic() {
        let theirs = Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(theirs.block_on(async { call(async { 6 * 7 }) }), Ok(42));
    }

    #[test]
    fn a_panic_of_a_task_is_an_error() {
        let died = call(async { (0..1).map(|zero| 1 / zero).sum::<u32>() });
        assert!(died.unwrap_err().contains("failed"));
    }
}
