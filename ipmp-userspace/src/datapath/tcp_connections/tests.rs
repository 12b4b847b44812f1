use std::{
    collections::BTreeSet,
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use socket2::{SockFilter, SockRef};

use super::*;
use crate::datapath::tests::{in_new_namespace, ip, wait_for};

fn connection(address: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// The record of an end of a connection.
fn of(found: &[TcpConnection], end: &TcpStream) -> Option<TcpConnection> {
    let (local, remote) = (end.local_addr().unwrap(), end.peer_addr().unwrap());
    let address = |ip, port| SocketAddr::new(IpAddr::from(ip), port);
    let is_it = |of: &&TcpConnection| {
        address(of.local, of.local_port) == local && address(of.remote, of.remote_port) == remote
    };
    found.iter().find(is_it).copied()
}

fn cookie(end: &TcpStream) -> u64 {
    SockRef::from(end).cookie().unwrap()
}

fn info(end: &TcpStream) -> libc::tcp_info {
    // SAFETY: integers only.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`.
    let result = unsafe {
        libc::getsockopt(
            end.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0);
    info
}

#[test]
fn connections_have_their_addresses_and_the_counters_of_the_kernel() {
    in_new_namespace(|| {
        ip("link set lo up");
        let mut connections = TcpConnections::open().unwrap();
        for address in ["127.0.0.1", "::1"] {
            let (mut client, server) = connection(address);
            assert_eq!(of(&connections.read().unwrap(), &client), None, "it has sent nothing");
            client.write_all(b"segment").unwrap();
            let found = connections.read().unwrap();
            let record = of(&found, &client).unwrap();
            assert_eq!((record.sent, record.retransmitted, record.cookie), (1, 0, cookie(&client)));
            assert_ne!(record.hash, 0);
            assert_eq!(of(&found, &server), None, "it has only received");
            // BPF_RET of 0 bytes: this end drops what it receives, before it is acknowledged.
            SockRef::from(&server).attach_filter(&[SockFilter::new(6, 0, 0, 0)]).unwrap();
            client.write_all(b"segment").unwrap();
            wait_for("two retransmissions", || info(&client).tcpi_total_retrans >= 2);
            let (before, record, after) =
                (info(&client), of(&connections.read().unwrap(), &client).unwrap(), info(&client));
            assert!((before.tcpi_total_retrans..=after.tcpi_total_retrans).contains(&record.retransmitted));
            assert_eq!(record.sent, 2 + record.retransmitted, "repeated ones included: {record:?}");
            println!("{address}: {record:?}");
        }
    });
}

#[test]
fn connections_of_other_namespaces_are_not_listed() {
    in_new_namespace(|| {
        let elsewhere = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            let mut both = connection("127.0.0.1");
            both.0.write_all(b"segment").unwrap();
            both
        });
        let _both = elsewhere.join().unwrap();
        assert_eq!(TcpConnections::open().unwrap().read().unwrap(), []);
    });
}

/// Many more than one read of the kernel's iterator returns: each end is listed, and none twice.
fn list(connections: usize) {
    in_new_namespace(move || {
        ip("link set lo up");
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = |_| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut ends = [client, listener.accept().unwrap().0];
            ends.iter_mut().for_each(|end| end.write_all(b"segment").unwrap());
            ends
        };
        let mut opened = TcpConnections::open().unwrap();
        let ends: Vec<[TcpStream; 2]> = (0..connections).map(connect).collect();
        let expected: BTreeSet<u64> = ends.iter().flatten().map(cookie).collect();
        let mut times = Vec::new();
        for _ in 0..9 {
            let start = Instant::now();
            let found = opened.read().unwrap();
            times.push(start.elapsed());
            assert_eq!(found.len(), 2 * connections);
            assert_eq!(found.iter().map(|of| of.cookie).collect::<BTreeSet<_>>(), expected);
        }
        times.sort();
        println!("{} connections: read in {:?} (p50), {:?} at most", 2 * connections, times[4], times[8]);
    });
}

#[test]
fn all_connections_are_listed_once() {
    list(1_000);
}

#[test]
#[ignore = "soak: 10,000 connections"]
fn soak_ten_thousand_connections_are_listed() {
    list(5_000);
}
