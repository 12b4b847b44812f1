//! What is compared, and how each is set up.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipmp::types::Family;
use lab::network::{DATA, ROUTER};
use lab::{Lab, Member, Production, Program, SECOND, TIMEOUT, command, process, wait_until};
use serde_json::Value;

/// How long bonds and teams have after a repair: they do not report when they are complete.
const REPAIR: Duration = Duration::from_secs(2);
/// How long next hops have: a resilient group gives flows to a next hop that was added after its `unbalanced_timer`, of 2 s.
const BALANCE: Duration = Duration::from_secs(5);
/// The failure detection time of groups while they are repaired, which is not measured: ten replies need two seconds.
const REPAIR_FDT: &str = "fdt=1s";
const BOND: &str = "bond0";
const TEAM: &str = "team0";

/// Removes next hops that have lost their link, and adds them again: what an operator would write.
const WATCHER: &str = include_str!("next-hops.sh");

/// How the NICs are used.
#[derive(Clone, Copy, Debug)]
pub enum Setup {
    /// The first NIC, with the address: what all others are compared with.
    Plain,
    /// A group with this failure detection time, whose members are probed.
    Group(&'static str),
    /// A bond with these options.
    Bond(&'static str),
    /// A team with this runner and link watcher.
    Team(&'static str, &'static str),
    /// A group of next hops with these properties, one for each NIC.
    NextHops(&'static str),
}

const ARP_PING: &str = r#"{"name": "arp_ping", "interval": 100, "missed_max": 3, "source_host": "192.168.178.200",
 "target_host": "192.168.178.1", "validate_active": true, "validate_inactive": true, "send_always": true}"#;
const ETHTOOL: &str = r#"{"name": "ethtool"}"#;
const LOADBALANCE: &str = r#"{"name": "loadbalance", "tx_hash": ["eth", "ipv4", "l4"]}"#;
const ACTIVEBACKUP: &str = r#"{"name": "activebackup"}"#;

/// All of them, by the names in the report.
pub const CONTENDERS: [(&str, Setup); 14] = [
    ("ipmp", Setup::Group("fdt=10s")),
    ("ipmp fdt=1s", Setup::Group("fdt=1s")),
    ("bond active-backup miimon=100", Setup::Bond("mode active-backup miimon 100")),
    ("bond active-backup miimon=10", Setup::Bond("mode active-backup miimon 10")),
    ("bond active-backup miimon=1", Setup::Bond("mode active-backup miimon 1")),
    (
        "bond active-backup arp_interval=100",
        Setup::Bond("mode active-backup arp_interval 100 arp_ip_target 192.168.178.1 arp_validate all"),
    ),
    ("bond balance-xor miimon=100", Setup::Bond("mode balance-xor miimon 100 xmit_hash_policy layer3+4")),
    ("bond balance-alb miimon=100", Setup::Bond("mode balance-alb miimon 100")),
    ("team activebackup ethtool", Setup::Team(ACTIVEBACKUP, ETHTOOL)),
    ("team activebackup arp_ping", Setup::Team(ACTIVEBACKUP, ARP_PING)),
    ("team loadbalance ethtool", Setup::Team(LOADBALANCE, ETHTOOL)),
    ("team loadbalance arp_ping", Setup::Team(LOADBALANCE, ARP_PING)),
    ("ECMP hash-threshold", Setup::NextHops("")),
    ("ECMP resilient", Setup::NextHops("type resilient buckets 128 idle_timer 1 unbalanced_timer 2")),
];

/// The NICs in use.
pub struct Host<'lab> {
    pub lab: &'lab Lab,
    setup: Setup,
    production: Option<Production<'lab>>,
    /// teamd, or the script that watches next hops.
    program: Option<Program>,
}

impl<'lab> Host<'lab> {
    /// `None`: the kernel, or this machine, does not have it.
    pub fn set_up(lab: &'lab Lab, setup: Setup) -> Result<Option<Self>> {
        let mut host = Self { lab, setup, production: None, program: None };
        let is_there = match setup {
            Setup::Plain => host.use_first()?,
            Setup::Group(fdt) => host.create_group(fdt)?,
            Setup::Bond(options) => host.create_bond(options)?,
            Setup::Team(runner, watch) => host.create_team(runner, watch)?,
            Setup::NextHops(kind) => host.create_next_hops(kind)?,
        };
        if !is_there {
            return Ok(None);
        }
        let answers = || lab.peer(0).ping(DATA.into(), 1, SECOND, SECOND).is_ok_and(|ping| ping.answered > 0);
        ensure!(wait_until(TIMEOUT, answers), "no peer reaches the host with {setup:?}");
        if !matches!(setup, Setup::Plain) {
            host.wait_repaired(&lab.members().iter().collect::<Vec<_>>())?;
        }
        Ok(Some(host))
    }

