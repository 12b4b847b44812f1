//! Carrying out what the state machine wants sent, and telling it what came back.
//!
//! ```text
//!  Action::Probe ─────────► sent ──────────────► Input::Sent ──► more actions, done after the others
//!  Action::FindHosts ─────► sent to all ─┐
//!  ring buffer ──────────────────────────┴─────► Input::Answer, or Input::Host
//!  Action::FindNeighbour ─► asked beside ──────► Input::Neighbour
//! ```

use std::{io, net::IpAddr};

use ipmp_common::maps::{ProbeReply, ProbeReplyKind};
use tokio::sync::mpsc;

use crate::daemon::{
    event_loop::Engine,
    group::route_targets::Brought,
    group::{Group, Hands, now},
};
use crate::{
    core::{
        Action, Input, Time,
        probe::{ProbeSource, Proof, Via},
    },
    datapath::ProbeReplies,
    link::{Change, Links, Neighbour},
    probe::{Found, Neighbours, frame, random},
    types::Family,
};

/// What probes of all groups share.
#[derive(Debug)]
pub struct Probing {
    identifier: u16,
    neighbours: Neighbours,
    /// Where answers to questions go that are asked beside.
    asked: mpsc::UnboundedSender<Brought>,
}

impl Probing {
    /// Nothing is known yet.
    pub fn new(asked: mpsc::UnboundedSender<Brought>) -> Self {
        Self { identifier: random::identifier(), neighbours: Neighbours::default(), asked }
    }

    /// The ICMP identifier of every echo request.
    pub fn identifier(&self) -> u16 {
        self.identifier
    }

    /// The kernel tells of a neighbour.
    pub fn learn(&mut self, neighbour: &Neighbour) {
        self.neighbours.learn(neighbour.ifindex, neighbour.address, neighbour.mac);
    }

    /// An interface is no member any more.
    pub fn forget(&mut self, ifindex: u32) {
        self.neighbours.forget(ifindex);
    }

    /// What is known of a target. The kernel is asked beside, often enough.
    fn find(&mut self, links: &Links, ifindex: u32, target: IpAddr) -> Found {
        let (found, ask) = self.neighbours.want(ifindex, target, now());
        if ask {
            self.seek(links, ifindex, target, false);
        }
        found
    }

    /// Makes the kernel look for a neighbour, beside; `anew`: what it believes from before is no answer.
    fn seek(&self, links: &Links, ifindex: u32, address: IpAddr, anew: bool) {
        let (links, asked) = (links.clone(), self.asked.clone());
        tokio::spawn(async move {
            if anew && let Err(error) = links.doubt_neighbour(ifindex, address).await {
                log::debug!("{error}");
            }
            match links.seek_neighbour(ifindex, address).await {
                // Where the engine has ended nobody wants to know.
                Ok(Some(found)) => drop(asked.send(Brought::Change(Change::Neighbour(found)))),
                Ok(None) => {}
                Err(error) => log::debug!("{error}"),
            }
        });
    }
}

impl Group {
    /// Sends a probe, and lets the state machine know. What it wants done then.
    pub(in crate::daemon) fn probe(
        &mut self,
        hands: &mut Hands<'_>,
        member: u8,
        target: IpAddr,
        via: Via,
        sequence: u16,
    ) -> Vec<Action> {
        let (at, cookie) = self.send_probe(hands, member, target, via, sequence);
        let sent = Input::Sent { member, family: Family::of(target), sequence, cookie };
        self.core.handle(at, sent).unwrap_or_else(|refusal| {
            log::error!(group = self.name(); "{refusal}");
            Vec::new()
        })
    }

    /// The time before it was sent, and its cookie; `None` if it could not be sent.
    fn send_probe(
        &self,
        hands: &mut Hands<'_>,
        number: u8,
        target: IpAddr,
        via: Via,
        sequence: u16,
    ) -> (Time, Option<u64>) {
        let (Some(device), Some(member), Some(cookie)) =
            (self.members.get(&number), self.core.member(number), random::cookie())
        else {
            return (now(), None);
        };
        let frame = match (via, target) {
            (Via::Echo(source), _) => {
                let mac = match hands.probing.find(hands.links, device.ifindex, target) {
                    Found::Mac(mac) => mac,
                    Found::Sought => return (now(), None),
                    // As good as asked, and not answered.
                    Found::Silent => return (now(), Some(cookie)),
                };
                let identifier = hands.probing.identifier;
                frame::Echo { mac: member.mac(), source, identifier, sequence, cookie }.to(target, mac)
            }
            (Via::Arp(mac), IpAddr::V4(target)) => Some(frame::arp_probe(member.mac(), mac, target)),
            (Via::Nd(mac), IpAddr::V6(target)) => {
                device.link_local().map(|source| frame::solicitation(member.mac(), mac, source, target))
            }
            (Via::Arp(_), IpAddr::V6(_)) | (Via::Nd(_), IpAddr::V4(_)) => None,
        };
        let at = now();
        let Some(frame) = frame else { return (at, None) };
        match hands.sender.send_frame(device.ifindex, &frame) {
            Ok(()) => (at, Some(cookie)),
            // A driver that takes nothing any more is a failure, which only a lost probe shows.
            Err(error) if would_block(&error) => (at, Some(cookie)),
            Err(error) => {
                log::debug!(group = self.name(); "cannot probe {target} on {}: {error}", device.name);
                (at, None)
            }
        }
    }

