//! The socket's server: one task for each client, so that none waits for another. It has a thread of its own, without
//! capabilities and without real-time priority: calls of clients do not delay the daemon ([`limits`]).
//!
//! It is written by hand because the Varlink crate that serves the tests as client, zlink, handles one call of one
//! client at a time and writes its reply before it reads the next: a client that does not read blocks all. It also does
//! not report which parameter is wrong, or limit a message below 100 MiB.

mod limits;

use std::{io, os::unix::net::UnixListener as StdListener, thread, time::Duration};

use caps::CapSet;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream, unix::ReadHalf},
    runtime,
    sync::{broadcast::error::RecvError, oneshot},
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use self::limits::Limits;
use super::{
    monitor::{self, EventRecord},
    peer::{GROUP, Peer},
    probes::{Feeds, ProbeUpdate},
    request::{Caller, Refused, Request, Response, Sender, reason},
    wire::{self, Failure, MethodCall, ParsedCall, ReplyParameters},
};

/// Longest call of a user that may change something, in bytes, without its NUL.
pub const MAX_CALL: usize = 1 << 20;
/// Longest call of a user that may change nothing: its calls have a name as their only parameter.
const MAX_READING_CALL: usize = 16 << 10;
/// Lookups of users in groups at a time.
const LOOKUPS: usize = 4;
/// Time limit for a client to complete a call.
const READ_LIMIT: Duration = Duration::from_secs(600);
/// Time limit for a client to read its reply.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// After an error of `accept`, such as too many open files: long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time limit for pending replies when the daemon ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime rejects the socket.
    #[error("cannot serve the control socket: {0}")]
    Listener(#[source] io::Error),
}

/// Serves the socket in a thread, until the daemon drops its end of the channel. Root and the group `ipmp` may change, every
/// user may read. Returns what waits for the replies to calls that were made before.
pub fn start(listener: StdListener, requests: Sender, feeds: Feeds) -> Result<oneshot::Receiver<()>, Error> {
    // Each blocking thread costs memory, and hostile clients cause as many lookups as they can.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUPS)
        .build()
        .map_err(Error::Listener)?;
    let (ended, is_ended) = oneshot::channel();
    let serve = move || {
        for set in [CapSet::Effective, CapSet::Permitted] {
            let _ = caps::clear(None, set);
        }
        if let Err(error) = runtime.block_on(serve_group(listener, requests, feeds, GROUP)) {
            log::error!("{error}");
        }
        // Not received if the daemon has waited long enough.
        let _ = ended.send(());
    };
    thread::Builder::new().name("control".into()).spawn(serve).map_err(Error::Listener)?;
    Ok(is_ended)
}

async fn serve_group(
    listener: StdListener,
    requests: Sender,
    feeds: Feeds,
    group: &'static str,
) -> Result<(), Error> {
    listener.set_nonblocking(true).map_err(Error::Listener)?;
    let listener = UnixListener::from_std(listener).map_err(Error::Listener)?;
    let limits = Limits::new();
    let mut clients = JoinSet::new();
    loop {
        let stream = tokio::select! {
            // Finished tasks first: they keep their memory until then, however fast clients connect.
            biased;
            Some(_) = clients.join_next() => continue,
            () = requests.closed() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    limits.warn(|| format!("cannot accept a client on the control socket: {error}"));
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                limits.warn(|| {
                    format!("cannot read the credentials of a client of the control socket: {error}")
                });
                continue;
            }
        };
        let place = match limits.connect(peer.uid) {
            Ok(place) => place,
            Err(why) => {
                limits.warn(|| format!("connection of uid {}, pid {} refused: {why}", peer.uid, peer.pid));
                continue;
            }
        };
        let client = Client {
            stream,
            peer,
            requests: requests.clone(),
            feeds: feeds.clone(),
            group,
            limits: limits.clone(),
            may_change: None,
        };
        clients.spawn(async move {
            let (uid, pid) = (client.peer.uid, client.peer.pid);
            if let Err(error) = client.serve().await {
                log::debug!("closed the connection of uid {uid}, pid {pid}: {error}");
            }
            drop(place);
        });
    }
    // Tasks that wait for a call end by themselves, because the channel is closed.
    let drain = async { while clients.join_next().await.is_some() {} };
    if timeout(DRAIN_LIMIT, drain).await.is_err() {
        log::debug!("some clients did not read their last reply");
    }
    Ok(())
}

