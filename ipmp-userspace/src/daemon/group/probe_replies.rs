//! Replies to probes, frames between members, and neighbours that the kernel has resolved.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipmp_common::maps::{ProbeReply, ProbeReplyKind};

use super::{Context, RunningGroup, actions};
use crate::{
    core::{
        Input, Time,
        probe::{ProbeSource, Proof},
    },
    link::Neighbour,
    probe::TestFrame,
    types::Family,
};

/// Reports replies that the datapath has received to the state machines of their groups.
pub async fn receive_replies(
    groups: &mut BTreeMap<String, RunningGroup>,
    context: &mut Context<'_>,
    replies: &[ProbeReply],
) {
    for reply in replies {
        if let Some(group) = groups.values_mut().find(|group| group.datapath.index() == reply.group)
            && let Some(event) = event_of(group, context, reply)
        {
            actions::tell(group, context, event).await;
        }
    }
}

/// Reports frames between members to the state machines of their groups.
pub async fn receive_test_frames(
    groups: &mut BTreeMap<String, RunningGroup>,
    context: &mut Context<'_>,
    frames: &[(u32, TestFrame)],
) {
    for &(ifindex, TestFrame { source, from, to, group, sequence, bytes, .. }) in frames {
        let group = groups.values_mut().find(|known| known.datapath.index() == group);
        let Some(group) = group else { continue };
        if let Some(member) = group.number_of(ifindex) {
            let input = Input::TestFrame { member, source, from, to, sequence, bytes };
            actions::tell(group, context, input).await;
        }
    }
}

/// What a packet that looks like a reply means to the state machine.
fn event_of(group: &RunningGroup, context: &Context<'_>, reply: &ProbeReply) -> Option<Input> {
    const ECHO: u32 = ProbeReplyKind::Echo as u32;
    const ARP: u32 = ProbeReplyKind::Arp as u32;
    const ND: u32 = ProbeReplyKind::Nd as u32;
    let member = u8::try_from(reply.member).ok()?;
    let target = IpAddr::from(reply.from);
    let at = Time(Duration::from_nanos(reply.at_ns));
    let is_ours = reply.identifier == context.prober.identifier();
    match reply.kind {
        ECHO if is_ours && group.discovery.searches.knows(reply.cookie) => Some(Input::Host(target)),
        ECHO if is_ours => {
            let proof = Proof::Echo { sequence: reply.sequence, cookie: reply.cookie };
            Some(Input::Answer { member, target, proof, at })
        }
        // It shows only that the sender is reachable.
        ECHO => Some(Input::Answer { member, target, proof: Proof::Mac(reply.mac), at }),
        // The kernel solicits neighbours, too: its replies do not count for a member that is probed by echo requests.
        ARP | ND if is_probed_by_mac(group, member, Family::of(target)) => {
            Some(Input::Answer { member, target, proof: Proof::Mac(reply.mac), at })
        }
        ARP | ND if group.core.awaits_control(member, target) => {
            let ifindex = group.members.get(&member)?.ifindex;
            // The MAC that the echo requests go to: no other host proves the path.
            let is_target = context.prober.mac(ifindex, target) == Some(reply.mac);
            Some(if is_target {
                Input::ControlAnswer { member, target, at }
            } else {
                Input::Answer { member, target, proof: Proof::Mac(reply.mac), at }
            })
        }
        // It answers no request: counted as unexpected.
        ARP => Some(Input::Answer { member, target, proof: Proof::Mac(reply.mac), at }),
        _ => None,
    }
}

fn is_probed_by_mac(group: &RunningGroup, member: u8, family: Family) -> bool {
    let prober = group.core.member(member).and_then(|member| member.prober(family));
    prober.is_some_and(|prober| matches!(prober.means(), Some(ProbeSource::Arp | ProbeSource::Nd)))
}

/// The kernel reports a neighbour on an interface of the group. To probes without a test address it counts only if the group
/// resolves it, and only if it has replied: their replies prove nothing but the MAC, which any host could change otherwise.
pub async fn neighbour_changed(group: &mut RunningGroup, context: &mut Context<'_>, neighbour: &Neighbour) {
    let address = neighbour.address;
    let members = group.members.values().map(|member| member.ifindex);
    let interfaces: Vec<u32> = members.chain([group.interface.ifindex]).collect();
    context.prober.learn(&interfaces, neighbour);
    if neighbour.ifindex == group.interface.ifindex
        && neighbour.confirmed
        && let Some(mac) = neighbour.mac
        && group.discovery.resolving.remove(&address)
    {
        actions::tell(group, context, Input::Neighbour { address, mac }).await;
    }
}
