//! The monitor of the emulator that this machine runs in: QEMU's, spoken to by QMP on a virtio-serial port.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

/// Name of the port, as `cargo xtask vm` gives it.
const PORT: &str = "org.qemu.monitor";
/// Where the kernel lists such ports.
const PORTS: &str = "/sys/class/virtio-ports";
/// How long the emulator may take to answer: its processors may all be busy elsewhere.
const PATIENCE: Duration = Duration::from_secs(30);

/// The one conversation of this process: the port cannot be opened twice.
static CONVERSATION: Mutex<Option<Conversation>> = Mutex::new(None);

struct Conversation {
    port: File,
    unread: Vec<u8>,
    number: u64,
}

/// Plugs a network card in, or unplugs it. When this returns, the emulator has done so and told the card.
pub fn set_link(card: &str, up: bool) -> Result<()> {
    let mut conversation = CONVERSATION.lock().unwrap_or_else(PoisonError::into_inner);
    if conversation.is_none() {
        *conversation = Some(Conversation::open()?);
    }
    let Some(conversation) = conversation.as_mut() else { bail!("no line to the emulator") };
    let answer = conversation.ask("set_link", &json!({ "name": card, "up": up }))?;
    ensure!(answer.get("return").is_some(), "the emulator does not set the link of {card}: {answer}");
    Ok(())
}

impl Conversation {
    fn open() -> Result<Self> {
        let name = port().with_context(|| {
            format!(
                "this machine has no port {PORT}: it is no virtual machine with network cards. \
                 Use `cargo xtask test --kernel 6.12`, or `cargo xtask vm --nic e1000`"
            )
        })?;
        let path = format!("/dev/{name}");
        let port = File::options().read(true).write(true).open(&path);
        let port = port.with_context(|| format!("cannot open {path}"))?;
        let mut this = Self { port, unread: Vec::new(), number: 0 };
        // Refused if somebody said so before us on the same line.
        this.ask("qmp_capabilities", &json!({}))?;
        Ok(this)
    }

    /// Asks, and waits for the answer; greetings, events and answers to others are passed over.
    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        self.number += 1;
        let id = format!("{} {}", std::process::id(), self.number);
        let request = json!({ "execute": command, "arguments": arguments, "id": id });
        writeln!(self.port, "{request}").context("the emulator does not listen")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.line(deadline).with_context(|| format!("the emulator was asked to {command}"))?;
            match serde_json::from_slice::<Value>(&line) {
                Ok(answer) if answer["id"] == *id => return Ok(answer),
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
            ensure!(
                ready.context("waiting for the emulator")? > 0,
                "the emulator has not answered after {PATIENCE:?}"
            );
            let mut buffer = [0; 4096];
            let length = self.port.read(&mut buffer).context("reading from the emulator")?;
            ensure!(length > 0, "the emulator has hung up");
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
