//! A network namespace with a name under /run/netns.
//!
//! Only the network namespace is entered. `ip netns exec` would also mount a private /sys, which hides /sys/fs/bpf and
//! all pins, and like `ip -n` it fails in a chroot whose root is no mount point; so neither is used here.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use crate::netlink::{Link, Netlink};
use crate::wait_until;
use crate::{command, socket_option};

/// Directory of the named network namespaces.
const DIRECTORY: &str = "/run/netns";

/// A network namespace of a lab. Cloning is cheap: all clones are the same namespace.
#[derive(Clone)]
pub struct Namespace(Arc<Inner>);

struct Inner {
    name: String,
    file: File,
    netlink: OnceLock<Netlink>,
}

impl Namespace {
    /// Opens an existing namespace.
    pub fn open(name: &str) -> Result<Self> {
        let path = format!("{DIRECTORY}/{name}");
        let file = File::open(&path).with_context(|| format!("no network namespace {path}"))?;
        Ok(Self(Arc::new(Inner { name: name.to_owned(), file, netlink: OnceLock::new() })))
    }

    /// Its name, for `ipmpd --netns`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its file, for `nsenter --net=`.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(DIRECTORY).join(&self.0.name)
    }

    /// Moves the calling thread into the network namespace, permanently.
    pub fn enter(&self) -> Result<()> {
        setns(&self.0.file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter network namespace {}", self.0.name))
    }

    /// Runs a closure in the namespace, on a thread of its own. Sockets opened in it stay in the namespace.
    ///
    /// # Panics
    /// When the namespace cannot be entered, and with the closure's own panic.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter().unwrap_or_else(|error| panic!("{error:#}"));
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run in the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let namespace = self.0.clone();
        // SAFETY: between fork and exec there is one system call on a descriptor that the closure keeps open.
        unsafe {
            command.pre_exec(move || {
                let file = BorrowedFd::borrow_raw(namespace.file.as_raw_fd());
                setns(file, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from)
            });
        }
        command
    }

    /// `ip ARGUMENTS` in the namespace; returns its output.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        command::run(self.command("ip").args(arguments.split_whitespace()))
    }

    /// Sets a network sysctl: `net.ipv4.ip_forward`. Names of interfaces with dots are written with slashes.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = sysctl_path(key);
        // /proc/sys/net shows the namespace of the thread that opens it.
        self.run(|| fs::write(&path, value))
            .with_context(|| format!("cannot set {key} to {value} in {}", self.0.name))
    }

    /// Reads a network sysctl.
    pub fn read_sysctl(&self, key: &str) -> Result<String> {
        let path = sysctl_path(key);
        let text = self
            .run(|| fs::read_to_string(&path))
            .with_context(|| format!("cannot read {key} in {}", self.0.name))?;
        Ok(text.trim().to_owned())
    }

    /// The kernel's identifier of the namespace (SO_NETNS_COOKIE), never reused: part of the pin path.
    pub fn cookie(&self) -> Result<u64> {
        self.run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket_option::get::<u64>(&socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE)
        })
        .with_context(|| format!("cannot read the cookie of network namespace {}", self.0.name))
    }

    /// The namespace's netlink socket, opened on first use.
    ///
    /// # Panics
    /// When the socket cannot be opened.
    pub fn netlink(&self) -> &Netlink {
        self.0.netlink.get_or_init(|| self.run(Netlink::open).unwrap_or_else(|error| panic!("{error:#}")))
    }

    /// The current state of an interface.
    pub fn link(&self, interface: &str) -> Result<Link> {
        self.netlink().link(interface).with_context(|| format!("in {}", self.0.name))
    }

    /// Waits until the carrier of an interface is up or down. Returns whether that happened in time.
    pub fn wait_carrier(&self, interface: &str, carrier: bool, timeout: Duration) -> bool {
        wait_until(timeout, || self.link(interface).is_ok_and(|link| link.carrier == carrier))
    }
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Namespace").field(&self.0.name).finish()
    }
}

fn sysctl_path(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}
