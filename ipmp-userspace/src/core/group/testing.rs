//! A simulated network for tests: probes are answered or not, and time passes from one input to the next.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::daemon::events::table;
use crate::{
    core::{
        Action, Attachment, Group, Input, Refusal, Settings, Time,
        probe::{Proof, TestAddress, Via, direction::SMALL},
    },
    types::{Family, LinkState, MemberState},
};

/// A group, and the network of its members.
#[derive(Clone)]
pub(crate) struct Wire {
    pub group: Group,
    pub now: Time,
    /// Members whose paths have failed while their links are up.
    pub silent: BTreeSet<u8>,
    /// Members that do not transmit, and those that do not receive, while their links are up.
    pub mute: BTreeSet<u8>,
    /// See `mute`.
    pub deaf: BTreeSet<u8>,
    /// Members at another switch, whose connection to that of the targets has failed.
    pub parted: BTreeSet<u8>,
    /// The switch passes no frame from one member to another one.
    pub isolated: bool,
    /// Frames from one member to another one so far: time, sender, receiver, number.
    pub exchanged: Vec<(Time, u8, u8, u32)>,
    /// Larger ones, and their bytes.
    pub full_frames: Vec<(Time, u8, u8, u32)>,
    /// Targets that do not reply to these members.
    pub cut: BTreeSet<(u8, IpAddr)>,
    /// Members on which another host answers control requests.
    pub forged: BTreeSet<u8>,
    /// Targets that do not reply.
    pub dead: BTreeSet<IpAddr>,
    /// Bytes of the largest packet that passes on a member, and of the largest one that a target answers.
    pub holes: BTreeMap<u8, u32>,
    /// See `holes`.
    pub limits: BTreeMap<IpAddr, u32>,
    /// Share of the probes that are lost at random, and the state of the generator.
    pub loss: (f64, u64),
    /// The share on one member, where it is another one.
    pub losses: BTreeMap<u8, f64>,
    /// Echo replies in a second that all members receive, at most two at once; `None`: no limit.
    pub limit: Option<f64>,
    /// Replies that the limit permits now, and when that was computed.
    tokens: (f64, Time),
    /// Round-trip time.
    pub rtt: Duration,
    /// Delay of deadlines.
    pub late: Duration,
    /// Texts of the events so far, except joins and moves.
    pub lines: Vec<String>,
    /// Probes so far: time, member, target, method.
    pub probes: Vec<(Time, u8, IpAddr, Via)>,
    /// Large probes so far: time, member, target, bytes of the packet.
    pub large: Vec<(Time, u8, IpAddr, u32)>,
    /// Requests so far other than probes.
    pub searches: Vec<(Time, Action)>,
    /// All actions since they were taken last.
    pub actions: Vec<Action>,
    /// Carrier of the group interface.
    pub carrier: bool,
    answers: VecDeque<(Time, u8, IpAddr, Proof)>,
    controls: VecDeque<(Time, u8, IpAddr)>,
    frames: VecDeque<(Time, u8, u8, u32, u32)>,
    cookie: u64,
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn router(last: u8) -> IpAddr {
    IpAddr::from([192, 168, 178, last])
}

/// The MAC of a member.
pub(crate) fn mac(member: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, member]
}

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 99];

impl Wire {
    pub fn new(settings: Settings) -> Self {
        Self {
            group: Group::new("g", settings),
            now: Time(Duration::from_secs(1000)),
            silent: BTreeSet::new(),
            mute: BTreeSet::new(),
            deaf: BTreeSet::new(),
            parted: BTreeSet::new(),
            isolated: true,
            exchanged: Vec::new(),
            full_frames: Vec::new(),
            cut: BTreeSet::new(),
            forged: BTreeSet::new(),
            dead: BTreeSet::new(),
            holes: BTreeMap::new(),
            limits: BTreeMap::new(),
            loss: (0.0, 0),
            losses: BTreeMap::new(),
            limit: None,
            tokens: (0.0, Time::default()),
            rtt: Duration::from_micros(300),
            late: Duration::ZERO,
            lines: Vec::new(),
            probes: Vec::new(),
            large: Vec::new(),
            searches: Vec::new(),
            actions: Vec::new(),
            carrier: false,
            answers: VecDeque::new(),
            controls: VecDeque::new(),
            frames: VecDeque::new(),
            cookie: 1,
        }
    }

    /// Members eth0, eth1 and so on with test addresses and the router 192.168.178.1, which replies.
    pub fn of(members: u8, settings: Settings) -> Self {
        let mut wire = Self::new(settings);
        wire.tell(Input::AddressAdded(router(200)));
        wire.routers(&[router(1)]);
        for member in 0..members {
            wire.join(member);
            wire.test_address(member, Family::V4);
        }
        wire.run(2 * settings.fdt);
        wire.lines.clear();
        wire.probes.clear();
        wire.searches.clear();
        wire
    }

