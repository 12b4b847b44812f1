//! Timeouts of the TCP connections of this network namespace, from a program at the root of the cgroups.
//!
//! Nothing is pinned: without the daemon they have no reader, and its end detaches the program.

use std::{
    io::Read as _,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, RingBuf},
};
use ipmp_common::maps::TcpTimeout;

use super::{
    Error, btf,
    cgroup::{Cgroup, MODE},
    error::{map_error, one_line},
    objects::{self, Constants},
    pins::netns_cookie,
};

const PROGRAM: &str = "tcp_evidence";
const ITERATOR: &str = "cover_established";
const RING: &str = "tcp_timeouts";
/// When something of a connection was last acknowledged, or sent while nothing was on its way.
const DELIVERED: (&str, &str) = ("tcp_sock", "delivered_mstamp");
const NOT_COVERED: &str = "not_covered";

/// The ring buffer of timeouts: readable if it is not empty. The program is attached as long as this exists.
pub struct TcpTimeouts {
    ring: RingBuf<MapData>,
    /// Whether connections that existed before are covered.
    covers_established: bool,
    _object: Ebpf,
}

impl TcpTimeouts {
    /// Attaches the program: from now on connections that are established in the calling thread's network namespace report their
    /// timeouts, and where the kernel permits it (Linux 6.12) those that exist. The verifier takes its time: not for the main thread.
    ///
    /// # Errors
    /// [`Error::NoCgroup`], [`Error::Load`], [`Error::Attach`], [`Error::Map`] or [`Error::System`].
    pub fn open() -> Result<Self, Error> {
        let (structure, field) = DELIVERED;
        let [delivered] = btf::offsets(&[DELIVERED])?;
        let missing = || Error::Load { program: PROGRAM, reason: btf::missing(structure, field) };
        let constants = Constants::default()
            .long("NETNS", netns_cookie()?)
            .word("OFF_DELIVERED", delivered.ok_or_else(missing)?);
        let mut loader = EbpfLoader::new();
        constants.set_in(&mut loader);
        let mut object = loader
            .load(objects::EVIDENCE)
            .map_err(|error| Error::Load { program: PROGRAM, reason: one_line(&error) })?;
        let cgroup = Cgroup::root(PROGRAM)?;
        let program = objects::load_sock_ops(&mut object, PROGRAM)?;
        program.attach(&cgroup, MODE).map_err(|error| cgroup.refused(PROGRAM, one_line(&error)))?;
        let covers_established = cover_established(&mut object)
            .inspect_err(|error| {
                log::debug!("TCP connections that exist do not report their timeouts: {error}")
            })
            .unwrap_or_default();
        let ring = object.take_map(RING).expect("the object has this map");
        let ring = RingBuf::try_from(ring).map_err(map_error(RING))?;
        Ok(Self { ring, covers_established, _object: object })
    }

    /// Removes and returns the timeouts, the oldest first.
    pub fn drain(&mut self) -> Vec<TcpTimeout> {
        let mut timeouts = Vec::new();
        while let Some(record) = self.ring.next() {
            if record.len() == size_of::<TcpTimeout>() {
                // SAFETY: of that length, and TcpTimeout is made of integers.
                timeouts.push(unsafe { record.as_ptr().cast::<TcpTimeout>().read_unaligned() });
            }
        }
        timeouts
    }

    /// Whether connections that were established before it was opened report their timeouts, too.
    pub fn covers_established(&self) -> bool {
        self.covers_established
    }
}

