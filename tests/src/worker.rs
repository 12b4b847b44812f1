//! A thread that runs until it is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};

/// A thread. Dropping this value stops the thread and waits for its end.
#[derive(Debug)]
pub struct Worker<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts a thread. `work` must return soon after its argument has become true.
    pub fn start(name: &str, work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&flag))
            .with_context(|| format!("cannot start thread {name}"))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl<T> Worker<T> {
    /// Stops the thread and returns its result.
    ///
    /// # Panics
    /// With the thread's own panic.
    pub fn stop(mut self) -> T {
        let ended = self.end().expect("a worker ends once");
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn end(&mut self) -> Option<std::thread::Result<T>> {
        self.stop.store(true, SeqCst);
        self.thread.take().map(JoinHandle::join)
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        if let (Some(Err(panic)), false) = (self.end(), std::thread::panicking()) {
            std::panic::resume_unwind(panic);
        }
    }
}
