//! `cargo xtask vm`: a command of the project on another kernel.
//!
//! Debian's kernel package is unpacked into the cache, not installed, and booted by QEMU in software emulation (many hosts that
//! are virtual machines themselves can do no better). The host's root directory is the guest's, read-only by 9p with a writable
//! layer over it that is discarded afterwards: what was built on the host runs in the guest under the same path. The guest has no
//! network but the cards that it is given, whose cables end in the guest again.

mod cpio;
mod disk;
mod kernel;
mod nic;
mod system;

pub use kernel::Kernel;
pub use nic::{Card, Nic};
pub use system::System;

use crate::setup::Setup;
use crate::unpacked::{self, Unpacked};
use crate::{debian, project};
use anyhow::{Context, Error, Result, ensure};
use clap::{Args, ValueEnum};
use std::env;
use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

/// Run a command in a virtual machine with another kernel
///
/// It runs as root, in the directory of the project, with the host's files, whose changes are discarded afterwards. Its output and its
/// exit code are passed on.
#[derive(Args)]
pub struct Vm {
    /// The kernel: 6.1 or 6.12, as Debian has them.
    #[arg(long)]
    kernel: Kernel,
    /// A network card for the guest; may be given several times. Card N has the Ethernet address 02:a0:00:00:00:0N, and at the
    /// other end of its cable is a virtio card, 02:a5:00:00:00:0N, in the same guest.
    #[arg(long = "nic", value_name = "MODEL")]
    nics: Vec<Nic>,
    /// The numbers of the cards, in the order in which they are on the bus [default: 1,2,...].
    #[arg(long, value_name = "N,...", value_delimiter = ',', requires = "nics")]
    nic_order: Vec<u8>,
    /// Boot the guest's kernel in this lockdown mode.
    #[arg(long, value_name = "MODE")]
    lockdown: Option<Lockdown>,
    /// Boot this system of its own, with systemd, and run the command when it is up. The host's files are below /host.
    #[arg(long)]
    system: Option<System>,
    /// Keep what the guest writes in this file, an ext4 image that is made if it is not there; needs --system.
    #[arg(long, value_name = "FILE", requires = "system")]
    disk: Option<PathBuf>,
    /// Install what is missing without asking.
    #[arg(long, short)]
    yes: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Vm {
    pub fn run(self) -> Result<ExitCode> {
        let setup = Setup { yes: self.yes };
        let mut cards = Card::numbered(&self.nics);
        if !self.nic_order.is_empty() {
            ensure!(self.nic_order.len() == cards.len(), "--nic-order must number each --nic once");
            cards.iter_mut().zip(&self.nic_order).for_each(|(card, &number)| card.number = number);
        }
        let mut machine = Machine::prepare(self.kernel, &cards, &setup)?.with_lockdown(self.lockdown);
        if let Some(system) = self.system {
            machine = machine.with_system(system, self.disk.as_deref(), &setup)?;
        }
        let kept = env::vars().filter(|(name, _)| name.starts_with("IPMP_") || name.starts_with("RUST_"));
        let variables: Vec<(String, String)> = kept.collect();
        let variables: Vec<(&str, String)> = variables.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
        machine.run(&self.command, &variables).map(ExitCode::from)
    }
}

/// What the kernel forbids to root (`security/lockdown` in the kernel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Lockdown {
    /// Changes of the running kernel.
    Integrity,
    /// Reads of kernel memory as well, those of eBPF programs among them.
    Confidentiality,
}

impl fmt::Display for Lockdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
        })
    }
}

/// A kernel that is ready to boot.
pub struct Machine {
    kernel: kernel::Files,
    programs: Unpacked,
    cards: Vec<Card>,
    lockdown: Option<Lockdown>,
    /// The emulated processors take turns.
    is_patient: bool,
    /// The root directory of a system of its own.
    system: Option<PathBuf>,
    disk: Option<PathBuf>,
}

/// The first process of the guest: makes the root directory, and becomes the second part inside it.
const INIT: &str = include_str!("vm/init.sh");

/// The second part: runs the command and ends the machine.
const RUN: &str = include_str!("vm/run.sh");

/// The second part in a guest with systemd, and the units that run it when the system is up.
const SYSTEM: &str = include_str!("vm/system.sh");
const UNITS: [(&str, &str); 2] =
    [("guest.target", include_str!("vm/guest.target")), ("guest.service", include_str!("vm/guest.service"))];

/// Why there is no exit code.
pub const NO_EXIT_CODE: &str =
    "the guest ended without an exit code: its kernel panicked, or the command ended the machine";

/// What [`RUN`] has in place of the path of modprobe.
const MODPROBE: &str = "@MODPROBE@";

