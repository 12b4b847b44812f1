//! Runs commands on the host, as an operator types them.

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

/// Maximum time until a group is in an expected state: a repair detected by probes takes twenty seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs commands and reads their output.
pub struct Operator<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    hosts: Option<HostsFile>,
}

impl<'lab> Operator<'lab> {
    /// Starts a daemon for the lab's host, and uses the hosts file of the tutorial.
    pub fn new(lab: &'lab Lab) -> Result<Self> {
        Ok(Self { lab, daemon: Daemon::start_in(lab)?, hosts: HostsFile::create(lab, &TUTORIAL)? })
    }

    /// The argument of an address option: the name in the hosts file, or the address without one.
    pub fn data_address(&self) -> String {
        if self.hosts.is_some() { format!("{}/24", TUTORIAL[0].1) } else { format!("{DATA}/24") }
    }

    /// The same for the test address of a member, by its number from 0.
    pub fn test_address(&self, member: usize) -> String {
        let (address, name) = TUTORIAL[member + 1];
        if self.hosts.is_some() { format!("{name}/24") } else { format!("{address}/24") }
    }

    /// Prints the names of the addresses.
    pub fn show_names(&self) -> Result<()> {
        match self.hosts {
            Some(_) => self.show("grep hivemind /etc/hosts"),
            None => page::line(
                "No file can be mounted over /etc/hosts here: the commands use addresses, not names.",
            ),
        }
    }

    /// All lines of the daemon's log so far.
    pub fn log(&self) -> Vec<String> {
        self.daemon.log()
    }

    /// Waits for a line with this text, after the first `since` lines of the log.
    pub fn wait_line(&self, text: &str, since: usize) -> Result<String> {
        self.daemon.wait_line(text, since, TIMEOUT)
    }

    /// Runs a command line and returns its output.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.command(line)?.output().with_context(|| format!("cannot run `{line}`"))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{line}` failed ({}): {}", output.status, error.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &error)
    }

    /// Runs a command line, and prints it with its output.
    pub fn show(&self, line: &str) -> Result<()> {
        page::line(&format!("# {line}"))?;
        page::block(&self.run(line)?)
    }

    /// The command of a line, with the lab's hosts file and daemon.
    fn command(&self, line: &str) -> Result<Command> {
        let (program, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let program = if program.starts_with("ipmp") { binary(program)? } else { PathBuf::from(program) };
        let mut command =
            self.lab.host().command(program.to_str().context("the path of the program is not UTF-8")?);
        if let Some(hosts) = &self.hosts {
            hosts.mount_for(&mut command);
        }
        command.args(arguments.split_whitespace()).env("IPMP_SOCKET", self.daemon.socket());
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// The group in `ipmpctl show --json`.
    pub fn group(&self) -> Result<GroupReport> {
        let mut shown: Value = serde_json::from_str(&self.daemon.ctl("show --json")?)?;
        serde_json::from_value(shown["groups"][0].take()).context("`ipmpctl show --json` shows no group")
    }

    /// Waits until the group has this number of members, and exactly those named are not usable.
    pub fn wait_unusable(&self, members: usize, unusable: &[&str]) -> Result<()> {
        let what = if unusable.is_empty() { "none".to_owned() } else { unusable.join(" and ") };
        self.wait(&format!("unusable members of {members}: {what}"), |group| {
            let is_expected = |member: &ipmp::control::report::MemberReport| {
                unusable.contains(&member.name.as_str()) != (member.usable && member.live)
            };
            group.members.len() == members && group.members.iter().all(is_expected)
        })
    }

    /// Waits until the group is in an expected state, which `what` describes.
    pub fn wait(&self, what: &str, expected: impl Fn(&GroupReport) -> bool) -> Result<()> {
        let reached = wait_until(TIMEOUT, || self.group().is_ok_and(|group| expected(&group)));
        ensure!(reached, "not after {TIMEOUT:?}: {what}\n{}", self.run("ipmpctl show")?);
        Ok(())
    }

    /// Terminates the daemon.
    pub fn stop(mut self) -> Result<()> {
        self.daemon.terminate()
    }
}
