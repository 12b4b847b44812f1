//! Nanoseconds a packet, by BPF_PROG_TEST_RUN.
//!
//! Ours are the programs that the datapath has pinned, on maps in the state of the case. Three groups, one for each policy, share two
//! members: a veth, and a macvlan on a veth. The members are configured with the groups' Ethernet address, so that the packet
//! stays the same from one repetition to the next.
//!
//! Whether devices are read, and how, is a constant of a loaded program. For other values than the pinned program's, the same
//! object is loaded once more, on the same maps. So is the object of `--against`, which is compared with ours in the same rounds.

use std::fmt;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aya::EbpfLoader;
use aya::programs::ProgramInfo;
use ipmp::datapath::btf::Kernel;
use ipmp::datapath::group::SHAPES;
use ipmp::datapath::objects::{self, Constants};
use ipmp::datapath::pins::Pins;
use ipmp::datapath::sentinel::SHARED;
use ipmp::datapath::{Datapath, Group, GroupSpec, MemberSpec};
use ipmp_common::hash::HashPolicy;
use ipmp_common::steer::{MemberSet, Preference, SLOTS};
use lab::{Lab, Mac, wait_until};
use serde::{Deserialize, Serialize};

use crate::cases::{self, Case, Devices, Direction};
use crate::program::Program;
use crate::spread::Spread;

/// The Ethernet address of the groups.
const GROUP_MAC: Mac = [0x02, 0x1e, 0, 0, 0, 9];
/// TC_ACT_REDIRECT of linux/pkt_cls.h.
const REDIRECT: u32 = 7;
/// Nanoseconds that egress may take longer than a bare redirect.
const TARGET: f64 = 30.0;

const PLAIN: u8 = 0;
const STACKED: u8 = 1;

/// What was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Steering {
    /// Every program ran once in each round, in the order given here.
    pub rounds: u32,
    /// Packets in a run.
    pub repeat: u32,
    /// Programs.
    pub programs: Vec<Row>,
    /// Nanoseconds that egress with every feature may take longer than a bare redirect.
    pub target_ns: f64,
}

/// A program.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// `empty`, `redirect-only`, `reference`, or ours.
    pub name: String,
    /// Nanoseconds a packet.
    pub ns: Spread,
    /// Of ours: nanoseconds more than `redirect-only` in the same round.
    pub over_redirect_ns: Option<Spread>,
    /// Of egress with every feature: whether it keeps to the target, by the median.
    pub target_met: Option<bool>,
    /// Of ours, with `--against`: the same program of the other object.
    pub against: Option<Against>,
}

/// The same program of another object.
#[derive(Debug, Serialize, Deserialize)]
pub struct Against {
    /// Nanoseconds a packet.
    pub ns: Spread,
    /// Our time divided by its time in the same round.
    pub ratio: Spread,
    /// The sum of our times divided by the sum of its times.
    pub ratio_of_sums: f64,
}

/// A program with a packet.
struct Subject {
    name: String,
    program: Program,
    /// The same program of the object of `--against`.
    against: Option<Program>,
    case: Option<Case>,
    packet: Vec<u8>,
    ifindex: u32,
    verdict: u32,
}

/// Measures in a lab of its own. `against`: a directory with objects to compare with, whose programs must use maps of the same
/// layout as ours; maps that are only in the other object are created.
pub fn measure(rounds: u32, repeat: u32, against: Option<&Path>) -> Result<Steering> {
    let other = against.map(|directory| {
        let path = directory.join("datapath");
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    });
    let other = other.transpose()?;
    let lab = Lab::builder().members(2).one_switch().peers(&[]).build()?;
    lab.host().run(|| measure_here(&lab, rounds, repeat, other.as_deref()))
}