    /// Asks all hosts of a member's link.
    pub(in crate::daemon) fn find_hosts(&mut self, hands: &Hands<'_>, number: u8, source: IpAddr) {
        let (Some(device), Some(member), Some(cookie)) =
            (self.members.get(&number), self.core.member(number), random::cookie())
        else {
            return;
        };
        let identifier = hands.probing.identifier;
        let echo = frame::Echo { mac: member.mac(), source, identifier, sequence: 0, cookie };
        self.searches.asked(cookie);
        if let Some(frame) = echo.to_all()
            && let Err(error) = hands.sender.send_frame(device.ifindex, &frame)
        {
            log::debug!(group = self.name(); "cannot look for hosts on {}: {error}", device.name);
        }
    }

    /// Finds a target by an ordinary request of the kernel, from a data address. That it was there half a minute ago does not
    /// count: it may have gone down, and be about to start.
    pub(in crate::daemon) fn find_neighbour(&mut self, hands: &Hands<'_>, address: IpAddr) {
        self.sought.insert(address);
        hands.probing.seek(hands.links, self.interface.ifindex, address, true);
    }

    /// The kernel tells of a neighbour: it may be one that is sought. Only one that has answered counts.
    async fn neighbour_found(&mut self, hands: &mut Hands<'_>, neighbour: &Neighbour) {
        let address = neighbour.address;
        if neighbour.ifindex == self.interface.ifindex
            && neighbour.confirmed
            && let Some(mac) = neighbour.mac
            && self.sought.remove(&address)
        {
            self.tell(hands, Input::Neighbour { address, mac }).await;
        }
    }

    /// A member has received something that looks like an answer.
    async fn heard(&mut self, hands: &mut Hands<'_>, answer: &ProbeReply) {
        const ECHO: u32 = ProbeReplyKind::Echo as u32;
        const ARP: u32 = ProbeReplyKind::Arp as u32;
        const ND: u32 = ProbeReplyKind::Nd as u32;
        let Ok(member) = u8::try_from(answer.member) else { return };
        let target = IpAddr::from(answer.from);
        let at = Time(std::time::Duration::from_nanos(answer.at_ns));
        let ours = answer.identifier == hands.probing.identifier;
        let event = match answer.kind {
            ECHO if ours && self.searches.knows(answer.cookie) => Input::Host(target),
            ECHO if ours => {
                let proof = Proof::Echo { sequence: answer.sequence, cookie: answer.cookie };
                Input::Answer { member, target, proof, at }
            }
            // It says no more than who sent it.
            ECHO => Input::Answer { member, target, proof: Proof::Mac(answer.mac), at },
            // The kernel asks its neighbours, too: what it is told is nothing to a member that is probed otherwise.
            ARP | ND if self.by_mac(member, Family::of(target)) => {
                Input::Answer { member, target, proof: Proof::Mac(answer.mac), at }
            }
            _ => return,
        };
        self.tell(hands, event).await;
    }

    fn by_mac(&self, member: u8, family: Family) -> bool {
        let prober = self.core.member(member).and_then(|member| member.prober(family));
        prober.is_some_and(|prober| matches!(prober.means(), Some(ProbeSource::Arp | ProbeSource::Nd)))
    }
}

impl Engine {
    /// Tells of everything that has arrived.
    pub(in crate::daemon) async fn hear(&mut self) {
        loop {
            let answers = self.heard.get_mut().drain();
            let (groups, mut hands) = self.with_hands();
            for answer in &answers {
                if let Some(group) = groups.values_mut().find(|group| group.datapath.index() == answer.group)
                {
                    group.heard(&mut hands, answer).await;
                }
            }
            if answers.len() < ProbeReplies::AT_ONCE {
                break;
            }
        }
    }

    /// The kernel tells of a neighbour.
    pub(in crate::daemon) async fn neighbour_changed(&mut self, neighbour: &Neighbour) {
        self.probing.learn(neighbour);
        let (groups, mut hands) = self.with_hands();
        for group in groups.values_mut() {
            group.neighbour_found(&mut hands, neighbour).await;
        }
    }
}

/// Whether a queue was full.
fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}
