//! Loads and starts the sentinel, sets which devices it monitors, and reads which members are live.
//!
//! Why there is one timer for all groups: `docs/design/sentinel.md`.

use std::{collections::BTreeMap, mem::offset_of, path::PathBuf, time::Duration};

use aya::{
    EbpfLoader, TestRun,
    maps::{Array, Map, MapData, MapType, RingBuf},
    programs::{
        Program, TestRunOptions,
        links::{FdLink, PinnedLink},
    },
};
use ipmp_common::{
    maps::{
        CAPTURED, CaptureMode, Clock, ClockSettings, ClockStart, Device, GoodSince, HINTS_BYTES, Hint,
        IDLE_INTERVAL_NS, MAX_GROUPS, MAX_LOWER, PROBE_REPLIES_BYTES, Watch, echo_id_word, pause_ns,
        updelay_word,
    },
    steer::{MAX_MEMBERS, MemberSet},
};

use super::{
    Error, ProbeReplies,
    btf::Kernel,
    error::{map_error, one_line},
    interval::Interval,
    mapped::Mapped,
    objects::{self, Constants},
    pins::{self, Shape},
};

/// Name of an environment variable for tests of kernels that reject something, and for measurements: `off` disables the timer, `timer` the
/// program that the kernel calls when it changes a carrier, and `fixed` as well the longer interval while nothing changes.
const MODE: &str = "IPMP_SENTINEL";
const PROGRAM: &str = "start";
/// The program that the kernel calls when it changes a carrier, which is also the name of the pin of its attachment.
const CARRIER_CHANGED: &str = "carrier_changed";
/// Words of one group in `watch`.
const WATCH_WORDS: usize = size_of::<Watch>() / 8;
const ARMED: usize = offset_of!(Watch, armed) / 8;
const UPDELAY: usize = offset_of!(Watch, updelay_ns) / 8;
const CAPTURE: usize = offset_of!(Watch, capture) / 8;
const GROUP: usize = offset_of!(Watch, group) / 8;
const DEVICES: usize = offset_of!(Watch, devices) / 8;
const DEVICE_WORDS: usize = size_of::<Device>() / 8;
/// The word of a device whose upper half is [`Device::updelay`]; the lower half is its index.
const OWN_UPDELAY: usize = offset_of!(Device, updelay) / 8;

/// The maps that the sentinel shares with the groups and with the daemon.
pub const SHAPES: [Shape; 7] = [
    Shape { name: "clock", kind: MapType::Array, key: 4, value: size_of::<Clock>(), entries: 1 },
    Shape { name: "watch", kind: MapType::Array, key: 4, value: size_of::<Watch>(), entries: MAX_GROUPS },
    Shape {
        name: "good_since",
        kind: MapType::Array,
        key: 4,
        value: size_of::<GoodSince>(),
        entries: MAX_GROUPS,
    },
    Shape { name: "live", kind: MapType::Array, key: 4, value: 8, entries: MAX_GROUPS },
    Shape { name: "hints", kind: MapType::RingBuf, key: 0, value: 0, entries: HINTS_BYTES as usize },
    Shape { name: "echo_id", kind: MapType::Array, key: 4, value: 4, entries: 1 },
    Shape {
        name: "probe_replies",
        kind: MapType::RingBuf,
        key: 0,
        value: 0,
        entries: PROBE_REPLIES_BYTES as usize,
    },
];
/// Those of them that the programs of a group use.
pub const SHARED: [&str; 5] = ["clock", "live", "hints", "probe_replies", "echo_id"];

/// How late a tick may be before the timer counts as stopped: it runs in a soft interrupt, which a busy processor delays.
const LATE: Duration = Duration::from_millis(500);

/// Whether the timer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It ticks, or it has nothing to monitor or cannot run.
    Fine,
    /// It has not ticked for too long. The number is that of its ticks.
    Stalled(u64),
    /// It found no device to monitor and ended by itself, but there are members.
    Ended,
}

/// Times between two checks of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// For a second after a change.
    pub frequent: Interval,
    /// The same, if a check of all members takes long.
    pub frequent_at_most: Interval,
    /// While nothing changes.
    pub idle: Interval,
}

/// The sentinel of this network namespace.
pub struct Sentinel {
    directory: PathBuf,
    watch: Mapped,
    live: Mapped,
    clock: Array<MapData, Clock>,
    interval: Interval,
    idle_interval: Interval,
    /// Why it does not run.
    refused: Option<String>,
    /// The attachment of the program that the kernel calls when it changes a carrier; `None`: the kernel does not allow it.
    carrier_events: Option<PinnedLink>,
    object: aya::Ebpf,
}

