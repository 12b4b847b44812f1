//! The sentinel seen from user space: starting it, telling it whom to watch, reading what it trusts.

use std::{mem::offset_of, path::PathBuf, time::Duration};

use aya::{
    EbpfLoader, TestRun,
    maps::{Array, Map, MapData, RingBuf},
    programs::TestRunOptions,
};
use ipmp_common::{
    maps::{
        CAPTURED, CaptureMode, Clock, ClockSettings, Device, GoodSince, HINTS_BYTES, Hint, MAX_GROUPS,
        MAX_LOWER, PROBE_REPLIES_BYTES, Watch, echo_id_word, ticks_between,
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

/// Name of an environment variable that forbids the timer, as some kernels do, with the value `off`.
const FORBIDDEN: &str = "IPMP_SENTINEL";
const PROGRAM: &str = "start";
/// Words of one group in `watch`.
const WATCH_WORDS: usize = size_of::<Watch>() / 8;
const ARMED: usize = offset_of!(Watch, armed) / 8;
const UPDELAY: usize = offset_of!(Watch, updelay_ns) / 8;
const CAPTURE: usize = offset_of!(Watch, capture) / 8;
const GROUP: usize = offset_of!(Watch, group) / 8;
const DEVICES: usize = offset_of!(Watch, devices) / 8;
const DEVICE_WORDS: usize = size_of::<Device>() / 8;

/// The maps that the sentinel shares with the groups and with the daemon.
pub const SHAPES: [Shape; 7] = [
    Shape { name: "clock", kind: 2, key: 4, value: size_of::<Clock>(), entries: 1 },
    Shape { name: "watch", kind: 2, key: 4, value: size_of::<Watch>(), entries: MAX_GROUPS },
    Shape { name: "good_since", kind: 2, key: 4, value: size_of::<GoodSince>(), entries: MAX_GROUPS },
    Shape { name: "live", kind: 2, key: 4, value: 8, entries: MAX_GROUPS },
    Shape { name: "hints", kind: 27, key: 0, value: 0, entries: HINTS_BYTES as usize },
    Shape { name: "echo_id", kind: 2, key: 4, value: 4, entries: 1 },
    Shape { name: "probe_replies", kind: 27, key: 0, value: 0, entries: PROBE_REPLIES_BYTES as usize },
];
/// Those of them that the programs of a group use.
pub const SHARED: [&str; 4] = ["live", "hints", "probe_replies", "echo_id"];

/// The sentinel of this network namespace.
pub struct Sentinel {
    directory: PathBuf,
    watch: Mapped,
    live: Mapped,
    clock: Array<MapData, Clock>,
    interval: Interval,
    /// Why it does not run, if it does not.
    refused: Option<String>,
    object: aya::Ebpf,
}

impl Sentinel {
    /// Loads the sentinel, or takes over the pinned one. A kernel that refuses timers in programs (PREEMPT_RT) or reads
    /// of kernel memory (lockdown) gives a sentinel that does not run; the daemon then does its work.
    ///
    /// # Errors
    /// [`Error::Pin`], [`Error::ForeignPin`], [`Error::Map`], or [`Error::Load`] if not even the maps can be made.
    pub fn open(directory: PathBuf, kernel: &Kernel, interval: Interval) -> Result<Self, Error> {
        pins::make_directory(&directory)?;
        for shape in &SHAPES {
            shape.check(&directory)?;
        }
        let constants = Constants::of(kernel);
        let mut loader = EbpfLoader::new();
        constants.hand_to(&mut loader);
        for shape in &SHAPES {
            loader.map_pin_path(shape.name, directory.join(shape.name));
        }
        let mut object = loader
            .load(&kernel.adapt(objects::SENTINEL))
            .map_err(|error| Error::Load { program: "sentinel", reason: one_line(&error) })?;
        let refused = if std::env::var_os(FORBIDDEN).is_some_and(|value| value == "off") {
            stop_pinned(&directory)?;
            Some(format!("{FORBIDDEN}=off forbids it"))
        } else {
            objects::load(&mut object, PROGRAM).err().map(|error| error.to_string())
        };
        Ok(Self {
            watch: Mapped::new("watch", &pins::open_map(&directory, "watch")?, MAX_GROUPS * WATCH_WORDS)?,
            live: Mapped::new("live", &pins::open_map(&directory, "live")?, MAX_GROUPS)?,
            clock: pins::typed(&directory, "clock", Map::Array)?,
            directory,
            interval,
            refused,
            object,
        })
    }

    /// Why the sentinel does not run, if it does not.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Starts the timer for groups up to this index, or lets the running one know of them and call this version.
    ///
    /// # Errors
    /// [`Error::Load`] if the kernel refuses the timer; [`Error::Map`].
    pub fn start(&mut self, highest: u32) -> Result<(), Error> {
        if self.refused.is_some() {
            return Ok(());
        }
        let mut clock = self.clock.get(&0, 0).map_err(map_error("clock"))?;
        let settings = ClockSettings {
            interval_ns: self.interval.duration().as_nanos() as u64,
            groups: clock.settings.groups.max(highest + 1),
            stop: 0,
            ..clock.settings
        };
        clock.settings = settings;
        self.clock.set(0, clock, 0).map_err(map_error("clock"))?;
        let packet = [0u8; 64];
        let result = objects::program(&mut self.object, PROGRAM)?
            .test_run(TestRunOptions { data_in: Some(&packet), ..Default::default() })
            .map_err(|error| Error::Load { program: "sentinel", reason: one_line(&error) })?;
        if result.return_value == 0 {
            return Ok(());
        }
        self.refused = Some(format!("the kernel refused the timer (step {})", result.return_value));
        Ok(())
    }

    /// Time between ticks: that of the running timer, once there is one.
    pub fn interval(&self) -> Interval {
        let running =
            self.clock.get(&0, 0).ok().and_then(|clock| Interval::from_nanos(clock.settings.interval_ns));
        running.unwrap_or(self.interval)
    }

    /// Time from one look at a member's link to the next, with as many members as there are in all groups.
    pub fn between_looks(&self) -> Interval {
        // As the sentinel counts them: a gap in the numbers costs it as much as a member.
        let highest = |group| u64::from(u64::BITS - self.armed(group).bits.leading_zeros());
        let members: u64 = (0..MAX_GROUPS as u32).map(highest).sum();
        self.interval().times(ticks_between(members))
    }

    /// Since when a member's link has been good without a break, by `CLOCK_MONOTONIC` in nanoseconds; `None`: it is not.
    ///
    /// # Errors
    /// [`Error::Pin`] or [`Error::Map`].
    pub fn good_since(&self, group: u32, member: u8) -> Result<Option<u64>, Error> {
        let held: Array<MapData, [u64; MAX_MEMBERS]> =
            pins::typed(&self.directory, "good_since", Map::Array)?;
        let since = held.get(&group, 0).map_err(map_error("good_since"))?[usize::from(member)];
        Ok((since != 0).then_some(since))
    }

    /// Identifier of its program, as the kernel knows it.
    #[cfg(test)]
    pub fn program_id(&mut self) -> Option<u32> {
        objects::program(&mut self.object, PROGRAM).ok()?.info().ok().map(|info| info.id())
    }

    /// Ticks so far.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn ticks(&self) -> Result<u64, Error> {
        Ok(self.clock.get(&0, 0).map_err(map_error("clock"))?.settings.ticks)
    }

    /// Members of a group that are trusted.
    pub fn live(&self, group: u32) -> MemberSet {
        MemberSet::from_bits(self.live.load(group as usize) & !CAPTURED.bits)
    }

    /// Sets them; only where the sentinel does not run. Nobody sees there whether somebody captures.
    pub fn set_live(&self, group: u32, members: MemberSet) {
        let captured = if self.capture(group) == CaptureMode::On { CAPTURED } else { MemberSet::EMPTY };
        self.live.store(group as usize, members.or(captured).bits);
    }

    /// Watches whether somebody captures on the group interface.
    pub fn watch_group(&self, group: u32, device: Device) {
        let at = group as usize * WATCH_WORDS + GROUP;
        let wanted = [device.net_device, device.netns, u64::from(device.ifindex)];
        if (0..DEVICE_WORDS).any(|word| self.watch.load(at + word) != wanted[word]) {
            // The address last: the sentinel must not read half a device.
            self.watch.store(at, 0);
            for word in (0..DEVICE_WORDS).rev() {
                self.watch.store(at + word, wanted[word]);
            }
        }
    }

    /// Says whether those who capture on the group interface are shown what leaves.
    pub fn set_capture(&self, group: u32, capture: CaptureMode) {
        self.watch.store(group as usize * WATCH_WORDS + CAPTURE, capture as u64);
        if self.refused.is_some() {
            self.set_live(group, self.live(group));
        }
    }

    /// What was said.
    pub fn capture(&self, group: u32) -> CaptureMode {
        let number = self.watch.load(group as usize * WATCH_WORDS + CAPTURE);
        CaptureMode::ALL.into_iter().find(|mode| *mode as u64 == number).unwrap_or_default()
    }

    /// Whether they are shown it now.
    pub fn is_captured(&self, group: u32) -> bool {
        self.live.load(group as usize) & CAPTURED.bits != 0
    }

    /// Members of a group that are watched.
    pub fn armed(&self, group: u32) -> MemberSet {
        MemberSet::from_bits(self.watch.load(group as usize * WATCH_WORDS + ARMED))
    }

    /// Watches a member, by its device and those below it.
    pub fn arm(&self, group: u32, member: u8, devices: &[Device], updelay: Duration) {
        let at = group as usize * WATCH_WORDS;
        let places = at + DEVICES + member as usize * (1 + MAX_LOWER) * DEVICE_WORDS;
        let wanted: Vec<u64> = (0..1 + MAX_LOWER)
            .flat_map(|place| {
                let device = devices.get(place).copied().unwrap_or_default();
                [device.net_device, device.netns, u64::from(device.ifindex)]
            })
            .collect();
        self.watch.store(at + UPDELAY, updelay.as_nanos() as u64);
        let is_so = wanted.iter().enumerate().all(|(word, &value)| self.watch.load(places + word) == value);
        if is_so && self.armed(group).has(member) {
            return;
        }
        self.disarm(group, member);
        for (word, value) in wanted.into_iter().enumerate() {
            self.watch.store(places + word, value);
        }
        self.watch.store(at + ARMED, self.armed(group).with(member).bits);
    }

    /// Watches a member no more: it is not live from the next tick on.
    pub fn disarm(&self, group: u32, member: u8) {
        let armed = self.armed(group).without(member);
        self.watch.store(group as usize * WATCH_WORDS + ARMED, armed.bits);
    }

    /// Watches nobody of a group any more, and trusts nobody.
    pub fn forget(&self, group: u32) {
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

    /// The answers to probes, for one reader.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn probe_replies(&self) -> Result<ProbeReplies, Error> {
        ProbeReplies::open(&self.directory)
    }

    /// Lets ingress hand over echo replies of this identifier only.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn set_echo_id(&self, identifier: u16) -> Result<(), Error> {
        let mut word: Array<MapData, u32> = pins::typed(&self.directory, "echo_id", Map::Array)?;
        word.set(0, echo_id_word(identifier), 0).map_err(map_error("echo_id"))
    }
}

/// Lets the timer of a pinned sentinel end at its next tick.
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

/// The ring buffer of hints: readable when there are some.
pub struct Hints(RingBuf<MapData>);

impl Hints {
    /// Takes every hint that has arrived.
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
