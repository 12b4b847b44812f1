//! What the kernel says of one interface.

use crate::types::LinkState;
use rtnetlink::packet_route::link::{
    InfoBond, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    LinkXdp, Prop, State, XdpAttached,
};

/// An interface, as one netlink message describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Interface index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// Kind, as `ip -d link` prints it (`veth`, `vlan`, `bridge`, ...); empty for a NIC.
    pub kind: String,
    /// Whether its link layer is Ethernet, and it is no loopback.
    pub ethernet: bool,
    /// Flags (`IFF_UP` and the rest).
    pub flags: LinkFlags,
    /// MAC; zeros if it has none of six bytes.
    pub mac: [u8; 6],
    /// The MAC that the device itself stores, if it has one.
    pub permanent_mac: Option<[u8; 6]>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Whether its driver says that there is a carrier; a driver that cannot tell says yes.
    pub carrier: bool,
    /// Operational state (RFC 2863).
    pub operstate: State,
    /// Index of its master: the bridge, bond, team, VRF or OVS switch that it is a port of.
    pub master: Option<u32>,
    /// Index of the device that it is stacked on, in this namespace.
    pub below: Option<u32>,
    /// Of a veth: index of its other end, in this namespace.
    pub peer: Option<u32>,
    /// Its VLAN, if it is a VLAN device.
    pub vlan: Option<u16>,
    /// Whether it is a bond that does not monitor the links of its ports: it keeps its carrier when all of them have failed.
    pub unmonitored_bond: bool,
    /// Its other names.
    pub altnames: Vec<String>,
    /// The identifier of the XDP program that is attached to it; 0: it is unknown.
    pub xdp: Option<u32>,
}

impl Device {
    /// An Ethernet card that is up, for tests.
    #[cfg(test)]
    pub(crate) fn sample(name: &str, ifindex: u32) -> Self {
        Self {
            ifindex,
            name: name.into(),
            kind: String::new(),
            ethernet: true,
            flags: LinkFlags::Up | LinkFlags::Broadcast | LinkFlags::Multicast,
            permanent_mac: None,
            mac: [2, 0, 0, 0, 0, 3],
            mtu: 1500,
            carrier: true,
            operstate: State::Up,
            master: None,
            below: None,
            peer: None,
            vlan: None,
            unmonitored_bond: false,
            altnames: Vec::new(),
            xdp: None,
        }
    }

