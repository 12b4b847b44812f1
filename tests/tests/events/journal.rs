//! The daemon's messages in the journal: with `JOURNAL_STREAM`, `ipmpd` sends each message with its fields to journald's
//! socket and writes nothing to standard error.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use lab::network::DATA;
use lab::{Daemon, Lab, TIMEOUT, wait_until};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// The socket of journald.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// The fields of a datagram in the journal's native protocol.
fn parse(mut datagram: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut fields = Vec::new();
    while let Some(end) = datagram.iter().position(|&byte| byte == b'\n') {
        let line = &datagram[..end];
        if let Some(at) = line.iter().position(|&byte| byte == b'=') {
            fields.push((text(&line[..at]), text(&line[at + 1..])));
            datagram = &datagram[end + 1..];
        } else {
            let (length, rest) = datagram[end + 1..].split_at(8);
            let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            fields.push((text(line), text(&rest[..length])));
            assert_eq!(rest[length], b'\n', "a value ends with a line feed");
            datagram = &rest[length + 1..];
        }
    }
    assert_eq!(datagram, b"");
    fields
}

/// The test listens on journald's socket in a private mount namespace. `JOURNAL_STREAM` names the standard error of the
/// daemon, as systemd does when it connects it to the journal.
#[test]
fn journal_receives_every_message_with_its_fields() {
    lab::needs_root!();
    let lab = Lab::builder().members(2).peers(&[]).build().unwrap();
    let listen = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).unwrap();
        let systemd = Path::new("/run/systemd");
        let is_new = fs::create_dir(systemd).is_ok();
        mount(Some("tmpfs"), systemd, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        fs::create_dir(Path::new(JOURNAL).parent().unwrap()).unwrap();
        let journald = UnixDatagram::bind(JOURNAL).unwrap();
        journald.set_read_timeout(Some(TIMEOUT)).unwrap();

        let log = lab.directory().join(format!("{}.log", lab.host().name()));
        let file = File::create(&log).unwrap().metadata().unwrap();
        let stream = format!("{}:{}", file.dev(), file.ino());
        let daemon = Daemon::builder(&lab).environment("JOURNAL_STREAM", &stream).start().unwrap();
        daemon.ctl(&format!("create production0 --address {DATA}/24")).unwrap();
        daemon.ctl("attach e1000g0 rge0 --group production0").unwrap();
        let transmit = || !daemon.ctl("show production0").unwrap().contains("does not transmit");
        assert!(wait_until(TIMEOUT, transmit), "{}", daemon.ctl("show").unwrap());
        lab.cable(1).pull().unwrap();

        let mut buffer = vec![0; 1 << 16];
        let mut entries = Vec::new();
        while !entries.iter().any(|fields: &Vec<(String, String)>| fields[0].1.contains("failure detected")) {
            let length = journald.recv(&mut buffer).expect("an entry of the failure");
            entries.push(parse(&buffer[..length]));
        }
        drop(daemon);
        drop(journald);
        if is_new {
            nix::mount::umount(systemd).unwrap();
            let _ = fs::remove_dir(systemd);
        }
        assert_eq!(
            fs::read_to_string(&log).unwrap(),
            "",
            "messages in the journal are not repeated on standard error"
        );
        entries
    };
    let entries = std::thread::scope(|scope| scope.spawn(listen).join().unwrap());
    let entry = |message: &str| {
        let found = entries.iter().find(|fields| fields[0] == ("MESSAGE".into(), message.into()));
        found.unwrap_or_else(|| panic!("no {message:?} in {entries:#?}"))
    };
    let fields = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    let failure = "IP interface failure detected on e1000g0 of group production0";
    assert_eq!(
        *entry(failure),
        fields(&[
            ("MESSAGE", failure),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "ipmpd"),
            ("IPMP_GROUP", "production0"),
            ("IPMP_MEMBER", "e1000g0"),
            ("IPMP_EVENT", "failed"),
            ("IPMP_CAUSE", "carrier-lost"),
            ("IPMP_BECAUSE", "e1000g0 has lost its carrier"),
        ])
    );
    let added = "Data address 192.168.178.200 has been added to group production0";
    let entry = entry(added);
    let because = entry.iter().find(|(name, _)| name == "IPMP_BECAUSE").unwrap().1.clone();
    assert!(because.starts_with("uid 0, pid ") && because.ends_with(" requested Create"), "{because}");
    assert_eq!(
        *entry,
        fields(&[
            ("MESSAGE", added),
            ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "ipmpd"),
            ("IPMP_GROUP", "production0"),
            ("IPMP_EVENT", "address-added"),
            ("IPMP_CAUSE", "operator"),
            ("IPMP_BECAUSE", &because),
            ("IPMP_ADDRESS", "192.168.178.200"),
            ("IPMP_UID", "0"),
        ])
    );
}