    pub fn with_fdt(members: u8, fdt: Duration) -> Self {
        Self::of(members, Settings { fdt, ..Settings::default() })
    }

    /// A member joins that is live at once.
    pub fn join(&mut self, member: u8) {
        let name = format!("eth{member}");
        let attachment =
            Attachment { member, name, mac: mac(member), mtu: 1500, weight: 1, link: LinkState::Up };
        self.tell(Input::Joined(attachment));
        self.link(member, true);
    }

    pub fn test_address(&mut self, member: u8, family: Family) {
        let (address, prefix) = match family {
            Family::V4 => (router(201 + member), 24),
            Family::V6 => (IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0x201 + u16::from(member)]), 64),
        };
        self.tell(Input::TestAddress { member, family, address: TestAddress::Is { address, prefix } });
    }

    /// A segment that was sent some milliseconds ago is not acknowledged. Member 3 and higher as inbound one: unknown.
    pub fn tcp_timeout(&mut self, sender: u8, inbound: u8, ago_ms: u64) {
        self.tcp_timeout_of(1, sender, inbound, ago_ms);
    }

    /// As [`Self::tcp_timeout`], of the connection with this port.
    pub fn tcp_timeout_of(&mut self, local_port: u16, sender: u8, inbound: u8, ago_ms: u64) {
        let inbound = Some(inbound).filter(|inbound| *inbound < 3);
        let sent = self.ago(ago_ms);
        let remote = SocketAddr::new(router(99), 80);
        self.tell_now(Input::TcpTimeout { sender, inbound, sent, remote, local_port });
    }

    /// A member has received nothing for some milliseconds.
    pub fn silent_inbound(&mut self, member: u8, ago_ms: u64) {
        let since = self.ago(ago_ms);
        self.tell_now(Input::InboundSilence { member, since });
    }

    fn ago(&self, ms: u64) -> Time {
        Time(self.now.0.saturating_sub(Duration::from_millis(ms)))
    }

    /// What is due by this input is sent at once.
    fn tell_now(&mut self, event: Input) {
        self.tell(event);
        self.run(Duration::ZERO);
    }

    pub fn routers(&mut self, routers: &[IpAddr]) {
        for family in Family::ALL {
            let of_family = |address: &&IpAddr| Family::of(**address) == family;
            let routers: Vec<IpAddr> = routers.iter().filter(of_family).copied().collect();
            let default = routers.first().copied();
            self.tell(Input::Routes { family, hosts: Vec::new(), routers, default });
        }
    }

    /// Sets a member's link, in netlink and the datapath.
    pub fn link(&mut self, member: u8, up: bool) {
        let live = self.group.members().iter().filter(|member| member.live()).map(|member| member.number());
        let mut live: BTreeSet<u8> = live.collect();
        if up {
            live.insert(member)
        } else {
            live.remove(&member)
        };
        self.tell(Input::Link { member, link: if up { LinkState::Up } else { LinkState::Down } });
        self.tell(Input::Live(live.into_iter().collect()));
    }

    /// Advances the time, with everything that happens in it.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadline = self.group.deadline().map(|deadline| deadline + self.late);
            let answer = self.answers.front().map(|answer| answer.0);
            let frame = self.frames.front().map(|frame| frame.0);
            let Some(next) =
                [deadline, answer, frame].into_iter().flatten().min().filter(|next| *next <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            // Received replies are read first.
            while let Some((at, member, target, proof)) =
                self.answers.pop_front_if(|answer| answer.0 <= self.now)
            {
                self.tell(Input::Answer { member, target, proof, at });
            }
            while let Some((_, from, to, sequence, bytes)) =
                self.frames.pop_front_if(|frame| frame.0 <= self.now)
            {
                self.tell(Input::TestFrame { member: to, source: mac(from), from, to, sequence, bytes });
            }
            // Read with the next wake-up.
            while let Some((at, member, target)) = self.controls.pop_front_if(|answer| answer.0 <= self.now) {
                self.tell(Input::ControlAnswer { member, target, at });
            }
            if deadline.is_some_and(|deadline| deadline <= self.now) {
                self.tell(Input::Deadline);
            }
        }
        self.now = end;
    }

    /// Advances the time until a condition holds; how long that took. It must hold within 10 minutes.
    pub fn until(&mut self, mut so: impl FnMut(&Self) -> bool) -> Duration {
        let start = self.now;
        while !so(self) {
            assert!(
                self.now - start < Duration::from_secs(600),
                "the condition never holds: {:?}",
                self.lines
            );
            let next = self.group.deadline().expect("a deadline") + self.late;
            let answer = self.answers.front().map_or(next, |answer| answer.0);
            let frame = self.frames.front().map_or(next, |frame| frame.0);
            self.run((next.min(answer).min(frame) - self.now).max(Duration::from_nanos(1)));
        }
        self.now - start
    }

    pub fn tell(&mut self, event: Input) -> Vec<Action> {
        let text = format!("{event:?}");
        self.ask(event).unwrap_or_else(|refusal| panic!("{text}: {refusal}"))
    }

    /// As [`Self::tell`], for inputs that may be refused.
    pub fn ask(&mut self, event: Input) -> Result<Vec<Action>, Refusal> {
        let is_deadline = matches!(event, Input::Deadline);
        let actions = self.group.handle(self.now, event)?;
        // What the sending of its probes makes due is another input.
        let later = self.group.deadline().filter(|_| is_deadline);
        assert!(later.is_none_or(|later| later > self.now), "a deadline that has passed");
        self.actions.extend(actions.iter().cloned());
        for action in &actions {
            self.act(action);
        }
        Ok(actions)
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Report(line, _) => {
                let line = table::row(line).text;
                if ![" has joined ", " has moved ", " have moved "].iter().any(|known| line.contains(known)) {
                    self.lines.push(line);
                }
            }
            Action::SetCarrier(carrier) => self.carrier = *carrier,
            &Action::Probe { member, target, via, sequence, size, .. } => {
                self.probes.push((self.now, member, target, via));
                self.cookie += 1;
                let (family, cookie) = (Family::of(target), self.cookie);
                self.tell(Input::Sent { member, family, sequence, cookie: Some(cookie) });
                let bytes = size.unwrap_or(0);
                let passes = self.holes.get(&member).is_none_or(|hole| bytes <= *hole)
                    && self.limits.get(&target).is_none_or(|limit| bytes <= *limit)
                    && !self.is_lost(member);
                if size.is_some() {
                    self.large.push((self.now, member, target, bytes));
                }
                if passes
                    && self.transmits(member)
                    && self.receives(member)
                    && !self.parted.contains(&member)
                    && !self.dead.contains(&target)
                    && !self.cut.contains(&(member, target))
                    && (!matches!(via, Via::Echo(_)) || self.is_permitted())
                {
                    let proof = match via {
                        Via::Echo(_) => Proof::Echo { sequence, cookie },
                        Via::Arp(mac) | Via::Nd(mac) => Proof::Mac(mac),
                    };
                    self.answers.push_back((self.now + self.rtt, member, target, proof));
                }
            }
            &Action::Control { member, target, .. }
                if self.forged.contains(&member)
                    || (self.transmits(member)
                        && self.receives(member)
                        && !self.dead.contains(&target)
                        && !self.cut.contains(&(member, target))) =>
            {
                self.controls.push_back((self.now + self.rtt, member, target));
            }
            &Action::TestFrame { from, to, sequence, bytes } => {
                if bytes == SMALL {
                    self.exchanged.push((self.now, from, to, sequence));
                } else {
                    self.full_frames.push((self.now, from, to, bytes));
                }
                let passes =
                    [from, to].iter().all(|of| self.holes.get(of).is_none_or(|passes| bytes <= *passes));
                let is_parted = self.parted.contains(&from) != self.parted.contains(&to);
                if passes && !self.isolated && !is_parted && self.transmits(from) && self.receives(to) {
                    self.frames.push_back((self.now + self.rtt, from, to, sequence, bytes));
                }
            }
            Action::FindHosts { .. } => self.searches.push((self.now, action.clone())),
            &Action::FindNeighbour(address) => {
                self.searches.push((self.now, action.clone()));
                if !self.dead.contains(&address) {
                    self.tell(Input::Neighbour { address, mac: MAC });
                }
            }
            _ => {}
        }
    }

    fn transmits(&self, member: u8) -> bool {
        !self.silent.contains(&member) && !self.mute.contains(&member)
    }

    fn receives(&self, member: u8) -> bool {
        !self.silent.contains(&member) && !self.deaf.contains(&member)
    }

    /// Whether a probe is lost at random.
    fn is_lost(&mut self, member: u8) -> bool {
        let (share, state) = &mut self.loss;
        let share = self.losses.get(&member).unwrap_or(share);
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((*state >> 33) as f64) < share * f64::from(1u32 << 31)
    }

    /// Whether the limit permits an echo reply now: a token bucket.
    fn is_permitted(&mut self) -> bool {
        let Some(rate) = self.limit else { return true };
        let (tokens, then) = self.tokens;
        let tokens = (tokens + rate * (self.now - then).as_secs_f64()).min(2.0);
        let permitted = tokens >= 1.0;
        self.tokens = (if permitted { tokens - 1.0 } else { tokens }, self.now);
        permitted
    }

    /// The texts of events since the previous call.
    pub fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub fn state(&self, member: u8) -> MemberState {
        self.group.member(member).expect("a member").state()
    }

    pub fn usable(&self) -> Vec<u8> {
        self.group.usable().iter().collect()
    }
}
