//! Loads programs in another thread while the loop reacts to failures.
//!
//! An operation needs a program for each interface, and the verifier tens of milliseconds for each. Meanwhile hints are handled, so that a
//! member that fails in any group is announced at once; all other events wait for the end of the operation.

use std::{thread, time::Duration};

use tokio::sync::oneshot;

use super::{clock::now, hints, manager::Manager};
use crate::datapath::{self, Preparation};

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
