//! The map `addresses`: data addresses with their inbound roles, and test addresses with their members.

use std::{mem::offset_of, net::IpAddr};

use ipmp_common::{
    hash::filter_bit,
    maps::{Address, AddressKind, Ip, NO_MEMBER, Steering},
    steer::Preference,
};

use super::{super::Error, Group, ignore_missing, map_error};

const TEST_ADDRESSES: usize = offset_of!(Steering, test_addresses) / 8;

impl Group {
    /// Writes a data address's inbound role.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_inbound(
        &mut self,
        address: IpAddr,
        inbound: Preference,
        from: Option<u8>,
    ) -> Result<(), Error> {
        let member = from.map_or(NO_MEMBER, u32::from);
        let value = Address { inbound, kind: AddressKind::Data, member };
        self.addresses.insert(Ip::from(address), value, 0).map_err(map_error("addresses"))
    }

    /// Adds an address of a member itself.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_own_address(&mut self, address: IpAddr, number: u8) -> Result<(), Error> {
        let value =
            Address { inbound: Preference::EMPTY, kind: AddressKind::Test, member: u32::from(number) };
        self.addresses.insert(Ip::from(address), value, 0).map_err(map_error("addresses"))?;
        self.filter_own_addresses()
    }

    /// Removes an address, if it exists.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn remove_address(&mut self, address: IpAddr) -> Result<(), Error> {
        let known = self.addresses.get(&Ip::from(address), 0);
        ignore_missing(self.addresses.remove(&Ip::from(address)), "addresses")?;
        // To read all of them for each one takes long where there are many.
        if known.is_ok_and(|known| known.kind == AddressKind::Data) {
            Ok(())
        } else {
            self.filter_own_addresses()
        }
    }

    /// The data addresses with their inbound roles.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn inbound(&self) -> Result<Vec<(IpAddr, Preference)>, Error> {
        let data = |(ip, address): (IpAddr, Address)| {
            (address.kind == AddressKind::Data).then_some((ip, address.inbound))
        };
        Ok(self.entries()?.into_iter().filter_map(data).collect())
    }

    /// The members' own addresses, with their members.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn own_addresses(&self) -> Result<Vec<(IpAddr, u8)>, Error> {
        let own = |(ip, address): (IpAddr, Address)| {
            (address.kind == AddressKind::Test).then_some((ip, address.member as u8))
        };
        Ok(self.entries()?.into_iter().filter_map(own).collect())
    }

    pub(super) fn entries(&self) -> Result<Vec<(IpAddr, Address)>, Error> {
        let mut entries = Vec::new();
        for entry in self.addresses.iter() {
            let (ip, address) = entry.map_err(map_error("addresses"))?;
            entries.push((ip.into(), address));
        }
        Ok(entries)
    }

    /// Updates the filter by which egress and ingress skip the lookup of most addresses.
    fn filter_own_addresses(&self) -> Result<(), Error> {
        let own = self.entries()?.into_iter().filter(|(_, address)| address.kind == AddressKind::Test);
        self.steering.store(TEST_ADDRESSES, own.fold(0, |filter, (ip, _)| filter | filter_bit(Ip::from(ip))));
        Ok(())
    }
}
