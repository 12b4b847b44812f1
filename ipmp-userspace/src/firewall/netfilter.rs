//! The lists of rules of the kernel.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::AsRawFd,
};

use nix::libc;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::{
    Joining, Rule,
    iptables::{self, Layout, V4, V6},
    nftables::{NEW_CHAIN, NEW_ELEMENT, NEW_FLOWTABLE, NEW_RULE, Reader, Set},
};

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
/// Bytes that are read at once: the kernel writes no longer datagram.
const CHUNK: usize = 64 << 10;
/// Bytes of a `nlmsghdr`.
const HEADER: usize = 16;
/// How often lists are read that change meanwhile.
const ATTEMPTS: usize = 5;
/// Largest table of iptables, in bytes.
const LARGEST: usize = 256 << 20;
/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`, of both families.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// Bytes of the name of a table, `XT_TABLE_MAXNAMELEN`.
const TABLE_NAME: usize = 32;
/// Bytes before the entries, `struct ipt_get_entries`.
const ENTRIES: usize = 40;
/// Bytes of a `struct ipt_getinfo`.
const INFO: usize = 84;

/// The rules of the kernel that name interfaces. A rule may be there more than once.
pub(super) fn kernel_rules(joining: &Joining<'_>) -> io::Result<Vec<Rule>> {
    let mut rules = nftables(joining)?;
    rules.extend(legacy(joining));
    Ok(rules)
}

fn nftables(joining: &Joining<'_>) -> io::Result<Vec<Rule>> {
    for attempt in 1.. {
        let mut reader = Reader::new(joining);
        let is_changed = read_nftables(&mut reader)?;
        // Where they change all the time, the last lists are used.
        if !is_changed || attempt == ATTEMPTS {
            return Ok(reader.finish());
        }
    }
    Ok(Vec::new())
}

/// Whether the lists have changed while they were read.
fn read_nftables(reader: &mut Reader<'_>) -> io::Result<bool> {
    let mut socket = match Socket::new(NETLINK_NETFILTER) {
        Ok(socket) => socket,
        Err(error) if is_missing(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut is_changed = false;
    // The request before the answer, in each case: NFT_MSG_GETCHAIN before NFT_MSG_NEWCHAIN.
    for kind in [NEW_CHAIN, NEW_FLOWTABLE, NEW_RULE] {
        is_changed |= dump(&mut socket, kind, 0, &[], reader)?;
    }
    for Set { family, table, name } in reader.sets() {
        let mut attributes = attribute(1, &table);
        attributes.extend(attribute(2, &name));
        is_changed |= dump(&mut socket, NEW_ELEMENT, family, &attributes, reader)?;
    }
    Ok(is_changed)
}

fn dump(
    socket: &mut Socket,
    kind: u8,
    family: u8,
    attributes: &[u8],
    reader: &mut Reader<'_>,
) -> io::Result<bool> {
    let get = NFTABLES << 8 | u16::from(kind + 1);
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let length = (HEADER + 4 + attributes.len()) as u32;
    let mut request = Vec::new();
    request.extend(length.to_ne_bytes());
    request.extend(get.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Number and port; then family, version and resource.
    request.extend([0; 8]);
    request.extend([family, 0, 0, 0]);
    request.extend(attributes);
    socket.send(&request, 0)?;
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut is_changed = false;
    loop {
        chunk.clear();
        match socket.recv(&mut chunk, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        match read_datagram(&chunk, reader, &mut is_changed) {
            None => {}
            Some(Err(error)) if !is_missing(&error) => return Err(error),
            Some(_) => return Ok(is_changed),
        }
    }
}

/// Reads the messages of a datagram; `Some`: they end the list. Sets `is_changed` if the list has changed meanwhile.
pub fn read_datagram(
    datagram: &[u8],
    reader: &mut Reader<'_>,
    is_changed: &mut bool,
) -> Option<io::Result<()>> {
    let mut rest = datagram;
    while let Some(message) = Message::take(&mut rest) {
        *is_changed |= i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0;
        match i32::from(message.kind) {
            libc::NLMSG_DONE | libc::NLMSG_ERROR => return Some(message.error().map_or(Ok(()), Err)),
            _ => {
                let [subsystem, kind] = message.kind.to_be_bytes();
                if u16::from(subsystem) == NFTABLES && reader.read(kind, message.content).is_none() {
                    log::trace!("a message of nftables without what is expected of it");
                }
            }
        }
    }
    None
}

/// The kernel has no nftables, or not this list; or the set was removed meanwhile.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPROTONOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOENT | libc::EAFNOSUPPORT)
    )
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A message of netlink.
struct Message<'a> {
    kind: u16,
    flags: u16,
    content: &'a [u8],
}

impl<'a> Message<'a> {
    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let content = rest.get(HEADER..length)?;
        let half = |at: usize| Some(u16::from_ne_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
        let message = Self { kind: half(4)?, flags: half(6)?, content };
        *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }

    fn error(&self) -> Option<io::Error> {
        let code = i32::from_ne_bytes(*self.content.first_chunk()?);
        (code < 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()))
    }
}

/// Rules of iptables without nftables. A table that is not used is not read: reading it would create it.
fn legacy(joining: &Joining<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    let four = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let six = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    let families = [
        (V4, four, libc::SOL_IP, "/proc/thread-self/net/ip_tables_names", "iptable_"),
        (V6, six, libc::SOL_IPV6, "/proc/thread-self/net/ip6_tables_names", "ip6table_"),
    ];
    for (layout, socket, level, names, module) in families {
        let Ok(socket) = socket else { continue };
        for table in tables(names, module) {
            match read_table(&socket, level, layout, &table, joining) {
                Ok(found) => rules.extend(found),
                Err(error) => log::debug!("cannot read the table {table} of {}: {error}", layout.program),
            }
        }
    }
    rules
}

/// The tables in use. Only root may read their names; for others, those whose module is loaded.
fn tables(names: &str, module: &str) -> Vec<String> {
    match fs::read_to_string(names) {
        Ok(text) => text.lines().map(Into::into).collect(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let modules = fs::read_dir("/sys/module").into_iter().flatten().flatten();
            let names = modules.filter_map(|entry| entry.file_name().into_string().ok());
            names.filter_map(|name| name.strip_prefix(module).map(Into::into)).collect()
        }
        Err(_) => Vec::new(),
    }
}

fn read_table(
    socket: &UdpSocket,
    level: libc::c_int,
    layout: Layout,
    table: &str,
    joining: &Joining<'_>,
) -> io::Result<Vec<Rule>> {
    let mut name = [0; TABLE_NAME];
    for (to, from) in name.iter_mut().take(TABLE_NAME - 1).zip(table.bytes()) {
        *to = from;
    }
    let mut info = vec![0; INFO];
    info[..TABLE_NAME].copy_from_slice(&name);
    option(socket, level, GET_INFO, &mut info)?;
    // Name, hooks that it has, where the chain of each begins, where its policy is, number of rules, their bytes.
    let number = |index: usize| {
        let bytes = info.get(TABLE_NAME + index * 4..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    };
    let hooks = (0..5).filter(|hook| number(0) & 1 << hook != 0).map(|hook| (hook, number(1 + hook)));
    let hooks: Vec<(usize, u32)> = hooks.collect();
    let size = number(12);
    if size as usize > LARGEST {
        return Err(io::Error::other("it is too large"));
    }
    let mut entries = vec![0; ENTRIES + size as usize];
    entries[..TABLE_NAME].copy_from_slice(&name);
    entries[TABLE_NAME..TABLE_NAME + 4].copy_from_slice(&size.to_ne_bytes());
    option(socket, level, GET_ENTRIES, &mut entries)?;
    Ok(iptables::rules(layout, table, &hooks, &entries[ENTRIES..], joining))
}

fn option(socket: &UdpSocket, level: libc::c_int, name: libc::c_int, value: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes, which `value` has.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
