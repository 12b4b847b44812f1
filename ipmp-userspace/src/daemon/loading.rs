//! Loads programs in another thread while the loop reacts to failures.
//!
//! The verifier takes tens of milliseconds for each program. An operation waits for its programs ([`load`]); meanwhile hints are handled, so
//! that a member that fails in any group is announced at once, and all other events wait for the end of the operation. What is due to an
//! event of the kernel (a program that another one has removed, another MAC of the group interface, `xdp=auto`) does not keep the loop:
//! a group names what it needs, the loop continues, and the group is checked again when that is loaded ([`load_wanted`], [`loaded`]).

use std::{
    iter,
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{clock::now, group::tasks::TaskResult, hints, manager::Manager, memory};
use crate::datapath::{self, Loader, Preparation, Prepared};

/// How often the watchdog of the service manager is fed meanwhile: a slow host may take longer than its time.
const ALIVE: Duration = Duration::from_secs(1);

/// Loads these programs, unless they are loaded. They wait in the datapath until they are attached.
pub async fn load(manager: &mut Manager, programs: Vec<Preparation>) -> Result<(), datapath::Error> {
    let programs = manager.datapath.missing(programs);
    if programs.is_empty() {
        return Ok(());
    }
    manager.datapath.discard_prepared();
    let (sender, mut loaded) = oneshot::channel();
    let work = move || {
        // The daemon has ended.
        let _ = sender.send(load_all(&programs));
        memory::release();
    };
    if let Err(error) = thread::Builder::new().name("load".into()).spawn(work) {
        log::debug!("no thread loads the programs: {error}; they are loaded when they are attached");
        return Ok(());
    }
    loop {
        tokio::select! {
            biased;
            received = hints::receive(&mut manager.hints) => match received {
                Ok(received) => hints::handle(manager, &received).await,
                // The loop reports it.
                Err(error) => {
                    log::debug!("hints are not received while programs are loaded: {error}");
                    return keep(manager, loaded.await);
                }
            },
            loaded = &mut loaded => return keep(manager, loaded),
            // The loop handles failures, and its end is bounded by that of the thread.
            () = tokio::time::sleep(ALIVE) => manager.watchdog.feed(now()),
        }
    }
}

/// Loads programs, several at the same time: the kernel verifies on the processor of the thread that loads.
fn load_all(programs: &[Preparation]) -> Result<Vec<Prepared>, datapath::Error> {
    // The first one creates the maps, for all.
    let (first, others) = match programs {
        [first, others @ ..] if !first.has_maps() => (Some(first.load()?), others),
        _ => (None, programs),
    };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut loader = Loader::default();
        let programs = iter::from_fn(|| others.get(next.fetch_add(1, Ordering::Relaxed)));
        programs.map(|program| loader.load(program)).collect::<Result<Vec<_>, _>>()
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(others.len());
    let results = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        // Without a result a thread has panicked: its programs are loaded when they are attached.
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Ok(Vec::new()))).collect::<Vec<_>>()
    });
    let mut loaded = Vec::from_iter(first);
    for result in results {
        loaded.extend(result?);
    }
    Ok(loaded)
}

/// Loads what groups need, beside the loop. The results arrive as [`TaskResult::Loaded`].
pub fn load_wanted(manager: &mut Manager) {
    let wanted = manager.datapath.take_wanted();
    if wanted.is_empty() {
        return;
    }
    let results = manager.tasks.results();
    let programs = wanted.clone();
    let work = move || {
        let mut loader = Loader::default();
        for preparation in &programs {
            let program = loader.load(preparation).ok();
            // The daemon has ended.
            let _ = results.send(TaskResult::Loaded(Box::new((preparation.clone(), program))));
        }
        drop(loader);
        memory::release();
    };
    if let Err(source) = thread::Builder::new().name("load".into()).spawn(work) {
        log::debug!("no thread loads the programs: {source}; they are loaded when they are attached");
        for preparation in wanted {
            loaded(manager, preparation, None);
        }
    }
}

/// A program of a group is loaded; `None`: it could not be, which the attempt to attach it reports.
pub fn loaded(manager: &mut Manager, preparation: Preparation, program: Option<Prepared>) {
    if !manager.datapath.finish_load(preparation, program) {
        return;
    }
    // More may be needed than one: checked when all are there.
    manager.groups.values_mut().for_each(|group| group.hooks.changed());
    manager.tasks.read_devices(manager.groups.values().map(|group| group.interface.ifindex).collect());
}

fn keep(
    manager: &mut Manager,
    loaded: Result<Result<Vec<datapath::Prepared>, datapath::Error>, oneshot::error::RecvError>,
) -> Result<(), datapath::Error> {
    // Without a result the thread has panicked: the programs are loaded when they are attached.
    for program in loaded.unwrap_or_else(|_| Ok(Vec::new()))? {
        manager.datapath.keep(program);
    }
    Ok(())
}