fn measure_here(lab: &Lab, rounds: u32, repeat: u32, other: Option<&[u8]>) -> Result<Steering> {
    let mut bench = Workbench::build(lab)?;
    let subjects = bench.subjects(other)?;
    let mut times = vec![Vec::with_capacity(rounds as usize); subjects.len()];
    let mut times_against = times.clone();
    for round in 0..rounds {
        for ((subject, times), against) in subjects.iter().zip(&mut times).zip(&mut times_against) {
            bench.prepare(subject.case.as_ref())?;
            let mut programs = vec![(&subject.program, times)];
            programs.extend(subject.against.as_ref().map(|program| (program, against)));
            if round % 2 == 1 {
                programs.reverse();
            }
            for (program, times) in programs {
                // Not measured: cold caches, and a packet without a hash.
                subject.run(program, repeat / 100 + 1)?;
                times.push(f64::from(subject.run(program, repeat)?));
            }
        }
    }
    bench.remove()?;
    let redirect = subjects.iter().position(|subject| subject.name == REDIRECT_ONLY);
    let redirect = times[redirect.context("nothing to compare with")?].clone();
    let programs = subjects
        .iter()
        .zip(times.iter().zip(&times_against))
        .map(|(subject, (times, against))| {
            let over: Vec<f64> = times.iter().zip(&redirect).map(|(ours, bare)| ours - bare).collect();
            let over = Spread::of(&over);
            let has_target = subject.case.is_some_and(|case| case.has_every_feature());
            Row {
                name: subject.name.clone(),
                ns: Spread::of(times),
                over_redirect_ns: subject.case.is_some().then_some(over),
                target_met: has_target.then_some(over.median <= TARGET),
                against: subject.against.is_some().then(|| Against::of(times, against)),
            }
        })
        .collect();
    Ok(Steering { rounds, repeat, programs, target_ns: TARGET })
}

const REDIRECT_ONLY: &str = "redirect-only";

impl Against {
    fn of(ours: &[f64], theirs: &[f64]) -> Self {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        let ratio_of_sums = ours.iter().sum::<f64>() / theirs.iter().sum::<f64>();
        Self { ns: Spread::of(theirs), ratio: Spread::of(&ratios), ratio_of_sums }
    }
}

impl Subject {
    /// Nanoseconds a packet.
    fn run(&self, program: &Program, repeat: u32) -> Result<u32> {
        let run = program
            .run(&self.packet, self.ifindex, repeat)
            .with_context(|| format!("cannot run {}", self.name))?;
        ensure!(
            run.verdict == self.verdict,
            "{} returns {} instead of {}: this is not the path to measure",
            self.name,
            run.verdict,
            self.verdict
        );
        Ok(run.nanoseconds)
    }
}

/// The groups with their members.
struct Workbench<'lab> {
    lab: &'lab Lab,
    datapath: Datapath,
    groups: Vec<(HashPolicy, u32, Group)>,
}

impl<'lab> Workbench<'lab> {
    /// In the calling thread's namespace, which is the lab's host.
    fn build(lab: &'lab Lab) -> Result<Self> {
        let host = lab.host();
        host.ip("link add link rge0 name rge0v type macvlan mode bridge")
            .context("no macvlan for a stacked member")?;
        host.ip("link set rge0v up")?;
        let mut datapath = Datapath::open(false)?;
        let index = |name: &str| host.link(name).map(|link| link.index);
        let member = |number, name: &str, lower: &[&str]| -> Result<MemberSpec> {
            let lower = lower.iter().map(|name| index(name)).collect::<Result<_>>()?;
            Ok(MemberSpec { number, name: name.to_owned(), ifindex: index(name)?, mac: GROUP_MAC, lower })
        };
        let members = [member(PLAIN, "e1000g0", &[])?, member(STACKED, "rge0v", &["rge0"])?];
        let mut groups = Vec::new();
        for policy in HashPolicy::ALL {
            let name = format!("{}0", policy.as_str());
            let mac = lab::show_mac(GROUP_MAC);
            host.ip(&format!("link add {name} address {mac} type veth peer name far-{}", policy.as_str()))?;
            host.ip(&format!("link set {name} up"))?;
            let ifindex = index(&name)?;
            let updelay = Duration::from_millis(1);
            let mut group = datapath.group(&GroupSpec { name, ifindex, mac: GROUP_MAC, policy, updelay })?;
            for member in &members {
                group.attach(member)?;
            }
            let both = MemberSet::EMPTY.with(PLAIN).with(STACKED);
            group.set_usable(both);
            group.set_cast(Preference::new(&[PLAIN, STACKED]));
            if !group.sentinel_runs() {
                group.set_live(both);
            }
            let live = wait_until(Duration::from_secs(5), || group.live() == both);
            ensure!(live, "the members of {} are not trusted: {:?}", policy.as_str(), group.live());
            groups.push((policy, ifindex, group));
        }
        Ok(Self { lab, datapath, groups })
    }