    fn use_first(&self) -> Result<bool> {
        let first = self.lab.members()[0].name();
        self.lab.host().ip(&format!("address add {DATA}/24 dev {first}"))?;
        Ok(true)
    }

    fn create_group(&mut self, fdt: &str) -> Result<bool> {
        let settings = format!("{fdt} targets={ROUTER}");
        self.production = Some(Production::create_probed(self.lab, &[Family::V4], &settings)?);
        Ok(true)
    }

    fn create_bond(&self, options: &str) -> Result<bool> {
        if !self.has_device("bond", BOND)? {
            return Ok(false);
        }
        let host = self.lab.host();
        host.ip(&format!("link add {BOND} type bond {options}"))?;
        for member in self.lab.members() {
            host.ip(&format!("link set {} down", member.name()))?;
            host.ip(&format!("link set {} master {BOND}", member.name()))?;
        }
        host.ip(&format!("link set {BOND} up"))?;
        host.ip(&format!("address add {DATA}/24 dev {BOND}"))?;
        Ok(true)
    }

    /// Whether the kernel has such devices.
    fn has_device(&self, kind: &str, name: &str) -> Result<bool> {
        let host = self.lab.host();
        if host.ip(&format!("link add {name} type {kind}")).is_err() {
            return Ok(false);
        }
        host.ip(&format!("link del {name}"))?;
        Ok(true)
    }

    fn create_team(&mut self, runner: &str, watch: &str) -> Result<bool> {
        let is_installed = Command::new("teamd").arg("--version").output().is_ok();
        if !is_installed || !self.has_device("team", TEAM)? {
            return Ok(false);
        }
        let host = self.lab.host();
        for member in self.lab.members() {
            host.ip(&format!("link set {} down", member.name()))?;
        }
        let ports: Vec<_> =
            self.lab.members().iter().map(|member| format!("\"{}\": {{}}", member.name())).collect();
        let configuration = format!(
            r#"{{"device": "{TEAM}", "runner": {runner}, "link_watch": {watch}, "ports": {{{}}}}}"#,
            ports.join(", ")
        );
        let mut teamd = host.command("teamd");
        teamd.args(["-t", TEAM, "-c", &configuration]);
        let mut teamd = Program::start(self.lab, teamd)?;
        let is_ready = wait_until(TIMEOUT, || teamd.exit_status().is_some() || host.link(TEAM).is_ok());
        ensure!(is_ready && teamd.exit_status().is_none(), "teamd has ended: {}", teamd.log().join("\n"));
        host.ip(&format!("link set {TEAM} up"))?;
        host.ip(&format!("address add {DATA}/24 dev {TEAM}"))?;
        self.program = Some(teamd);
        Ok(true)
    }

    fn create_next_hops(&mut self, kind: &str) -> Result<bool> {
        let host = self.lab.host();
        // The address is the host's, not a NIC's; each flow has a path of its own.
        host.ip(&format!("address add {DATA}/32 dev lo"))?;
        host.sysctl("net.ipv4.fib_multipath_hash_policy", "1")?;
        for (number, member) in self.lab.members().iter().enumerate() {
            host.sysctl(&format!("net.ipv4.conf.{}.rp_filter", member.name()), "0")?;
            host.ip(&format!("nexthop add id {} dev {}", number + 1, member.name()))?;
        }
        host.sysctl("net.ipv4.conf.all.rp_filter", "0")?;
        let all: Vec<_> = (1..=self.lab.members().len()).map(|id| id.to_string()).collect();
        host.ip(&format!("nexthop add id 10 group {} {kind}", all.join("/")))?;
        host.ip(&format!("route add 192.168.178.0/24 nhid 10 src {DATA}"))?;
        let names = self.lab.members().iter().map(Member::name);
        let mut watcher = host.command("sh");
        watcher.args(["-c", WATCHER, "next-hops", &DATA.to_string(), kind]).args(names);
        let mut watcher = Program::start(self.lab, watcher)?;
        watcher.wait_line("watching", 0, TIMEOUT)?;
        self.program = Some(watcher);
        Ok(true)
    }