impl Sentinel {
    /// Loads the sentinel, or adopts the pinned one. Where the kernel rejects timers in programs (PREEMPT_RT) or reads of its
    /// memory (lockdown), the sentinel does not run, and the daemon monitors links by netlink. `namespace` is the address of the network
    /// namespace in the kernel; `None`: programs may not read the kernel's memory.
    ///
    /// # Errors
    /// [`Error::Pin`], [`Error::ForeignPin`], [`Error::Map`], or [`Error::Load`] if the maps cannot be created.
    pub fn open(
        directory: PathBuf,
        kernel: &Kernel,
        namespace: Option<u64>,
        interval: Interval,
    ) -> Result<Self, Error> {
        pins::make_directory(&directory)?;
        for shape in &SHAPES {
            shape.check(&directory)?;
        }
        let constants = Constants::of(kernel).long("NAMESPACE", namespace.unwrap_or_default());
        let mut loader = EbpfLoader::new();
        constants.set_in(&mut loader);
        for shape in &SHAPES {
            loader.map_pin_path(shape.name, directory.join(shape.name));
        }
        let mut object = loader
            .load(&kernel.adapt(objects::SENTINEL))
            .map_err(|error| Error::Load { program: "sentinel", reason: one_line(&error) })?;
        let mode = std::env::var(MODE).unwrap_or_default();
        let refused = if mode == "off" {
            stop_pinned(&directory)?;
            Some(format!("{MODE}=off disables it"))
        } else if namespace.is_none() {
            stop_pinned(&directory)?;
            Some("kernel lockdown forbids programs to read kernel memory".to_owned())
        } else {
            // Loading it is the probe: the verifier rejects `bpf_timer` where the kernel does not support it.
            objects::load(&mut object, PROGRAM).err().map(|error| error.to_string())
        };
        let carrier_events = match (&refused, mode.as_str()) {
            (None, "timer" | "fixed") => Err(format!("{MODE}={mode} disables it")),
            (None, _) => attach_carrier_events(&mut object).map_err(|error| error.to_string()),
            (Some(_), _) => Err("the sentinel does not run".to_owned()),
        };
        // A program of an earlier daemon stays attached until now, so that no change is missed.
        pins::remove(&directory.join(CARRIER_CHANGED))?;
        let carrier_events = carrier_events.and_then(|link| {
            link.pin(directory.join(CARRIER_CHANGED))
                .map_err(|error| format!("cannot pin it: {}", one_line(&error)))
        });
        let idle_interval = if mode == "fixed" { interval } else { Interval::from_nanos(IDLE_INTERVAL_NS) };
        if let (None, Err(reason)) = (&refused, &carrier_events) {
            log::info!(
                "the kernel does not report changes of carriers to the sentinel ({reason}): it checks links every {idle_interval} \
                 while nothing changes, and at once after link messages of netlink and packets that meet a lost carrier"
            );
        }
        Ok(Self {
            watch: Mapped::new("watch", &pins::open_map(&directory, "watch")?, MAX_GROUPS * WATCH_WORDS)?,
            live: Mapped::new("live", &pins::open_map(&directory, "live")?, MAX_GROUPS)?,
            clock: pins::typed(&directory, "clock", Map::Array)?,
            directory,
            interval,
            idle_interval,
            refused,
            carrier_events: carrier_events.ok(),
            object,
        })
    }

    /// Why the sentinel does not run; `None` if it does.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Starts the timer for groups up to this index, or updates the running one, which then calls this version of the program. It ticks
    /// at once, and frequently for a while.
    ///
    /// # Errors
    /// [`Error::Load`] if the kernel refuses the timer; [`Error::Map`].
    pub fn start(&mut self, highest: u32) -> Result<(), Error> {
        if self.refused.is_some() {
            return Ok(());
        }
        let step = self.run_start(highest + 1)?;
        if step != 0 {
            self.refused = Some(format!("the kernel rejected the timer (step {step})"));
        }
        Ok(())
    }

