//! After a change with `--confirm`: each member holds the inbound role of an address once and reaches the gateway through it, so that
//! port security, DHCP snooping or ARP inspection of a switch shows now and not at the first failover (docs/confirm.md).

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use nix::libc;
use socket2::{Domain, Socket, Type};

use super::{
    attach,
    refusals::{kernel, no_such_group},
};
use crate::{
    announce::{frame::arp_request, sender::link_layer},
    control::request::{Refused, Response, reason},
    core::Input,
    daemon::{
        clock::now,
        events::trigger::Trigger,
        group::{RunningGroup, actions},
        manager::Manager,
    },
    link::Mac,
    probe::frame::multicast_solicitation,
    types::network::is_in,
};

/// How often a gateway is requested to reply, and how long each reply may take.
const ATTEMPTS: usize = 3;
const REPLY: Duration = Duration::from_secs(1);
/// Between two readings of the socket meanwhile.
const POLL: Duration = Duration::from_millis(2);
/// Bytes of received frames that wait: all frames of a busy member are received.
const BUFFER: usize = 4 << 20;
const BROADCAST: Mac = [0xff; 6];

/// A gateway, and the data address that reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    gateway: IpAddr,
    address: IpAddr,
}

/// Lets every member of each group reach the gateways. Refused with the name of the first one that does not.
pub async fn check(manager: &mut Manager, trigger: &Trigger) -> Result<Response, Refused> {
    let mut notes = Vec::new();
    for name in manager.groups.keys().cloned().collect::<Vec<_>>() {
        let group = manager.groups.get(&name).ok_or_else(|| no_such_group(&name))?;
        let routes = manager.links.routes_of(group.interface.ifindex).map_err(|error| kernel(&error))?;
        let entries = routes.iter().filter_map(|route| route.entry(group.interface.ifindex));
        let gateways = entries.filter(|entry| entry.to.1 == 0).filter_map(|entry| entry.via);
        let pairs = pairs(&group.addresses.iter().collect::<Vec<_>>(), gateways);
        if pairs.is_empty() {
            notes.push(format!(
                "{name} has no gateway: whether each member reaches the network was not checked"
            ));
        }
        if !pairs.is_empty() {
            attach::wait_for_all(manager, trigger, &name).await;
        }
        for pair in pairs {
            check_members(manager, trigger, &name, pair).await?;
        }
    }
    Ok(Response::Done { notes, changed: false })
}

/// One gateway of each family, with a data address in its subnet; a link-local one is reached from any global address.
fn pairs(addresses: &[(IpAddr, u8)], gateways: impl Iterator<Item = IpAddr>) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    for gateway in gateways {
        let reaches = |&&(address, prefix): &&(IpAddr, u8)| match (gateway, address) {
            (IpAddr::V6(_), IpAddr::V6(own)) if own.is_unicast_link_local() => false,
            (IpAddr::V6(router), IpAddr::V6(_)) if router.is_unicast_link_local() => true,
            _ => is_in(gateway, (address, prefix)),
        };
        if pairs.iter().all(|pair| pair.gateway.is_ipv4() != gateway.is_ipv4())
            && let Some((address, _)) = addresses.iter().find(reaches)
        {
            pairs.push(Pair { gateway, address: *address });
        }
    }
    pairs
}

/// Each member in turn. Afterwards the address has the member that it had.
async fn check_members(
    manager: &mut Manager,
    trigger: &Trigger,
    name: &str,
    pair: Pair,
) -> Result<(), Refused> {
    let group = manager.groups.get(name).ok_or_else(|| no_such_group(name))?;
    let live = group.live();
    let members = group.core.members().iter();
    let members = members.filter(|member| !member.absent() && live.has(member.number()));
    let members: Vec<(u8, String, Mac)> =
        members.map(|member| (member.number(), member.name().to_owned(), member.mac())).collect();
    let (before, preferred) = (group.core.inbound(pair.address), group.core.preferred(pair.address));
    let mut result = Ok(());
    for (number, member, mac) in &members {
        let Some(ifindex) =
            manager.groups.get(name).and_then(|group| Some(group.members.get(number)?.ifindex))
        else {
            continue;
        };
        // First without the role: a member that does not reach the gateway loses no packet of others.
        let reached = reaches(manager, ifindex, *mac, pair).await.map_err(|error| kernel(&error))?;
        if reached {
            prefer(manager, trigger, name, pair.address, Some(*number)).await;
        }
        if !reached || !reaches(manager, ifindex, *mac, pair).await.map_err(|error| kernel(&error))? {
            result = Err(Refused::new(reason::NO_GATEWAY, unreachable_gateway(member, pair)));
            break;
        }
    }
    if before.is_some() {
        prefer(manager, trigger, name, pair.address, before).await;
    }
    prefer(manager, trigger, name, pair.address, preferred).await;
    // The gateway may have the MAC of a member that has not the role.
    if let Some((group, context)) = manager.group(name, trigger) {
        context.schedule.announce_again(group.interface.ifindex, now());
    }
    manager.announce();
    result
}

