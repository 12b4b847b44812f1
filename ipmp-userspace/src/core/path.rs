//! Which member transmits a packet, by the functions that the eBPF programs compile, and what is left of a group that loses members.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header};
use ipmp_common::{
    frame::{self, Frame, ethertype},
    hash::HashPolicy,
    select::Masks,
    steer::{MemberSet, Preference, slot},
};

use super::{Group, Input, Time, member::Member};
use crate::types::LinkState;

/// What selects the slot of a unicast packet that is no fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Number of the protocol.
    pub protocol: u8,
    /// Source and destination port; without ports, zeros.
    pub ports: (u16, u16),
}

impl Flow {
    /// The slot; `None`: the kernel draws it at random for each socket.
    pub fn slot(&self, policy: HashPolicy) -> Option<u16> {
        self.hash(policy).map(|hash| slot(hash) as u16)
    }

    /// The hash; `None`: as above.
    pub fn hash(&self, policy: HashPolicy) -> Option<u32> {
        let hash = match policy {
            HashPolicy::Connection => return None,
            HashPolicy::Flow => frame::flow_hash,
            HashPolicy::Destination => frame::destination_hash,
        };
        let (mut headers, ethertype) = self.headers();
        let bytes = headers.as_mut_ptr_range();
        // SAFETY: the headers outlive the frame.
        let frame = unsafe { Frame::new(bytes.start as usize, bytes.end as usize) };
        Some(hash(&frame, 0, ethertype))
    }

    fn headers(&self) -> (Vec<u8>, u16) {
        let protocol = IpNumber(self.protocol);
        let (mut headers, ethertype) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = Ipv4Header {
                    protocol,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv4Header::default()
                };
                (header.to_bytes().to_vec(), ethertype::IPV4)
            }
            (source, destination) => {
                let octets = |address| match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                };
                let header = Ipv6Header {
                    next_header: protocol,
                    source: octets(source),
                    destination: octets(destination),
                    ..Ipv6Header::default()
                };
                (header.to_bytes().to_vec(), ethertype::IPV6)
            }
        };
        headers.extend([self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat());
        (headers, ethertype)
    }
}

impl Group {
    /// The member that transmits the packets of a list, of a new flow while members are in transition; `None`: they are dropped.
    pub fn selection(&self) -> impl Fn(Preference) -> Option<u8> + use<> {
        let set = |condition: fn(&Member) -> bool| -> MemberSet {
            self.members().iter().filter(|member| condition(member)).map(Member::number).collect()
        };
        let usable = self.usable_word();
        let masks = Masks {
            usable: usable.for_flow(true),
            reserve: self.reserve().or(usable.in_transition()),
            live: set(Member::live),
        };
        let carriers = set(|member| member.link() != LinkState::Down && !member.absent());
        move |list| masks.select(list, |number| carriers.has(number))
    }

    /// The group as it will be when the links of these members are down.
    #[must_use]
    pub fn without(&self, now: Time, lost: MemberSet) -> Self {
        let mut group = self.clone();
        let others = self.members().iter().filter(|member| member.live() && !lost.has(member.number()));
        let live = Input::Live(others.map(Member::number).collect());
        let down = lost.iter().map(|member| Input::Link { member, link: LinkState::Down });
        for input in std::iter::once(live).chain(down) {
            // Only requests of the operator are refused.
            let _ = group.handle(now, input);
        }
        group
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Attachment, Settings};

    fn flow(source: &str, destination: &str, protocol: u8) -> Flow {
        let [source, destination] = [source, destination].map(|address| address.parse().unwrap());
        Flow { source, destination, protocol, ports: (5000, 443) }
    }

    /// Those that the packet test `spreading` reads from the loaded programs, and a program in another language has computed.
    #[test]
    fn slots_are_those_of_the_programs() {
        let flows = [
            flow("192.0.2.10", "192.0.2.1", 17),
            flow("192.0.2.10", "192.0.2.1", 6),
            flow("2001:db8::10", "2001:db8::1", 17),
            flow("2001:db8::10", "2001:db8::1", 6),
        ];
        assert_eq!(flows.map(|flow| flow.slot(HashPolicy::Flow)), [1135, 3996, 2012, 614].map(Some));
        assert_eq!(flows.map(|flow| flow.slot(HashPolicy::Destination)), [2321, 2321, 1941, 1941].map(Some));
        assert_eq!(flows.map(|flow| flow.slot(HashPolicy::Connection)), [None; 4]);
    }

    #[test]
    fn group_without_members_uses_others_then_the_standby_and_stays_as_it_is() {
        let now = Time(std::time::Duration::from_secs(1000));
        let mut group = Group::new("g0", Settings::default());
        let joined = |member: u8| {
            Input::Joined(Attachment {
                member,
                name: format!("eth{member}"),
                mac: [2, 0, 0, 0, 0, member],
                mtu: 1500,
                weight: 1,
                link: LinkState::Up,
            })
        };
        let standby = Input::Standby { member: 2, standby: true };
        let live = Input::Live([0, 1, 2].into_iter().collect());
        for input in [joined(0), joined(1), joined(2), standby, live] {
            group.handle(now, input).unwrap();
        }
        let used = |group: &Group| -> MemberSet {
            group.slots().lists().iter().filter_map(|&list| group.selection()(list)).collect()
        };
        let set = |members: &[u8]| members.iter().copied().collect::<MemberSet>();
        assert_eq!(used(&group), set(&[0, 1]));
        assert_eq!(used(&group.without(now, set(&[0]))), set(&[1, 2]));
        assert_eq!(used(&group.without(now, set(&[0, 1]))), set(&[2]));
        assert_eq!(used(&group.without(now, set(&[0, 1, 2]))), set(&[]));
        assert_eq!(used(&group), set(&[0, 1]));
    }
}
