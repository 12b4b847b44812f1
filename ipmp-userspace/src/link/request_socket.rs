//! The socket for requests. A connection of rtnetlink ends at the first error of its socket. Requests that wait for their reply then end
//! without one, which reads as "it does not exist", and later ones fail. So an error that passes must not reach it.

use std::{
    io,
    task::{Context, Poll},
};

use bytes::BufMut;
use rtnetlink::sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};

/// How often a call is tried.
const ATTEMPTS: usize = 10;

/// A socket whose calls are tried again.
pub(super) struct RequestSocket(TokioSocket);

/// Whether the caller handles an error: the receive buffer was full.
fn is_expected(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

fn until_done<T>(mut call: impl FnMut() -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    for _ in 1..ATTEMPTS {
        match call() {
            Poll::Ready(Err(error)) if !is_expected(&error) => log::debug!("netlink: {error}; once more"),
            done => return done,
        }
    }
    call()
}

impl AsyncSocket for RequestSocket {
    fn socket_ref(&self) -> &Socket {
        self.0.socket_ref()
    }

    fn socket_mut(&mut self) -> &mut Socket {
        self.0.socket_mut()
    }

    fn new(protocol: isize) -> io::Result<Self> {
        TokioSocket::new(protocol).map(Self)
    }

    fn poll_send(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        until_done(|| self.0.poll_send(context, bytes))
    }

    fn poll_send_to(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
        to: &SocketAddr,
    ) -> Poll<io::Result<usize>> {
        until_done(|| self.0.poll_send_to(context, bytes, to))
    }

    fn poll_recv<B: BufMut>(&self, context: &mut Context<'_>, buffer: &mut B) -> Poll<io::Result<()>> {
        until_done(|| self.0.poll_recv(context, buffer))
    }

    fn poll_recv_from<B: BufMut>(
        &self,
        context: &mut Context<'_>,
        buffer: &mut B,
    ) -> Poll<io::Result<SocketAddr>> {
        until_done(|| self.0.poll_recv_from(context, buffer))
    }

    fn poll_recv_from_full(&self, context: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>> {
        until_done(|| self.0.poll_recv_from_full(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call that fails so often with this error.
    fn failing(times: usize, errno: i32) -> (Poll<io::Result<usize>>, usize) {
        let mut calls = 0;
        let result = until_done(|| {
            calls += 1;
            let error = || Err(io::Error::from_raw_os_error(errno));
            Poll::Ready(if calls <= times { error() } else { Ok(calls) })
        });
        (result, calls)
    }

    #[test]
    fn error_that_passes_is_not_reported() {
        assert!(matches!(failing(1, libc::EIO), (Poll::Ready(Ok(2)), 2)));
        assert!(matches!(failing(usize::MAX, libc::EIO), (Poll::Ready(Err(_)), ATTEMPTS)));
        assert!(matches!(failing(usize::MAX, libc::ENOBUFS), (Poll::Ready(Err(_)), 1)));
    }
}