impl Machine {
    /// Whether this host can run virtual machines; the error is the reason.
    pub fn is_supported() -> Result<(), &'static str> {
        if env::consts::ARCH == "x86_64" && debian::is_debian() {
            return Ok(());
        }
        Err("the virtual machine is made of Debian's amd64 packages: run it on a Debian of that architecture")
    }

    /// Gets QEMU and the kernel.
    pub fn prepare(kernel: Kernel, cards: &[Card], setup: &Setup) -> Result<Self> {
        ensure!(cards.len() <= nic::MOST, "the virtual machine has room for {} network cards", nic::MOST);
        Self::is_supported().map_err(Error::msg)?;
        let programs = setup.unpack(&unpacked::VM)?;
        Ok(Self {
            kernel: kernel.unpack(&programs)?,
            programs,
            cards: cards.to_vec(),
            lockdown: None,
            is_patient: false,
            system: None,
            disk: None,
        })
    }

    /// With a system of its own, which keeps what it writes on a disk if one is given.
    pub fn with_system(mut self, system: System, disk: Option<&Path>, setup: &Setup) -> Result<Self> {
        self.system = Some(system.unpack(setup)?);
        if let Some(disk) = disk {
            disk::ensure(disk, setup)?;
            self.disk = Some(disk.to_owned());
        }
        Ok(self)
    }

    /// With a kernel in this lockdown mode.
    #[must_use]
    pub fn with_lockdown(self, lockdown: Option<Lockdown>) -> Self {
        Self { lockdown, ..self }
    }

    /// With emulated processors that take turns. It takes longer, and survives hours: processors that run at the same time have been
    /// seen to execute an instruction of a static key that another one was changing, which is a panic.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { is_patient: true, ..self }
    }

    /// Boots, runs the command with these environment variables, and returns its exit code.
    pub fn run(&self, command: &[String], variables: &[(&str, String)]) -> Result<u8> {
        self.boot(command, variables)?.context(NO_EXIT_CODE)
    }

    /// The same, and what the command printed, which is passed on as well.
    pub fn output(&self, command: &[String], variables: &[(&str, String)]) -> Result<(String, u8)> {
        let mut output = String::new();
        let code = self.boot_with(command, variables, Some(&mut output))?;
        Ok((output, code.context(NO_EXIT_CODE)?))
    }

    /// The same; without an exit code if the machine ended before the command, as when its power is cut.
    pub fn boot(&self, command: &[String], variables: &[(&str, String)]) -> Result<Option<u8>> {
        self.boot_with(command, variables, None)
    }

    fn boot_with(
        &self,
        command: &[String],
        variables: &[(&str, String)],
        output: Option<&mut String>,
    ) -> Result<Option<u8>> {
        let scratch = Scratch::new("vm")?;
        let initramfs = scratch.0.join("initramfs");
        let code = scratch.0.join("code");
        let mut variables = variables.to_vec();
        variables.push((nic::VARIABLE, nic::names(&self.cards)));
        let archive = self.initramfs(&script(command, &variables, self.system.is_some()))?;
        fs::write(&initramfs, archive)
            .with_context(|| format!("{} cannot be written", initramfs.display()))?;
        let mut qemu = Command::new(self.programs.bin().join("qemu-system-x86_64"));
        qemu.env("QEMU_MODULE_DIR", self.programs.libraries()?.join("qemu"));
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            qemu.arg("-L").arg(self.programs.file(firmware));
        }
        let threads = if self.is_patient { "tcg,thread=single" } else { "tcg,thread=multi" };
        qemu.args(["-accel", threads, "-cpu", "max", "-smp", "2", "-m", "2G"])
            .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"])
            .arg("-serial")
            .arg(format!("file:{}", code.display()))
            .arg("-virtfs")
            .arg("local,path=/,mount_tag=host,security_model=none,multidevs=remap,readonly=on")
            .arg("-virtfs")
            .arg(format!(
                "local,path={},mount_tag=modules,security_model=none,readonly=on",
                self.kernel.modules.display()
            ))
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&initramfs)
            .args(nic::arguments(&self.cards, &scratch.0))
            .args(["-append", &self.kernel_arguments()]);
        if let Some(system) = &self.system {
            qemu.arg("-virtfs").arg(format!(
                "local,path={},mount_tag=system,security_model=none,readonly=on",
                system.display()
            ));
        }
        if let Some(disk) = &self.disk {
            qemu.arg("-drive").arg(format!("file={},if=virtio,format=raw", disk.display()));
        }
        qemu.stdin(Stdio::null());
        let status = match output {
            Some(output) => status_with_output(qemu, output),
            None => qemu.status(),
        };
        let status = status.context("qemu-system-x86_64 cannot be run")?;
        ensure!(status.success(), "qemu-system-x86_64 failed ({status})");
        let code = fs::read_to_string(&code).unwrap_or_default();
        Ok(code.trim().parse().ok())
    }

    /// The command line of the kernel.
    fn kernel_arguments(&self) -> String {
        let lockdown = self.lockdown.map(|lockdown| format!(" lockdown={lockdown}")).unwrap_or_default();
        // The output of the command is the only one on the console.
        // The ports of the cards are not the host's: a test that uses them loads their driver.
        let system = " systemd.unit=guest.target systemd.show_status=no systemd.log_target=journal rw modprobe.blacklist=virtio_net";
        let system = if self.system.is_some() { system } else { "" };
        // On a busy host the kernel's test of the timer's interrupt takes a late one for a missing one, and panics.
        format!(
            "console=ttyS0 quiet loglevel=2 panic=-1 oops=panic no_timer_check net.ifnames=0{lockdown}{system}"
        )
    }

    fn initramfs(&self, command: &str) -> Result<Vec<u8>> {
        let busybox = self.programs.bin().join("busybox");
        let busybox = fs::read(&busybox).with_context(|| busybox.display().to_string())?;
        let mut archive = cpio::Archive::default();
        for directory in ["bin", "dev", "proc", "sys", "host", "scratch", "root", "modules"] {
            archive.directory(directory);
        }
        archive.file("bin/busybox", 0o755, &busybox);
        archive.file("init", 0o755, INIT.as_bytes());
        let modprobe = quote(&self.programs.bin().join("modprobe").to_string_lossy());
        let run = if self.system.is_some() { SYSTEM.to_owned() } else { RUN.replace(MODPROBE, &modprobe) };
        archive.file("run.sh", 0o755, run.as_bytes());
        if self.system.is_some() {
            archive.directory("system");
            for (name, unit) in UNITS {
                archive.file(name, 0o644, unit.as_bytes());
            }
        }
        archive.file("command.sh", 0o755, command.as_bytes());
        let mut order = String::new();
        for (name, module) in self.kernel.boot_modules(self.disk.is_some(), &self.programs)? {
            archive.file(&format!("modules/{name}"), 0o644, &module);
            order += &name;
            order.push('\n');
        }
        archive.file("modules/order", 0o644, order.as_bytes());
        Ok(archive.finish())
    }
}

