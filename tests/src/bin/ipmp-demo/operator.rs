//! Somebody at a shell of the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipmp::control::report::GroupReport;
use lab::daemon::binary;
use lab::network::DATA;
use lab::{Daemon, Lab, clock};
use serde_json::Value;

use crate::page;

/// The name of the data address in the tutorial's hosts file.
const NAME: &str = "hivemind-prod";
/// Hosts of this machine.
const HOSTS: &str = "/etc/hosts";
/// How long a group may take to be as it should.
const PATIENCE: Duration = Duration::from_secs(10);

/// Types commands, and reads what they say.
pub struct Operator<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    hosts: Option<PathBuf>,
}

impl<'lab> Operator<'lab> {
    /// With a daemon of the lab's host.
    pub fn new(lab: &'lab Lab) -> Result<Self> {
        Ok(Self { lab, daemon: Daemon::start_in(lab)?, hosts: hosts(lab)? })
    }

    /// What an address option says: the name if the host knows it.
    pub fn data_address(&self) -> String {
        if self.hosts.is_some() { format!("{NAME}/24") } else { format!("{DATA}/24") }
    }

    /// Types a command line, and prints it with what it says.
    pub fn types(&self, line: &str) -> Result<()> {
        page::line(&format!("# {line}"))?;
        let output = self.command(line)?.output().with_context(|| format!("`{line}` cannot be run"))?;
        page::block(&String::from_utf8_lossy(&output.stdout))?;
        page::block(&String::from_utf8_lossy(&output.stderr))?;
        ensure!(output.status.success(), "`{line}` failed ({})", output.status);
        Ok(())
    }

    /// The command of a line: it reads the host's hosts file, and finds its daemon.
    fn command(&self, line: &str) -> Result<Command> {
        let (program, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let program = if program == "ipmpctl" { binary(program)? } else { PathBuf::from(program) };
        let mut command = match &self.hosts {
            Some(hosts) => {
                let mut shell = self.lab.host().command("unshare");
                let script = format!("mount --bind \"$0\" {HOSTS} && exec \"$@\"");
                shell.args(["--mount", "sh", "-c", &script]).arg(hosts).arg(program);
                shell
            }
            None => self.lab.host().command(program.to_str().context("the path of a program")?),
        };
        command.args(arguments.split_whitespace()).env("IPMP_SOCKET", self.daemon.socket());
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// What `ipmpctl show --json` tells of the group.
    pub fn group(&self) -> Result<GroupReport> {
        let mut told: Value = serde_json::from_str(&self.daemon.ctl("show --json")?)?;
        serde_json::from_value(told["groups"][0].take()).context("`ipmpctl show --json` shows no group")
    }

    /// Waits until exactly these members do not carry traffic.
    pub fn wait_idle(&self, idle: &[&str]) -> Result<()> {
        let right = || {
            self.group().is_ok_and(|group| {
                let members = &group.members;
                members
                    .iter()
                    .all(|member| idle.contains(&member.name.as_str()) != (member.usable && member.live))
            })
        };
        let what = if idle.is_empty() { "nobody".to_owned() } else { idle.join(" and ") };
        ensure!(clock::wait_until(PATIENCE, right), "{what} should be idle, and after {PATIENCE:?} is not");
        Ok(())
    }

    /// SIGTERM to the daemon, which has nothing left to do.
    pub fn ends(mut self) -> Result<()> {
        self.daemon.terminate()
    }
}

/// The machine's hosts file with the tutorial's line; nothing where the machine has none to be covered.
fn hosts(lab: &Lab) -> Result<Option<PathBuf>> {
    if !Path::new(HOSTS).is_file() {
        return Ok(None);
    }
    let path = lab.directory().join("hosts");
    fs::write(&path, format!("{}\n{DATA} {NAME}\n", fs::read_to_string(HOSTS)?))?;
    Ok(Some(path))
}
