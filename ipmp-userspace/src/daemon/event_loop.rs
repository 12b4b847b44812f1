//! The loop of the daemon: one thread, everything that happens, one thing at a time.
//!
//! ```text
//!  hints of the datapath ─┐
//!  changes from netlink ──┤                       ┌─► datapath (maps)
//!  requests from clients ─┼─► Engine ─► Group ────┼─► links (netlink)
//!  answers to probes ─────┤            core::Group├─► announcements
//!  deadlines ─────────────┤                       └─► probes
//!  signals ───────────────┘
//! ```
//!
//! A hint is acted on before anything else, from the masks alone. The question to the kernel that every hint causes
//! (design 4.2) is asked by a task beside, whose answer comes in as a change like any other.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use ipmp_common::maps::{Hint, HintKind};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::daemon::{
    alarm::Alarm,
    events::event_log::{Origin, Teller},
    group::probing::Probing,
    group::route_targets::{Brought, Reading},
    group::{Group, Hands, now},
    mpathd::{self, Mpathd},
    startup::lock::{self, Lock},
    startup::priority::{self, Calm},
    state_file,
};
use crate::{
    announce::{Schedule, Sender},
    control::{probes::Feeds, request},
    core::{Event, Time},
    datapath::{self, Datapath, Hints, Interval, ProbeReplies},
    link::{self, Address, Change, Device, Links, Watch},
};

