//! The watchdog of systemd, `WatchdogSec=` of the unit: it restarts a daemon whose event loop no longer runs.
//!
//! The message is sent by the event loop, so that nothing else keeps a stuck daemon alive, and never waits for a manager that
//! does not read.

use std::{
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::ffi::OsStrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use crate::core::Time;

/// What is sent, as sd_notify(3) documents it.
const ALIVE: &[u8] = b"WATCHDOG=1";

/// Reports to the service manager that the event loop runs.
#[derive(Debug)]
pub struct Watchdog {
    manager: Option<Manager>,
    due: Time,
}

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Half of what the manager permits.
    period: Duration,
}

impl Watchdog {
    /// As the environment of the process says. Without a service manager that asks for it, nothing is sent.
    pub fn from_environment() -> Self {
        let limit = sd_notify::watchdog_enabled();
        let manager = limit.zip(std::env::var_os("NOTIFY_SOCKET")).and_then(|(limit, path)| {
            let manager = Manager::new(path, limit / 2);
            manager
                .inspect_err(|error| log::warn!("cannot reach the watchdog of the service manager: {error}"))
                .ok()
        });
        Self { manager, due: Time::default() }
    }

    /// When the next message is due.
    pub fn next(&self) -> Option<Time> {
        self.manager.is_some().then_some(self.due)
    }

    /// Sends the message, if it is due.
    pub fn feed(&mut self, now: Time) {
        let Some(manager) = self.manager.as_ref().filter(|_| self.due <= now) else { return };
        self.due = now + manager.period;
        if let Err(error) = manager.socket.send_to_addr(ALIVE, &manager.address) {
            log::debug!("the watchdog of the service manager does not read: {error}");
        }
    }
}

impl Manager {
    fn new(path: OsString, period: Duration) -> io::Result<Self> {
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address, period })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn message_is_sent_twice_within_the_limit_and_never_waits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let manager = Manager::new(path.into(), Duration::from_secs(5)).unwrap();
        let mut watchdog = Watchdog { manager: Some(manager), due: at(0) };
        let received = || {
            let mut text = [0; 64];
            receiver.recv(&mut text).ok().map(|length| text[..length].to_vec())
        };
        watchdog.feed(at(100));
        assert_eq!(received().as_deref(), Some(ALIVE));
        assert_eq!(watchdog.next(), Some(at(105)));
        watchdog.feed(at(104));
        assert_eq!(received(), None);
        // More than the queue of the socket holds.
        for round in 0..10_000 {
            watchdog.feed(at(200 + 5 * round));
        }
        assert!(received().is_some());
    }

    #[test]
    fn nothing_is_due_without_a_service_manager() {
        let mut watchdog = Watchdog { manager: None, due: at(0) };
        watchdog.feed(at(1));
        assert_eq!(watchdog.next(), None);
    }
}
