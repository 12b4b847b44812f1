//! Real frames: packet sockets on an interface of the bench's namespace.

use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

use crate::harness::index_of;

/// How long a frame that must come may take, and one that must not come is waited for.
const SOON: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(100);

/// A socket that sends and receives on an interface.
pub struct Wire {
    socket: Socket,
    name: String,
}

impl Wire {
    /// On an interface of the calling thread's namespace: `p0` is the far end of member 0's cable.
    pub fn open(name: &str) -> Self {
        Self::bound(Some(name), libc::ETH_P_ALL as u16)
    }

    /// A socket that only sends.
    pub fn mute(name: &str) -> Self {
        Self::bound(Some(name), 0)
    }

    /// A socket that receives one protocol, on one interface or on all of them.
    pub fn bound(name: Option<&str>, protocol: u16) -> Self {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: a sockaddr_ll is plain bytes and fits a sockaddr_storage.
        let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        link.sll_family = libc::AF_PACKET as u16;
        link.sll_protocol = protocol.to_be();
        link.sll_ifindex = name.map_or(0, index_of) as i32;
        // SAFETY: the storage holds a whole sockaddr_ll, and that is the length given.
        let address = unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
        socket.bind(&address).unwrap();
        Self { socket, name: name.unwrap_or("every interface").to_owned() }
    }

    pub fn send(&self, frame: &[u8]) {
        assert!(self.offer(frame), "{}: dropped on its way out", self.name);
    }

    /// Sends a frame; false if it was dropped on its way out, reported by the kernel as ENOBUFS.
    pub fn offer(&self, frame: &[u8]) -> bool {
        match self.socket.send(frame) {
            Ok(length) => {
                assert_eq!(length, frame.len());
                true
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => false,
            Err(error) => panic!("{}: {error}", self.name),
        }
    }

    /// The next frame that comes in, or that leaves.
    fn next(&self, patience: Duration, leaving: bool) -> Option<Vec<u8>> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut frame = Vec::with_capacity(2048);
            match self.socket.recv_from(frame.spare_capacity_mut()) {
                Ok((length, from)) => {
                    // SAFETY: recv_from has written that many bytes.
                    unsafe { frame.set_len(length) };
                    // SAFETY: the kernel fills in a sockaddr_ll for packet sockets.
                    let from = unsafe { from.as_storage().view_as::<libc::sockaddr_ll>().sll_pkttype };
                    if (from == libc::PACKET_OUTGOING) == leaving {
                        return Some(frame);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{}: {error}", self.name),
            }
            if Instant::now() >= deadline {
                return None;
            }
        }
    }

    /// Exactly these bytes come in, and nothing else.
    #[track_caller]
    pub fn receives_once(&self, frame: &[u8]) {
        self.receives_next(frame);
        self.receives_nothing();
    }

    /// These bytes come in next.
    #[track_caller]
    pub fn receives_next(&self, frame: &[u8]) {
        let received = self.next(SOON, false);
        assert_eq!(received.as_deref(), Some(frame), "on {}", self.name);
    }

    /// Exactly these bytes leave, and nothing else.
    #[track_caller]
    pub fn shows_leaving_once(&self, frame: &[u8]) {
        let shown = self.next(SOON, true);
        assert_eq!(shown.as_deref(), Some(frame), "on {}", self.name);
        self.shows_nothing_leaving();
    }

    /// Nothing leaves.
    #[track_caller]
    pub fn shows_nothing_leaving(&self) {
        let shown = self.next(QUIET, true);
        assert_eq!(shown, None, "on {}", self.name);
    }

    /// Nothing comes in.
    #[track_caller]
    pub fn receives_nothing(&self) {
        let received = self.next(QUIET, false);
        assert_eq!(received, None, "on {}", self.name);
    }
}
