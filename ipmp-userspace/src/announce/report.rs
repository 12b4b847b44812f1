//! The frames that tell switches what the group listens to: IGMP and MLD reports.
//!
//! The kernel reports what is joined when it is joined, and what a querier asks for, and the datapath sends that through
//! every live member. A member that was out at the time, or whose switch forgot it with its carrier, needs a report of
//! its own: its switch forwards nothing to it until the next query.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    Icmpv6Type, IgmpType, IpHeaders, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header,
    Ipv6RawExtHeader, PacketBuilder, igmp,
};

use super::tag::tagged;
use crate::link::Memberships;

/// Type of a multicast listener report of version 2 (RFC 3810 5.2).
const MLD2_REPORT: u8 = 143;
/// A record that requests a group from all sources: `CHANGE_TO_EXCLUDE_MODE` without sources (RFC 3376 4.2.12).
const TO_EXCLUDE: [u8; 4] = [4, 0, 0, 0];
/// Every router that speaks IGMP of version 3.
const ALL_V3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// Every router that speaks MLD of version 2.
const ALL_MLD2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Router alert (RFC 2113), which every report carries.
const ROUTER_ALERT_V4: [u8; 4] = [0x94, 4, 0, 0];
/// The same as a hop-by-hop option, for MLD (RFC 2711), and two bytes of padding.
const ROUTER_ALERT_V6: [u8; 6] = [5, 2, 0, 0, 1, 0];
/// Precedence that the kernel gives to IGMP: internetwork control.
const INTERNETWORK_CONTROL: u8 = 0xc0 >> 2;
/// Most records in a report: they fit the least MTU of a group, 1280 bytes, also as IPv6.
const RECORDS: usize = 60;

/// Whose reports these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reporter {
    /// MAC of the member that they leave through.
    pub mac: [u8; 6],
    /// IPv4 address, or `0.0.0.0` (RFC 3376 4.2.13).
    pub v4: Ipv4Addr,
    /// Link-local address, or `::`, which only switches listen to (RFC 3590).
    pub v6: Ipv6Addr,
    /// VLAN that they are sent in.
    pub vlan: Option<u16>,
}

