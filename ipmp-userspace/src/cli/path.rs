//! `ipmpctl path`: which member transmits a packet.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use ipmp_common::steer::SLOTS;

use super::{
    error::Error,
    host,
    output::{Content, Observed},
    packets::{Direction, Headers, Seen, Tap, group_here},
    verb::{Command, Invocation, Outcome},
};
use crate::{
    control::{
        Client, Request, Response,
        path::{Packet, PathReport, Protocol, Share},
    },
    types::{HashPolicy, PathRule},
};

/// Print which member transmits a packet, by the rule that the datapath applies
///
/// With hash=flow and hash=destination the packet alone decides. With hash=connection the kernel draws a slot for each socket:
/// the members that it may use are printed with their shares, and --watch observes a packet. A packet from a test address is sent by its member, multicast and
/// broadcast by one member for the group. Whether the routing table leads to the group is not checked: ip route get DESTINATION.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl path production0 192.168.178.200 192.168.178.22                         hash=destination
  ipmpctl path production0 192.168.178.200 192.168.178.22 tcp 40000 443           hash=flow
  ipmpctl path production0 192.168.178.200 192.168.178.22 --if-lost eth0 eth1     after two failures
  ipmpctl path production0 192.168.178.200 192.168.178.22 tcp 40000 443 --watch   as observed")]
pub struct Path {
    /// Name of the group
    group: String,
    /// Source address, or host name
    source: String,
    /// Destination address, or host name
    destination: String,
    /// tcp, udp, sctp, icmp, ipv6-icmp or a number; hash=flow uses it
    protocol: Option<Protocol>,
    /// Source port of tcp, udp or sctp
    #[arg(requires = "destination_port")]
    source_port: Option<u16>,
    /// Destination port
    destination_port: Option<u16>,
    /// Assume that the links of these members are down
    #[arg(long, value_name = "MEMBER", num_args = 1..)]
    if_lost: Vec<String>,
    /// Wait until a member sends such a packet, and print that member; only root can do it [default: 10 s]
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10",
        conflicts_with = "if_lost",
        value_parser = clap::value_parser!(u16).range(1..=3600)
    )]
    watch: Option<u16>,
}

impl Path {
    fn packet(&self) -> Result<Packet, Error> {
        let addresses = host::addresses(&[self.source.clone(), self.destination.clone()])?;
        Ok(Packet {
            source: addresses[0],
            destination: addresses[1],
            protocol: self.protocol,
            source_port: self.source_port,
            destination_port: self.destination_port,
        })
    }

    fn request(&self) -> Result<Request, Error> {
        Ok(Request::Path { group: self.group.clone(), packet: self.packet()?, lost: self.if_lost.clone() })
    }

    /// Waits until a member sends such a packet.
    fn observe(&self, invocation: &Invocation<'_>, seconds: u16) -> Result<Outcome, Error> {
        let packet = self.packet()?;
        let group = group_here(invocation.socket, invocation.netns, &self.group)?;
        let tap = Tap::open(&group, 1)?;
        let (begin, limit) = (Instant::now(), Duration::from_secs(seconds.into()));
        let is_wanted = |seen: &Seen| {
            let Headers { source, destination, protocol, ports } = seen.headers;
            seen.direction == Direction::Out
                && (source, destination) == (packet.source, packet.destination)
                && packet.protocol.is_none_or(|wanted| wanted == protocol)
                && packet.ports().is_none_or(|wanted| Some(wanted) == ports)
        };
        let Some(seen) = tap.read(limit, |seen| Some(seen).filter(is_wanted))? else {
            return Err(Error::NotObserved(format!(
                "no member of {} has sent such a packet within {seconds} s: send one meanwhile, or watch for longer",
                group.name
            )));
        };
        let observed = Observed {
            group: &group.name,
            member: &group.members[seen.member].name,
            length: seen.length,
            after_ms: begin.elapsed().as_millis() as u64,
        };
        let Observed { member, length, after_ms, .. } = observed;
        let text =
            || format!("{member}\n        observed: a packet of {length} bytes, after {after_ms} ms\n");
        Ok(Outcome::done(Content::Observed { observed }.print(invocation.format, text)))
    }
}

impl Command for Path {
    fn execute(&self, invocation: &Invocation<'_>, _out: &mut dyn Write) -> Result<Outcome, Error> {
        let request = self.request()?;
        request.check()?;
        if let Some(seconds) = self.watch {
            return self.observe(invocation, seconds);
        }
        let response = Client::connect(invocation.socket)?.call(&request)?;
        let Response::Path(path) = response else { return Ok(Outcome::done(String::new())) };
        Ok(Outcome::done(Content::Path { path: &path }.print(invocation.format, || text(&path))))
    }

    #[cfg(test)]
    fn request(&self) -> Option<Result<Request, Error>> {
        Some(self.request())
    }
}

/// The member, and why, in a line each.
fn text(path: &PathReport) -> String {
    let PathReport { group, hash, rule, slot, member, preference, shares } = path;
    let is_random = shares.len() > 1;
    let first = match member {
        Some(member) => member.as_str(),
        None if is_random => "the socket decides",
        None => "no member can transmit it",
    };
    let why = match (rule, slot) {
        (PathRule::Slot, Some(slot)) => format!("slot {slot} of {group} by hash={hash}"),
        (PathRule::Slot, None) => {
            format!("{group} has hash={}: each socket has a random slot", HashPolicy::Connection)
        }
        (PathRule::TestAddress, _) => "its source is a test address: no failover".to_owned(),
        (PathRule::Multicast, _) => format!("multicast and broadcast of {group}"),
    };
    let share = |Share { member, slots }: &Share| {
        let member = member.as_deref().unwrap_or("none");
        format!("{member} {slots} of {SLOTS} ({:.1}%)", f64::from(*slots) * 100.0 / SLOTS as f64)
    };
    let order = match (preference.as_slice(), shares.as_slice()) {
        ([_, _, ..], _) => format!("; in order of preference: {}", preference.join(" ")),
        (_, []) => String::new(),
        (_, shares) => format!("; {}", shares.iter().map(share).collect::<Vec<_>>().join(", ")),
    };
    format!("{first}\n        {why}{order}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::path::sample;

    #[test]
    fn text_has_member_then_reason() {
        let slot = PathReport { shares: vec![], ..sample() };
        let lines = [
            (
                slot.clone(),
                "e1000g1\n        slot 2991 of production0 by hash=flow; in order of preference: e1000g1 rge0 e1000g0\n",
            ),
            (
                PathReport {
                    hash: HashPolicy::Connection,
                    slot: None,
                    member: None,
                    preference: vec![],
                    ..sample()
                },
                "the socket decides\n        production0 has hash=connection: each socket has a random slot; \
                 e1000g0 4000 of 4096 (97.7%), none 96 of 4096 (2.3%)\n",
            ),
            (
                PathReport {
                    rule: PathRule::TestAddress,
                    slot: None,
                    preference: vec!["e1000g1".into()],
                    ..slot.clone()
                },
                "e1000g1\n        its source is a test address: no failover\n",
            ),
            (
                PathReport { rule: PathRule::Multicast, slot: None, member: None, ..slot },
                "no member can transmit it\n        multicast and broadcast of production0; in order of preference: \
                 e1000g1 rge0 e1000g0\n",
            ),
        ];
        for (path, expected) in lines {
            assert_eq!(text(&path), expected);
        }
    }
}
