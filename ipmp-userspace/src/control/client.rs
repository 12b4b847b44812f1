//! The client's end of the control socket, for command line tools: it blocks.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    explanation::Explanation,
    monitor::{self, EventRecord},
    probes::ProbeUpdate,
    report::GroupReport,
    request::{Request, Response},
    target::TargetReport,
    verb::ReplyKind,
    wire::{Failure, MethodCall, SERVICE},
};

/// Longest reply in bytes: the report of every group there can be, with room to spare.
const MAX_REPLY: u64 = 256 << 20;
/// Longer than the slowest request takes: attaching 16 interfaces on a busy machine.
const LIMIT_S: u64 = 120;
const LIMIT: Duration = Duration::from_secs(LIMIT_S);

/// Why a request was not carried out, or nobody knows whether it was.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the text of the variant names")]
pub enum Error {
    /// Nobody listens. The words are the reference's.
    #[error("cannot contact ipmpd at {} -- is IPMP in use?", path.display())]
    Contact { path: PathBuf, source: io::Error },
    /// Something is there that does not let us in.
    #[error("cannot contact ipmpd at {}: {source}", path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    /// The daemon says no. Nothing has changed.
    #[error("{message}")]
    Refused { reason: String, message: String },
    /// The daemon says no to this user. Nothing has changed.
    #[error("{0}")]
    NotPermitted(String),
    /// The connection ended before the reply.
    #[error("ipmpd at {} closed the connection before it replied: its log says why", .0.display())]
    Closed(PathBuf),
    /// The daemon has ended while it was listened to, and has said so.
    #[error("ipmpd at {} has stopped: its groups stay as they are, and nobody tells what happens to them", .0.display())]
    Stopped(PathBuf),
    /// The daemon has ended while it was listened to, and has not said so.
    #[error("ipmpd at {} is gone: it was killed or has crashed; its log and its service manager say more", .0.display())]
    Gone(PathBuf),
    /// No reply in time.
    #[error("ipmpd at {} has not replied for {} s: look at its log, then at ipmpctl show", .0.display(), LIMIT_S)]
    Late(PathBuf),
    /// The connection broke.
    #[error("lost ipmpd at {}: {source}", path.display())]
    Lost { path: PathBuf, source: io::Error },
    /// What replies is of another version, or no ipmpd.
    #[error("ipmpd at {} is of another version than this command, or no ipmpd: {what}", path.display())]
    Foreign { path: PathBuf, what: String },
}

#[derive(Deserialize)]
struct Done {
    notes: Vec<String>,
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

    /// Makes a request and waits for what became of it.
    pub fn call(&mut self, request: &Request) -> Result<Response, Error> {
        let parameters = self.exchange(request)?;
        let response = match request.verb().reply {
            ReplyKind::Explanation => serde_json::from_value(parameters)
                .map(|Explained { explanation }| Response::Explained(explanation)),
            ReplyKind::Targets => {
                serde_json::from_value(parameters).map(|Listed { targets }| Response::Targets(targets))
            }
            ReplyKind::Notes => {
                serde_json::from_value(parameters).map(|Done { notes }| Response::Done(notes))
            }
            ReplyKind::Groups | ReplyKind::Events | ReplyKind::Probes => {
                serde_json::from_value(parameters).map(|Shown { groups }| Response::Show(groups))
            }
        };
        response.map_err(|e| self.foreign(e))
    }

    /// Begins to listen: to every group, or to the one that has this name, group name or member. The first event says
    /// what is watched.
    pub fn monitor(mut self, name: Option<String>) -> Result<(Events, EventRecord), Error> {
        let parameters = self.exchange(&Request::Monitor { name })?;
        let EventReply { event } = serde_json::from_value(parameters).map_err(|e| self.foreign(e))?;
        // Nothing may happen for years.
        self.stream.get_ref().set_read_timeout(None).map_err(|e| self.lost(e))?;
        Ok((Events(self), event))
    }

    /// Begins to listen to the probes of every group, or of the one that has this name, group name or member.
    pub fn probes(mut self, name: Option<String>) -> Result<Probes, Error> {
        let parameters = self.exchange(&Request::Probes { name })?;
        serde_json::from_value::<ProbeUpdate>(parameters).map_err(|e| self.foreign(e))?;
        self.stream.get_ref().set_read_timeout(None).map_err(|e| self.lost(e))?;
        Ok(Probes(self))
    }

    /// Makes a call, and gives the parameters of the first reply.
    fn exchange(&mut self, request: &Request) -> Result<Value, Error> {
        let mut bytes = serde_json::to_vec(&MethodCall::new(request)).map_err(|e| self.foreign(e))?;
        bytes.push(0);
        let written = self.stream.get_mut().write_all(&bytes);
        // A daemon that has closed the connection may still have said why.
        let reply = self.read_reply();
        match (written, reply) {
            (_, Ok(reply)) => self.parameters(&reply),
            (Err(error), Err(Error::Closed(_))) | (_, Err(Error::Lost { source: error, .. })) => {
                Err(self.lost(error))
            }
            (_, Err(error)) => Err(error),
        }
    }