    fn group(&mut self, policy: HashPolicy) -> Result<(u32, &mut Group)> {
        let found = self.groups.iter_mut().find(|(of, ..)| *of == policy);
        found.map(|(_, ifindex, group)| (*ifindex, group)).context("no group of this policy")
    }

    /// What is measured: three to compare with, and ours.
    fn subjects(&mut self, against: Option<&[u8]>) -> Result<Vec<Subject>> {
        let member = self.lab.host().link("e1000g0")?;
        let bare = cases::all()[0].packet(GROUP_MAC, member.mac);
        let (ifindex, _) = self.group(HashPolicy::Connection)?;
        let other = |name: &str, program, verdict| Subject {
            name: name.to_owned(),
            program,
            against: None,
            case: None,
            packet: bare.clone(),
            ifindex,
            verdict,
        };
        let mut subjects = vec![
            other("empty", Program::empty()?, 0),
            other(REDIRECT_ONLY, Program::redirect_only(member.index)?, REDIRECT),
            other("reference", Program::reference(member.index)?, REDIRECT),
        ];
        let has_loads = Kernel::running()?.cast.is_some();
        for case in cases::all() {
            if case.devices == Devices::Helper && !has_loads {
                // The pinned program is this one.
                continue;
            }
            let (group_index, _) = self.group(case.policy)?;
            subjects.push(Subject {
                name: case.name(),
                program: self.program(&case, None).with_context(|| format!("cannot load {}", case.name()))?,
                against: against.map(|object| self.program(&case, Some(object))).transpose()?,
                packet: case.packet(GROUP_MAC, member.mac),
                ifindex: if case.direction == Direction::Egress { group_index } else { member.index },
                case: Some(case),
                verdict: REDIRECT,
            });
        }
        Ok(subjects)
    }

    fn program(&mut self, case: &Case, other: Option<&[u8]>) -> Result<Program> {
        let pins = Pins::open()?;
        let name = format!("{}0", case.policy.as_str());
        let pin = match case.direction {
            Direction::Egress => "egress".to_owned(),
            Direction::Ingress => format!("ingress-{PLAIN}"),
        };
        let pinned = pins.group(&name).join("programs").join(pin);
        let kernel = Kernel::running()?;
        let kernel = match case.devices {
            Devices::Helper => Kernel { cast: None, ..kernel },
            Devices::Pinned | Devices::Unread => kernel,
        };
        match other {
            None if case.devices == Devices::Pinned && case.stamps => Program::pinned(&pinned),
            None => self.load(case, objects::DATAPATH, Some(&pinned), &kernel),
            Some(object) => self.load(case, object, None, &kernel),
        }
    }

