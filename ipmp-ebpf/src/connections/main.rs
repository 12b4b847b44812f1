//! The TCP connections of this host with their counters: what they lose shows which member loses far more packets than others.
//!
//! `list_connections` is an iterator over the TCP sockets of a network namespace. The daemon reads it every ten seconds; it runs at no other time,
//! and changes nothing. For each connection that has sent data it writes a [`TcpConnection`]. The fields are plain loads, which the
//! verifier checks against the kernel's BTF, as Linux 6.1 permits already; user space reads their offsets there.
#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_get_socket_cookie, bpf_seq_write},
};
use ipmp_common::maps::{Ip, TcpConnection};
use ipmp_ebpf::socket::{AF_INET, AF_INET6, TcpIterator, field, ip, place};

/// Offsets in a `sock_common`, with which every socket begins.
#[unsafe(no_mangle)]
static OFF_FAMILY: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_LOCAL: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_REMOTE: Global<u32> = Global::new(0);
/// 0 where the kernel has no IPv6.
#[unsafe(no_mangle)]
static OFF_LOCAL6: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_REMOTE6: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_LOCAL_PORT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_REMOTE_PORT: Global<u32> = Global::new(0);
/// Offset in a `sock`, with which every full socket begins.
#[unsafe(no_mangle)]
static OFF_HASH: Global<u32> = Global::new(0);
/// Offsets in a `tcp_sock`.
#[unsafe(no_mangle)]
static OFF_SENT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_RETRANSMITTED: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static OFF_DUPLICATES: Global<u32> = Global::new(0);

/// Run once for each TCP socket.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
fn list_connections(ctx: *mut TcpIterator) -> i32 {
    // SAFETY: the context of this program; offsets of fields of these types.
    unsafe {
        let Some(socket) = (*ctx).tcp_sock() else { return 0 };
        let sent: u32 = field(socket, &OFF_SENT);
        if sent == 0 {
            return 0;
        }
        let (local, remote) = match u32::from(field::<u16>(socket, &OFF_FAMILY)) {
            AF_INET => {
                (Ip::from_v4_word(field(socket, &OFF_LOCAL)), Ip::from_v4_word(field(socket, &OFF_REMOTE)))
            }
            AF_INET6 if OFF_REMOTE6.load() != 0 => {
                (ip(place(socket, &OFF_LOCAL6)), ip(place(socket, &OFF_REMOTE6)))
            }
            _ => return 0,
        };
        let connection = TcpConnection {
            cookie: bpf_get_socket_cookie(socket),
            local,
            remote,
            hash: field(socket, &OFF_HASH),
            sent,
            retransmitted: field(socket, &OFF_RETRANSMITTED),
            duplicates: field(socket, &OFF_DUPLICATES),
            local_port: field(socket, &OFF_LOCAL_PORT),
            // In network byte order.
            remote_port: u16::from_be(field(socket, &OFF_REMOTE_PORT)),
            pad: 0,
        };
        // If there is no room left, the kernel runs the program again for this socket at the next read.
        bpf_seq_write((*ctx).output(), (&raw const connection).cast(), size_of::<TcpConnection>() as u32);
    }
    0
}

ipmp_ebpf::object!();
