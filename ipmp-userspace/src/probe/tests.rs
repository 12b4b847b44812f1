//! How the kernel answers probes. Both ends of a cable are in one namespace, and the near one has no address: only the far end
//! answers.

use std::{mem::MaybeUninit, net::IpAddr, process::Command, time::Duration};

use ipmp_common::probe::MARK;
use socket2::{Domain, Socket, Type};

use super::frame::{Echo, arp_probe, solicitation};
use crate::{
    announce::{Sender, sender::link_layer},
    link::{Change, Links, Mac, Watch, testing::in_namespace},
};

/// A cable: `eth0`, which sends probes, and `far0`, which has 192.168.178.1 and fe80::1 and a neighbour entry for eth0.
struct Wire {
    links: Links,
    ifindex: u32,
    mac: Mac,
    far: Mac,
    ear: Socket,
}

impl Wire {
    async fn lay(links: Links) -> Self {
        let (near, far) = links.add_pair("eth0", "far0").await;
        for arguments in [
            "address add 192.168.178.1/24 dev far0".to_owned(),
            "address add fe80::1/64 dev far0 nodad".to_owned(),
            format!("neighbour add 192.168.178.5 lladdr {} dev far0", crate::link::show_mac(near.mac)),
            format!("neighbour add fe80::5 lladdr {} dev far0", crate::link::show_mac(near.mac)),
        ] {
            let done = Command::new("ip").args(arguments.split(' ')).status().unwrap();
            assert!(done.success(), "ip {arguments}");
        }
        Self { ear: ear(near.ifindex), links, ifindex: near.ifindex, mac: near.mac, far: far.mac }
    }

    /// Sends a frame, and gives the first that comes back and pleases.
    fn ask(&self, frame: &[u8], pleases: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        Sender::open().unwrap().send_frame(self.ifindex, frame).unwrap();
        receive(&self.ear, |frame| frame[..6] == self.mac && frame[6..12] == self.far && pleases(frame))
    }

    fn echo(&self, source: &str) -> Echo {
        let source = source.parse().unwrap();
        let (identifier, sequence, cookie) = (0x1234, 0xfffe, 0x0102_0304_0506_0708);
        Echo { mac: self.mac, source, identifier, sequence, cookie, size: None }
    }
}

/// A socket that receives every frame of an interface.
fn ear(ifindex: u32) -> Socket {
    let ear = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
    ear.bind(&link_layer(ifindex, (libc::ETH_P_ALL as u16).to_be(), &[])).unwrap();
    ear.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    ear
}

