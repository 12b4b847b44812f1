//! QMP: controls the QEMU process that this virtual machine runs in, over a virtio-serial port.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::TIMEOUT;

/// Name of the port, set by `cargo xtask vm`.
const PORT: &str = "org.qemu.monitor";
/// Directory of all virtio-serial ports.
const PORTS: &str = "/sys/class/virtio-ports";

/// The connection of this process: the port cannot be opened twice.
static CONNECTION: Mutex<Option<Connection>> = Mutex::new(None);

struct Connection {
    port: File,
    unread: Vec<u8>,
    number: u64,
}

/// Sets the link of a network card up or down. QEMU has done so when this returns.
pub fn set_link(card: &str, up: bool) -> Result<()> {
    let mut connection = CONNECTION.lock().unwrap_or_else(PoisonError::into_inner);
    if connection.is_none() {
        *connection = Some(Connection::open()?);
    }
    let Some(connection) = connection.as_mut() else { bail!("no connection to QEMU") };
    let reply = connection.execute("set_link", &json!({ "name": card, "up": up }))?;
    ensure!(reply.get("return").is_some(), "QEMU does not set the link of {card}: {reply}");
    Ok(())
}

impl Connection {
    fn open() -> Result<Self> {
        let name = port().with_context(|| {
            format!(
                "this machine has no port {PORT}: it is not a virtual machine with network cards. \
                 Use `cargo xtask test --kernel 6.12`, or `cargo xtask vm --nic e1000`"
            )
        })?;
        let path = format!("/dev/{name}");
        let port = File::options().read(true).write(true).open(&path);
        let port = port.with_context(|| format!("cannot open {path}"))?;
        let mut this = Self { port, unread: Vec::new(), number: 0 };
        // QEMU rejects this if it was sent before on this port.
        this.execute("qmp_capabilities", &json!({}))?;
        Ok(this)
    }

    /// Executes a command and returns its reply. Greetings, events and replies to other processes are ignored.
    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        self.number += 1;
        let id = format!("{} {}", std::process::id(), self.number);
        let request = json!({ "execute": command, "arguments": arguments, "id": id });
        writeln!(self.port, "{request}").context("cannot write to QEMU")?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let line = self.line(deadline).with_context(|| format!("QMP command {command}"))?;
            match serde_json::from_slice::<Value>(&line) {
                Ok(reply) if reply["id"] == *id => return Ok(reply),
                _ => {}
            }
        }
    }

    fn line(&mut self, deadline: Instant) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                return Ok(self.unread.drain(..=end).collect());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let ready = poll(&mut [PollFd::new(self.port.as_fd(), PollFlags::POLLIN)], wait);
            ensure!(ready.context("cannot wait for QEMU")? > 0, "no reply from QEMU after {TIMEOUT:?}");
            let mut buffer = [0; 4096];
            let length = self.port.read(&mut buffer).context("cannot read from QEMU")?;
            ensure!(length > 0, "QEMU closed the connection");
            self.unread.extend_from_slice(&buffer[..length]);
        }
    }
}

/// The port's device: `vport2p1`.
fn port() -> Option<String> {
    let ports = fs::read_dir(PORTS).ok()?;
    let names = ports.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .into_iter()
        .find(|name| fs::read_to_string(format!("{PORTS}/{name}/name")).is_ok_and(|text| text.trim() == PORT))
}