    /// Runs the program that starts the timer. Returns 0, or the number of the step that failed.
    fn run_start(&self, groups: u32) -> Result<u32, Error> {
        let packet = ClockStart {
            interval_ns: self.interval.nanos(),
            idle_interval_ns: self.idle_interval.nanos(),
            groups,
            reserved: 0,
        };
        let Some(Program::SchedClassifier(program)) = self.object.program(PROGRAM) else {
            return Err(Error::Load {
                program: "sentinel",
                reason: "the object does not contain it".to_owned(),
            });
        };
        let result = program
            .test_run(TestRunOptions { data_in: Some(&packet.packet()), ..Default::default() })
            .map_err(|error| Error::Load { program: "sentinel", reason: one_line(&error) })?;
        Ok(result.return_value)
    }

    /// Requests a tick at once, and frequent ticks for a while: something has changed. A timer that was stopped stays so: that is for
    /// [`Sentinel::liveness`] to find.
    pub fn request_tick(&self) {
        if self.refused.is_none()
            && let Err(error) = self.run_start(0)
        {
            log::warn!("the sentinel cannot check links at once: {error}");
        }
    }

    /// Settings and statistics of the timer; `None`: it has not run yet.
    fn settings(&self) -> Option<ClockSettings> {
        let settings = self.clock.get(&0, 0).ok()?.settings;
        (settings.interval_ns != 0).then_some(settings)
    }