/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);
/// The same while the datapath logs: what it has logged is fetched this often.
const LOG: Duration = Duration::from_millis(100);
/// Between two looks at a mask that is waited for.
const POLL: Duration = Duration::from_millis(5);
/// Requests that may wait.
const WAITING: usize = 16;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The BPF side.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// The network configuration.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// What it must not forget.
    #[error(transparent)]
    State(#[from] state_file::Error),
    /// What holds where nobody has set anything.
    #[error(transparent)]
    Mpathd(#[from] mpathd::Error),
    /// Somebody else serves the namespace.
    #[error(transparent)]
    Lock(#[from] lock::Error),
    /// The socket for announcements.
    #[error("cannot open a packet socket: {0}; ipmpd needs CAP_NET_RAW")]
    PacketSocket(#[source] io::Error),
    /// The runtime.
    #[error("cannot watch {what}: {source}")]
    Watch {
        /// What.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// The daemon.
pub struct Engine {
    pub(in crate::daemon) links: Links,
    watch: Watch,
    /// Neighbours and routes.
    surroundings: Watch,
    pub(in crate::daemon) datapath: Datapath,
    hints: AsyncFd<Hints>,
    /// What looks like answers to probes.
    pub(in crate::daemon) heard: AsyncFd<ProbeReplies>,
    pub(in crate::daemon) probing: Probing,
    pub(in crate::daemon) reading: Reading,
    alarm: Alarm,
    pub(in crate::daemon) groups: BTreeMap<String, Group>,
    pub(in crate::daemon) schedule: Schedule,
    sender: Sender,
    pub(in crate::daemon) teller: Teller,
    pub(in crate::daemon) file: state_file::File,
    pub(in crate::daemon) mpathd: Mpathd,
    /// When the members' filters were last brought in line.
    pub(in crate::daemon) filtered: Time,
    /// Name of the network namespace, where `--netns` gave one.
    pub(in crate::daemon) namespace: String,
    _lock: Lock,
    /// Answers to questions that were asked beside.
    answers: mpsc::UnboundedReceiver<Brought>,
    pub(in crate::daemon) asked: mpsc::UnboundedSender<Brought>,
    /// Longest sleep.
    idle: Duration,
    requests: mpsc::Receiver<request::Asked>,
    /// Those that end it.
    signals: [Signal; 3],
    hangup: Signal,
    usr1: Signal,
}

impl Engine {
    /// In the network namespace of the calling thread, on its runtime; the sentinel looks as often as said, and defaults
    /// of groups come from the file `config`, or from `/etc/default/mpathd` if there is one. Takes over what an earlier
    /// daemon left, and returns where requests go.
    pub async fn start(
        namespace: String,
        datapath_log: bool,
        sentinel: Interval,
        config: Option<PathBuf>,
    ) -> Result<(Self, request::Sender), Error> {
        let mut mpathd = Mpathd::new(config);
        let said = match mpathd.read() {
            Err(error) if !mpathd.is_named() => {
                log::error!("{error}; ipmpd goes on without");
                Vec::new()
            }
            said => said?,
        };
        let cookie = datapath::pins::netns_cookie()?;
        let lock = Lock::take(cookie)?;
        let mut datapath = Datapath::open_with(datapath_log, sentinel)?;
        let (hints, heard) = (datapath.hints()?, datapath.probe_replies()?);
        let watch = |what| move |source| Error::Watch { what, source };
        let signal = |kind| signal(kind).map_err(watch("signals"));
        let (asked, answers) = mpsc::unbounded_channel();
        let probing = Probing::new(asked.clone());
        datapath.set_echo_id(probing.identifier())?;
        let (sender, requests) = mpsc::channel(WAITING);
        let mut engine = Self {
            // Before anything is read, so that no change falls between.
            watch: Watch::open()?,
            surroundings: Watch::surroundings()?,
            links: Links::open()?,
            // SAFETY: the hints own their descriptor, give the same one every time, and close it when they are dropped.
            hints: unsafe { AsyncFd::register_with_interest(hints, Interest::READABLE) }
                .map_err(|error| watch("the hints of the datapath")(io::Error::other(error.to_string())))?,
            // SAFETY: so do the answers.
            heard: unsafe { AsyncFd::register_with_interest(heard, Interest::READABLE) }
                .map_err(|error| watch("the answers to probes")(io::Error::other(error.to_string())))?,
            probing,
            reading: Reading::default(),
            alarm: Alarm::open().map_err(watch("the clock"))?,
            datapath,
            groups: BTreeMap::new(),
            schedule: Schedule::default(),
            sender: Sender::open().map_err(Error::PacketSocket)?,
            teller: Teller::default(),
            file: state_file::File::open(cookie)?,
            mpathd,
            filtered: Time::default(),
            namespace,
            _lock: lock,
            idle: if datapath_log { LOG } else { IDLE },
            answers,
            asked,
            requests,
            signals: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::quit())?,
            ],
            hangup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
        };
        said.iter().for_each(|line| engine.teller.say(None, line));
        engine.adopt().await?;
        engine.resync().await?;
        if let Err(error) = priority::urgent() {
            log::info!(
                "no real-time priority: {error}; with CAP_SYS_NICE announcements would be in time on a busy machine, too"
            );
        }
        Ok((engine, sender))
    }

    /// Where events and probes are heard.
    pub fn feeds(&self) -> Feeds {
        self.teller.feeds()
    }

    /// Says that clients are served now.
    pub fn serving(&self, socket: String) {
        self.teller.say(None, &Event::Started { socket });
    }

    /// Runs until a signal ends it. The datapath stays as it is, and goes on.
    pub async fn run(mut self) -> Result<(), Error> {
        loop {
            self.announce();
            let next = self.next().unwrap_or_else(|| now() + self.idle);
            self.alarm.set(next).map_err(|source| Error::Watch { what: "the clock", source })?;
            let [terminate, interrupt, quit] = &mut self.signals;
            tokio::select! {
                biased;
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = quit.recv() => break,
                _ = self.hangup.recv() => self.reread().await,
                _ = self.usr1.recv() => self.dump(),
                ready = self.hints.readable_mut() => {
                    let mut ready = ready.map_err(|source| Error::Watch { what: "hints", source })?;
                    let hints = ready.get_inner_mut().drain();
                    ready.clear_ready();
                    // Several mean one look; the first of them has waited longest.
                    let links = hints.iter().filter(|hint| hint.kind == HintKind::Live as u32);
                    let seen = links.map(|hint| hint.at_ns).min().map(Duration::from_nanos);
                    self.teller.origin = Origin::Datapath(seen.map_or_else(now, Time));
                    self.hinted(&hints).await;
                }
                rung = self.alarm.rings() => {
                    rung.map_err(|source| Error::Watch { what: "the clock", source })?;
                    self.teller.origin = Origin::Deadline;
                    self.woken().await;
                }
                ready = self.heard.readable_mut() => {
                    let mut ready = ready.map_err(|source| Error::Watch { what: "answers", source })?;
                    ready.clear_ready();
                    self.teller.origin = Origin::Deadline;
                    self.hear().await;
                }
                change = self.watch.next() => {
                    self.teller.origin = Origin::Kernel(now());
                    self.changed(change?).await?;
                }
                Some(brought) = self.answers.recv() => {
                    self.teller.origin = Origin::Kernel(now());
                    match brought {
                        Brought::Change(change) => self.changed(change).await?,
                        Brought::Table(table) => self.table_read(Some(&table)).await,
                        Brought::NoTable => self.table_read(None).await,
                    }
                }
                Some((request, caller, answer)) = self.requests.recv() => {
                    let calm = Calm::begin();
                    self.teller.origin = Origin::Operator(caller);
                    let response = self.request(request).await;
                    drop(calm);
                    // A client that has gone away does not want to know.
                    let _ = answer.send(response);
                }
                // Last: there may be very many.
                change = self.surroundings.next() => {
                    self.teller.origin = Origin::Kernel(now());
                    match change? {
                        // Neighbours are asked for again anyway.
                        Change::Lost => self.reading.soon(),
                        change => self.changed(change).await?,
                    }
                }
            }
        }
        self.teller.origin = Origin::Signal;
        let groups: Vec<String> = self.groups.keys().cloned().collect();
        if groups.is_empty() {
            Datapath::teardown()?;
        }
        self.teller.say(None, &Event::Stopped { groups });
        Ok(())
    }

    /// The hands that a group needs, beside the groups.
    pub(in crate::daemon) fn with_hands(&mut self) -> (&mut BTreeMap<String, Group>, Hands<'_>) {
        let hands = Hands {
            links: &self.links,
            schedule: &mut self.schedule,
            sender: &self.sender,
            probing: &mut self.probing,
            teller: &self.teller,
        };
        (&mut self.groups, hands)
    }

    /// Sends what is due.
    pub(in crate::daemon) fn announce(&mut self) {
        self.with_hands().1.announce();
    }

    /// Looks at every group, in the middle of something long.
    pub(in crate::daemon) async fn catch_up(&mut self) {
        let (groups, mut hands) = self.with_hands();
        for group in groups.values_mut() {
            group.look(&mut hands).await;
        }
        hands.announce();
    }

    fn next(&self) -> Option<Time> {
        let groups = self.groups.values().filter_map(Group::next);
        groups.chain(self.schedule.next()).chain(self.filters_due()).chain(self.reading.next()).min()
    }

    async fn woken(&mut self) {
        // Probes are judged as of now: whatever was answered by now is told before.
        let time = now();
        self.hear().await;
        let (groups, mut hands) = self.with_hands();
        for group in groups.values_mut() {
            group.datapath.flush_log();
            if group.next().is_some_and(|next| next <= time) {
                group.woken(&mut hands, time).await;
            }
        }
        if self.filters_due().is_some_and(|due| due <= time) {
            self.filter().await;
        }
        self.read_table(time);
    }

    /// The datapath says that something about these groups has changed.
    async fn hinted(&mut self, hints: &[Hint]) {
        let (groups, mut hands) = self.with_hands();
        let mut devices = Vec::new();
        let hints: BTreeSet<(u32, u32)> = hints.iter().map(|hint| (hint.group, hint.kind)).collect();
        for group in groups.values_mut() {
            let index = group.datapath.index();
            let has = |kind: HintKind| hints.contains(&(index, kind as u32));
            if has(HintKind::Report) {
                group.filters.multicast_changed();
            }
            if has(HintKind::Learnt) {
                group.learnt_changed(&mut hands);
            }
            if !has(HintKind::Live) {
                continue;
            }
            group.look(&mut hands).await;
            devices.extend(group.members.values().map(|member| member.ifindex));
        }
        self.announce();
        self.ask(devices);
    }

    /// Asks the kernel for these devices, beside.
    fn ask(&self, ifindexes: Vec<u32>) {
        let (links, asked) = (self.links.clone(), self.asked.clone());
        tokio::spawn(async move {
            for ifindex in ifindexes {
                let change = match links.device(ifindex).await {
                    Ok(Some(device)) => Change::Device(device),
                    Ok(None) => Change::Gone { ifindex },
                    Err(error) => {
                        log::warn!("{error}");
                        continue;
                    }
                };
                // The engine has ended.
                if asked.send(Brought::Change(change)).is_err() {
                    return;
                }
            }
        });
    }

    async fn changed(&mut self, change: Change) -> Result<(), Error> {
        match change {
            Change::Device(device) => self.device_changed(&device).await,
            Change::Gone { ifindex } => self.device_gone(ifindex).await,
            Change::Address { ifindex, address } => self.address_appeared(ifindex, &address).await,
            Change::AddressGone { ifindex, address } => self.address_went(ifindex, &address).await,
            Change::Neighbour(neighbour) => self.neighbour_changed(&neighbour).await,
            Change::Route(route) => {
                self.route_changed(&route);
                self.member_route_changed(&route).await;
            }
            Change::Lost => {
                log::debug!("the kernel has dropped events; everything is read anew");
                self.resync().await?;
            }
        }
        Ok(())
    }

    /// Netlink describes a device, perhaps as it was a while ago: events queue. What would make a difference is asked
    /// for again, so that only the present is acted on.
    async fn device_changed(&mut self, told: &Device) {
        if told.vlan.is_some() {
            self.groups.values_mut().for_each(Group::look_at_vlans);
        }
        let mut device = told.clone();
        if self.groups.values().any(|group| group.is_news(told)) {
            match self.links.device(told.ifindex).await {
                Ok(Some(now)) => device = now,
                Ok(None) => return self.device_gone(told.ifindex).await,
                Err(error) => log::warn!("{error}"),
            }
        }
        self.routes_may_change(device.ifindex);
        let (groups, mut hands) = self.with_hands();
        for group in groups.values_mut() {
            if let Some(number) = group.number_of(device.ifindex) {
                group.device_changed(&mut hands, number, &device).await;
            } else if group.interface.ifindex != device.ifindex {
                let vlan = device.vlan.filter(|_| device.below == Some(group.interface.ifindex));
                if let Err(error) = group.vlan_changed(device.ifindex, vlan) {
                    log::error!(group = group.name(); "{error}");
                }
            } else if device.master.is_some() {
                group.free(&hands).await;
            }
        }
        self.device_turned(device.ifindex, device.flags).await;
    }

    async fn device_gone(&mut self, ifindex: u32) {
        if let Some(name) = self
            .groups
            .values()
            .find(|group| group.interface.ifindex == ifindex)
            .map(|group| group.name().to_owned())
        {
            self.dissolve(&name).await;
            return;
        }
        let (groups, mut hands) = self.with_hands();
        let mut left = None;
        for group in groups.values_mut() {
            group.look_at_vlans();
            if let Some(number) = group.number_of(ifindex) {
                let name = group.name().to_owned();
                group.say_removed(&hands, number);
                if let Some(member) = group.leave(&mut hands, number).await {
                    left = Some((name, member.name));
                }
            } else if let Err(error) = group.vlan_changed(ifindex, None) {
                log::error!(group = group.name(); "{error}");
            }
        }
        if let Some((group, member)) = left {
            self.lift_test_addresses(&group, &member).await;
            self.release_filters(&group, &member).await;
            self.forget_member(&group, &member);
        }
    }

    /// Nothing is to be put back for this member any more.
    pub(in crate::daemon) fn forget_member(&mut self, group: &str, member: &str) {
        if let Some(group) = self.file.state.groups.get_mut(group) {
            group.members.remove(member);
        }
        self.save();
    }

    /// Writes the state file where a failure must not stop what is being done.
    pub(in crate::daemon) fn save(&self) {
        if let Err(error) = self.file.save() {
            log::error!("{error}");
        }
    }

    async fn address_appeared(&mut self, ifindex: u32, address: &Address) {
        self.routes_may_change(ifindex);
        if address.is_duplicate() {
            self.address_went(ifindex, address).await;
            return;
        }
        let (groups, mut hands) = self.with_hands();
        for group in groups.values_mut() {
            if group.interface.ifindex == ifindex {
                group.address_appeared(&mut hands, address.ip, address.prefix).await;
            } else if group.vlan_of(ifindex).is_some() {
                group.vlan_address_appeared(&mut hands, (ifindex, address.ip, address.prefix));
            }
        }
        self.examine(ifindex).await;
        self.group_address_changed(ifindex, address.ip).await;
    }

    async fn address_went(&mut self, ifindex: u32, address: &Address) {
        self.routes_may_change(ifindex);
        let (groups, mut hands) = self.with_hands();
        for group in groups.values_mut() {
            if group.interface.ifindex == ifindex {
                group.address_went(&mut hands, address.ip, address.prefix).await;
            } else if group.vlan_of(ifindex).is_some() {
                group.vlan_address_went(&mut hands, (ifindex, address.ip, address.prefix));
            }
        }
        self.examine(ifindex).await;
        self.group_address_changed(ifindex, address.ip).await;
    }

    /// Compares everything with the kernel, as if every difference were told.
    pub(in crate::daemon) async fn resync(&mut self) -> Result<(), Error> {
        // What is queued is older than what is read now.
        self.watch.skip().await;
        let devices = self.links.devices().await?;
        let known: Vec<u32> = self.groups.values().flat_map(Group::devices).collect();
        for ifindex in known {
            if devices.iter().all(|device| device.ifindex != ifindex) {
                self.device_gone(ifindex).await;
            }
        }
        for device in &devices {
            self.device_changed(device).await;
        }
        let addresses = self.links.addresses().await?;
        for (ifindex, address) in &addresses {
            self.address_appeared(*ifindex, address).await;
        }
        self.forget_addresses(&addresses).await;
        let members: Vec<u32> = self
            .groups
            .values()
            .flat_map(|group| group.members.values())
            .map(|member| member.ifindex)
            .collect();
        for ifindex in members {
            self.examine(ifindex).await;
        }
        let (groups, mut hands) = self.with_hands();
        for group in groups.values_mut() {
            group.look(&mut hands).await;
        }
        Ok(())
    }

    /// Drops the addresses that the kernel does not have any more.
    async fn forget_addresses(&mut self, there: &[(u32, Address)]) {
        let (groups, mut hands) = self.with_hands();
        for group in groups.values_mut() {
            let on = |ifindex| {
                there.iter().filter(move |(index, _)| *index == ifindex).map(|(_, address)| address)
            };
            let now: BTreeSet<(IpAddr, u8)> = on(group.interface.ifindex)
                .filter(|address| !address.is_duplicate())
                .map(|address| (address.ip, address.prefix))
                .collect();
            for (address, prefix) in group.addresses_not_in(&now) {
                group.address_went(&mut hands, address, prefix).await;
            }
            let on_vlans = there.iter().filter(|(_, address)| !address.is_duplicate());
            let on_vlans =
                on_vlans.map(|(ifindex, address)| (*ifindex, address.ip, address.prefix)).collect();
            group.keep_vlan_addresses(&mut hands, &on_vlans);
        }
    }

    /// Waits until a group has a member that can carry, and lets the state machine know; not longer than `limit`.
    pub(in crate::daemon) async fn wait_until_live(&mut self, group: &str, limit: Time) {
        while now() < limit {
            let (groups, mut hands) = self.with_hands();
            let Some(group) = groups.get_mut(group) else { return };
            group.look(&mut hands).await;
            if !group.live().and(group.core.usable()).is_empty() {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
