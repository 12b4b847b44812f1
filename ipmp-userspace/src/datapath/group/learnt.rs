//! The senders that egress has learnt.

use std::{net::IpAddr, time::Duration};

use ipmp_common::maps::Ip;

use super::{super::Error, Group, ignore_missing, map_error};
use crate::core::Time;

impl Group {
    /// The senders that are no data address, and when each last spoke for itself. The map changes meanwhile: a sender
    /// that is replaced while it is read is left out.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn learnt(&self) -> Result<Vec<(IpAddr, Time)>, Error> {
        let mut learnt = Vec::new();
        for ip in self.learnt.keys() {
            let ip = ip.map_err(map_error("learnt"))?;
            if let Ok(sender) = self.learnt.get(&ip, 0) {
                learnt.push((IpAddr::from(ip), Time(Duration::from_nanos(sender.seen_ns))));
            }
        }
        Ok(learnt)
    }

    /// Forgets a sender; it need not be known.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn forget_learnt(&mut self, address: IpAddr) -> Result<(), Error> {
        ignore_missing(self.learnt.remove(&Ip::from(address)), "learnt")
    }
}