    /// Whether the timer runs; `now_ns` is `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn liveness(&self, now_ns: u64) -> Result<Liveness, Error> {
        let is_idle = || (0..MAX_GROUPS as u32).all(|group| self.armed(group).is_empty());
        if self.refused.is_some() || is_idle() {
            return Ok(Liveness::Fine);
        }
        let settings = self.clock.get(&0, 0).map_err(map_error("clock"))?.settings;
        Ok(if settings.last_ns == 0 {
            Liveness::Ended
        } else if now_ns.saturating_sub(settings.due_ns) > LATE.as_nanos() as u64 {
            Liveness::Stalled(settings.ticks)
        } else {
            Liveness::Fine
        })
    }

    /// Starts the timer again. If that fails, the sentinel is refused from then on.
    ///
    /// # Errors
    /// [`Error::Load`] with the reason.
    pub fn restart(&mut self) -> Result<(), Error> {
        let highest = (0..MAX_GROUPS as u32).rev().find(|group| !self.armed(*group).is_empty());
        self.start(highest.unwrap_or_default())
            .inspect_err(|error| self.refused = Some(error.to_string()))?;
        match &self.refused {
            None => Ok(()),
            Some(reason) => Err(Error::Load { program: "sentinel", reason: reason.clone() }),
        }
    }

    /// Time between two checks of a link, of the running timer, if there is one, with the current number of members in all groups.
    pub fn intervals(&self) -> Intervals {
        let settings = self.settings().unwrap_or_else(|| ClockSettings {
            interval_ns: self.interval.nanos(),
            idle_interval_ns: self.idle_interval.nanos(),
            ..ClockSettings::default()
        });
        // As the sentinel counts them: an unused number below the highest costs as much time as a member.
        let highest = |group| u64::from(u64::BITS - self.armed(group).bits.leading_zeros());
        let members: u64 = (0..MAX_GROUPS as u32).map(highest).sum();
        let after =
            |spent_ns, is_frequent| Interval::from_nanos(pause_ns(&settings, members, spent_ns, is_frequent));
        Intervals {
            frequent: after(0, true),
            frequent_at_most: after(u64::from(u32::MAX), true),
            idle: after(0, false),
        }
    }

    /// Whether the kernel reports changes of carriers to it.
    pub fn has_carrier_events(&self) -> bool {
        self.carrier_events.is_some()
    }

    /// Since when a member's link has been up without interruption, `CLOCK_MONOTONIC` in nanoseconds; `None`: it is not up.
    ///
    /// # Errors
    /// [`Error::Pin`] or [`Error::Map`].
    pub fn good_since(&self, group: u32, member: u8) -> Result<Option<u64>, Error> {
        let times: Array<MapData, [u64; MAX_MEMBERS]> =
            pins::typed(&self.directory, "good_since", Map::Array)?;
        let since = times.get(&group, 0).map_err(map_error("good_since"))?[usize::from(member)];
        Ok((since != 0).then_some(since))
    }

    /// Identifier of its program, as the kernel knows it.
    #[cfg(test)]
    pub fn program_id(&mut self) -> Option<u32> {
        objects::load(&mut self.object, PROGRAM).ok()?.info().ok().map(|info| info.id())
    }

    /// Ticks so far.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn ticks(&self) -> Result<u64, Error> {
        Ok(self.clock.get(&0, 0).map_err(map_error("clock"))?.settings.ticks)
    }

    /// Live members of a group.
    pub fn live(&self, group: u32) -> MemberSet {
        MemberSet::from_bits(self.live.load(group as usize) & !CAPTURED.bits)
    }

    /// Sets the live members; only where the sentinel does not run. Captures are not detected there.
    pub fn set_live(&self, group: u32, members: MemberSet) {
        let captured = if self.capture(group) == CaptureMode::On { CAPTURED } else { MemberSet::EMPTY };
        self.live.store(group as usize, members.or(captured).bits);
    }

    /// Sets the group interface whose captures are detected.
    pub fn watch_group(&self, group: u32, device: Device) {
        let at = group as usize * WATCH_WORDS + GROUP;
        let wanted = [device.net_device, device.netns, u64::from(device.ifindex)];
        if (0..DEVICE_WORDS).any(|word| self.watch.load(at + word) != wanted[word]) {
            // The address last: the sentinel must not read a half-written device.
            self.watch.store(at, 0);
            for word in (0..DEVICE_WORDS).rev() {
                self.watch.store(at + word, wanted[word]);
            }
        }
    }

    /// Sets whether captures on the group interface show outbound packets.
    pub fn set_capture(&self, group: u32, capture: CaptureMode) {
        self.watch.store(group as usize * WATCH_WORDS + CAPTURE, capture as u64);
        self.request_tick();
        if self.refused.is_some() {
            self.set_live(group, self.live(group));
        }
    }

    /// Reads that setting.
    pub fn capture(&self, group: u32) -> CaptureMode {
        let number = self.watch.load(group as usize * WATCH_WORDS + CAPTURE);
        CaptureMode::ALL.into_iter().find(|mode| *mode as u64 == number).unwrap_or_default()
    }

    /// Whether captures show outbound packets now.
    pub fn is_captured(&self, group: u32) -> bool {
        self.live.load(group as usize) & CAPTURED.bits != 0
    }

    /// Monitored members of a group.
    pub fn armed(&self, group: u32) -> MemberSet {
        MemberSet::from_bits(self.watch.load(group as usize * WATCH_WORDS + ARMED))
    }

    /// Sets how long links of a group must be up before their members are live. Delays of single members stay.
    pub fn set_updelay(&self, group: u32, updelay: Duration) {
        self.watch.store(group as usize * WATCH_WORDS + UPDELAY, updelay.as_nanos() as u64);
    }

    /// Sets the delay of a group and those of single members. Members that are not in the map have that of the group.
    pub fn set_updelays(&self, group: u32, of_group: Duration, own: &BTreeMap<u8, Duration>) {
        self.set_updelay(group, of_group);
        for member in 0..MAX_MEMBERS as u8 {
            let milliseconds = own.get(&member).map(|delay| delay.as_millis() as u32);
            let at = places(group, member) + OWN_UPDELAY;
            let device = self.watch.load(at) & u64::from(u32::MAX);
            self.watch.store(at, u64::from(updelay_word(milliseconds)) << 32 | device);
        }
    }

    /// Monitors a member: its device and those below it.
    pub fn arm(&self, group: u32, member: u8, devices: &[Device]) {
        let at = group as usize * WATCH_WORDS;
        let places = places(group, member);
        let own_updelay = self.watch.load(places + OWN_UPDELAY) & !u64::from(u32::MAX);
        let wanted: Vec<u64> = (0..1 + MAX_LOWER)
            .flat_map(|place| {
                let device = devices.get(place).copied().unwrap_or_default();
                let own_updelay = if place == 0 { own_updelay } else { 0 };
                [device.net_device, device.netns, own_updelay | u64::from(device.ifindex)]
            })
            .collect();
        let is_current =
            wanted.iter().enumerate().all(|(word, &value)| self.watch.load(places + word) == value);
        if is_current && self.armed(group).has(member) {
            return;
        }
        self.disarm(group, member);
        for (word, value) in wanted.into_iter().enumerate() {
            self.watch.store(places + word, value);
        }
        self.watch.store(at + ARMED, self.armed(group).with(member).bits);
    }

    /// Continues what an earlier sentinel monitored for a group: a member that was live is live, and delays go on.
    ///
    /// # Errors
    /// [`Error::Pin`] or [`Error::Map`].
    pub fn resume(
        &self,
        group: u32,
        watch: &Watch,
        live: MemberSet,
        good_since: [u64; MAX_MEMBERS],
    ) -> Result<(), Error> {
        let mut times: Array<MapData, [u64; MAX_MEMBERS]> =
            pins::typed(&self.directory, "good_since", Map::Array)?;
        times.set(group, good_since, 0).map_err(map_error("good_since"))?;
        self.watch.store(group as usize * WATCH_WORDS + CAPTURE, watch.capture);
        self.watch_group(group, watch.group);
        self.set_updelay(group, Duration::from_nanos(watch.updelay_ns));
        for member in watch.armed.iter() {
            let devices = &watch.devices[usize::from(member)];
            self.watch.store(places(group, member) + OWN_UPDELAY, u64::from(devices[0].updelay) << 32);
            self.arm(group, member, devices);
        }
        self.live.store(group as usize, live.bits);
        Ok(())
    }

    /// Stops monitoring a member: it is not live from the next tick on, which follows at once.
    pub fn disarm(&self, group: u32, member: u8) {
        let armed = self.armed(group).without(member);
        self.watch.store(group as usize * WATCH_WORDS + ARMED, armed.bits);
        self.request_tick();
    }

    /// Stops monitoring a group: no member is live.
    pub fn remove_group(&self, group: u32) {
        self.watch.store(group as usize * WATCH_WORDS + ARMED, 0);
        self.watch_group(group, Device::default());
        self.set_capture(group, CaptureMode::Auto);
        self.live.store(group as usize, 0);
    }

    /// The hints, for one reader.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn hints(&self) -> Result<Hints, Error> {
        Ok(Hints(pins::typed(&self.directory, "hints", Map::RingBuf)?))
    }

    /// The replies to probes, for one reader.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn probe_replies(&self) -> Result<ProbeReplies, Error> {
        ProbeReplies::open(&self.directory)
    }

    /// Sets the identifier of echo replies that ingress delivers.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_echo_id(&self, identifier: u16) -> Result<(), Error> {
        let mut word: Array<MapData, u32> = pins::typed(&self.directory, "echo_id", Map::Array)?;
        word.set(0, echo_id_word(identifier), 0).map_err(map_error("echo_id"))
    }
}