impl Reporter {
    /// The frames that report these memberships.
    pub fn frames(&self, memberships: &Memberships) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        if memberships.old_igmp {
            frames.extend(memberships.v4.iter().map(|group| {
                let report = igmp::MembershipReportV2Type { group_address: group.octets().into() };
                self.igmp(*group, IgmpType::MembershipReportV2(report), &[])
            }));
        } else {
            frames.extend(memberships.v4.chunks(RECORDS).map(|groups| {
                let records: Vec<u8> =
                    groups.iter().flat_map(|group| [TO_EXCLUDE, group.octets()].concat()).collect();
                let report =
                    igmp::MembershipReportV3Header { flags: [0; 2], num_of_records: groups.len() as u16 };
                self.igmp(ALL_V3_ROUTERS, IgmpType::MembershipReportV3(report), &records)
            }));
        }
        frames.extend(memberships.v6.chunks(RECORDS).map(|groups| self.mld(groups)));
        frames.into_iter().map(|frame| tagged(frame, self.vlan)).collect()
    }

    fn igmp(&self, to: Ipv4Addr, report: IgmpType, records: &[u8]) -> Vec<u8> {
        let [_, b, c, d] = to.octets();
        let header = Ipv4Header {
            dscp: INTERNETWORK_CONTROL.try_into().unwrap_or_default(),
            time_to_live: 1,
            protocol: IpNumber::IGMP,
            source: self.v4.octets(),
            destination: to.octets(),
            options: ROUTER_ALERT_V4.into(),
            ..Ipv4Header::default()
        };
        let mut frame = Vec::with_capacity(64 + records.len());
        let written = PacketBuilder::ethernet2(self.mac, [1, 0, 0x5e, b & 0x7f, c, d])
            .ip(IpHeaders::Ipv4(header, Default::default()))
            .igmp(report)
            .write(&mut frame, records);
        debug_assert!(written.is_ok(), "{RECORDS} records fit a packet");
        frame
    }

    fn mld(&self, groups: &[Ipv6Addr]) -> Vec<u8> {
        let records: Vec<u8> =
            groups.iter().flat_map(|group| [&TO_EXCLUDE[..], &group.octets()].concat()).collect();
        let [high, low] = (groups.len() as u16).to_be_bytes();
        let header = Ipv6Header {
            traffic_class: 0,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: 0,
            next_header: IpNumber::IPV6_HEADER_HOP_BY_HOP,
            hop_limit: 1,
            source: self.v6.octets(),
            destination: ALL_MLD2_ROUTERS.octets(),
        };
        let alert = Ipv6RawExtHeader::new_raw(IpNumber::IPV6_ICMP, &ROUTER_ALERT_V6).ok();
        let extensions = Ipv6Extensions { hop_by_hop_options: alert, ..Ipv6Extensions::default() };
        let mut frame = Vec::with_capacity(70 + records.len());
        let written = PacketBuilder::ethernet2(self.mac, [0x33, 0x33, 0, 0, 0, 0x16])
            .ip(IpHeaders::Ipv6(header, extensions))
            .icmpv6(Icmpv6Type::Unknown { type_u8: MLD2_REPORT, code_u8: 0, bytes5to8: [0, 0, high, low] })
            .write(&mut frame, &records);
        debug_assert!(written.is_ok(), "{RECORDS} records fit a packet");
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORTER: Reporter = Reporter {
        mac: [2, 0, 0, 0, 0, 7],
        v4: Ipv4Addr::new(192, 168, 178, 200),
        v6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xc8),
        vlan: None,
    };

    fn memberships(old_igmp: bool) -> Memberships {
        let v6 = vec!["ff02::1:ff00:200".parse().unwrap(), "ff05::178".parse().unwrap()];
        Memberships { v4: vec![Ipv4Addr::new(239, 178, 0, 1)], v6, old_igmp }
    }

    /// The ones' complement sum of a header or message: all ones if its checksum is right.
    fn sum(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let total: u32 = words.sum();
        let folded = (total & 0xffff) + (total >> 16);
        ((folded & 0xffff) + (folded >> 16)) as u16
    }

    #[test]
    fn igmp_of_version_3_byte_for_byte() {
        let frame = &REPORTER.frames(&memberships(false))[0];
        assert_eq!(frame[..14], [1, 0, 0x5e, 0, 0, 0x16, 2, 0, 0, 0, 0, 7, 8, 0]);
        // 24 bytes of header, 40 in all, one hop, IGMP.
        assert_eq!((frame[14], frame[15], frame[16], frame[17]), (0x46, 0xc0, 0, 40));
        assert_eq!((frame[22], frame[23]), (1, 2));
        assert_eq!(frame[26..34], [192, 168, 178, 200, 224, 0, 0, 22]);
        assert_eq!(frame[34..38], [0x94, 4, 0, 0]);
        assert_eq!(sum(&frame[14..38]), 0xffff);
        assert_eq!((frame[38], frame[39]), (0x22, 0));
        assert_eq!(frame[42..46], [0, 0, 0, 1]);
        assert_eq!(frame[46..], [4, 0, 0, 0, 239, 178, 0, 1]);
        assert_eq!(sum(&frame[38..]), 0xffff);
    }

    #[test]
    fn igmp_of_version_2_goes_to_the_group_itself() {
        let frames = REPORTER.frames(&memberships(true));
        let frame = &frames[0];
        assert_eq!(frame[..6], [1, 0, 0x5e, 0x32, 0, 1]);
        assert_eq!(frame[30..34], [239, 178, 0, 1]);
        assert_eq!((frame[38], &frame[42..46]), (0x16, &[239, 178, 0, 1][..]));
        assert_eq!(sum(&frame[38..46]), 0xffff);
    }

    #[test]
    fn mld_of_version_2_byte_for_byte() {
        let frames = REPORTER.frames(&memberships(false));
        let frame = &frames[1];
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 0x16, 2, 0, 0, 0, 0, 7, 0x86, 0xdd]);
        // 56 bytes, hop-by-hop options, one hop.
        assert_eq!(frame[18..22], [0, 56, 0, 1]);
        assert_eq!(frame[22..38], REPORTER.v6.octets());
        assert_eq!(frame[38..54], ALL_MLD2_ROUTERS.octets());
        assert_eq!(frame[54..62], [58, 0, 5, 2, 0, 0, 1, 0]);
        assert_eq!((frame[62], frame[63]), (143, 0));
        assert_eq!(frame[66..70], [0, 0, 0, 2]);
        assert_eq!(frame[70..74], [4, 0, 0, 0]);
        assert_eq!(frame[74..90], "ff02::1:ff00:200".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(frame.len(), 110);
        // The pseudo header: both addresses, the length of the message, its protocol.
        let pseudo = [&frame[22..54], &[0, 48, 0, 58], &frame[62..]].concat();
        assert_eq!(sum(&pseudo), 0xffff);
    }

    #[test]
    fn many_groups_take_several_reports_and_a_vlan_a_tag() {
        let v6 =
            (0..RECORDS as u16 + 1).map(|number| Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, number)).collect();
        let memberships = Memberships { v6, ..Memberships::default() };
        let frames = Reporter { vlan: Some(20), ..REPORTER }.frames(&memberships);
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0][12..18], [0x81, 0, 0, 20, 0x86, 0xdd]);
        assert!(frames[0].len() <= 1280 + 18, "{} bytes", frames[0].len());
    }
}