    /// Loads an object on the maps of the group, as [`ipmp::datapath`] does except for how devices are read and for stamps. The result must not be
    /// the program `unlike`.
    fn load(
        &mut self,
        case: &Case,
        object: &[u8],
        unlike: Option<&Path>,
        kernel: &Kernel,
    ) -> Result<Program> {
        let pins = Pins::open()?;
        let (ifindex, group) = self.group(case.policy)?;
        let [a, b, c, d, e, f] = GROUP_MAC;
        let constants = Constants::of(kernel)
            .word("GROUP", group.index())
            .word("GROUP_IFINDEX", ifindex)
            .long("GROUP_MAC", u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
            .word("POLICY", case.policy as u32)
            .word("READ_DEVICES", u32::from(case.devices != Devices::Unread))
            .word("STAMPS", u32::from(case.stamps))
            .word("MEMBER", u32::from(PLAIN));
        let maps = pins.group(&format!("{}0", case.policy.as_str())).join("maps");
        let mut loader = EbpfLoader::new();
        constants.set_in(&mut loader);
        for shape in &SHAPES {
            loader.map_pin_path(shape.name, maps.join(shape.name));
        }
        for shared in SHARED {
            loader.map_pin_path(shared, pins.sentinel().join(shared));
        }
        let mut object = loader.load(&kernel.adapt(object))?;
        let name = match case.direction {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        };
        let program = objects::load(&mut object, name)?;
        if let Some(pinned) = unlike {
            // The loader does not report a constant that no longer exists.
            let size = |info: ProgramInfo| info.size_translated();
            let (ours, theirs) = (size(program.info()?), size(ProgramInfo::from_pin(pinned)?));
            ensure!(ours != theirs, "{} is the same as the pinned program: {ours:?} bytes", case.name());
        }
        Program::of(program.fd()?.as_fd())
    }

    /// Brings the maps into the state of a case.
    fn prepare(&mut self, case: Option<&Case>) -> Result<()> {
        let Some(case) = case else { return Ok(()) };
        let (_, group) = self.group(case.policy)?;
        let order = if case.stacked { [STACKED, PLAIN] } else { [PLAIN, STACKED] };
        group.set_slots(&[Preference::new(&order); SLOTS]);
        for other in cases::all().iter().filter_map(Case::test_address) {
            group.remove_address(other)?;
        }
        if let Some(address) = case.test_address() {
            group.set_own_address(address, STACKED)?;
        }
        Ok(())
    }

    /// Leaves nothing.
    fn remove(self) -> Result<()> {
        for (_, _, group) in self.groups {
            group.remove()?;
        }
        drop(self.datapath);
        match Datapath::teardown()?.as_slice() {
            [] => Ok(()),
            left => bail!("groups are left: {left:?}"),
        }
    }
}

impl fmt::Display for Steering {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "steering: ns a packet, {} rounds of {} packets", self.rounds, self.repeat)?;
        writeln!(
            out,
            "  {:<52} {:>6}  {:>5} {:>5} {:>5} {:>5}  {:>13}",
            "", "median", "min", "q1", "q3", "max", "over redirect"
        )?;
        for row in &self.programs {
            let Spread { median, minimum, lower_quartile, upper_quartile, maximum } = row.ns;
            write!(
                out,
                "  {:<52} {median:>6.1}  {minimum:>5.0} {lower_quartile:>5.1} {upper_quartile:>5.1} {maximum:>5.0}",
                row.name
            )?;
            if let Some(over) = row.over_redirect_ns {
                write!(out, "  {:>+13.1}", over.median)?;
            }
            match row.target_met {
                Some(true) => writeln!(out, "  target met")?,
                Some(false) => writeln!(out, "  target missed")?,
                None => writeln!(out)?,
            }
            if let Some(Against { ns, ratio, ratio_of_sums }) = row.against {
                writeln!(
                    out,
                    "  {:<52} {:>6.1}  {:>5.0} {:>5.1} {:>5.1} {:>5.0}  ratio: median {:.3}, of sums {ratio_of_sums:.3}",
                    "    against",
                    ns.median,
                    ns.minimum,
                    ns.lower_quartile,
                    ns.upper_quartile,
                    ns.maximum,
                    ratio.median
                )?;
            }
        }
        write!(out, "  target: egress with every feature at most {:+.0} over {REDIRECT_ONLY}", self.target_ns)
    }
}