/// Loads and attaches the program that the kernel calls when it changes a carrier. To try is the only way to find out whether the kernel
/// allows it: that depends on how it was built, on its architecture and on lockdown.
fn attach_carrier_events(object: &mut aya::Ebpf) -> Result<FdLink, Error> {
    let failed = |error: aya::programs::ProgramError| Error::Load {
        program: CARRIER_CHANGED,
        reason: one_line(&error),
    };
    let program = objects::load_fentry(object, CARRIER_CHANGED, "linkwatch_fire_event")?;
    let link = program.attach().map_err(failed)?;
    Ok(program.take_link(link).map_err(failed)?.into())
}

/// The first word of a member's devices in `watch`.
fn places(group: u32, member: u8) -> usize {
    group as usize * WATCH_WORDS + DEVICES + usize::from(member) * (1 + MAX_LOWER) * DEVICE_WORDS
}

/// Stops the timer of a pinned sentinel at its next tick.
///
/// # Errors
/// [`Error::Map`].
pub(super) fn stop_pinned(directory: &std::path::Path) -> Result<(), Error> {
    if !directory.join("clock").exists() {
        return Ok(());
    }
    let mut clock: Array<MapData, Clock> = pins::typed(directory, "clock", Map::Array)?;
    let mut value = clock.get(&0, 0).map_err(map_error("clock"))?;
    value.settings.stop = 1;
    clock.set(0, value, 0).map_err(map_error("clock"))
}

/// The ring buffer of hints: readable if it is not empty.
pub struct Hints(RingBuf<MapData>);

impl Hints {
    /// Removes and returns all hints.
    pub fn drain(&mut self) -> Vec<Hint> {
        let mut hints = Vec::new();
        while let Some(record) = self.0.next() {
            if record.len() == size_of::<Hint>() {
                // SAFETY: of that length, and Hint is made of integers.
                hints.push(unsafe { record.as_ptr().cast::<Hint>().read_unaligned() });
            }
        }
        hints
    }
}

impl std::os::fd::AsFd for Hints {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Hints {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

const _: () =
    assert!(size_of::<Watch>().is_multiple_of(8) && size_of::<Device>() == 3 * 8 && MAX_MEMBERS == 16);