fn receive(ear: &Socket, pleases: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
    loop {
        let length = ear.recv(&mut buffer).expect("nothing was received for 5 s");
        // SAFETY: recv has written the first `length` bytes.
        let frame: Vec<u8> = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
        if pleases(&frame) {
            return frame;
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_target_answers_an_echo_request_with_all_that_was_in_it() {
    in_namespace(|links| async move {
        let wire = Wire::lay(links).await;
        let carried = [&MARK[..], &[8, 7, 6, 5, 4, 3, 2, 1]].concat();
        let question = wire.echo("192.168.178.5").to(ip("192.168.178.1"), wire.far).unwrap();
        let answer = wire.ask(&question, |frame| frame[12..14] == [8, 0] && frame[23] == 1);
        assert_eq!(answer[26..34], [192, 168, 178, 1, 192, 168, 178, 5]);
        // Type and code of a reply, behind its checksum the identifier and the number.
        assert_eq!((&answer[34..36], &answer[38..42]), (&[0, 0][..], &[0x12, 0x34, 0xff, 0xfe][..]));
        assert_eq!(answer[42..62], carried);

        let question = wire.echo("fe80::5").to(ip("fe80::1"), wire.far).unwrap();
        let answer = wire.ask(&question, |frame| frame[12..14] == [0x86, 0xdd] && frame[20] == 58);
        assert_eq!((&answer[54..56], &answer[58..62]), (&[129, 0][..], &[0x12, 0x34, 0xff, 0xfe][..]));
        assert_eq!(answer[62..82], carried);
    });
}

#[test]
fn hosts_answer_what_goes_to_all_of_them() {
    in_namespace(|links| async move {
        let wire = Wire::lay(links).await;
        // By default Linux does not answer broadcast echo requests on IPv4.
        std::fs::write("/proc/sys/net/ipv4/icmp_echo_ignore_broadcasts", "0").unwrap();
        let question = wire.echo("192.168.178.5").to_all().unwrap();
        let answer = wire.ask(&question, |frame| frame[12..14] == [8, 0] && frame[23] == 1);
        assert_eq!((&answer[26..30], answer[34]), (&[192, 168, 178, 1][..], 0));
        let question = wire.echo("fe80::5").to_all().unwrap();
        let answer = wire.ask(&question, |frame| frame[12..14] == [0x86, 0xdd] && frame[20] == 58);
        assert_eq!(answer[54..56], [129, 0]);
        assert_eq!(answer[62..74], MARK);
    });
}

#[test]
fn target_answers_arp_probe_without_sender_address() {
    in_namespace(|links| async move {
        let wire = Wire::lay(links).await;
        let question = arp_probe(wire.mac, wire.far, [192, 168, 178, 1].into());
        let answer = wire.ask(&question, |frame| frame[12..14] == [8, 6]);
        // A reply of the far MAC and address, to our MAC and no address.
        let expected = [&[0, 2][..], &wire.far, &[192, 168, 178, 1], &wire.mac, &[0, 0, 0, 0]].concat();
        assert_eq!(answer[20..42], expected);
    });
}

#[test]
fn a_target_answers_a_neighbour_solicitation_with_a_solicited_advertisement() {
    in_namespace(|links| async move {
        let wire = Wire::lay(links).await;
        let (source, target) = ("fe80::5".parse().unwrap(), "fe80::1".parse().unwrap());
        let question = solicitation(wire.mac, wire.far, source, target);
        let answer = wire.ask(&question, |frame| frame[12..14] == [0x86, 0xdd] && frame[54] == 136);
        // Solicited, and whose it is.
        assert_eq!(answer[58] & 0x40, 0x40);
        assert_eq!(answer[62..78], target.octets());
    });
}

#[test]
fn kernel_resolves_neighbour_and_reports_its_answer() {
    in_namespace(|links| async move {
        let mut watch = Watch::surroundings().unwrap();
        let wire = Wire::lay(links).await;
        let address = ip("192.168.178.77");
        let found = wire.links.resolve_neighbour(wire.ifindex, address).await.unwrap();
        assert!(found.is_none_or(|entry| entry.mac.is_none() && !entry.confirmed), "{found:?}");

        // The other end answers the request.
        let far = wire.links.need("far0").await;
        let ear = ear(far.ifindex);
        wire.links.resolve_neighbour(wire.ifindex, address).await.unwrap();
        let mut question = tokio::task::spawn_blocking(move || {
            receive(&ear, |frame| frame[12..14] == [8, 6] && frame[38..42] == [192, 168, 178, 77])
        })
        .await
        .unwrap();
        let mac = [2, 0, 0, 0, 0, 0x77];
        let sender = question[28..32].to_vec();
        question[..6].copy_from_slice(&wire.mac);
        question[6..12].copy_from_slice(&mac);
        question[21] = 2;
        question[22..28].copy_from_slice(&mac);
        question[28..32].copy_from_slice(&[192, 168, 178, 77]);
        question[32..38].copy_from_slice(&wire.mac);
        question[38..42].copy_from_slice(&sender);
        Sender::open().unwrap().send_frame(far.ifindex, &question).unwrap();

        let reported = async {
            loop {
                if let Change::Neighbour(entry) = watch.next().await.unwrap()
                    && (entry.ifindex, entry.address, entry.confirmed) == (wire.ifindex, address, true)
                {
                    return entry.mac;
                }
            }
        };
        let reported =
            tokio::time::timeout(Duration::from_secs(5), reported).await.expect("no report of the neighbour");
        assert_eq!(reported, Some(mac));
        let known = wire.links.resolve_neighbour(wire.ifindex, address).await.unwrap();
        assert_eq!(known.map(|entry| (entry.mac, entry.confirmed)), Some((Some(mac), true)));
    });
}