    /// What a reply holds, if it is no error.
    fn parameters(&self, reply: &[u8]) -> Result<Value, Error> {
        let mut reply: Map<String, Value> = serde_json::from_slice(reply).map_err(|e| self.foreign(e))?;
        if reply.contains_key("error") {
            let reply = Value::Object(reply);
            let text = reply.to_string();
            return Err(match serde_json::from_value(reply) {
                Ok(Failure::Refused { reason, message }) => Error::Refused { reason, message },
                Ok(Failure::NotPermitted { message }) => Error::NotPermitted(message),
                _ => self.foreign(text),
            });
        }
        Ok(reply.remove("parameters").unwrap_or_default())
    }

    /// Asks who is there, without waiting for the reply.
    pub fn greet(&mut self) -> Result<(), Error> {
        let bytes = format!("{{\"method\":\"{SERVICE}.GetInfo\"}}\0");
        self.stream.get_mut().write_all(bytes.as_bytes()).map_err(|e| self.lost(e))
    }

    /// Waits for the reply to a greeting; whether it came in time. A daemon that has its socket and is still loading its
    /// programs takes connections already, and closes them if it cannot go on.
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

    fn foreign(&self, what: impl ToString) -> Error {
        Error::Foreign { path: self.path.clone(), what: what.to_string() }
    }
}

/// The events of a daemon, from [`Client::monitor`].
#[derive(Debug)]
pub struct Events(Client);

impl Events {
    /// Waits for the next event.
    ///
    /// # Errors
    /// [`Error::Stopped`] or [`Error::Gone`] when no other comes.
    pub fn next(&mut self, last: &EventRecord) -> Result<EventRecord, Error> {
        let Self(client) = self;
        if last.kind == monitor::STOPPED {
            return Err(Error::Stopped(client.path.clone()));
        }
        let reply = match client.read_reply() {
            Err(Error::Closed(path)) => return Err(Error::Gone(path)),
            reply => reply?,
        };
        let parameters = client.parameters(&reply)?;
        serde_json::from_value(parameters).map(|EventReply { event }| event).map_err(|e| client.foreign(e))
    }
}

/// The probes of a daemon, from [`Client::probes`].
#[derive(Debug)]
pub struct Probes(Client);

impl Probes {
    /// Waits for the next probe that is over, or for the news that some are missing.
    ///
    /// # Errors
    /// [`Error::Stopped`] or [`Error::Gone`] when no other comes.
    pub fn wait(&mut self) -> Result<ProbeUpdate, Error> {
        let Self(client) = self;
        let reply = match client.read_reply() {
            Err(Error::Closed(path)) => return Err(Error::Gone(path)),
            reply => reply?,
        };
        let update: ProbeUpdate =
            serde_json::from_value(client.parameters(&reply)?).map_err(|e| client.foreign(e))?;
        if update == ProbeUpdate::default() { Err(Error::Stopped(client.path.clone())) } else { Ok(update) }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// What the client makes of a daemon that says this and closes the connection.
    fn made_of(reply: &'static [u8]) -> String {
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
    fn nobody_there_is_said_in_the_words_of_the_reference() {
        assert_eq!(
            Client::connect(Path::new("/nonexistent/ipmpd.sock")).unwrap_err().to_string(),
            "cannot contact ipmpd at /nonexistent/ipmpd.sock -- is IPMP in use?"
        );
    }

    #[test]
    fn every_reply_has_a_line() {
        assert_eq!(made_of(b"{\"parameters\":{\"notes\":[\"a\"]}}\0"), r#"Done(["a"])"#);
        assert_eq!(
            made_of(
                b"{\"error\":\"net.ipmp.Manager.Refused\",\"parameters\":{\"reason\":\"r\",\"message\":\"no.\"}}\0"
            ),
            "no."
        );
        assert_eq!(made_of(b""), "ipmpd at PATH closed the connection before it replied: its log says why");
        assert_eq!(
            made_of(b"{\"parameters\":"),
            "ipmpd at PATH closed the connection before it replied: its log says why"
        );
        assert_eq!(
            made_of(b"220 mail.example.com ESMTP\0"),
            "ipmpd at PATH is of another version than this command, or no ipmpd: invalid type: integer `220`, \
             expected a map at line 1 column 3"
        );
        assert_eq!(
            made_of(b"{\"parameters\":{}}\0"),
            "ipmpd at PATH is of another version than this command, or no ipmpd: missing field `notes`"
        );
        assert_eq!(
            made_of(
                b"{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"m\"}}\0"
            ),
            "ipmpd at PATH is of another version than this command, or no ipmpd: \
             {\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"m\"}}"
        );
    }
}
