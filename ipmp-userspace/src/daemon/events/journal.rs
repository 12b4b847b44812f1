//! The journal's native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>): an entry is one datagram of fields, or,
//! where it is too long for one, a sealed file whose descriptor is sent instead.

use std::{
    fs::File,
    io::{self, IoSlice, Write},
    os::{fd::AsRawFd, unix::net::UnixDatagram},
};

use log::{Level, Record, kv};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{ControlMessage, MsgFlags, sendmsg},
    },
};

/// The socket of the journal.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Prefix of the fields.
const PREFIX: &str = "IPMP_";

/// The journal of this host.
#[derive(Debug)]
pub struct Journal(UnixDatagram);

impl Journal {
    /// `None`: this host has none.
    pub fn connect() -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(SOCKET).ok()?;
        Some(Self(socket))
    }

    /// Adds an [`entry`].
    pub fn send(&self, entry: &[u8]) -> io::Result<()> {
        match self.0.send(entry) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS)) => {
                self.send_file(entry)
            }
            sent => sent.map(drop),
        }
    }

    /// The journal accepts only sealed files.
    fn send_file(&self, entry: &[u8]) -> io::Result<()> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create("ipmpd-journal", flags)?);
        file.write_all(entry)?;
        let seals =
            SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let rights = [ControlMessage::ScmRights(&[file.as_raw_fd()])];
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&[])], &rights, MsgFlags::empty(), None)?;
        Ok(())
    }
}

/// Severity in the numbers of the journal and syslog.
pub fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// An entry: the text, its priority, and the record's fields as `IPMP_GROUP`, `IPMP_MEMBER` and so on.
pub fn entry(record: &Record<'_>) -> Vec<u8> {
    let mut entry = Vec::new();
    field(&mut entry, "MESSAGE", &record.args().to_string());
    field(&mut entry, "PRIORITY", &severity(record.level()).to_string());
    field(&mut entry, "SYSLOG_IDENTIFIER", "ipmpd");
    let mut fields = Fields(&mut entry);
    let _ = record.key_values().visit(&mut fields);
    entry
}

/// A field: on one line, or, with a value of several lines, preceded by its length.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

struct Fields<'a>(&'a mut Vec<u8>);

impl<'kvs> kv::VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        let name = key.as_str().to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        field(self.0, &format!("{PREFIX}{name}"), &value.to_string());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, io::Seek, os::fd::FromRawFd, path::Path, thread, time::Duration};

    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
        sys::socket::{ControlMessageOwned, recvmsg},
    };

    use super::*;

    fn of(text: &str) -> Vec<u8> {
        let fields = [("group", "production0"), ("member", "eth0"), ("took-ns", "7")];
        entry(&Record::builder().level(Level::Warn).args(format_args!("{text}")).key_values(&fields).build())
    }

    #[test]
    fn entry_has_fields() {
        let expected = "MESSAGE=The link has gone down on eth0\nPRIORITY=4\nSYSLOG_IDENTIFIER=ipmpd\n\
                        IPMP_GROUP=production0\nIPMP_MEMBER=eth0\nIPMP_TOOK_NS=7\n";
        assert_eq!(of("The link has gone down on eth0"), expected.as_bytes());
    }

    #[test]
    fn text_of_several_lines_cannot_forge_fields() {
        let entry = of("one\nPRIORITY=0");
        assert!(entry.starts_with(b"MESSAGE\n\x0e\0\0\0\0\0\0\0one\nPRIORITY=0\nPRIORITY=4\n"));
    }

    /// A simulated journald in a mount namespace with its own `/run`.
    fn with_journald(test: impl FnOnce(&UnixDatagram, &Journal) + Send) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can mount its own /run");
            return;
        }
        let simulated = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
            assert!(Journal::connect().is_none(), "connected without a journal");
            fs::create_dir_all(Path::new(SOCKET).parent().unwrap()).unwrap();
            let journald = UnixDatagram::bind(SOCKET).unwrap();
            journald.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            test(&journald, &Journal::connect().expect("the simulated journal"));
        };
        thread::scope(|scope| scope.spawn(simulated).join().unwrap());
    }

    #[test]
    fn entry_too_long_for_a_datagram_is_sent_as_sealed_file() {
        with_journald(|journald, journal| {
            let send = |text: &str| {
                journal
                    .send(&entry(&Record::builder().level(Level::Error).args(format_args!("{text}")).build()))
                    .unwrap();
            };
            send("short");
            let mut buffer = vec![0; 1 << 16];
            let length = journald.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"MESSAGE=short\nPRIORITY=3\nSYSLOG_IDENTIFIER=ipmpd\n");

            let long = "the log of the verifier is long; ".repeat(1 << 16);
            send(&long);
            let mut space = nix::cmsg_space!([libc::c_int; 1]);
            let mut byte = [0];
            let mut parts = [io::IoSliceMut::new(&mut byte)];
            let message =
                recvmsg::<()>(journald.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).unwrap();
            assert_eq!(message.bytes, 0);
            let Some(ControlMessageOwned::ScmRights(descriptors)) = message.cmsgs().unwrap().next() else {
                panic!("no descriptor received")
            };
            // SAFETY: the kernel has just created it for this process, and nothing else owns it.
            let mut file = unsafe { File::from_raw_fd(descriptors[0]) };
            let seals = fcntl(&file, FcntlArg::F_GET_SEALS).unwrap();
            let wanted = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
            assert!(SealFlag::from_bits_truncate(seals).contains(wanted), "{seals:#x}");
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, format!("MESSAGE={long}\nPRIORITY=3\nSYSLOG_IDENTIFIER=ipmpd\n"));
        });
    }
}