/// Why a connection ends before its client closes it.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("connection error: {0}")]
    Broken(#[from] io::Error),
    #[error("call longer than {0} bytes")]
    Long(usize),
    #[error("not a Varlink call: {0}")]
    Garbage(#[from] serde_json::Error),
    #[error("connection closed in the middle of a call")]
    Middle,
    #[error("no call within {} s", READ_LIMIT.as_secs())]
    Silent,
    #[error("reply not read within {} s", WRITE_LIMIT.as_secs())]
    Stalled,
}

struct Client {
    stream: UnixStream,
    peer: Peer,
    requests: Sender,
    feeds: Feeds,
    group: &'static str,
    limits: Limits,
    /// Whether its user may change anything, once that was looked up.
    may_change: Option<bool>,
}

impl Client {
    async fn serve(mut self) -> Result<(), Closed> {
        let mut buffer = Vec::new();
        loop {
            let requests = self.requests.clone();
            let message = tokio::select! {
                message = timeout(READ_LIMIT, self.read_call(&mut buffer)) => message.map_err(|_| Closed::Silent)??,
                () = requests.closed() => return Ok(()),
            };
            let Some(message) = message else { return Ok(()) };
            self.limits.call(self.peer.uid).await;
            let call: MethodCall = serde_json::from_slice(&message)?;
            // Kept until the reply has been read.
            let mut permits = Vec::new();
            let result = match call.parse() {
                Ok(ParsedCall::Request(Request::Monitor { name })) if call.more && !call.oneway => {
                    match self.monitor(name, &mut buffer).await {
                        Ok(ended) => return ended,
                        Err(refused) => Err(refused.into()),
                    }
                }
                Ok(ParsedCall::Request(Request::Probes { name })) if call.more && !call.oneway => {
                    match self.probes(name, &mut buffer).await {
                        Ok(ended) => return ended,
                        Err(refused) => Err(refused.into()),
                    }
                }
                parsed => {
                    permits = self.limits.reply(self.peer.uid).await;
                    self.respond(&call, parsed).await
                }
            };
            if !call.oneway {
                let reply = wire::reply(result);
                timeout(WRITE_LIMIT, self.stream.write_all(&reply)).await.map_err(|_| Closed::Stalled)??;
            }
            drop(permits);
        }
    }

    async fn respond(
        &mut self,
        call: &MethodCall,
        parsed: Result<ParsedCall, Failure>,
    ) -> Result<ReplyParameters, Failure> {
        match parsed? {
            ParsedCall::Info => Ok(wire::info()),
            ParsedCall::Description(description) => Ok(wire::description(description)),
            ParsedCall::Request(Request::Monitor { .. } | Request::Probes { .. }) => {
                Err(Failure::ExpectedMore {})
            }
            ParsedCall::Request(request) => {
                if request.changes() {
                    self.check_permission(call).await?;
                }
                Ok(self.request(request).await?.into())
            }
        }
    }

    /// Forwards events until the daemon ends or the client closes. A client that does not read delays only its own task;
    /// it receives the number of events that it lost.
    async fn monitor(
        &mut self,
        name: Option<String>,
        buffer: &mut Vec<u8>,
    ) -> Result<Result<(), Closed>, Refused> {
        let (mut events, mut last) = self.feeds.events.subscribe().ok_or_else(shutting_down)?;
        let groups = self.groups_of(name.is_none(), Request::Monitor { name }).await?;
        let groups = groups.as_deref();
        let (mut reader, mut writer) = self.stream.split();
        let watch = async {
            let watching = EventRecord::watching(last, groups);
            writer.write_all(&wire::event(&watching, false)).await?;
            loop {
                let event = match events.recv().await {
                    Ok(event) => {
                        last = event.sequence;
                        event
                    }
                    Err(RecvError::Lagged(lost)) => {
                        last += lost;
                        EventRecord::lost(last, lost).into()
                    }
                    Err(RecvError::Closed) => return Ok(()),
                };
                if event.concerns(groups) {
                    let is_last = event.kind == monitor::STOPPED;
                    writer.write_all(&wire::event(&event, is_last)).await?;
                }
            }
        };
        Ok(tokio::select! {
            ended = watch => ended,
            ended = discard_input(&mut reader, buffer) => ended,
        })
    }

    /// Forwards probes in the same way.
    async fn probes(
        &mut self,
        name: Option<String>,
        buffer: &mut Vec<u8>,
    ) -> Result<Result<(), Closed>, Refused> {
        let (mut probes, _) = self.feeds.probes.subscribe().ok_or_else(shutting_down)?;
        let groups = self.groups_of(name.is_none(), Request::Probes { name }).await?;
        let (mut reader, mut writer) = self.stream.split();
        let watch = async {
            writer.write_all(&wire::probe(&ProbeUpdate::default(), false)).await?;
            loop {
                let update = match probes.recv().await {
                    Ok(probe) if groups.as_ref().is_some_and(|groups| !groups.contains(&probe.group)) => {
                        continue;
                    }
                    Ok(probe) => ProbeUpdate { probe: Some((*probe).clone()), lost: None },
                    Err(RecvError::Lagged(lost)) => ProbeUpdate { probe: None, lost: Some(lost) },
                    Err(RecvError::Closed) => {
                        writer.write_all(&wire::probe(&ProbeUpdate::default(), true)).await?;
                        return Ok(());
                    }
                };
                writer.write_all(&wire::probe(&update, false)).await?;
            }
        };
        Ok(tokio::select! {
            ended = watch => ended,
            ended = discard_input(&mut reader, buffer) => ended,
        })
    }

    /// Names of the groups of a subscription; `None`: all, including later ones.
    async fn groups_of(&self, is_all: bool, request: Request) -> Result<Option<Vec<String>>, Refused> {
        let groups = match self.request(request).await? {
            Response::Show(groups) => groups.into_iter().map(|group| group.name).collect(),
            _ => Vec::new(),
        };
        Ok((!is_all).then_some(groups))
    }

    /// Whether the user may change anything.
    async fn may_change(&mut self) -> bool {
        if let Some(known) = self.may_change {
            return known;
        }
        // The lookup of the group may block on a directory server.
        let (peer, group) = (self.peer.clone(), self.group);
        let found = peer.uid == 0 || spawn_blocking(move || peer.may_change(group)).await.unwrap_or(false);
        *self.may_change.insert(found)
    }

    async fn check_permission(&mut self, call: &MethodCall) -> Result<(), Failure> {
        let Peer { uid, pid, .. } = self.peer;
        if self.may_change().await {
            log::info!("uid {uid}, pid {pid} calls {} {}", call.method, call.shown_parameters());
            return Ok(());
        }
        let group = self.group;
        self.limits.warn(|| format!("uid {uid}, pid {pid} may not call {}", call.method));
        Err(Failure::NotPermitted {
            message: format!(
                "uid {uid} may read IPMP groups, not change them: run as root, or join group {group} and log in again"
            ),
        })
    }

    /// Reads one call; `None`: the client has closed the connection after its last one. Bytes after the call stay in the
    /// buffer.
    async fn read_call(&mut self, buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Closed> {
        let mut searched = 0;
        loop {
            let nul = buffer[searched..].iter().position(|&byte| byte == 0).map(|at| searched + at);
            let length = nul.unwrap_or(buffer.len());
            // Only who may change something can make the daemon keep much.
            if length > MAX_READING_CALL && (length > MAX_CALL || !self.may_change().await) {
                let limit = if self.may_change().await { MAX_CALL } else { MAX_READING_CALL };
                return Err(Closed::Long(limit));
            }
            if let Some(nul) = nul {
                let rest = buffer.split_off(nul + 1);
                let mut message = std::mem::replace(buffer, rest);
                message.pop();
                return Ok(Some(message));
            }
            searched = buffer.len();
            buffer.reserve(4096);
            if self.stream.read_buf(buffer).await? == 0 {
                return if buffer.is_empty() { Ok(None) } else { Err(Closed::Middle) };
            }
        }
    }

    async fn request(&self, request: Request) -> Result<Response, Refused> {
        let (sender, response) = oneshot::channel();
        let method = request.verb().method.to_owned();
        let caller = Caller { uid: self.peer.uid, pid: self.peer.pid, method };
        self.requests.send((request, caller, sender)).await.map_err(|_| shutting_down())?;
        response.await.map_err(|_| shutting_down())?
    }
}

/// Discards what a client sends during a subscription; returns as soon as it closes the connection, not only at the next
/// event.
async fn discard_input(reader: &mut ReadHalf<'_>, buffer: &mut Vec<u8>) -> Result<(), Closed> {
    while buffer.len() <= MAX_READING_CALL {
        buffer.reserve(4096);
        if reader.read_buf(buffer).await? == 0 {
            return Ok(());
        }
    }
    Err(Closed::Long(MAX_READING_CALL))
}

/// The daemon has ended.
fn shutting_down() -> Refused {
    Refused::new(reason::SHUTTING_DOWN, "ipmpd is being stopped: try again once it has started")
}

#[cfg(test)]
mod tests;