    /// The CPU time so far of the program in user space that manages the NICs; `None` for bonds, which have none, and for the script,
    /// whose work is done by the programs that it starts.
    pub fn cpu_time(&self) -> Result<Option<Duration>> {
        let pid = match self.setup {
            Setup::Group(_) => self.production.as_ref().and_then(|production| production.daemon.pid()),
            Setup::Team(..) => self.program.as_ref().map(Program::pid),
            Setup::Plain | Setup::Bond(_) | Setup::NextHops(_) => None,
        };
        pid.map(process::cpu_time).transpose()
    }

    /// How often each member has failed, as this setup counts it.
    pub fn failures(&self) -> Result<Vec<u64>> {
        let host = self.lab.host();
        let count = |lines: &[String], text: &dyn Fn(&str) -> String| {
            let names = self.lab.members().iter().map(|member| text(member.name()));
            names.map(|text| lines.iter().filter(|line| line.contains(&text)).count() as u64).collect()
        };
        let program = || self.program.as_ref().context("its program is not running");
        match self.setup {
            Setup::Plain => Ok(vec![0; self.lab.members().len()]),
            Setup::Group(_) => {
                let production = self.production.as_ref().context("the group was not created")?;
                Ok(count(&production.daemon.log(), &|name| format!("failure detected on {name} ")))
            }
            Setup::Bond(_) => {
                let path = format!("/proc/thread-self/net/bonding/{BOND}");
                let text = host.run(|| std::fs::read_to_string(&path)).context(path)?;
                self.lab.members().iter().map(|member| bond_failures(&text, member.name())).collect()
            }
            Setup::Team(..) => {
                let dump = command::run(host.command("teamdctl").args([TEAM, "state", "dump"]))?;
                let dump: Value = serde_json::from_str(&dump).context("teamdctl prints no JSON")?;
                self.lab.members().iter().map(|member| team_failures(&dump, member.name())).collect()
            }
            Setup::NextHops(_) => Ok(count(&program()?.log(), &|name| format!("removed {name}"))),
        }
    }

    /// Waits until members that are plugged in again are in use.
    pub fn wait_repaired(&self, members: &[&Member]) -> Result<()> {
        let (Some(production), Setup::Group(fdt)) = (&self.production, self.setup) else {
            std::thread::sleep(if matches!(self.setup, Setup::NextHops(_)) { BALANCE } else { REPAIR });
            return Ok(());
        };
        production.daemon.ctl(&format!("set {} {REPAIR_FDT}", lab::production::GROUP))?;
        for member in members {
            production.clear_flap_history(member)?;
        }
        production.wait_usable(self.lab.members().len())?;
        production.wait_answered()?;
        production.daemon.ctl(&format!("set {} {fdt}", lab::production::GROUP))?;
        Ok(())
    }
}

/// The count of a member in `/proc/net/bonding/bond0`.
fn bond_failures(text: &str, member: &str) -> Result<u64> {
    let slave = text.split_once(&format!("Slave Interface: {member}\n")).map(|(_, slave)| slave);
    let count = slave.and_then(|slave| slave.split_once("Link Failure Count: "));
    let count = count.and_then(|(_, count)| count.lines().next()?.parse().ok());
    count.with_context(|| format!("the bond has no count of {member}: {text}"))
}

/// The count of a port in the output of `teamdctl state dump`.
fn team_failures(dump: &Value, member: &str) -> Result<u64> {
    let watches = dump["ports"][member]["link_watches"]["list"].as_object();
    let counts = watches.into_iter().flatten().filter_map(|(_, watch)| watch["down_count"].as_u64());
    counts.max().with_context(|| format!("the team has no count of {member}: {dump}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_bond_are_those_of_the_member() {
        let text = "Bonding Mode: fault-tolerance (active-backup)\nMII Status: up\n\nSlave Interface: e1000g0\nMII Status: up\n\
                    Link Failure Count: 3\nQueue ID: 0\n\nSlave Interface: rge0\nMII Status: down\nLink Failure Count: 12\n";
        assert_eq!(bond_failures(text, "e1000g0").unwrap(), 3);
        assert_eq!(bond_failures(text, "rge0").unwrap(), 12);
        assert!(bond_failures(text, "e1000g").is_err());
    }

    #[test]
    fn failures_of_team_are_those_of_the_port() {
        let dump = serde_json::json!({"ports": {
            "e1000g0": {"link_watches": {"list": {"link_watch_0": {"down_count": 2, "name": "ethtool", "up": true}}, "up": true}},
            "rge0": {"link_watches": {"list": {}, "up": true}},
        }});
        assert_eq!(team_failures(&dump, "e1000g0").unwrap(), 2);
        assert!(team_failures(&dump, "rge0").is_err());
    }
}