    /// Reads the message.
    pub fn parse(message: &LinkMessage) -> Self {
        let mut device = Self {
            ifindex: message.header.index,
            name: String::new(),
            kind: String::new(),
            ethernet: message.header.link_layer_type == LinkLayerType::Ether,
            flags: message.header.flags,
            mac: [0; 6],
            permanent_mac: None,
            mtu: 0,
            carrier: true,
            operstate: State::Unknown,
            master: None,
            below: None,
            peer: None,
            vlan: None,
            unmonitored_bond: false,
            altnames: Vec::new(),
            xdp: None,
        };
        let mut elsewhere = false;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name.clone_from(name),
                LinkAttribute::Address(mac) => device.mac = mac.as_slice().try_into().unwrap_or_default(),
                LinkAttribute::PermAddress(mac) => device.permanent_mac = mac.as_slice().try_into().ok(),
                LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
                LinkAttribute::Carrier(carrier) => device.carrier = *carrier != 0,
                LinkAttribute::OperState(state) => device.operstate = *state,
                LinkAttribute::Controller(index) if *index != 0 => device.master = Some(*index),
                LinkAttribute::Link(index) if *index != 0 => device.below = Some(*index),
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::PropList(names) => {
                    device.altnames.extend(names.iter().filter_map(|name| match name {
                        Prop::AltIfName(name) => Some(name.clone()),
                        _ => None,
                    }))
                }
                LinkAttribute::Xdp(xdp) => {
                    let is_attached =
                        |nla: &LinkXdp| matches!(nla, LinkXdp::Attached(how) if *how != XdpAttached::None);
                    let program = xdp.iter().find_map(|nla| match nla {
                        LinkXdp::ProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::DrvProgId(id) => Some(*id),
                        _ => None,
                    });
                    device.xdp = xdp.iter().any(is_attached).then(|| program.unwrap_or_default());
                }
                LinkAttribute::LinkInfo(infos) => device.read_info(infos),
                _ => {}
            }
        }
        device.peer = device.below.filter(|_| !elsewhere && device.kind == "veth");
        // A veth names its peer here, a tunnel its underlay: neither is a device below. And an index of another
        // namespace is none of ours.
        if elsewhere
            || !matches!(
                device.kind.as_str(),
                "vlan" | "macvlan" | "macvtap" | "macsec" | "ipvlan" | "ipvtap"
            )
        {
            device.below = None;
        }
        device
    }

    fn read_info(&mut self, infos: &[LinkInfo]) {
        for info in infos {
            match info {
                LinkInfo::Kind(InfoKind::Other(kind)) => self.kind.clone_from(kind),
                LinkInfo::Kind(kind) => self.kind = kind.to_string(),
                LinkInfo::Data(InfoData::Vlan(data)) => {
                    self.vlan = data.iter().find_map(|nla| match nla {
                        InfoVlan::Id(id) => Some(*id),
                        _ => None,
                    });
                }
                LinkInfo::Data(InfoData::Bond(data)) => {
                    let monitors = |nla: &InfoBond| matches!(nla, InfoBond::MiiMon(ms) | InfoBond::ArpInterval(ms) if *ms != 0);
                    self.unmonitored_bond = !data.iter().any(monitors);
                }
                _ => {}
            }
        }
    }

    /// Its link: up, down, or whatever it is because its driver cannot tell.
    pub fn link(&self) -> LinkState {
        let up = self.flags.contains(LinkFlags::Up);
        match self.operstate {
            State::Up if up && self.carrier => LinkState::Up,
            State::Unknown if up && self.carrier => LinkState::Unknown,
            _ => LinkState::Down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.flags = LinkFlags::Up | LinkFlags::Broadcast;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes = attributes;
        message
    }

    fn link(carrier: u8, state: State) -> LinkState {
        Device::parse(&message(vec![LinkAttribute::Carrier(carrier), LinkAttribute::OperState(state)])).link()
    }

    #[test]
    fn a_link_is_up_only_if_it_is_operational() {
        assert_eq!(link(1, State::Up), LinkState::Up);
        assert_eq!(link(0, State::Down), LinkState::Down);
        assert_eq!(link(1, State::Dormant), LinkState::Down);
        assert_eq!(link(1, State::LowerLayerDown), LinkState::Down);
        // The carrier goes before the operational state does.
        assert_eq!(link(0, State::Up), LinkState::Down);
        // A driver without carrier detection.
        assert_eq!(link(1, State::Unknown), LinkState::Unknown);
        assert_eq!(link(0, State::Unknown), LinkState::Down);
    }

    #[test]
    fn a_device_that_is_not_up_has_no_link() {
        let mut down = message(vec![LinkAttribute::Carrier(1), LinkAttribute::OperState(State::Unknown)]);
        down.header.flags = LinkFlags::Broadcast;
        assert_eq!(Device::parse(&down).link(), LinkState::Down);
    }

    #[test]
    fn bond_without_link_monitoring_is_known() {
        let bond = |data: Vec<InfoBond>| {
            let infos = vec![LinkInfo::Kind(InfoKind::Bond), LinkInfo::Data(InfoData::Bond(data))];
            Device::parse(&message(vec![LinkAttribute::LinkInfo(infos)])).unmonitored_bond
        };
        assert!(bond(vec![InfoBond::MiiMon(0), InfoBond::ArpInterval(0)]));
        assert!(!bond(vec![InfoBond::MiiMon(100), InfoBond::ArpInterval(0)]));
        assert!(!bond(vec![InfoBond::MiiMon(0), InfoBond::ArpInterval(1000)]));
    }

    #[test]
    fn the_peer_of_a_veth_is_not_below_it() {
        let veth =
            vec![LinkAttribute::Link(8), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)])];
        assert_eq!(Device::parse(&message(veth)).below, None);
        let vlan = vec![
            LinkAttribute::Link(8),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(20)])),
            ]),
        ];
        let vlan = Device::parse(&message(vlan));
        assert_eq!((vlan.below, vlan.vlan, vlan.kind.as_str()), (Some(8), Some(20), "vlan"));
    }

    #[test]
    fn a_device_below_in_another_namespace_is_none_of_ours() {
        let macvlan = vec![
            LinkAttribute::Link(8),
            LinkAttribute::LinkNetNsId(0),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan)]),
        ];
        assert_eq!(Device::parse(&message(macvlan)).below, None);
    }
}