impl AsFd for TcpTimeouts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for TcpTimeouts {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// Makes the connections report their timeouts that exist in the calling thread's network namespace; whether the kernel permits it.
fn cover_established(object: &mut Ebpf) -> Result<bool, Error> {
    let failed = |reason: String| Error::Load { program: ITERATOR, reason };
    let program = objects::load_tcp_iterator(object, ITERATOR)?;
    let link = program.attach().and_then(|link| program.take_link(link));
    let mut sockets = link
        .map_err(|error| failed(one_line(&error)))?
        .into_file()
        .map_err(|error| failed(one_line(&error)))?;
    // The program runs while this is read, and writes nothing.
    sockets.read_to_end(&mut Vec::new()).map_err(|error| failed(error.to_string()))?;
    let not_covered = object.map(NOT_COVERED).expect("the object has this map");
    let not_covered = Array::<_, u32>::try_from(not_covered).map_err(map_error(NOT_COVERED))?;
    Ok(not_covered.get(&0, 0).map_err(map_error(NOT_COVERED))? == 0)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{IpAddr, SocketAddr, TcpListener, TcpStream},
        time::Duration,
    };

    use nix::sched::{CloneFlags, unshare};
    use socket2::{SockFilter, SockRef};

    use super::*;
    use crate::datapath::tests::{in_new_namespace, ip, wait_for};

    /// A connection in the namespace of this thread.
    fn connection() -> (TcpStream, TcpStream) {
        ip("link set lo up");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    /// Makes an end of a connection drop what it receives, before it is acknowledged.
    fn drop_all_received(stream: &TcpStream) {
        // BPF_RET of 0 bytes.
        SockRef::from(stream).attach_filter(&[SockFilter::new(6, 0, 0, 0)]).unwrap();
    }

    /// A connection with a segment that is not acknowledged.
    fn unacknowledged() -> (TcpStream, TcpStream) {
        let (mut client, server) = connection();
        drop_all_received(&server);
        client.write_all(b"segment").unwrap();
        (client, server)
    }

    fn retransmissions(stream: &TcpStream) -> u32 {
        // SAFETY: integers only.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes into `info`.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        assert_eq!(result, 0);
        info.tcpi_total_retrans
    }

    #[test]
    fn connections_that_exist_report_timeouts_where_the_kernel_permits_it() {
        in_new_namespace(|| {
            let (mut client, server) = connection();
            let mut timeouts = TcpTimeouts::open().unwrap();
            let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
            let mut numbers =
                release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or_default());
            let version = (numbers.next().unwrap(), numbers.next().unwrap());
            println!("Linux {release}: {}", timeouts.covers_established());
            assert_eq!(timeouts.covers_established(), version >= (6, 12));
            if timeouts.covers_established() {
                let port = client.local_addr().unwrap().port();
                drop_all_received(&server);
                client.write_all(b"segment").unwrap();
                wait_for("a timeout", || timeouts.drain().iter().any(|timeout| timeout.local_port == port));
            }
        });
    }

    #[test]
    fn timeouts_of_this_network_namespace_alone_are_reported() {
        in_new_namespace(|| {
            let mut timeouts = TcpTimeouts::open().unwrap();
            let elsewhere = std::thread::spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                unacknowledged()
            });
            let (elsewhere, _other_end) = elsewhere.join().unwrap();
            wait_for("a retransmission", || retransmissions(&elsewhere) > 1);
            assert_eq!(timeouts.drain(), []);

            let (client, _server) = unacknowledged();
            let mut found = Vec::new();
            wait_for("a timeout", || {
                found.extend(timeouts.drain());
                !found.is_empty()
            });
            let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            for timeout in &found {
                let end = |address, port| SocketAddr::new(IpAddr::from(address), port);
                assert_eq!(end(timeout.local, timeout.local_port), local, "{timeout:?}");
                assert_eq!(end(timeout.remote, timeout.remote_port), remote, "{timeout:?}");
                assert_ne!(timeout.hash, 0);
                let ago = Duration::from_nanos(timeout.at_ns - timeout.since_ns);
                assert!(ago > Duration::from_millis(180), "{ago:?} {timeout:?}");
                assert!(ago < Duration::from_secs(2), "{ago:?} {timeout:?}");
            }
            // The kernel repeats it as a tail loss probe, and waits as long again for the timeout.
            let first = Duration::from_nanos(found[0].at_ns - found[0].since_ns);
            assert!(first < Duration::from_millis(350), "{found:?}");
        });
    }
}
