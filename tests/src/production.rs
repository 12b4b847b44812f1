//! The group of the tutorial in a lab: its daemon, its oracle, and questions to both.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipmp::{
    control::report::{AddressReport, GroupReport, MemberReport},
    types::{Family, MemberState},
};
use serde_json::Value;

use crate::network::{DATA, DATA6, counterpart};
use crate::{Daemon, Lab, Mac, Member, Oracle, clock};

/// Name of the group.
pub const GROUP: &str = "production0";
/// How long members may take to be trusted, and addresses to be found unique.
const PATIENCE: Duration = Duration::from_secs(10);

/// The test address of a member by its number, from 0: 192.168.178.201 and so on, as in the tutorial.
pub const fn test_address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 178, 201 + number as u8)
}

/// The group `production0` with the data addresses of the lab and all its members.
#[derive(Debug)]
pub struct Production<'lab> {
    lab: &'lab Lab,
    /// The daemon that keeps it.
    pub daemon: Daemon<'lab>,
    oracle: Oracle,
}

impl<'lab> Production<'lab> {
    /// Starts a daemon, creates the group with [`DATA`] and [`DATA6`], attaches every member of the lab, and waits until
    /// all carry and the addresses can be used. They are attached as IPMP_ATTACH says, if it does.
    pub fn create(lab: &'lab Lab) -> Result<Self> {
        let daemon = Daemon::start_in(lab)?;
        daemon.ctl(&format!("create {GROUP} --address {DATA}/24 --address {DATA6}/64"))?;
        let names: Vec<_> = lab.members().iter().map(|member| member.name()).collect();
        daemon.ctl(&format!("attach {} --group {GROUP}", names.join(" ")))?;
        let this = Self::of(lab, daemon)?;
        this.wait_carrying(names.len())?;
        if let Some(wanted) = std::env::var_os("IPMP_ATTACH") {
            for member in this.report()?.members {
                ensure!(
                    wanted == *member.attach,
                    "{} is attached by {}, not {wanted:?}",
                    member.name,
                    member.attach
                );
            }
        }
        Ok(this)
    }

    /// The same with a test address in these families on every member, [`test_address`], and with these settings of the
    /// group: `fdt=1s targets=192.168.178.1`. Whether probes are answered is for [`Self::wait_answered`].
    pub fn create_probed(lab: &'lab Lab, families: &[Family], settings: &str) -> Result<Self> {
        let daemon = Daemon::start_in(lab)?;
        daemon.ctl(&format!("create {GROUP} --address {DATA}/24 --address {DATA6}/64"))?;
        daemon.ctl(&format!("set {GROUP} {settings}"))?;
        for (number, member) in lab.members().iter().enumerate() {
            let address = test_address(number);
            let options: String = families
                .iter()
                .map(|family| match family {
                    Family::V4 => format!(" --test-address {address}/24"),
                    Family::V6 => format!(" --test-address {}/64", counterpart(address)),
                })
                .collect();
            daemon.ctl(&format!("attach {} --group {GROUP}{options}", member.name()))?;
        }
        let this = Self::of(lab, daemon)?;
        this.wait_carrying(lab.members().len())?;
        Ok(this)
    }

    /// A group that exists already.
    pub fn of(lab: &'lab Lab, daemon: Daemon<'lab>) -> Result<Self> {
        let oracle = Oracle::watch(lab, lab.host().link(GROUP)?.mac)?;
        Ok(Self { lab, daemon, oracle })
    }

    /// What the daemon shows of it.
    pub fn report(&self) -> Result<GroupReport> {
        let text = self.daemon.ctl(&format!("show {GROUP} --json"))?;
        let mut shown: serde_json::Value = serde_json::from_str(&text).context("show --json is no JSON")?;
        serde_json::from_value(shown["groups"][0].take()).context("show --json is no report")
    }

    /// Waits until so many members carry, and no more, and every address of the group can be used and is answered for.
    pub fn wait_carrying(&self, members: usize) -> Result<()> {
        let ready = clock::wait_until(PATIENCE, || {
            self.report().is_ok_and(|report| {
                report.members.iter().filter(|member| member.usable && member.live).count() == members
                    && report
                        .addresses
                        .iter()
                        .all(|address| address.up && (members == 0 || address.inbound.is_some()))
            })
        });
        ensure!(ready, "not {members} members carry after {PATIENCE:?}:\n{}", self.daemon.ctl("show")?);
        Ok(())
    }

