//! Runs commands on the host, as an operator types them.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipmp::control::report::GroupReport;
use lab::daemon::binary;
use lab::{Daemon, HostsFile, Lab, hosts_file, wait_until};
use serde_json::Value;

use crate::page;

/// Maximum time until a group is in an expected state: a repair detected by probes takes twenty seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The command of the tutorial.
const IFCONFIG: &str = "ifconfig";

/// Runs commands and reads their output.
pub struct Operator<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    hosts: Option<HostsFile>,
}

impl<'lab> Operator<'lab> {
    /// Uses a daemon of the lab's host, the hosts file of the tutorial, and `ifconfig` by that name.
    pub fn new(lab: &'lab Lab, daemon: Daemon<'lab>) -> Result<Self> {
        let ifconfig = lab.directory().join(IFCONFIG);
        if !ifconfig.exists() {
            symlink(binary("ipmpctl")?, ifconfig)?;
        }
        Ok(Self { lab, daemon, hosts: HostsFile::create(lab, &hosts_file::all())? })
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
        let program = match program {
            IFCONFIG => self.lab.directory().join(program),
            _ if program.starts_with("ipmp") => binary(program)?,
            _ => PathBuf::from(program),
        };
        let mut command =
            self.lab.host().command(program.to_str().context("the path of the program is not UTF-8")?);
        // Where no hosts file can be mounted, addresses are typed for the names.
        let names = if self.hosts.is_none() { hosts_file::all() } else { Vec::new() };
        let address =
            |word| names.iter().find(|(_, name)| *name == word).map_or(word, |(address, _)| *address);
        if let Some(hosts) = &self.hosts {
            hosts.mount_for(&mut command);
        }
        command.args(arguments.split_whitespace().map(address)).env("IPMP_SOCKET", self.daemon.socket());
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// The group in `ipmpctl show --json`.
    pub fn group(&self) -> Result<GroupReport> {
        let mut shown: Value = serde_json::from_str(&self.daemon.ctl("show --json")?)?;
        let group = shown.pointer_mut("/groups/0").context("`ipmpctl show --json` shows no group")?;
        Ok(serde_json::from_value(group.take())?)
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