fn unreachable_gateway(member: &str, Pair { gateway, address }: Pair) -> String {
    format!(
        "{member} does not reach the gateway {gateway} with the address {address}: the switch may permit it on another port only \
         (port security, DHCP snooping, ARP inspection); permit it on the port of {member}"
    )
}

async fn prefer(manager: &mut Manager, trigger: &Trigger, name: &str, address: IpAddr, member: Option<u8>) {
    if let Some((group, mut context)) = manager.group(name, trigger) {
        let group: &mut RunningGroup = group;
        actions::tell(group, &mut context, Input::Prefer(vec![(address, member)])).await;
        context.announce();
    }
}

/// Whether a gateway replies to a request for its MAC that a member sends for a data address.
async fn reaches(manager: &Manager, ifindex: u32, mac: Mac, pair: Pair) -> io::Result<bool> {
    let request = match (pair.gateway, pair.address) {
        (IpAddr::V4(gateway), IpAddr::V4(address)) => arp_request(mac, BROADCAST, address, gateway),
        (IpAddr::V6(gateway), IpAddr::V6(address)) => multicast_solicitation(mac, address, gateway),
        _ => return Ok(true),
    };
    let socket = listen(ifindex)?;
    for _ in 0..ATTEMPTS {
        manager.sender.send_frame(ifindex, &request)?;
        let limit = now() + REPLY;
        while now() < limit {
            if has_reply(&socket, mac, pair)? {
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(false)
}

/// A socket that receives all frames of a member, before the programs of the group do.
fn listen(ifindex: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.bind(&link_layer(ifindex, (libc::ETH_P_ALL as u16).to_be(), &[]))?;
    Ok(socket)
}

/// Reads what has been received; whether the reply is in it.
fn has_reply(socket: &Socket, mac: Mac, pair: Pair) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 128];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let length = length.min(buffer.len());
                // SAFETY: recv has written the first `length` bytes.
                let frame: Vec<u8> =
                    buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
                if is_reply(&frame, mac, pair) {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a frame is an ARP reply or a Neighbour Advertisement of the gateway to this MAC and address.
fn is_reply(frame: &[u8], mac: Mac, pair: Pair) -> bool {
    let part = |at: usize, length: usize| frame.get(at..at + length).unwrap_or_default();
    if part(0, 6) != mac {
        return false;
    }
    match (pair.gateway, pair.address) {
        (IpAddr::V4(gateway), IpAddr::V4(address)) => is_arp_reply(&part, gateway, address),
        (IpAddr::V6(gateway), IpAddr::V6(address)) => is_advertisement(&part, gateway, address),
        _ => false,
    }
}

fn is_arp_reply<'a>(part: &impl Fn(usize, usize) -> &'a [u8], gateway: Ipv4Addr, address: Ipv4Addr) -> bool {
    part(12, 2) == [0x08, 0x06]
        && part(20, 2) == [0, 2]
        && part(28, 4) == gateway.octets()
        && part(38, 4) == address.octets()
}

fn is_advertisement<'a>(
    part: &impl Fn(usize, usize) -> &'a [u8],
    gateway: Ipv6Addr,
    address: Ipv6Addr,
) -> bool {
    // IPv6 without extension headers, ICMPv6, type 136.
    part(12, 2) == [0x86, 0xdd]
        && part(20, 1) == [58]
        && part(38, 16) == address.octets()
        && part(54, 1) == [136]
        && part(62, 16) == gateway.octets()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(gateway: &str, address: &str) -> Pair {
        Pair { gateway: gateway.parse().unwrap(), address: address.parse().unwrap() }
    }

    #[test]
    fn gateway_is_reached_from_address_of_its_subnet() {
        let addresses = [("10.9.9.2", 24), ("192.168.178.201", 24), ("fe80::1", 64), ("fd00::201", 64)];
        let addresses = addresses.map(|(address, prefix)| (address.parse().unwrap(), prefix));
        let pairs_of =
            |gateways: &[&str]| pairs(&addresses, gateways.iter().map(|gateway| gateway.parse().unwrap()));
        assert_eq!(
            pairs_of(&["192.168.178.1", "fe80::ff", "10.9.9.1"]),
            [pair("192.168.178.1", "192.168.178.201"), pair("fe80::ff", "fd00::201")]
        );
        assert_eq!(pairs_of(&["fd00:1::1", "fd00::1"]), [pair("fd00::1", "fd00::201")]);
        assert_eq!(pairs_of(&["172.16.0.1"]), []);
    }

    #[test]
    fn reply_is_that_of_the_gateway_to_the_address_at_this_mac() {
        let (mac, router): (Mac, Mac) = ([2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 1]);
        let pair = pair("192.168.178.1", "192.168.178.201");
        let mut frame =
            arp_request(router, mac, "192.168.178.1".parse().unwrap(), "192.168.178.201".parse().unwrap());
        assert!(!is_reply(&frame, mac, pair), "a request");
        frame[21] = 2;
        assert!(is_reply(&frame, mac, pair));
        assert!(!is_reply(&frame, [2; 6], pair));
        frame[41] = 202;
        assert!(!is_reply(&frame, mac, pair));
        assert!(!is_reply(&frame[..20], mac, pair));
    }
}
