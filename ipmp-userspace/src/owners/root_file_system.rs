//! The root file system on a server: NFS, or iSCSI. `ipmpd` is read from it, so it must not depend on a group.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    path::PathBuf,
};

use super::{Host, Nic};

/// Where the server of the root file system is known from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootServer {
    /// Its kind, with its address if that is known: `NFS server 192.0.2.1`.
    pub server: String,
    /// The file that shows it.
    pub source: String,
}

/// The NFS server of the root file system, by `/proc/mounts`.
pub fn nfs_server(mounts: &str) -> Option<IpAddr> {
    // A later mount covers an earlier one.
    let mut root = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_device, place, kind, options) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (place == "/").then_some((kind, options))
    });
    let (_, options) = root.next_back().filter(|(kind, _)| matches!(*kind, "nfs" | "nfs4"))?;
    options.split(',').find_map(|option| option.strip_prefix("addr="))?.parse().ok()
}

/// The major and minor number of the device of the root file system, by `/proc/self/mountinfo`: `8:1`.
pub fn root_device(mountinfo: &str) -> Option<&str> {
    let mut root = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let device = fields.nth(2)?;
        (fields.nth(1)? == "/").then_some(device)
    });
    root.next_back()
}

/// The server that the root file system is reached at through a NIC with these addresses.
pub(super) fn through(host: &Host, nic: &Nic<'_>, addresses: &[IpAddr]) -> Option<RootServer> {
    let is_own = |server: IpAddr| source_to(server).is_some_and(|source| addresses.contains(&source));
    let mounts = "/proc/self/mounts";
    let server = host.read(mounts).and_then(|text| nfs_server(&text)).filter(|server| is_own(*server));
    if let Some(server) = server {
        return Some(RootServer { server: format!("NFS server {server}"), source: mounts.into() });
    }
    // The firmware has booted from iSCSI.
    let mac = nic.mac.map(|byte| format!("{byte:02x}")).join(":");
    let firmware = host.files("/sys/firmware/ibft", "");
    let by_firmware = firmware
        .iter()
        .map(|entry| entry.join("mac"))
        .find(|file| host.read_if_permitted(file).is_some_and(|text| text.trim().eq_ignore_ascii_case(&mac)));
    if let Some(file) = by_firmware {
        return Some(RootServer { server: "iSCSI server".into(), source: file.display().to_string() });
    }
    let mountinfo = host.read("/proc/self/mountinfo")?;
    let session = session(host, &format!("/sys/dev/block/{}", root_device(&mountinfo)?), 0)?;
    let source = format!("/sys/class/iscsi_connection/connection{session}:0/address");
    let server = host.read(&source)?.trim().parse().ok()?;
    is_own(server).then(|| RootServer { server: format!("iSCSI server {server}"), source })
}

/// The number of the iSCSI session below a block device, also below a mapped one.
fn session(host: &Host, device: &str, depth: u8) -> Option<u32> {
    let path: PathBuf = fs::canonicalize(host.path(device)).ok()?;
    let mut parts = path.iter().filter_map(|part| part.to_str()?.strip_prefix("session")?.parse().ok());
    parts.next_back().or_else(|| {
        let slaves = host.files(&format!("{device}/slaves"), "");
        let mut slaves = slaves.iter().filter(|_| depth < 8);
        slaves.find_map(|slave| session(host, &slave.display().to_string(), depth + 1))
    })
}

/// The address that this host sends from to a server; no packet is sent.
fn source_to(server: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((server, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
