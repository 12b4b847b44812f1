//! Options of the bonding driver, as the kernel reports them.

use futures_util::TryStreamExt;
use rtnetlink::{
    LinkBond, LinkMessageBuilder, LinkUnspec,
    packet_route::link::{
        InfoBond, InfoBondPort, InfoData, InfoPortData, LinkAttribute, LinkInfo, LinkMessage,
    },
};

use super::{Error, Links, Mac};

/// Options of a bond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BondOptions {
    /// Names in the documentation of the driver, with their values; those at their defaults are left out, but the mode.
    pub options: Vec<(&'static str, String)>,
    /// Index of its primary port.
    pub primary: Option<u32>,
    /// Index of the port that transmits, if one does alone.
    pub active: Option<u32>,
}

impl BondOptions {
    /// Reads the message; `None`: it is of no bond.
    pub fn parse(message: &LinkMessage) -> Option<Self> {
        let infos = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
        let data = infos?.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Bond(data)) => Some(data),
            _ => None,
        });
        let mut found = Self::default();
        for option in data? {
            found.read(option);
        }
        Some(found)
    }

    fn read(&mut self, option: &InfoBond) {
        let mut add = |name: &'static str, number: u64, usual: u64| {
            if number != usual {
                self.options.push((name, number.to_string()));
            }
        };
        match option {
            InfoBond::Mode(mode) => self.options.push(("mode", u8::from(*mode).to_string())),
            InfoBond::UpDelay(time) => add("updelay", (*time).into(), 0),
            InfoBond::DownDelay(time) => add("downdelay", (*time).into(), 0),
            InfoBond::ArpInterval(time) => add("arp_interval", (*time).into(), 0),
            InfoBond::MissedMax(number) => add("arp_missed_max", (*number).into(), 2),
            InfoBond::PrimaryReselect(policy) => add("primary_reselect", u8::from(*policy).into(), 0),
            InfoBond::FailOverMac(policy) => add("fail_over_mac", u8::from(*policy).into(), 0),
            InfoBond::XmitHashPolicy(policy) => add("xmit_hash_policy", u8::from(*policy).into(), 0),
            InfoBond::MinLinks(number) => add("min_links", (*number).into(), 0),
            InfoBond::ArpIpTarget(targets) => {
                for target in targets.iter().filter(|target| !target.is_unspecified()) {
                    self.options.push(("arp_ip_target", target.to_string()));
                }
            }
            InfoBond::NsIp6Target(targets) => {
                for target in targets.iter().filter(|target| !target.is_unspecified()) {
                    self.options.push(("ns_ip6_target", target.to_string()));
                }
            }
            InfoBond::Primary(index) => self.primary = Some(*index).filter(|index| *index > 0),
            InfoBond::ActivePort(index) => self.active = Some(*index).filter(|index| *index > 0),
            _ => {}
        }
    }
}

impl Links {
    /// The options of a bond; `None`: the interface does not exist or is no bond.
    pub async fn bond_options(&self, ifindex: u32) -> Result<Option<BondOptions>, Error> {
        let mut answers = Box::pin(self.handle.link().get().match_index(ifindex).execute());
        match answers.try_next().await {
            Ok(message) => Ok(message.as_ref().and_then(BondOptions::parse)),
            Err(error) => match Error::kernel(format!("look up interface {ifindex}"), error) {
                error if error.is_missing() => Ok(None),
                error => Err(error),
            },
        }
    }

    /// The MAC that a port of a bond has when it leaves; `None`: it is no port of one.
    pub async fn mac_outside_bond(&self, ifindex: u32) -> Result<Option<Mac>, Error> {
        let mut answers = Box::pin(self.handle.link().get().match_index(ifindex).execute());
        let message = answers.try_next().await;
        let message =
            message.map_err(|error| Error::kernel(format!("look up interface {ifindex}"), error))?;
        let attributes = message.into_iter().flat_map(|message| message.attributes);
        let infos = attributes.filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
        let mut options = infos.flatten().filter_map(|info| match info {
            LinkInfo::PortData(InfoPortData::BondPort(options)) => Some(options),
            _ => None,
        });
        Ok(options.next().into_iter().flatten().find_map(|option| match option {
            InfoBondPort::PermHwaddr(mac) => mac.as_slice().try_into().ok(),
            _ => None,
        }))
    }

    /// Has a bond transmit through this port.
    pub async fn select_bond_port(&self, ifindex: u32, name: &str, port: u32) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkBond>::new(name).index(ifindex).active_port(port).build();
        let what = || format!("select interface {port} as the active port of {name}");
        self.handle.link().change(message).execute().await.map_err(|error| Error::kernel(what(), error))
    }

    /// Makes an interface, which must be down, a port of another one.
    pub async fn enter_master(&self, ifindex: u32, name: &str, master: u32) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).controller(master).build();
        self.set(message, || format!("make {name} a port of interface {master}")).await
    }

    /// Gives an interface another name. Of one that is up, since Linux 6.2.
    pub async fn rename(&self, ifindex: u32, name: &str, new: &str) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).name(new).build();
        self.set(message, || format!("rename {name} to {new}")).await
    }

    /// Gives an interface another MAC.
    pub async fn change_mac(&self, ifindex: u32, name: &str, mac: Mac) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).address(mac.to_vec()).build();
        self.set(message, || format!("set the MAC of {name}")).await
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rtnetlink::packet_route::link::{BondMode, BondPrimaryReselect, InfoKind};

    use super::*;

    #[test]
    fn options_that_differ_from_defaults_are_read() {
        let mut message = LinkMessage::default();
        assert_eq!(BondOptions::parse(&message), None);
        let data = vec![
            InfoBond::Mode(BondMode::ActiveBackup),
            InfoBond::MiiMon(100),
            InfoBond::UpDelay(200),
            InfoBond::DownDelay(0),
            InfoBond::MissedMax(2),
            InfoBond::ArpIpTarget(vec![Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::UNSPECIFIED]),
            InfoBond::PrimaryReselect(BondPrimaryReselect::Failure),
            InfoBond::Primary(4),
            InfoBond::ActivePort(0),
        ];
        let infos = vec![LinkInfo::Kind(InfoKind::Bond), LinkInfo::Data(InfoData::Bond(data))];
        message.attributes.push(LinkAttribute::LinkInfo(infos));
        let expected =
            [("mode", "1"), ("updelay", "200"), ("arp_ip_target", "192.0.2.1"), ("primary_reselect", "2")];
        let found = BondOptions::parse(&message).unwrap();
        let options: Vec<(&str, &str)> =
            found.options.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(options, expected);
        assert_eq!((found.primary, found.active), (Some(4), None));
    }
}