    /// What the daemon shows of it, as JSON.
    pub fn shown(&self) -> Result<Value> {
        let mut shown: Value = serde_json::from_str(&self.daemon.ctl(&format!("show {GROUP} --json"))?)?;
        Ok(shown["groups"][0].take())
    }

    /// Waits until every member that is probed has been answered in each family in which it is probed.
    pub fn wait_answered(&self) -> Result<()> {
        let answered = clock::wait_until(PATIENCE, || {
            self.shown().is_ok_and(|group| {
                let members = group["members"].as_array().map_or(&[][..], Vec::as_slice);
                let probings = members.iter().flat_map(|member| member["probing"].as_array()).flatten();
                let mut answers = probings.map(|probing| probing["answers"].as_u64()).peekable();
                answers.peek().is_some() && answers.all(|answers| answers > Some(0))
            })
        });
        ensure!(answered, "not every probe is answered after {PATIENCE:?}:\n{:#}", self.shown()?["members"]);
        Ok(())
    }

    /// A counter of probes, such as `forged`: of one member, or of all; of all families together.
    pub fn count(&self, member: Option<&str>, counter: &str) -> Result<u64> {
        Ok(self.counts(member, [counter])?[0])
    }

    /// Several of them at one moment.
    pub fn counts<const N: usize>(&self, member: Option<&str>, counters: [&str; N]) -> Result<[u64; N]> {
        let group = self.shown()?;
        let members = group["members"].as_array().context("show --json tells no members")?;
        let members = members.iter().filter(|shown| member.is_none_or(|member| shown["name"] == member));
        let mut sums = [0; N];
        for probing in members.flat_map(|member| member["probing"].as_array()).flatten() {
            for (sum, counter) in sums.iter_mut().zip(counters) {
                let count = probing["counters"][counter].as_u64();
                *sum +=
                    count.with_context(|| format!("show --json does not count {counter}: {probing:#}"))?;
            }
        }
        Ok(sums)
    }

    /// Waits until a member is in this state, for `patience` at most.
    pub fn wait_state(&self, name: &str, state: MemberState, patience: Duration) -> Result<()> {
        let reached =
            clock::wait_until(patience, || self.member(name).is_ok_and(|member| member.state == state));
        ensure!(reached, "{name} is not {state:?} after {patience:?}:\n{}", self.daemon.ctl("show")?);
        Ok(())
    }

    /// The member whose MAC answers for a data address.
    pub fn inbound(&self, address: impl Into<IpAddr>) -> Result<String> {
        let (address, report) = (address.into(), self.report()?);
        let found = report.addresses.into_iter().find(|known| known.address == address);
        let AddressReport { inbound, .. } = found.with_context(|| format!("{GROUP} has no {address}"))?;
        inbound.with_context(|| format!("nobody answers for {address}"))
    }

    /// The member that carries multicast and broadcast.
    pub fn cast(&self) -> Result<String> {
        let found = self.report()?.members.into_iter().find(|member| member.cast);
        Ok(found.context("nobody carries multicast and broadcast")?.name)
    }

    /// A member, as the daemon shows it.
    pub fn member(&self, name: &str) -> Result<MemberReport> {
        let found = self.report()?.members.into_iter().find(|member| member.name == name);
        found.with_context(|| format!("{GROUP} has no member {name}"))
    }

    /// The MACs of the lab's members, but for those named.
    pub fn macs_without(&self, names: &[String]) -> Vec<Mac> {
        let others =
            self.lab.members().iter().filter(|member| !names.iter().any(|name| name == member.name()));
        others.map(|member| member.mac()).collect()
    }

    /// Waits until a replugged member is live again, and has the daemon forget that it was ever gone: flap protection
    /// would soon hold back a member whose cable is pulled all the time.
    pub fn forgive(&self, member: &Member) -> Result<()> {
        let name = member.name();
        let live = clock::wait_until(PATIENCE, || self.member(name).is_ok_and(|member| member.live));
        ensure!(live, "{name} is not live again after {PATIENCE:?}:\n{}", self.daemon.ctl("show")?);
        self.daemon.ctl(&format!("offline {name}"))?;
        self.daemon.ctl(&format!("online {name}"))?;
        Ok(())
    }

    /// [`Oracle::assert_clean`] at the end of a test, with everything else stopped.
    ///
    /// # Panics
    /// When a frame carried the group's MAC.
    pub fn assert_clean(self) {
        self.oracle.assert_clean();
    }
}
