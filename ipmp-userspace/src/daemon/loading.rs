//! Loads programs in another thread while the loop reacts to failures.
//!
//! The verifier takes tens of milliseconds for each program. An operation waits for its programs ([`load`]); meanwhile hints are handled, so
//! that a member that fails in any group is announced at once, and all other events wait for the end of the operation. What is due to an
//! event of the kernel (a program that another one has removed, another MAC of the group interface, `xdp=auto`) does not keep the loop:
//! a group names what it needs, the loop continues, and the group is checked again when that is loaded ([`load_wanted`], [`loaded`]).

use std::{thread, time::Duration};

use tokio::sync::oneshot;

use super::{clock::now, group::tasks::TaskResult, hints, manager::Manager};
use crate::datapath::{self, Preparation, Prepared};

/// How often the watchdog of the service manager is fed meanwhile: a slow host may take longer than its time.
const ALIVE: Duration = Duration::from_secs(1);

/// Loads these programs. They wait in the datapath until they are attached.
pub async fn load(manager: &mut Manager, programs: Vec<Preparation>) -> Result<(), datapath::Error> {
    manager.datapath.discard_prepared();
    let (sender, mut loaded) = oneshot::channel();
    let work = move || {
        let result: Result<Vec<_>, _> = programs.into_iter().map(Preparation::load).collect();
        // The daemon has ended.
        let _ = sender.send(result);
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

/// Loads what groups need, beside the loop. The results arrive as [`TaskResult::Loaded`].
pub fn load_wanted(manager: &mut Manager) {
    let wanted = manager.datapath.take_wanted();
    if wanted.is_empty() {
        return;
    }
    let results = manager.tasks.results();
    let programs = wanted.clone();
    let work = move || {
        for preparation in programs {
            let program = preparation.clone().load().ok();
            // The daemon has ended.
            let _ = results.send(TaskResult::Loaded(Box::new((preparation, program))));
        }
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
