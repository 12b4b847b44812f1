//! The blocking client of the control socket, for command line tools.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;

use super::{
    explanation::Explanation,
    monitor::{self, EventRecord},
    path::{PathReport, Simulation},
    probes::ProbeUpdate,
    report::GroupReport,
    request::{Request, Response},
    target::TargetReport,
    timeline::Transition,
    verb::ReplyKind,
    wire::{Failure, MethodCall, SERVICE},
};

/// Longest reply in bytes: twice the report of 256 groups with 16 members.
const MAX_REPLY: u64 = 256 << 20;
/// Longer than the slowest request takes: attaching 16 interfaces on a busy machine.
const LIMIT_S: u64 = 120;
const LIMIT: Duration = Duration::from_secs(LIMIT_S);

/// Why a request failed, or its result is unknown.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    /// No daemon listens. The text is from the Solaris reference.
    #[error("cannot contact ipmpd at {} -- is IPMP in use?", path.display())]
    Contact { path: PathBuf, source: io::Error },
    /// The socket exists and cannot be connected to.
    #[error("cannot contact ipmpd at {}: {source}", path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    /// The daemon refused the request. Nothing has changed.
    #[error("{message}")]
    Refused { reason: String, message: String },
    /// The user has no permission. Nothing has changed.
    #[error("{0}")]
    NotPermitted(String),
    /// The connection ended before the reply.
    #[error("ipmpd at {} closed the connection before it replied; see its log", .0.display())]
    Closed(PathBuf),
    /// The daemon stopped during a subscription, and reported it.
    #[error("ipmpd at {} has stopped: its groups keep working, but no events are reported", .0.display())]
    Stopped(PathBuf),
    /// The daemon ended during a subscription without reporting it.
    #[error("ipmpd at {} was killed or has crashed; see its log and its service manager", .0.display())]
    Killed(PathBuf),
    /// No reply in time.
    #[error("ipmpd at {} has not replied for {} s; check its log and ipmpctl show", .0.display(), LIMIT_S)]
    Late(PathBuf),
    /// The connection broke.
    #[error("lost ipmpd at {}: {source}", path.display())]
    Lost { path: PathBuf, source: io::Error },
    /// The reply is from another version, or another program.
    #[error("ipmpd at {} is of another version than this command, or no ipmpd: {what}", path.display())]
    Unexpected { path: PathBuf, what: String },
}

#[derive(Deserialize)]
struct Done {
    notes: Vec<String>,
    changed: bool,
}

#[derive(Deserialize)]
struct Shown {
    groups: Vec<GroupReport>,
}

#[derive(Deserialize)]
struct Explained {
    explanation: Box<Explanation>,
}

#[derive(Deserialize)]
struct Listed {
    targets: Vec<TargetReport>,
}

#[derive(Deserialize)]
struct Predicted {
    path: PathReport,
}

#[derive(Deserialize)]
struct Simulated {
    simulation: Simulation,
}

#[derive(Deserialize)]
struct Timeline {
    transitions: Vec<Transition>,
}

#[derive(Deserialize)]
struct Recorded {
    state: String,
}

