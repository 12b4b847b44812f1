//! The tutorial's group in a lab: its daemon, its [`Oracle`], and its report.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipmp::{
    control::report::{AddressReport, GroupReport, MemberReport},
    types::{Family, MemberState},
};
use serde_json::Value;

use crate::daemon::Daemon;
use crate::network::{DATA, DATA6, Lab, Member, counterpart};
use crate::oracle::Oracle;
use crate::{Mac, TIMEOUT, wait_until};

/// Name of the group.
pub const GROUP: &str = "production0";

/// The test address of a member by its number, from 0: 192.168.178.201 and so on, as in the tutorial.
pub const fn test_address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 178, 201 + number as u8)
}

/// The parameters of a group: see [`Production::builder`].
#[derive(Debug)]
pub struct Builder<'lab> {
    lab: &'lab Lab,
    daemon: Option<Daemon<'lab>>,
    addresses: bool,
    members: Vec<String>,
    test_addresses: Vec<Family>,
    settings: String,
}

impl<'lab> Builder<'lab> {
    /// Uses a daemon that is running.
    pub fn daemon(mut self, daemon: Daemon<'lab>) -> Self {
        self.daemon = Some(daemon);
        self
    }

    /// Attaches only these members.
    pub fn members(mut self, members: &[&str]) -> Self {
        self.members = members.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Creates the group without data addresses.
    pub fn without_addresses(mut self) -> Self {
        self.addresses = false;
        self
    }

    /// Configures a test address of these families on every member: see [`test_address`].
    pub fn test_addresses(mut self, families: &[Family]) -> Self {
        self.test_addresses = families.to_vec();
        self
    }

    /// Settings of the group: `fdt=1s targets=192.168.178.1`.
    pub fn settings(mut self, settings: &str) -> Self {
        settings.clone_into(&mut self.settings);
        self
    }

    /// Creates the group, attaches the members, and waits until all of them are usable and the data addresses are up.
    pub fn create(self) -> Result<Production<'lab>> {
        let daemon = match self.daemon {
            Some(daemon) => daemon,
            None => Daemon::start_in(self.lab)?,
        };
        let addresses =
            if self.addresses { format!(" --address {DATA}/24 --address {DATA6}/64") } else { String::new() };
        daemon.ctl(&format!("create {GROUP}{addresses}"))?;
        if !self.settings.is_empty() {
            daemon.ctl(&format!("set {GROUP} {}", self.settings))?;
        }
        if self.test_addresses.is_empty() {
            daemon.ctl(&format!("attach {} --group {GROUP}", self.members.join(" ")))?;
        } else {
            for (number, member) in self.members.iter().enumerate() {
                let address = test_address(number);
                let option = |family: &Family| match family {
                    Family::V4 => format!(" --test-address {address}/24"),
                    Family::V6 => format!(" --test-address {}/64", counterpart(address)),
                };
                let options: String = self.test_addresses.iter().map(option).collect();
                daemon.ctl(&format!("attach {member} --group {GROUP}{options}"))?;
            }
        }
        let production = Production::with_daemon(self.lab, daemon)?;
        production.wait_usable(self.members.len())?;
        if let Some(wanted) = std::env::var_os("IPMP_ATTACH") {
            for member in production.report()?.members {
                let (name, attach) = (member.name, member.attach);
                ensure!(wanted == *attach, "{name} is attached by {attach}, not {wanted:?}");
            }
        }
        Ok(production)
    }
}

/// The group `production0`.
#[derive(Debug)]
pub struct Production<'lab> {
    lab: &'lab Lab,
    /// The daemon that manages it.
    pub daemon: Daemon<'lab>,
    oracle: Oracle,
}

