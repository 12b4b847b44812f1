//! The map `vlan_addresses`: addresses on VLANs of the group, with their inbound roles.

use std::net::IpAddr;

use ipmp_common::{
    maps::{Ip, VlanKey},
    steer::Preference,
};

use super::{super::Error, Group, ignore_missing, map_error};

const MAP: &str = "vlan_addresses";

fn key(vlan: u16, address: IpAddr) -> VlanKey {
    VlanKey { address: Ip::from(address), vlan: u64::from(vlan) }
}

impl Group {
    /// Writes the inbound role of an address on a VLAN.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_inbound_in_vlan(
        &mut self,
        vlan: u16,
        address: IpAddr,
        inbound: Preference,
    ) -> Result<(), Error> {
        self.vlan_addresses.insert(key(vlan, address), inbound, 0).map_err(map_error(MAP))
    }

    /// Removes an address on a VLAN, if it exists.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn remove_in_vlan(&mut self, vlan: u16, address: IpAddr) -> Result<(), Error> {
        ignore_missing(self.vlan_addresses.remove(&key(vlan, address)), MAP)
    }

    /// The addresses on VLANs with their inbound roles.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn inbound_in_vlans(&self) -> Result<Vec<(u16, IpAddr, Preference)>, Error> {
        let read = |entry: Result<(VlanKey, Preference), _>| {
            let (key, list) = entry.map_err(map_error(MAP))?;
            Ok((key.vlan as u16, key.address.into(), list))
        };
        self.vlan_addresses.iter().map(read).collect()
    }
}
