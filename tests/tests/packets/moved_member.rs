//! A member whose device is no longer the one that was attached: nothing is sent there, nothing is taken there.

use std::sync::mpsc::channel;

use nix::sched::{CloneFlags, unshare};

use crate::{
    frames::*,
    harness::{DATA4, PEER4, index_of, ip, run, test_run},
};

/// Moved to another network namespace, with the same index, or one that is another member's here, without a notification of the datapath.
#[test]
fn to_another_namespace() {
    lab::needs_root!();
    run(|bench| {
        bench.stop_sentinel();
        let out = ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b""));
        let back = ethernet(member_mac(0), PEER_MAC, IPV4, &udp4(PEER4, DATA4, (2, 1), b""));
        let arp = ethernet(BROADCAST, PEER_MAC, ARP, &arp(1, (PEER_MAC, PEER4), (NO_MAC, DATA4)));
        bench.egress(&out).leaves_by(0, &with_source(&out, member_mac(0)));
        bench.ingress(0, &back).is_taken(0, &with_destination(&back, GROUP_MAC));

        let (send, receive) = channel();
        let (allow, allowed) = channel::<()>();
        let ingress = bench.take_ingress(0);
        let of_another = index_of("m1");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                // SAFETY: no arguments.
                send.send(unsafe { libc::gettid() }).unwrap();
                allowed.recv().unwrap();
                ip(&format!("link add other index {of_another} type veth peer name peer\nlink set other up"));
                ip("link set m0 up");
                for (name, frame) in ["m0", "other"].iter().flat_map(|name| [(name, &back), (name, &arp)]) {
                    let mut context = [0; 44];
                    context[40..].copy_from_slice(&index_of(name).to_ne_bytes());
                    let (verdict, after) = test_run(&ingress, &context, frame).unwrap();
                    assert_eq!(
                        (verdict as i32, &after),
                        (-1, frame),
                        "left alone in the other namespace: {name}"
                    );
                }
            });
            let thread = receive.recv().unwrap();
            ip(&format!("link set m0 netns {thread}"));
            allow.send(()).unwrap();
            bench.egress(&out).leaves_instead_by(1, &with_source(&out, member_mac(1)));
        });
        bench.egress(&out).leaves_instead_by(1, &with_source(&out, member_mac(1)));
    });
}

/// Deleted, and made anew under its name with its MAC: another device until the daemon attaches it.
#[test]
fn deleted_and_made_anew() {
    lab::needs_root!();
    run(|bench| {
        bench.stop_sentinel();
        let out = ethernet(PEER_MAC, GROUP_MAC, IPV4, &udp4(DATA4, PEER4, (1, 2), b""));
        ip("link del m0");
        bench.egress(&out).leaves_instead_by(1, &with_source(&out, member_mac(1)));
        ip("link add m0 address 02:00:00:00:01:00 type veth peer name p0\nlink set m0 up\nlink set p0 up");
        bench.egress(&out).leaves_instead_by(1, &with_source(&out, member_mac(1)));
    });
}