impl<'lab> Production<'lab> {
    /// A group with [`DATA`] and [`DATA6`] and all members of the lab. If the variable IPMP_ATTACH is set, the members
    /// must be attached in that way.
    pub fn builder(lab: &'lab Lab) -> Builder<'lab> {
        Builder {
            lab,
            daemon: None,
            addresses: true,
            members: lab.members().iter().map(|member| member.name().to_owned()).collect(),
            test_addresses: Vec::new(),
            settings: String::new(),
        }
    }

    /// Creates the default group.
    pub fn create(lab: &'lab Lab) -> Result<Self> {
        Self::builder(lab).create()
    }

    /// Creates the group with a test address of these families on every member, and with these settings. Use
    /// [`Self::wait_answered`] to wait for replies to probes.
    pub fn create_probed(lab: &'lab Lab, families: &[Family], settings: &str) -> Result<Self> {
        Self::builder(lab).test_addresses(families).settings(settings).create()
    }

    /// An existing group of this daemon.
    pub fn with_daemon(lab: &'lab Lab, daemon: Daemon<'lab>) -> Result<Self> {
        let oracle = Oracle::watch(lab, lab.host().link(GROUP)?.mac)?;
        Ok(Self { lab, daemon, oracle })
    }

    /// The group's part of `ipmpctl show --json`, as JSON.
    pub fn report_json(&self) -> Result<Value> {
        let text = self.daemon.ctl(&format!("show {GROUP} --json"))?;
        let mut shown: Value = serde_json::from_str(&text).context("`show --json` does not print JSON")?;
        Ok(shown["groups"][0].take())
    }

    /// The group's part of `ipmpctl show --json`.
    pub fn report(&self) -> Result<GroupReport> {
        serde_json::from_value(self.report_json()?).context("`show --json` does not print a group")
    }

    /// `ipmpctl show`, for messages of failed assertions.
    pub fn show(&self) -> String {
        self.daemon.ctl("show").unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Waits until exactly `members` members are usable and live, and every data address is up and has an inbound member.
    pub fn wait_usable(&self, members: usize) -> Result<()> {
        let ready = wait_until(TIMEOUT, || {
            self.report().is_ok_and(|report| {
                let usable = report.members.iter().filter(|member| member.usable && member.live).count();
                let is_ready =
                    |address: &AddressReport| address.up && (members == 0 || address.inbound.is_some());
                usable == members && report.addresses.iter().all(is_ready)
            })
        });
        ensure!(ready, "not {members} usable members after {TIMEOUT:?}:\n{}", self.show());
        Ok(())
    }

    /// Waits until every member that is probed has received replies in each family in which it is probed.
    pub fn wait_answered(&self) -> Result<()> {
        let answered = wait_until(TIMEOUT, || {
            self.report_json().is_ok_and(|group| {
                let members = group["members"].as_array().map_or(&[][..], Vec::as_slice);
                let probings = members.iter().flat_map(|member| member["probing"].as_array()).flatten();
                let mut answers = probings.map(|probing| probing["answers"].as_u64()).peekable();
                answers.peek().is_some() && answers.all(|answers| answers > Some(0))
            })
        });
        let members = || self.report_json().map(|mut group| group["members"].take());
        ensure!(answered, "no replies to some probes after {TIMEOUT:?}:\n{:#}", members()?);
        Ok(())
    }

    /// A counter of probes, such as `unexpected`: of one member or of all, and of all families together.
    pub fn count(&self, member: Option<&str>, counter: &str) -> Result<u64> {
        Ok(self.counts(member, [counter])?[0])
    }

    /// Several counters of probes, from one report.
    pub fn counts<const N: usize>(&self, member: Option<&str>, counters: [&str; N]) -> Result<[u64; N]> {
        let group = self.report_json()?;
        let members = group["members"].as_array().context("`show --json` prints no members")?;
        let members = members.iter().filter(|shown| member.is_none_or(|member| shown["name"] == member));
        let mut sums = [0; N];
        for probing in members.flat_map(|member| member["probing"].as_array()).flatten() {
            for (sum, counter) in sums.iter_mut().zip(counters) {
                let count = probing["counters"][counter].as_u64();
                *sum += count.with_context(|| format!("no counter {counter} in {probing:#}"))?;
            }
        }
        Ok(sums)
    }

    /// Waits until a member is in a state.
    pub fn wait_state(&self, name: &str, state: MemberState, timeout: Duration) -> Result<()> {
        let reached = wait_until(timeout, || self.member(name).is_ok_and(|member| member.state == state));
        ensure!(reached, "{name} is not {state:?} after {timeout:?}:\n{}", self.show());
        Ok(())
    }

    /// Waits until a member is live, or not live.
    pub fn wait_live(&self, name: &str, live: bool) -> Result<()> {
        let reached = wait_until(TIMEOUT, || self.member(name).is_ok_and(|member| member.live == live));
        ensure!(reached, "{name}: live is not {live} after {TIMEOUT:?}:\n{}", self.show());
        Ok(())
    }

    /// The inbound member of a data address.
    pub fn inbound(&self, address: impl Into<IpAddr>) -> Result<String> {
        let (address, report) = (address.into(), self.report()?);
        let found = report.addresses.into_iter().find(|known| known.address == address);
        let AddressReport { inbound, .. } = found.with_context(|| format!("{GROUP} has no {address}"))?;
        inbound.with_context(|| format!("{address} has no inbound member"))
    }

    /// The cast member: the one for multicast and broadcast.
    pub fn cast(&self) -> Result<String> {
        let found = self.report()?.members.into_iter().find(|member| member.cast);
        Ok(found.with_context(|| format!("{GROUP} has no cast member"))?.name)
    }

    /// The report of a member.
    pub fn member(&self, name: &str) -> Result<MemberReport> {
        let found = self.report()?.members.into_iter().find(|member| member.name == name);
        found.with_context(|| format!("{GROUP} has no member {name}"))
    }

    /// Packets sent by all members.
    pub fn sent_packets(&self) -> Result<u64> {
        Ok(self.report()?.members.iter().map(|member| member.traffic.out_packets).sum())
    }

    /// The MACs of the lab's members, except these.
    pub fn macs_without(&self, names: &[String]) -> Vec<Mac> {
        let others =
            self.lab.members().iter().filter(|member| names.iter().all(|name| name != member.name()));
        others.map(|member| member.mac()).collect()
    }

    /// Waits until a replugged member is live again, and clears its flap history, so that frequent pulls do not trigger
    /// flap dampening.
    pub fn clear_flap_history(&self, member: &Member) -> Result<()> {
        let name = member.name();
        self.wait_live(name, true)?;
        self.daemon.ctl(&format!("offline {name}"))?;
        self.daemon.ctl(&format!("online {name}"))?;
        Ok(())
    }

    /// Replugs a member's cable, waits until the member is live, and clears its flap history.
    pub fn replug(&self, member: &Member) -> Result<()> {
        member.cable().replug()?;
        // Reading the link makes the kernel report its carrier without delay.
        member.cable().wait_carrier(true, TIMEOUT)?;
        self.clear_flap_history(member)
    }

    /// [`Oracle::assert_clean`], at the end of a test.
    ///
    /// # Panics
    /// When a frame contained the group's MAC.
    pub fn assert_clean(self) {
        self.oracle.assert_clean();
    }
}
