//! Queries to the kernel that run beside the event loop. The results are inputs of the loop.

use std::net::IpAddr;

use tokio::sync::mpsc;

use super::routing_table::RouteReport;
use crate::{
    datapath::{Preparation, Prepared},
    link::{Change, Links},
};

/// The result of a query.
#[derive(Debug)]
pub enum TaskResult {
    /// The present state of a device or a neighbour.
    Change(Change),
    /// Changes of the groups' routes.
    Routes(RouteReport),
    /// A program of a group; `None`: it cannot be loaded.
    Loaded(Box<(Preparation, Option<Prepared>)>),
}

/// Starts queries. The results arrive at the receiver that it was made with.
#[derive(Clone, Debug)]
pub struct Tasks {
    links: Links,
    results: mpsc::UnboundedSender<TaskResult>,
}

impl Tasks {
    /// With the receiver of the results.
    pub fn new(links: Links) -> (Self, mpsc::UnboundedReceiver<TaskResult>) {
        let (results, receiver) = mpsc::unbounded_channel();
        (Self { links, results }, receiver)
    }

    /// Where results are sent.
    pub fn results(&self) -> mpsc::UnboundedSender<TaskResult> {
        self.results.clone()
    }

    /// Reads these devices.
    pub fn read_devices(&self, ifindexes: Vec<u32>) {
        let Self { links, results } = self.clone();
        tokio::spawn(async move {
            for ifindex in ifindexes {
                let change = match links.device(ifindex).await {
                    Ok(Some(device)) => Change::Device(device),
                    Ok(None) => Change::Removed { ifindex },
                    Err(error) => {
                        log::warn!("{error}");
                        continue;
                    }
                };
                // The loop has ended.
                if results.send(TaskResult::Change(change)).is_err() {
                    return;
                }
            }
        });
    }

    /// Makes the kernel resolve a neighbour. With `anew`, a cached entry does not count.
    pub fn resolve_neighbour(&self, ifindex: u32, address: IpAddr, anew: bool) {
        let Self { links, results } = self.clone();
        tokio::spawn(async move {
            if anew && let Err(error) = links.doubt_neighbour(ifindex, address).await {
                log::debug!("{error}");
            }
            match links.resolve_neighbour(ifindex, address).await {
                Ok(Some(found)) => drop(results.send(TaskResult::Change(Change::Neighbour(found)))),
                Ok(None) => {}
                Err(error) => log::debug!("{error}"),
            }
        });
    }
}
