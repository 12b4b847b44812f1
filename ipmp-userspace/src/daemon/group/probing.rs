//! Sending what the state machine wants to be probed. [`super::probe_replies`] handles what comes back.
//!
//! ```text
//!  Action::Probe ─────────► sent ──────────────► Input::Sent ──► more actions, applied after the others
//!  Action::FindHosts ─────► multicast request ─┐
//!  Action::TestFrame ─────► sent to a member ─► Input::TestFrame
//!  ring buffer ────────────────────────────────┴► Input::Answer, or Input::Host
//!  Action::FindNeighbour ─► kernel resolves ────► Input::Neighbour
//! ```

use std::{collections::BTreeSet, io, net::IpAddr};

use super::{Context, RunningGroup};
use crate::{
    core::{Input, Time, probe::Via},
    daemon::clock::now,
    probe::{Found, Searches, TestFrame, frame, random},
    types::Family,
};

/// Searches for targets that are under way.
#[derive(Debug, Default)]
pub struct Discovery {
    /// Multicast requests.
    pub searches: Searches,
    /// Neighbours that the kernel resolves on the group interface.
    pub resolving: BTreeSet<IpAddr>,
}

/// A probe that was sent, or could not be.
pub struct SentProbe {
    /// The time before it was sent.
    pub at: Time,
    /// The input of the state machine.
    pub event: Input,
}

/// A probe to be sent.
pub struct Request {
    /// How.
    pub via: Via,
    /// Its number.
    pub sequence: u16,
    /// Bytes of its packet; `None`: as small as it can be.
    pub size: Option<u32>,
    /// It belongs to a burst.
    pub is_extra: bool,
}

/// Sends a probe.
pub fn send_probe(
    group: &RunningGroup,
    context: &mut Context<'_>,
    member: u8,
    target: IpAddr,
    probe: Request,
) -> SentProbe {
    let sequence = probe.sequence;
    let (at, cookie) = try_send(group, context, member, target, probe);
    SentProbe { at, event: Input::Sent { member, family: Family::of(target), sequence, cookie } }
}

/// The time before it was sent, and its cookie; no cookie if it could not be sent.
fn try_send(
    group: &RunningGroup,
    context: &mut Context<'_>,
    number: u8,
    target: IpAddr,
    Request { via, sequence, size, is_extra }: Request,
) -> (Time, Option<u64>) {
    let (Some(device), Some(member), Some(cookie)) =
        (group.members.get(&number), group.core.member(number), random::cookie())
    else {
        return (now(), None);
    };
    let frame = match (via, target) {
        (Via::Echo(source), _) => {
            let mac = match context.prober.find(device.ifindex, target) {
                Found::Mac(mac) => mac,
                Found::Sought => return (now(), None),
                // Counts as sent and lost.
                Found::Silent => return (now(), Some(cookie)),
            };
            let identifier = context.prober.identifier();
            frame::Echo { mac: member.mac(), source, identifier, sequence, cookie, size }.to(target, mac)
        }
        (Via::Arp(mac), IpAddr::V4(target)) => Some(frame::arp_probe(member.mac(), mac, target)),
        (Via::Nd(mac), IpAddr::V6(target)) => {
            device.link_local().map(|source| frame::solicitation(member.mac(), mac, source, target))
        }
        (Via::Arp(_), IpAddr::V6(_)) | (Via::Nd(_), IpAddr::V4(_)) => None,
    };
    let is_arp = matches!(via, Via::Arp(_));
    if is_arp && !context.schedule.count_arp(group.interface.ifindex, device.ifindex, is_extra, now()) {
        return (now(), None);
    }
    let at = now();
    let Some(frame) = frame else { return (at, None) };
    match context.sender.send_frame(device.ifindex, &frame) {
        Ok(()) => (at, Some(cookie)),
        // A driver whose queue stays full has failed, which only a lost probe shows.
        Err(error) if is_queue_full(&error) => (at, Some(cookie)),
        Err(error) => {
            log::debug!(group = group.name(); "cannot probe {target} on {}: {error}", device.name);
            (at, None)
        }
    }
}

/// Sends a control request. The answer is received as any other ARP reply or advertisement.
pub fn send_control(
    group: &RunningGroup,
    context: &mut Context<'_>,
    number: u8,
    target: IpAddr,
    source: IpAddr,
) {
    let (Some(device), Some(member)) = (group.members.get(&number), group.core.member(number)) else {
        return;
    };
    let Found::Mac(mac) = context.prober.find(device.ifindex, target) else { return };
    if target.is_ipv4() && !context.schedule.count_arp(group.interface.ifindex, device.ifindex, true, now()) {
        return;
    }
    let frame = match (source, target) {
        // Ingress delivers only replies to 0.0.0.0. The target answers other members, so it does not start up (RFC 5227).
        (IpAddr::V4(_), IpAddr::V4(target)) => frame::arp_probe(member.mac(), mac, target),
        (IpAddr::V6(source), IpAddr::V6(target)) => frame::solicitation(member.mac(), mac, source, target),
        _ => return,
    };
    if let Err(error) = context.sender.send_frame(device.ifindex, &frame) {
        log::debug!(group = group.name(); "cannot send a control request to {target} on {}: {error}", device.name);
    }
}

/// Sends a frame from a member to the MAC of another one. If it cannot be sent, it is lost: a device that is down or deleted is
/// reported otherwise, and a driver that takes no frames does not transmit.
pub fn send_test_frame(
    group: &RunningGroup,
    context: &Context<'_>,
    (from, to): (u8, u8),
    sequence: u32,
    bytes: u32,
) {
    let (Some(device), Some(sender), Some(receiver)) =
        (group.members.get(&from), group.core.member(from), group.core.member(to))
    else {
        return;
    };
    let frame = TestFrame {
        destination: receiver.mac(),
        source: sender.mac(),
        from,
        to,
        group: group.datapath.index(),
        sequence,
        bytes,
        nonce: context.prober.nonce(),
    };
    if let Err(error) = context.sender.send_frame(device.ifindex, &frame.frame()) {
        log::debug!(group = group.name(); "cannot send a test frame on {}: {error}", device.name);
    }
}

/// Sends a multicast echo request to all hosts on a member's link.
pub fn find_hosts(group: &mut RunningGroup, context: &Context<'_>, number: u8, source: IpAddr) {
    let (Some(device), Some(member), Some(cookie)) =
        (group.members.get(&number), group.core.member(number), random::cookie())
    else {
        return;
    };
    let identifier = context.prober.identifier();
    let echo = frame::Echo { mac: member.mac(), source, identifier, sequence: 0, cookie, size: None };
    group.discovery.searches.asked(cookie);
    if let Some(frame) = echo.to_all()
        && let Err(error) = context.sender.send_frame(device.ifindex, &frame)
    {
        log::debug!(group = group.name(); "cannot search for targets on {}: {error}", device.name);
    }
}

/// Makes the kernel resolve a target from a data address. A cached entry does not count: the host may have failed since, and
/// be about to restart.
pub fn find_neighbour(group: &mut RunningGroup, context: &Context<'_>, address: IpAddr) {
    group.discovery.resolving.insert(address);
    context.prober.resolve(group.interface.ifindex, address);
}

fn is_queue_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}
