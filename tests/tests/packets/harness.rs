//! The bench: a group in a network namespace of its own, and its pinned programs run by BPF_PROG_TEST_RUN.
//!
//! Every bench has the same lists, so that the transmitting member shows which list was used:
//!
//! | role | preference |
//! |---|---|
//! | every slot | member 0, then 1, then 2 |
//! | cast | member 1, then 2, then 0 |
//! | inbound of [`DATA4`], [`DATA6`], [`DATA_LOCAL6`] | member 2, then 0, then 1 |
//! | inbound of [`SECOND4`] | member 0, then 1, then 2 |
//!
//! Each member has a test address [`test4`] and a link-local address [`local6`]. All members are usable and live.
//! IPv6 is disabled in the namespace and no interface has an IPv4 address: only frames of the test pass.
//!
//! TEST_RUN returns the verdict and the resulting frame, not the device of a redirect: that is checked by the source MAC
//! and the counters, which the scenario `on_the_wire` compares with real frames. It refuses a VLAN tag beside
//! the frame (`vlan_present` must be 0), so tags in the frame are run here, and tags beside it are sent for real.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use aya::{
    maps::{Array, HashMap, Map, MapData},
    programs::{ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions, loaded_programs},
};
use ipmp::datapath::{Datapath, Group, GroupSpec, MemberSpec, pins};
use ipmp_common::{
    hash::HashPolicy,
    maps::{Clock, Ip, Learnt},
    steer::{MemberSet, Preference, SLOTS},
};
use nix::sched::{CloneFlags, unshare};

pub use crate::outcome::{Outcome, Reason, Tally, Verdict, show};
use crate::{
    frames::{GROUP_MAC, IPV4, PEER_MAC, ethernet, member_mac, udp4},
    wire::Wire,
};

/// The members for flows, for multicast, and for ARP and ND of a data address, without failures.
pub const FLOWS: u8 = 0;
pub const CAST: u8 = 1;
pub const INBOUND: u8 = 2;

/// The group's data addresses.
pub const DATA4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub const SECOND4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
pub const DATA6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
pub const DATA_LOCAL6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 9);
/// A host on the link.
pub const PEER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const PEER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const PEER_LOCAL6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x201);
/// Of no host.
pub const STRANGER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
pub const STRANGER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77);

/// A member's test address.
pub fn test4(member: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 20 + member)
}

/// A member's link-local address.
pub fn local6(member: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x100 + u16::from(member))
}

const GROUP: &str = "g0";
/// Offset of `ifindex` in `struct __sk_buff`.
const CONTEXT_IFINDEX: usize = 40;
const PATIENCE: Duration = Duration::from_secs(10);

/// A bench to set up.
pub struct Setup {
    members: u8,
    policy: HashPolicy,
    updelay: Duration,
}

impl Setup {
    /// Three members, policy `flow`, links trusted as soon as they are good.
    pub fn new() -> Self {
        Self { members: 3, policy: HashPolicy::Flow, updelay: Duration::ZERO }
    }

    pub fn members(self, members: u8) -> Self {
        Self { members, ..self }
    }

    pub fn policy(self, policy: HashPolicy) -> Self {
        Self { policy, ..self }
    }

    /// How long a link must have been good to be trusted.
    pub fn updelay(self, updelay: Duration) -> Self {
        Self { updelay, ..self }
    }