#[derive(Deserialize)]
struct EventReply {
    event: EventRecord,
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon whose socket this is.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let failed = |source: io::Error| {
            let path = path.into();
            match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::Contact { path, source },
                _ => Error::Unreachable { path, source },
            }
        };
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
        stream.set_write_timeout(Some(LIMIT)).map_err(failed)?;
        Ok(Self { path: path.into(), stream: BufReader::new(stream) })
    }

    /// Whether the daemon is in the network namespace of this process, as far as that can be read. Systemd listens for the daemon of
    /// a named namespace, too: there it is unknown.
    pub fn is_in_this_namespace(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(peer) = getsockopt(self.stream.get_ref(), PeerCredentials) else { return false };
        let is_default = || super::socket::path(None, None).is_ok_and(|path| path == self.path);
        let namespace = |process: &str| {
            let file = std::fs::metadata(format!("/proc/{process}/ns/net")).ok()?;
            Some((file.dev(), file.ino()))
        };
        let own = namespace("self");
        (peer.pid() != 1 || is_default()) && own.is_some() && own == namespace(&peer.pid().to_string())
    }

    /// Sends a request and waits for the result.
    pub fn call(&mut self, request: &Request) -> Result<Response, Error> {
        match request.verb().reply {
            ReplyKind::Explanation => {
                self.exchange(request).map(|Explained { explanation }| Response::Explained(explanation))
            }
            ReplyKind::Targets => self.exchange(request).map(|Listed { targets }| Response::Targets(targets)),
            ReplyKind::Path => self.exchange(request).map(|Predicted { path }| Response::Path(path)),
            ReplyKind::Simulation => {
                self.exchange(request).map(|Simulated { simulation }| Response::Simulated(simulation))
            }
            ReplyKind::Transitions => {
                self.exchange(request).map(|Timeline { transitions }| Response::Timeline(transitions))
            }
            ReplyKind::State => self.exchange(request).map(|Recorded { state }| Response::Recorded(state)),
            ReplyKind::Notes => {
                self.exchange(request).map(|Done { notes, changed }| Response::Done { notes, changed })
            }
            ReplyKind::Groups | ReplyKind::Events | ReplyKind::Probes => {
                self.exchange(request).map(|Shown { groups }| Response::Show(groups))
            }
        }
    }

    /// The reports of all groups.
    pub fn groups(&mut self) -> Result<Vec<GroupReport>, Error> {
        self.exchange(&Request::Show { name: None }).map(|Shown { groups }| groups)
    }

    /// What restoring the groups as they are now needs.
    pub fn record_state(&mut self) -> Result<String, Error> {
        self.exchange(&Request::RecordState {}).map(|Recorded { state }| state)
    }

    /// Subscribes to the events of every group, or of the one that has this name, group name or member. The first event
    /// is of kind watching.
    pub fn monitor(mut self, name: Option<String>) -> Result<(Events, EventRecord), Error> {
        let EventReply { event } = self.exchange(&Request::Monitor { name })?;
        // There may be no event for years.
        self.stream.get_ref().set_read_timeout(None).map_err(|e| self.lost(e))?;
        Ok((Events(self), event))
    }

    /// Subscribes to the probes of every group, or of the one that has this name, group name or member.
    pub fn probes(mut self, name: Option<String>) -> Result<Probes, Error> {
        self.exchange::<ProbeUpdate>(&Request::Probes { name })?;
        self.stream.get_ref().set_read_timeout(None).map_err(|e| self.lost(e))?;
        Ok(Probes(self))
    }

    /// Sends a request; returns the result as the daemon wrote it, in JSON.
    pub fn call_unparsed(&mut self, request: &Request) -> Result<String, Error> {
        let reply = self.first_reply(request)?;
        self.unparsed(&reply).map(str::to_owned)
    }

    /// Sends a call; returns the parameters of the first reply.
    fn exchange<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Error> {
        let reply = self.first_reply(request)?;
        self.parameters(&reply)
    }

    fn first_reply(&mut self, request: &Request) -> Result<Vec<u8>, Error> {
        let mut bytes = serde_json::to_vec(&MethodCall::new(request)).map_err(|e| self.unexpected(e))?;
        bytes.push(0);
        let written = self.stream.get_mut().write_all(&bytes);
        // A daemon that closed the connection may have sent an error before.
        let reply = self.read_reply();
        match (written, reply) {
            (_, Ok(reply)) => Ok(reply),
            (Err(error), Err(Error::Closed(_))) | (_, Err(Error::Lost { source: error, .. })) => {
                Err(self.lost(error))
            }
            (_, Err(error)) => Err(error),
        }
    }

    /// The parameters of a reply, unless it is an error.
    fn parameters<T: DeserializeOwned>(&self, reply: &[u8]) -> Result<T, Error> {
        serde_json::from_str(self.unparsed(reply)?).map_err(|e| self.unexpected(e))
    }

    /// The same in JSON.
    fn unparsed<'a>(&self, reply: &'a [u8]) -> Result<&'a str, Error> {
        #[derive(Deserialize)]
        #[serde(expecting = "an object")]
        struct Reply<'a> {
            error: Option<IgnoredAny>,
            #[serde(borrow)]
            parameters: Option<&'a RawValue>,
        }
        let Reply { error, parameters } = serde_json::from_slice(reply).map_err(|e| self.unexpected(e))?;
        if error.is_some() {
            return Err(match serde_json::from_slice(reply) {
                Ok(Failure::Refused { reason, message }) => Error::Refused { reason, message },
                Ok(Failure::NotPermitted { message }) => Error::NotPermitted(message),
                _ => self.unexpected(String::from_utf8_lossy(reply)),
            });
        }
        Ok(parameters.unwrap_or(RawValue::NULL).get())
    }

    /// Sends `GetInfo` without waiting for the reply.
    pub fn greet(&mut self) -> Result<(), Error> {
        let bytes = format!("{{\"method\":\"{SERVICE}.GetInfo\"}}\0");
        self.stream.get_mut().write_all(bytes.as_bytes()).map_err(|e| self.lost(e))
    }

    /// Waits for the reply to [`greet`](Self::greet); `false`: not within `patience`. A starting daemon accepts
    /// connections while it loads its programs, and closes them if it fails.
    pub fn is_greeted(&mut self, patience: Duration) -> Result<bool, Error> {
        let set = |client: &Self, limit| {
            client.stream.get_ref().set_read_timeout(limit).map_err(|e| client.lost(e))
        };
        set(self, Some(patience))?;
        match self.stream.fill_buf() {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(self.lost(error)),
            Ok(_) => set(self, Some(LIMIT))?,
        }
        self.read_reply().map(|_| true)
    }

    fn read_reply(&mut self) -> Result<Vec<u8>, Error> {
        let mut reply = Vec::new();
        match (&mut self.stream).take(MAX_REPLY).read_until(0, &mut reply) {
            Ok(_) if reply.pop() == Some(0) => Ok(reply),
            Ok(_) => Err(Error::Closed(self.path.clone())),
            Err(error) => Err(self.lost(error)),
        }
    }

    fn lost(&self, source: io::Error) -> Error {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Late(path),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::Closed(path),
            _ => Error::Lost { path, source },
        }
    }

    fn unexpected(&self, what: impl ToString) -> Error {
        Error::Unexpected { path: self.path.clone(), what: what.to_string() }
    }
}