/// Runs a command, and keeps and passes on what it prints.
fn status_with_output(mut command: Command, output: &mut String) -> io::Result<ExitStatus> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    if let Some(printed) = child.stdout.take() {
        for line in BufReader::new(printed).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            output.push_str(&line);
            output.push('\n');
        }
    }
    child.wait()
}

/// The command as a shell script, which runs in the directory of the project; in a system of its own, that is below /host.
fn script(command: &[String], variables: &[(&str, String)], has_system: bool) -> String {
    let mut script = String::new();
    for (name, value) in variables.iter().filter(|(_, value)| !value.is_empty()) {
        script += &format!("export {name}={}\n", quote(value));
    }
    for name in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"] {
        let is_given = variables.iter().any(|(given, value)| *given == name && !value.is_empty());
        if let (Ok(value), false) = (env::var(name), is_given || has_system) {
            script += &format!("export {name}={}\n", quote(&value));
        }
    }
    let root = project::root();
    let directory = if has_system { below_host(&root) } else { root.display().to_string() };
    script += &format!("cd {}\n", quote(&directory));
    let words: Vec<String> = command.iter().map(|word| quote(word)).collect();
    script + &words.join(" ") + "\n"
}

/// The path in the guest of a file of the host.
pub fn host_path(system: Option<System>, path: &Path) -> String {
    if system.is_some() { below_host(path) } else { path.display().to_string() }
}

fn below_host(path: &Path) -> String {
    format!("/host{}", path.display())
}

/// A word that the shell takes as it is.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A directory that is removed when it is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// One for this process and purpose.
    pub fn new(purpose: &str) -> Result<Self> {
        let path = env::temp_dir().join(format!("ipmp-{purpose}-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of it is a few megabytes in a directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        for word in ["plain", "two words", "it's", "$HOME `id` \"x\" \\", "", "line\nline"] {
            let output =
                Command::new("sh").arg("-c").arg(format!("printf %s {}", quote(word))).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn the_guest_gets_the_callers_variables() {
        let script = script(
            &["echo".into(), "a b".into()],
            &[("IPMP_ATTACH", "clsact".into()), ("IPMP_SOAK", String::new())],
            false,
        );
        assert!(script.contains("export IPMP_ATTACH='clsact'\n"));
        assert!(!script.contains("IPMP_SOAK"));
        assert!(script.ends_with("\n'echo' 'a b'\n"));
    }
}