    /// Runs a scenario on a thread in a new network namespace, and leaves nothing behind.
    pub fn run(self, scenario: impl FnOnce(&mut Bench) + Send) {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
                let work = || scenario(&mut Bench::new(&self));
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                Datapath::teardown().expect("teardown");
                if let Err(panic) = result {
                    std::panic::resume_unwind(panic);
                }
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

/// The programs that this process has open. The kernel cuts their names to 15 bytes.
fn own_programs() -> Vec<ProgramInfo> {
    let open = std::fs::read_dir("/proc/self/fdinfo").unwrap().filter_map(|entry| {
        // Other threads close theirs meanwhile.
        let text = std::fs::read_to_string(entry.ok()?.path()).ok()?;
        lab::process::number_after(&text, "prog_id:")
    });
    let open: BTreeSet<u64> = open.collect();
    loaded_programs().filter_map(Result::ok).filter(|info| open.contains(&info.id().into())).collect()
}

/// Runs a scenario on the usual bench.
pub fn run(scenario: impl FnOnce(&mut Bench) + Send) {
    Setup::new().run(scenario);
}

/// A group with its programs at hand.
pub struct Bench {
    pub group: Group,
    pub datapath: Datapath,
    pins: PathBuf,
    egress: SchedClassifier,
    ingress: Vec<SchedClassifier>,
    /// The early drops, which no member has attached.
    early: Vec<SchedClassifier>,
}

impl Bench {
    fn new(setup: &Setup) -> Self {
        for which in ["all", "default"] {
            // /proc/sys/net is that of the thread.
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1").unwrap();
        }
        let mut commands = vec![
            "link set lo up".to_owned(),
            format!("link add {GROUP} address {} type veth peer name far", lab::show_mac(GROUP_MAC)),
            format!("link set {GROUP} up"),
            "link set far up".to_owned(),
        ];
        for member in 0..setup.members {
            let mac = lab::show_mac(member_mac(member));
            // All have the same lowest four bits, so that ingress finds the first one at once and searches the others.
            let index = 256 + 16 * u32::from(member);
            commands.push(format!(
                "link add m{member} index {index} address {mac} type veth peer name p{member}"
            ));
            commands.push(format!("link set m{member} up"));
            commands.push(format!("link set p{member} up"));
        }
        ip(&commands.join("\n"));

        let mut datapath = Datapath::open(false).unwrap();
        let spec = GroupSpec {
            name: GROUP.to_owned(),
            ifindex: index_of(GROUP),
            mac: GROUP_MAC,
            policy: setup.policy,
            updelay: setup.updelay,
        };
        let mut group = datapath.group(&spec).unwrap();
        group.seal_far_end("far", index_of("far")).unwrap();
        let all: MemberSet = (0..setup.members).collect();
        for number in all.iter() {
            let name = format!("m{number}");
            let ifindex = index_of(&name);
            let mac = member_mac(number);
            group.attach(&MemberSpec { number, name, ifindex, mac, lower: Vec::new() }).unwrap();
            group.set_own_address(test4(number).into(), number).unwrap();
            group.set_own_address(local6(number).into(), number).unwrap();
        }
        group.set_slots(&[from(FLOWS, setup.members); SLOTS]);
        group.set_cast(from(CAST, setup.members));
        for address in [IpAddr::from(DATA4), DATA6.into(), DATA_LOCAL6.into()] {
            group.set_inbound(address, from(INBOUND, setup.members), None).unwrap();
        }
        group.set_inbound(SECOND4.into(), from(0, setup.members), None).unwrap();
        group.set_usable(all);
        assert!(group.sentinel_runs(), "these tests need a kernel that runs the sentinel");

        let pins = PathBuf::from(pins::BPFFS).join(format!(
            "ipmp/v{}/{}",
            ipmp_common::LAYOUT,
            pins::netns_cookie().unwrap()
        ));
        let programs = pins.join(GROUP).join("programs");
        let open = |name: &str| SchedClassifier::from_pin(programs.join(name)).unwrap();
        let early = all.iter().map(|number| {
            let name = format!("m{number}");
            group.start_early_drop(number, &name, index_of(&name)).unwrap();
            let pin = programs.join(format!("early_drop-{number}"));
            // Whatever its type is: only BPF_PROG_TEST_RUN is called.
            let program = SchedClassifier::from_pin(pin).unwrap();
            group.stop_early_drop(number).unwrap();
            program
        });
        let early = early.collect();
        let egress = open("egress");
        let ingress = all.iter().map(|number| open(&format!("ingress-{number}"))).collect();
        let bench = Self { group, datapath, pins, egress, ingress, early };
        bench.wait_live(all);
        bench
    }

    /// Waits until just these members are live.
    #[track_caller]
    pub fn wait_live(&self, members: MemberSet) {
        let came = lab::wait_until(PATIENCE, || self.group.live() == members);
        assert!(came, "{:?} live instead of {members:?}", self.group.live());
    }

    /// Unplugs the cable of a member, or plugs it in: the peer goes down or up. Does not wait for the sentinel.
    pub fn set_cable(&self, member: u8, is_in: bool) {
        ip(&format!("link set p{member} {}", if is_in { "up" } else { "down" }));
    }

    /// Plugs the cables of these members in, and those of all others out.
    pub fn set_cables(&self, plugged: MemberSet, members: u8) {
        let command =
            |member| format!("link set p{member} {}", if plugged.has(member) { "up" } else { "down" });
        ip(&(0..members).map(command).collect::<Vec<_>>().join("\n"));
    }

    /// Makes only these members usable.
    pub fn set_usable(&self, members: &[u8]) {
        self.group.set_usable(members.iter().copied().collect::<MemberSet>());
    }

    /// Stops the sentinel, so that `live` no longer changes: what is seen then, egress saw itself.
    pub fn stop_sentinel(&self) {
        let mut map = self.clock();
        let mut clock = map.get(&0, 0).unwrap();
        clock.settings.stop = 1;
        map.set(0, clock, 0).unwrap();
        let mut ticks = u64::MAX;
        let stopped = lab::wait_until(PATIENCE, || {
            std::thread::sleep(Duration::from_millis(20));
            let before = std::mem::replace(&mut ticks, map.get(&0, 0).unwrap().settings.ticks);
            before == ticks
        });
        assert!(stopped, "the sentinel goes on");
    }

    fn clock(&self) -> Array<MapData, Clock> {
        let path = self.pins.join(pins::SENTINEL).join("clock");
        Map::Array(MapData::from_pin(path).unwrap()).try_into().unwrap()
    }

    /// Waits until nothing has changed for so long that the sentinel ticks rarely.
    #[track_caller]
    pub fn wait_idle(&self) {
        let is_idle = || {
            let settings = self.clock().get(&0, 0).unwrap().settings;
            settings.due_ns.saturating_sub(settings.last_ns) >= settings.idle_interval_ns
        };
        assert!(lab::wait_until(PATIENCE, is_idle), "the sentinel still ticks frequently");
    }

    /// Waits until the sentinel has looked so many times more.
    #[track_caller]
    pub fn wait_ticks(&self, more: u64) {
        let ticks = || self.clock().get(&0, 0).unwrap().settings.ticks;
        let before = ticks();
        assert!(lab::wait_until(PATIENCE, || ticks() >= before + more), "the sentinel does not look");
    }

    /// The words of `live`, to be written where the sentinel is stopped.
    pub fn live_map(&self) -> Array<MapData, MemberSet> {
        let path = self.pins.join(pins::SENTINEL).join("live");
        Map::Array(MapData::from_pin(path).unwrap()).try_into().unwrap()
    }

    /// The senders that were learnt on their way out.
    pub fn learnt(&self) -> Vec<IpAddr> {
        let path = self.pins.join(GROUP).join("maps/learnt");
        let map = Map::HashMap(MapData::from_pin(path).unwrap());
        let map = HashMap::<_, Ip, Learnt>::try_from(map).unwrap();
        let mut learnt: Vec<_> = map.keys().map(|key| IpAddr::from(key.unwrap())).collect();
        learnt.sort();
        learnt
    }

    /// Runs egress of the group interface.
    #[track_caller]
    pub fn egress(&self, frame: &[u8]) -> Outcome {
        self.run_program(&self.egress, index_of(GROUP), frame, "egress".to_owned())
    }

    /// Runs ingress of a member, and then its early drop: it may drop only what ingress drops, or what the stack ignores.
    #[track_caller]
    pub fn ingress(&self, member: u8, frame: &[u8]) -> Outcome {
        let index = index_of(&format!("m{member}"));
        let outcome = self.run_program(
            &self.ingress[usize::from(member)],
            index,
            frame,
            format!("ingress of member {member}"),
        );
        if self.drops_early(member, frame) {
            let for_other_host = frame[0] & 1 == 0 && frame[..6] != member_mac(member);
            let is_ignored = outcome.verdict == Verdict::Next && for_other_host;
            assert!(
                outcome.verdict == Verdict::Drop || is_ignored,
                "member {member} drops early what ingress does not ({:?}): {}",
                outcome.verdict,
                show(frame)
            );
        }
        outcome
    }

    /// Whether the early drop of a member drops a frame. It writes nothing.
    #[track_caller]
    pub fn drops_early(&self, member: u8, frame: &[u8]) -> bool {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
        let words = [0, frame.len() as u32, 0, index_of(&format!("m{member}")), 0, 0];
        let context: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut after = vec![0; frame.len()];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            ctx_in: Some(&context),
            ..Default::default()
        };
        let result = self.early[usize::from(member)]
            .test_run(options)
            .unwrap_or_else(|error| panic!("the early drop was not run with {}: {error:?}", show(frame)));
        assert_eq!(after, frame);
        match result.return_value {
            1 => true,
            2 => false,
            other => panic!("the early drop says {other} to {}", show(frame)),
        }
    }

    /// Names and properties of the programs, of each kind one: those of the bench, and all others that this process has loaded.
    pub fn programs(&self) -> Vec<(String, ProgramInfo)> {
        let of_bench =
            [("egress", &self.egress), ("ingress", &self.ingress[0]), ("early_drop", &self.early[0])];
        let mut programs: Vec<_> =
            of_bench.map(|(name, program)| (name.to_owned(), program.info().unwrap())).into();
        for info in own_programs() {
            let name = info.name_as_str().unwrap_or_default().to_owned();
            if programs.iter().all(|(known, _)| *known != name) {
                programs.push((name, info));
            }
        }
        programs[of_bench.len()..].sort_by(|(one, _), (other, _)| one.cmp(other));
        programs
    }

    /// Runs ingress of a member so many times in a row, with what it made of the frame the time before.
    pub fn repeat_ingress(&self, member: u8, frame: &[u8], repeat: u32) {
        let context = context_of(index_of(&format!("m{member}")));
        let options =
            TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), repeat, ..Default::default() };
        self.ingress[usize::from(member)].test_run(options).unwrap();
    }

    #[track_caller]
    fn run_program(&self, program: &SchedClassifier, ifindex: u32, frame: &[u8], what: String) -> Outcome {
        let context = context_of(ifindex);
        let before = Tally::of(&self.group);
        let (verdict, after) = test_run(program, &context, frame)
            .unwrap_or_else(|error| panic!("{what} was not run with {}: {error:?}", show(frame)));
        let verdict = match verdict {
            7 => Verdict::Redirect,
            2 => Verdict::Drop,
            0xffff_ffff => Verdict::Next,
            other => panic!("{what} says {other} to {}", show(frame)),
        };
        let counted = Tally::of(&self.group).since(&before);
        Outcome { what, verdict, sent: frame.to_vec(), frame: after, counted }
    }

    /// Ingress programs of the members, to be run where the bench is not.
    pub fn take_ingress(&mut self, member: u8) -> SchedClassifier {
        self.ingress.remove(usize::from(member))
    }

    /// Every member receives a copy of a frame to many: this one takes it as it is, the others drop theirs.
    #[track_caller]
    pub fn is_taken_once(&self, taker: u8, frame: &[u8]) {
        for member in 0..self.ingress.len() as u8 {
            let outcome = self.ingress(member, frame);
            if member == taker {
                outcome.is_taken(member, frame)
            } else {
                outcome.is_dropped(Reason::OtherCopy)
            }
        }
    }

    /// Whether the kernel runs a program with this frame: not if it is no longer than an Ethernet header, and, on
    /// newer kernels (seen on 6.18), not if it ends inside an IPv4 or IPv6 header. Such frames are sent for real.
    pub fn runs(&self, frame: &[u8]) -> bool {
        test_run(&self.egress, &[0; CONTEXT_IFINDEX + 4], frame).is_ok()
    }

    /// Sends a frame through the group interface for real; says whether it left, and what was counted.
    pub fn send(&self, frame: &[u8]) -> (bool, Tally) {
        let before = Tally::of(&self.group);
        // Egress runs in the call that sends.
        let left = Wire::mute(GROUP).offer(frame);
        (left, Tally::of(&self.group).since(&before))
    }

    /// Puts frames on a member's cable for real; says what was counted.
    pub fn receive(&self, member: u8, frames: &[Vec<u8>]) -> Tally {
        let before = Tally::of(&self.group);
        let wire = Wire::open(&format!("p{member}"));
        frames.iter().for_each(|frame| wire.send(frame));
        // Ingress runs soon after, in order: when a last frame that is taken has been counted, so have the others.
        let last = ethernet(member_mac(member), PEER_MAC, IPV4, &udp4(PEER4, DATA4, (9, 9), b"last"));
        let end = Tally::received(member, last.len());
        wire.send(&last);
        let mine = usize::from(member);
        let mut counted = Tally::default();
        let came = lab::wait_until(PATIENCE, || {
            counted = Tally::of(&self.group).since(&before);
            counted.members[mine].in_packets > 0
        });
        assert!(came, "member {member} receives nothing");
        counted.since(&end)
    }
}

/// A list of all members that begins with this one and goes on in order.
pub fn from(first: u8, members: u8) -> Preference {
    let order: Vec<u8> = (0..members).map(|place| (first + place) % members).collect();
    Preference::new(&order)
}

/// The context of a packet of this device.
fn context_of(ifindex: u32) -> [u8; CONTEXT_IFINDEX + 4] {
    let mut context = [0; CONTEXT_IFINDEX + 4];
    context[CONTEXT_IFINDEX..].copy_from_slice(&ifindex.to_ne_bytes());
    context
}

/// Runs a program once; gives its verdict and the frame as it left it.
pub fn test_run(
    program: &SchedClassifier,
    context: &[u8],
    frame: &[u8],
) -> Result<(u32, Vec<u8>), aya::programs::ProgramError> {
    let mut after = vec![0; frame.len() + 256];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut after),
        ctx_in: Some(context),
        ..Default::default()
    })?;
    after.truncate(result.data_size_out as usize);
    Ok((result.return_value, after))
}

/// `ip` commands, a line each, in the thread's namespace.
pub fn ip(commands: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip");
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "ip: {commands}");
}

pub fn index_of(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}
