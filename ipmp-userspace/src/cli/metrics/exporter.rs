//! Serves the metrics by HTTP.

use std::{
    convert::Infallible,
    fs, io,
    io::Write,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{Listen, counts::Counts, samples::Samples};
use crate::{
    cli::error::Error,
    control::{Client, client},
};

/// Most connections at a time; others wait.
const CONNECTIONS: usize = 8;
/// How long a client may take for its request, and for all of its connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the daemon may take; Prometheus gives up after ten seconds.
const DAEMON: Duration = Duration::from_secs(8);
/// After a client could not be accepted: file descriptors may be free again.
const PAUSE: Duration = Duration::from_secs(1);
/// Version 0.0.4 of the text format.
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What every connection has in common.
struct Exporter {
    socket: PathBuf,
    counts: Counts,
    connections: Semaphore,
}

/// Serves until it is interrupted; returns why it cannot.
pub(super) fn serve(listen: &Listen, socket: &Path, out: &mut dyn Write) -> Error {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(CONNECTIONS)
        .build()
        .map_err(|error| Error::Metrics(format!("cannot start: {error}")));
    runtime
        .and_then(|runtime| runtime.block_on(accept(listen, socket, out)))
        .map_or_else(|error| error, |never| match never {})
}

async fn accept(listen: &Listen, socket: &Path, out: &mut dyn Write) -> Result<Infallible, Error> {
    let (listener, place) = Listener::bind(listen).await.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => ": another program has it, give another --listen",
            _ => "",
        };
        Error::Metrics(format!("cannot listen on {listen}: {error}{remedy}"))
    })?;
    writeln!(out, "{place}").and_then(|()| out.flush()).map_err(Error::Output)?;
    let exporter = Arc::new(Exporter {
        socket: socket.into(),
        counts: Counts::default(),
        connections: Semaphore::new(CONNECTIONS),
    });
    let watching = exporter.clone();
    thread::spawn(move || watching.counts.watch(&watching.socket));
    loop {
        // More clients wait in the queue of the kernel.
        drop(exporter.connections.acquire().await);
        match listener.accept().await {
            Ok(stream) => drop(tokio::spawn(exporter.clone().connection(stream))),
            Err(error) => {
                log::warn!("cannot accept a client on {listen}: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// A connection of a client.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Also gives the place at which clients find the metrics.
    async fn bind(listen: &Listen) -> io::Result<(Self, String)> {
        match listen {
            Listen::Loopback(address) => {
                let listener = TcpListener::bind(address).await?;
                let place = format!("http://{}/metrics", listener.local_addr()?);
                Ok((Self::Tcp(listener), place))
            }
            Listen::Unix(path) => {
                remove_stale(path).await?;
                Ok((Self::Unix(UnixListener::bind(path)?), format!("/metrics on {listen}")))
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Removes the socket of an exporter that was killed.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).await.is_err_and(|error| refused(&error)) {
        fs::remove_file(path)?;
    }
    Ok(())
}

impl Exporter {
    async fn connection(self: Arc<Self>, stream: Box<dyn Stream>) {
        let Ok(_permit) = self.connections.acquire().await else { return };
        let service = service_fn(|request| {
            let exporter = self.clone();
            async move { Ok::<_, Infallible>(exporter.respond(&request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        match timeout(2 * PATIENCE, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("a client: {error}"),
            Err(_) => log::debug!("a client has not read its response"),
        }
    }

    async fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let plain = |status: StatusCode, text: &'static str| {
            let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
            *response.status_mut() = status;
            response
        };
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET /metrics\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        if request.uri().path() != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "GET /metrics\n");
        }
        let mut response = Response::new(Full::new(Bytes::from(self.scrape().await)));
        response.headers_mut().insert(CONTENT_TYPE, FORMAT);
        response
    }

    async fn scrape(&self) -> String {
        let socket = self.socket.clone();
        // The client of the control interface blocks.
        let read = tokio::task::spawn_blocking(move || -> Result<_, client::Error> {
            Client::connect(&socket)?.groups()
        });
        let groups = match timeout(DAEMON, read).await {
            Ok(Ok(Ok(groups))) => Some(groups),
            Ok(Ok(Err(error))) => {
                log::debug!("{error}");
                None
            }
            Ok(Err(_)) | Err(_) => None,
        };
        let mut samples = Samples::of(groups.as_deref().unwrap_or_default());
        samples.add_up(groups.is_some());
        let (counts, announced) = self.counts.read();
        samples.add_events(counts, announced);
        samples.to_string()
    }
}