/// The events of a daemon, from [`Client::monitor`].
#[derive(Debug)]
pub struct Events(Client);

impl Events {
    /// Waits for the next event.
    ///
    /// # Errors
    /// [`Error::Stopped`] or [`Error::Killed`] when the daemon has ended.
    pub fn next(&mut self, last: &EventRecord) -> Result<EventRecord, Error> {
        let Self(client) = self;
        if last.kind == monitor::STOPPED {
            return Err(Error::Stopped(client.path.clone()));
        }
        let reply = match client.read_reply() {
            Err(Error::Closed(path)) => return Err(Error::Killed(path)),
            reply => reply?,
        };
        client.parameters(&reply).map(|EventReply { event }| event)
    }
}

/// The probes of a daemon, from [`Client::probes`].
#[derive(Debug)]
pub struct Probes(Client);

impl Probes {
    /// Waits for the next finished probe, or for the number of lost ones.
    ///
    /// # Errors
    /// [`Error::Stopped`] or [`Error::Killed`] when the daemon has ended.
    pub fn wait(&mut self) -> Result<ProbeUpdate, Error> {
        let Self(client) = self;
        let reply = match client.read_reply() {
            Err(Error::Closed(path)) => return Err(Error::Killed(path)),
            reply => reply?,
        };
        let update: ProbeUpdate = client.parameters(&reply)?;
        if update == ProbeUpdate::default() { Err(Error::Stopped(client.path.clone())) } else { Ok(update) }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// The result of a call to a daemon that sends this reply and closes the connection.
    fn result_of(reply: &'static [u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            stream.read_until(0, &mut Vec::new()).unwrap();
            stream.get_mut().write_all(reply).unwrap();
        });
        let result = Client::connect(&path).unwrap().call(&Request::Offline { interface: "eth0".into() });
        daemon.join().unwrap();
        match result {
            Ok(response) => format!("{response:?}"),
            Err(error) => error.to_string().replace(&path.display().to_string(), "PATH"),
        }
    }

    #[test]
    fn absent_daemon_is_reported_as_in_the_reference() {
        assert_eq!(
            Client::connect(Path::new("/nonexistent/ipmpd.sock")).unwrap_err().to_string(),
            "cannot contact ipmpd at /nonexistent/ipmpd.sock -- is IPMP in use?"
        );
    }

    #[test]
    fn every_reply_has_a_message() {
        assert_eq!(
            result_of(b"{\"parameters\":{\"notes\":[\"a\"],\"changed\":false}}\0"),
            r#"Done { notes: ["a"], changed: false }"#
        );
        assert_eq!(
            result_of(
                b"{\"error\":\"net.ipmp.Manager.Refused\",\"parameters\":{\"reason\":\"r\",\"message\":\"no.\"}}\0"
            ),
            "no."
        );
        assert_eq!(result_of(b""), "ipmpd at PATH closed the connection before it replied; see its log");
        assert_eq!(
            result_of(b"{\"parameters\":"),
            "ipmpd at PATH closed the connection before it replied; see its log"
        );
        assert_eq!(
            result_of(b"220 mail.example.com ESMTP\0"),
            "ipmpd at PATH is of another version than this command, or no ipmpd: invalid type: integer `220`, \
             expected an object at line 1 column 3"
        );
        assert_eq!(
            result_of(b"{\"parameters\":{}}\0"),
            "ipmpd at PATH is of another version than this command, or no ipmpd: missing field `notes` at line 1 column 2"
        );
        assert_eq!(
            result_of(
                b"{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"m\"}}\0"
            ),
            "ipmpd at PATH is of another version than this command, or no ipmpd: \
             {\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"m\"}}"
        );
    }
}
