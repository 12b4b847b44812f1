//! The map `learnt`: senders that egress has learnt.

use std::{net::IpAddr, time::Duration};

use ipmp_common::maps::Ip;

use super::{super::Error, Group, ignore_missing, map_error};
use crate::core::Time;

impl Group {
    /// Senders whose address is not a data address, each with the time of its last announcement. A sender that is replaced during
    /// the read is left out.
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

    /// Removes a sender, if it exists.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn remove_learnt(&mut self, address: IpAddr) -> Result<(), Error> {
        ignore_missing(self.learnt.remove(&Ip::from(address)), "learnt")
    }
}
