//! Options of the bonding driver, as the kernel reports them.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoBond, InfoData, LinkAttribute, LinkInfo, LinkMessage};

use super::{Error, Links};

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
