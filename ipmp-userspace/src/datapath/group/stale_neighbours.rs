//! The map `stale_neighbours`: what the receive check has found.

use std::{net::IpAddr, time::Duration};

use ipmp_common::maps::{StaleKey, StaleNeighbour};

use super::{super::Error, Group, ignore_missing};
use crate::core::Time;

/// A neighbour that has sent a packet for a data address to another member than its inbound member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleReport {
    /// The data address.
    pub address: IpAddr,
    /// The neighbour.
    pub mac: [u8; 6],
    /// The VLAN of the group; `None`: in none.
    pub vlan: Option<u16>,
    /// The member that has received the packet.
    pub member: u8,
    /// When it was received.
    pub at: Time,
}

impl Group {
    /// Empties the map.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn take_stale_neighbours(&mut self) -> Result<Vec<StaleReport>, Error> {
        let mut found = Vec::new();
        let keys: Vec<StaleKey> = self.stale_neighbours.keys().filter_map(Result::ok).collect();
        for key in keys {
            if let Ok(StaleNeighbour { at_ns, member, .. }) = self.stale_neighbours.get(&key, 0) {
                let vlan = Some(u16::from_le_bytes(key.vlan)).filter(|vlan| *vlan != 0);
                found.push(StaleReport {
                    address: key.address.into(),
                    mac: key.mac,
                    vlan,
                    member: member as u8,
                    at: Time(Duration::from_nanos(at_ns)),
                });
            }
            ignore_missing(self.stale_neighbours.remove(&key), "stale_neighbours")?;
        }
        Ok(found)
    }
}
