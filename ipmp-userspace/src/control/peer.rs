//! Credentials of a client, and its permission.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd},
};

use nix::{
    sys::socket::{getsockopt, sockopt},
    unistd::Group,
};

/// Group whose members have the same permission as root.
pub const GROUP: &str = "ipmp";

/// The credentials of a process when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Process; it may have ended.
    pub pid: i32,
}

impl Peer {
    /// Reads the credentials of the connected process: `SO_PEERCRED` and `SO_PEERGROUPS`, see unix(7).
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let socket = socket.as_fd();
        let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
        Ok(Self {
            uid: credentials.uid(),
            gid: credentials.gid(),
            groups: supplementary(socket)?,
            pid: credentials.pid(),
        })
    }

    /// Whether it may change anything: root, or a member of `group`. A group that does not exist has no members.
    ///
    /// It may query a name service, and block.
    pub fn may_change(&self, group: &str) -> bool {
        if self.uid == 0 {
            return true;
        }
        match Group::from_name(group) {
            Ok(found) => found.is_some_and(|group| self.is_in(group.gid.as_raw())),
            Err(error) => {
                log::warn!("cannot look up the group {group}, so only root may change anything: {error}");
                false
            }
        }
    }

    fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

fn supplementary(socket: impl AsRawFd) -> io::Result<Vec<u32>> {
    // More than a user usually has; the kernel returns the number it needs.
    let mut groups = vec![0_u32; 64];
    loop {
        let mut bytes =
            libc::socklen_t::try_from(mem::size_of_val(groups.as_slice())).expect("at most NGROUPS_MAX");
        // SAFETY: the buffer is `bytes` long, and both pointers live through the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let wanted = bytes as usize / mem::size_of::<u32>();
        if result == 0 {
            groups.truncate(wanted);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || wanted <= groups.len() {
            return Err(error);
        }
        groups.resize(wanted, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn peer_of_own_socket_is_this_process() {
        let (here, _there) = UnixStream::pair().unwrap();
        let mut peer = Peer::of(&here).unwrap();
        peer.groups.sort_unstable();
        let mut groups: Vec<u32> = nix::unistd::getgroups().unwrap().into_iter().map(Into::into).collect();
        groups.sort_unstable();
        let expected = Peer {
            uid: nix::unistd::geteuid().into(),
            gid: nix::unistd::getegid().into(),
            groups,
            pid: std::process::id().cast_signed(),
        };
        assert_eq!(peer, expected);
    }

    #[test]
    fn only_root_and_group_members_may_change() {
        // Groups of every Linux system: root is 0, and the other exists nowhere.
        let peer = |uid, gid, groups: &[u32]| Peer { uid, gid, groups: groups.into(), pid: 1 };
        assert!(peer(0, 65534, &[]).may_change("no-such-group-of-ours"));
        assert!(peer(1000, 0, &[]).may_change("root"), "by its primary group");
        assert!(peer(1000, 1000, &[4, 0, 24]).may_change("root"), "by a supplementary group");
        assert!(!peer(1000, 1000, &[4, 24]).may_change("root"));
        assert!(!peer(1000, 0, &[0]).may_change("no-such-group-of-ours"));
    }
}
