//! Other filters of a NIC: further unicast MACs, and VLANs.

use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVlan,
    packet_route::{
        AddressFamily,
        link::{LinkAttribute, VlanFlags},
        neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    },
};

use super::{Device, Error, Links, Mac, show_mac};

/// How the names of VLAN devices that are there for a filter begin.
const VLAN_PREFIX: &str = "ipmp-";
/// Longest name of an interface, in bytes.
const LONGEST_NAME: usize = 15;

/// Name of the VLAN device that keeps a member's filter open: the member's index in hexadecimal digits, and the VLAN.
fn vlan_name(member: u32, vlan: u16) -> String {
    format!("{VLAN_PREFIX}{member:x}.{vlan}")
}

/// The member and the VLAN that a device keeps a filter open for, if it is such a device.
pub fn vlan_filter_of(device: &Device) -> Option<(u32, u16)> {
    let (member, vlan) = device.name.strip_prefix(VLAN_PREFIX)?.split_once('.')?;
    let (member, vlan) = (u32::from_str_radix(member, 16).ok()?, vlan.parse().ok()?);
    // The device below is in another namespace when the member was moved there.
    let is_so = device.kind == "vlan"
        && device.vlan == Some(vlan)
        && device.below.is_none_or(|below| below == member)
        && device.name == vlan_name(member, vlan);
    is_so.then_some((member, vlan))
}

impl Links {
    /// Lets an interface receive what is sent to a MAC that is not its own. It is no error if it does already.
    pub async fn accept_mac(&self, ifindex: u32, name: &str, mac: Mac) -> Result<(), Error> {
        let request = self.handle.neighbours().add_bridge(ifindex, &mac).flags(NeighbourFlags::Own);
        match request.execute().await {
            Ok(()) => Ok(()),
            Err(error) => {
                match Error::kernel(format!("give {name} the further MAC {}", show_mac(mac)), error) {
                    error if error.errno() == Some(libc::EEXIST) => Ok(()),
                    error => Err(error),
                }
            }
        }
    }

    /// Takes [`accept_mac`](Self::accept_mac) back. That there is nothing to take back is no error.
    pub async fn refuse_mac(&self, ifindex: u32, name: &str, mac: Mac) -> Result<(), Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = ifindex;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = NeighbourFlags::Own;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        match self.handle.neighbours().del(message).execute().await {
            Ok(()) => Ok(()),
            Err(error) => {
                match Error::kernel(format!("take the further MAC {} from {name}", show_mac(mac)), error) {
                    // A device that did not accept it has nothing to remove.
                    error
                        if error.is_missing()
                            || matches!(error.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP)) =>
                    {
                        Ok(())
                    }
                    error => Err(error),
                }
            }
        }
    }

    /// Makes a VLAN device on a member, for its filter alone: it stays down, also when the member is set up (loose
    /// binding), and receives nothing.
    pub async fn add_vlan_filter(
        &self,
        member: u32,
        name: &str,
        vlan: u16,
        group: &str,
    ) -> Result<(), Error> {
        let device = vlan_name(member, vlan);
        let what = || format!("make the VLAN device {device} on {name}");
        if device.len() > LONGEST_NAME {
            let source = std::io::Error::other("that name is too long");
            return Err(Error::Kernel { what: what(), source });
        }
        let loose = VlanFlags::LooseBinding;
        let message = LinkVlan::new(&device, member, vlan).flags(loose, loose).build();
        match self.handle.link().add(message).execute().await {
            Ok(()) => {}
            Err(error) => return Err(Error::kernel(what(), error)),
        }
        if let Some(made) = self.device_named(&device).await? {
            let alias = format!("VLAN {vlan} of {group}, for the filter of {name}; made by ipmpd");
            let message = LinkMessageBuilder::<LinkUnspec>::new()
                .index(made.ifindex)
                .append_extra_attribute(LinkAttribute::IfAlias(alias))
                .build();
            self.set(message, || format!("describe {device}")).await?;
        }
        Ok(())
    }

    /// Lets an interface receive all multicast, or no longer.
    pub async fn set_all_multicast(&self, ifindex: u32, name: &str, all: bool) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).allmulticast(all).build();
        self.set(message, || format!("set allmulticast {} on {name}", if all { "on" } else { "off" })).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::device;

    fn vlan_device(name: &str, below: Option<u32>, vlan: u16) -> Device {
        Device { kind: "vlan".into(), below, vlan: Some(vlan), ..device(9, name) }
    }

    #[test]
    fn name_fits_and_identifies_the_filter() {
        for (member, vlan) in [(3, 20), (0xf_ffff, 4094)] {
            let name = vlan_name(member, vlan);
            assert!(name.len() <= LONGEST_NAME, "{name}");
            assert_eq!(vlan_filter_of(&vlan_device(&name, Some(member), vlan)), Some((member, vlan)));
            assert_eq!(vlan_filter_of(&vlan_device(&name, None, vlan)), Some((member, vlan)), "moved away");
        }
    }

    #[test]
    fn vlan_of_another_program_is_no_filter() {
        // The VLAN 20 of a group with the name ipmp-3.
        assert_eq!(vlan_filter_of(&vlan_device("ipmp-3.20", Some(7), 20)), None);
        assert_eq!(vlan_filter_of(&vlan_device("ipmp-3.20", Some(3), 21)), None);
        assert_eq!(vlan_filter_of(&vlan_device("ipmp-03.20", Some(3), 20)), None);
        assert_eq!(vlan_filter_of(&vlan_device("eth0.20", Some(3), 20)), None);
        assert_eq!(vlan_filter_of(&device(9, "ipmp-3.20")), None, "no VLAN device");
    }
}
