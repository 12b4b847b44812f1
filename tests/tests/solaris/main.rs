//! The commands of Solaris, by their names: `if_mpadm`, and `ipmp-ifconfig` as `ifconfig`.

lab::lane!(
    side_by_side,
    seconds = 110,
    quiet,
    no_clsact = "the commands do not depend on how programs are attached"
);

use std::os::unix::fs::symlink;
use std::process::Output;

use lab::daemon::binary;
use lab::hosts_file::all as names;
use lab::network::DATA;
use lab::{Daemon, HostsFile, Lab, TIMEOUT, wait_until};

mod boot_files;
mod classic;
mod if_mpadm;
mod ifconfig;
mod targets;

/// A host with a daemon, on which the commands are links to `ipmpctl`.
struct Host<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    /// Where none can be mounted, the names in command lines are replaced by their addresses.
    names: Option<HostsFile>,
}

impl<'lab> Host<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        Self::with(lab, Daemon::start_in(lab).unwrap())
    }

    fn with(lab: &'lab Lab, daemon: Daemon<'lab>) -> Self {
        symlink(binary("ipmpstat").unwrap(), lab.directory().join("ipmpstat")).unwrap();
        for command in ["if_mpadm", "ifconfig"] {
            symlink(binary("ipmpctl").unwrap(), lab.directory().join(command)).unwrap();
        }
        let names = HostsFile::create(lab, &names()).unwrap();
        Self { lab, daemon, names }
    }

    /// Runs a command line. The only quoted word is the empty one.
    fn run(&self, line: &str) -> Output {
        let mut words = line.split_whitespace().map(|word| if word == "\"\"" { "" } else { word });
        let program = self.lab.directory().join(words.next().unwrap());
        let mut command = self.lab.host().command(program.to_str().unwrap());
        match &self.names {
            Some(names) => {
                names.mount_for(&mut command);
                command.args(words);
            }
            None => {
                let address =
                    |word| names().iter().find(|(_, name)| *name == word).map(|(address, _)| *address);
                command.args(words.map(|word| address(word).unwrap_or(word)));
            }
        }
        command.env("IPMP_SOCKET", self.daemon.socket()).output().unwrap()
    }

    /// Exit status, standard output and standard error of a command line.
    fn result(&self, line: &str) -> (i32, String, String) {
        let output = self.run(line);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Waits until a command of the project prints this.
    fn wait_shown(&self, arguments: &str, expected: &str) {
        let shown = || self.daemon.ctl(arguments).unwrap();
        assert!(wait_until(TIMEOUT, || shown().contains(expected)), "not {expected:?}:\n{}", shown());
    }
}

/// The tutorial's host without peers.
fn quiet_lab() -> Lab {
    settled(Lab::builder().peers(&[]).build().unwrap())
}

fn settled(lab: Lab) -> Lab {
    // Without duplicate address detection, addresses do not change their state a second later.
    lab.host().sysctl("net.ipv6.conf.default.accept_dad", "0").unwrap();
    lab
}
