//! The TCP connections of this network namespace with their counters, from an iterator over its sockets.
//!
//! The program runs while it is read, and at no other time. Its fields are plain loads at offsets from the kernel's BTF: Linux 6.1 and later
//! load it.

use std::{
    fs::File,
    io::{self, Read as _},
    time::{Duration, Instant},
};

use aya::{Ebpf, EbpfLoader};
use ipmp_common::maps::TcpConnection;

use super::{
    Error, btf,
    error::one_line,
    objects::{self, CONNECTIONS, Constants},
};

const PROGRAM: &str = "list_connections";
/// Connections that are read at once, at most. The kernel lists them in the order of a hash, so they are the same ones each time.
pub const MOST: usize = 1 << 16;
/// The longest time of a reading.
const LIMIT: Duration = Duration::from_secs(1);
/// What a read returns at most (`bpf_seq_read` in `kernel/bpf/bpf_iter.c`).
const PAGES: usize = 32 << 10;
const RECORD: usize = size_of::<TcpConnection>();

/// Constants of the program, and the fields whose offsets they are. A kernel without IPv6 lacks the last two.
const FIELDS: [(&str, &str, &str); 11] = [
    ("OFF_FAMILY", "sock_common", "skc_family"),
    ("OFF_LOCAL", "sock_common", "skc_rcv_saddr"),
    ("OFF_REMOTE", "sock_common", "skc_daddr"),
    ("OFF_LOCAL_PORT", "sock_common", "skc_num"),
    ("OFF_REMOTE_PORT", "sock_common", "skc_dport"),
    ("OFF_HASH", "sock", "sk_txhash"),
    ("OFF_SENT", "tcp_sock", "data_segs_out"),
    ("OFF_RETRANSMITTED", "tcp_sock", "total_retrans"),
    ("OFF_DUPLICATES", "tcp_sock", "dsack_dups"),
    ("OFF_LOCAL6", "sock_common", "skc_v6_rcv_saddr"),
    ("OFF_REMOTE6", "sock_common", "skc_v6_daddr"),
];
const WITHOUT_IPV6: usize = 9;

/// The loaded program.
pub struct TcpConnections {
    object: Ebpf,
}

impl TcpConnections {
    /// Loads the program. The verifier takes its time: not for the main thread.
    ///
    /// # Errors
    /// [`Error::NoBtf`] or [`Error::Load`].
    pub fn open() -> Result<Self, Error> {
        let offsets = btf::offsets(&FIELDS.map(|(_, structure, field)| (structure, field)))?;
        let mut constants = Constants::default();
        for (place, ((name, structure, field), offset)) in FIELDS.into_iter().zip(offsets).enumerate() {
            constants = match offset {
                Some(offset) => constants.word(name, offset),
                None if place >= WITHOUT_IPV6 => constants,
                None => return Err(failed(btf::missing(structure, field))),
            };
        }
        let mut loader = EbpfLoader::new();
        constants.set_in(&mut loader);
        let mut object = loader.load(CONNECTIONS).map_err(|error| failed(one_line(&error)))?;
        objects::load_tcp_iterator(&mut object, PROGRAM)?;
        Ok(Self { object })
    }

    /// Reads the connections of the calling thread's network namespace that have sent data: [`MOST`] of them, or those that can be
    /// read in a second.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn read(&mut self) -> Result<Vec<TcpConnection>, Error> {
        let program: &mut aya::programs::Iter = objects::program(&mut self.object, PROGRAM)?;
        let link = program.attach().and_then(|link| program.take_link(link));
        let file = link
            .map_err(|error| failed(one_line(&error)))?
            .into_file()
            .map_err(|error| failed(one_line(&error)))?;
        read_all(file).map_err(|error| failed(error.to_string()))
    }
}

fn read_all(mut file: File) -> io::Result<Vec<TcpConnection>> {
    let start = Instant::now();
    let mut connections = Vec::new();
    let mut bytes = vec![0; PAGES];
    while connections.len() < MOST && start.elapsed() < LIMIT {
        match file.read(&mut bytes) {
            Ok(0) => break,
            // Only whole records: the kernel writes a record, or leaves it for the next read.
            Ok(length) => connections.extend(bytes[..length].chunks_exact(RECORD).map(record)),
            // It has passed very many sockets without a record (`MAX_ITER_OBJECTS`).
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    connections.truncate(MOST);
    Ok(connections)
}

fn record(bytes: &[u8]) -> TcpConnection {
    debug_assert_eq!(bytes.len(), RECORD);
    // SAFETY: of that length, and TcpConnection is made of integers.
    unsafe { bytes.as_ptr().cast::<TcpConnection>().read_unaligned() }
}

fn failed(reason: String) -> Error {
    Error::Load { program: PROGRAM, reason }
}

#[cfg(test)]
mod tests;
