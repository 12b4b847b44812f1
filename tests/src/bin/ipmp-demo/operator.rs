//! Somebody at a shell of the host.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipmp::control::report::GroupReport;
use lab::daemon::binary;
use lab::hosts_file::TUTORIAL;
use lab::network::DATA;
use lab::{Daemon, HostsFile, Lab, wait_until};
use serde_json::Value;

use crate::page;

/// How long a group may take to be as it should: a repair that probes must see takes twenty seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Types commands, and reads what they say.
pub struct Operator<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    hosts: Option<HostsFile>,
}

impl<'lab> Operator<'lab> {
    /// With a daemon of the lab's host, and the hosts file of the tutorial.
    pub fn new(lab: &'lab Lab) -> Result<Self> {
        Ok(Self { lab, daemon: Daemon::start_in(lab)?, hosts: HostsFile::create(lab, &TUTORIAL)? })
    }

    /// What an address option says: the name in the hosts file, unless this machine has none to be covered.
    pub fn data_address(&self) -> String {
        if self.hosts.is_some() { format!("{}/24", TUTORIAL[0].1) } else { format!("{DATA}/24") }
    }

    /// The same of the test address of a member, by its number from 0.
    pub fn test_address(&self, member: usize) -> String {
        let (address, name) = TUTORIAL[member + 1];
        if self.hosts.is_some() { format!("{name}/24") } else { format!("{address}/24") }
    }

    /// All lines that the daemon has said so far.
    pub fn log(&self) -> Vec<String> {
        self.daemon.log()
    }

    /// Waits until the daemon has said a line with this text after so many lines.
    pub fn wait_line(&self, text: &str, since: usize) -> Result<String> {
        self.daemon.wait_line(text, since, PATIENCE)
    }

    /// Runs a command line, and returns what it says.
    pub fn asks(&self, line: &str) -> Result<String> {
        let output = self.command(line)?.output().with_context(|| format!("`{line}` cannot be run"))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{line}` failed ({}): {}", output.status, error.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &error)
    }

    /// Types a command line, and prints it with what it says.
    pub fn types(&self, line: &str) -> Result<()> {
        page::line(&format!("# {line}"))?;
        page::block(&self.asks(line)?)
    }

    /// The command of a line: it reads the lab's hosts file, and finds its daemon.
    fn command(&self, line: &str) -> Result<Command> {
        let (program, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let program = if program.starts_with("ipmp") { binary(program)? } else { PathBuf::from(program) };
        let mut command = self.lab.host().command(program.to_str().context("the path of a program")?);
        if let Some(hosts) = &self.hosts {
            hosts.mount_for(&mut command);
        }
        command.args(arguments.split_whitespace()).env("IPMP_SOCKET", self.daemon.socket());
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// What `ipmpctl show --json` tells of the group.
    pub fn group(&self) -> Result<GroupReport> {
        let mut told: Value = serde_json::from_str(&self.daemon.ctl("show --json")?)?;
        serde_json::from_value(told["groups"][0].take()).context("`ipmpctl show --json` shows no group")
    }

    /// Waits until the group has so many members, and exactly those named do not carry traffic.
    pub fn wait_idle(&self, members: usize, idle: &[&str]) -> Result<()> {
        let what = if idle.is_empty() { "nobody".to_owned() } else { idle.join(" and ") };
        self.wait(&format!("{what} of {members} members is idle"), |group| {
            let as_wanted = |member: &ipmp::control::report::MemberReport| {
                idle.contains(&member.name.as_str()) != (member.usable && member.live)
            };
            group.members.len() == members && group.members.iter().all(as_wanted)
        })
    }

    /// Waits until the group is as it should be; `what` says how.
    pub fn wait(&self, what: &str, right: impl Fn(&GroupReport) -> bool) -> Result<()> {
        let reached = wait_until(PATIENCE, || self.group().is_ok_and(|group| right(&group)));
        ensure!(reached, "{what}: not so after {PATIENCE:?}\n{}", self.asks("ipmpctl show")?);
        Ok(())
    }

    /// SIGTERM to the daemon, which has nothing left to do.
    pub fn ends(mut self) -> Result<()> {
        self.daemon.terminate()
    }
}
