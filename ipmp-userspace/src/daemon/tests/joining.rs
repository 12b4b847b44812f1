//! Interfaces that cannot join as they are, and addresses that appear on members.

use std::process::Command;

use super::{
    test_address::{assert_kept, has},
    *,
};

fn ip(arguments: &str) -> bool {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    status.success()
}

#[test]
fn nic_with_leased_address_is_refused_until_it_is_static() {
    on_a_host(|links| async move {
        with_daemon(|client| async move {
            for (address, text) in [
                (
                    "192.168.178.50/24",
                    "eth1 has the leased address 192.168.178.50/24, which its DHCP client would renew on eth1: configure \
                     the address as a static one, or keep the lease as the test address of eth1 (--test-address dhcp)",
                ),
                (
                    "2001:db8::50/64",
                    "eth1 has the address 2001:db8::50/64 with a lifetime, from router advertisements or DHCPv6: switch \
                     them off (sysctl net.ipv6.conf.eth1.accept_ra=0) and remove the address first (ip address del \
                     2001:db8::50/64 dev eth1)",
                ),
            ] {
                assert!(ip(&format!("address add {address} dev eth1 valid_lft 600 preferred_lft 300")));
                let before = routes(&links, "eth1").await;
                let refused = client.refused(attach(&["eth0", "eth1"])).await;
                assert_eq!((refused.reason, refused.message.as_str()), (reason::IN_USE, text));
                assert_eq!(client.show().await, []);
                assert_eq!(routes(&links, "eth1").await, before);
                assert!(ip(&format!("address del {address} dev eth1")));
            }
            assert!(ip("address add 192.168.178.50/24 dev eth1"));
            client.attach(&["eth0", "eth1"]).await;
        })
        .await;
    });
}

#[test]
fn address_that_appears_on_member_is_no_test_address_until_declared() {
    on_a_host(|links| async move {
        with_daemon(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            client.until("all are active", settled).await;
            // A DHCP client adds the lease that has moved again, and another program an address.
            assert!(ip("address add 192.168.178.21/24 dev eth0 valid_lft 600 preferred_lft 300"));
            assert!(ip("address add 10.8.8.8/24 dev eth1"));
            assert!(ip("route add 172.16.0.0/12 via 10.8.8.1 dev eth1"));
            client.until("it is shown", |group| has(group, "eth1", "10.8.8.8")).await;
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                for (name, kept) in [("eth0", "192.168.178.0/24"), ("eth1", "172.16.0.0/12 via 10.8.8.1")] {
                    let device = links.need(name).await;
                    let all = links.addresses_of(device.ifindex).unwrap();
                    let mut v4 = all.iter().filter(|address| address.ip.is_ipv4());
                    assert!(v4.all(|address| !address.is_for_tests()), "{all:?}");
                    assert!(routes(&links, name).await.contains(kept), "{:?}", routes(&links, name).await);
                }
            }
            let declared =
                Request::AddTestAddress { interface: "eth1".into(), address: "10.8.8.8/24".parse().unwrap() };
            client.done(declared).await;
            assert_kept(&links, "eth1").await;
        })
        .await;
    });
}

#[test]
fn interface_stacked_on_group_or_below_macvlan_is_refused() {
    on_a_host(|_links| async move {
        with_daemon(|client| async move {
            client.attach(&["eth0"]).await;
            // Kinds that this kernel does not have are left to the unit test of the decision.
            for kind in ["macvlan", "macvtap", "ipvlan"] {
                if !ip(&format!("link add link production0 name up0 type {kind}")) {
                    println!("{kind}: the kernel does not have it");
                    continue;
                }
                let refused = client.refused(attach(&["up0"])).await;
                assert_eq!(
                    refused.message,
                    "up0 is stacked on group interface production0: its packets would loop; attach the NICs themselves \
                     to production0"
                );
                // A macvtap cannot be a port.
                if kind == "macvlan" {
                assert!(ip("link add br0 type bridge") && ip("link set up0 master br0"));
                let refused = client.refused(attach(&["br0"])).await;
                assert!(refused.message.starts_with("br0 is stacked on group interface production0"));
                    assert!(ip("link del br0"));
                }
                assert!(ip("link del up0"));

                assert!(ip(&format!("link add link eth0 name up0 type {kind}")));
                let refused = client.refused(attach(&["up0"])).await;
                assert_eq!(
                    refused.message,
                    "up0 is stacked on eth0, which is a member of production0: detach eth0 first (ipmpctl detach eth0)"
                );
                assert!(ip("link del up0"));

                assert!(ip(&format!("link add link eth1 name up0 type {kind}")));
                let refused = client.refused(attach(&["eth1"])).await;
                assert_eq!(
                    refused.message,
                    format!(
                        "eth1 has the {kind} device up0 on it, which would receive no ARP, Neighbour Discovery and \
                         broadcast any more: delete it first (ip link del up0)"
                    )
                );
                if kind == "ipvlan" {
                    let refused = client.refused(attach(&["up0"])).await;
                    assert!(refused.message.starts_with("up0 is an ipvlan device"), "{refused:?}");
                } else {
                    assert!(ip("link set up0 address 02:00:00:00:00:77"));
                    let both = client.refused(attach(&["up0", "eth1"])).await;
                    assert_eq!(both.message, refused.message);
                    client.attach(&["up0"]).await;
                    client.done(detach("up0", None)).await;
                }
                assert!(ip("link del up0"));
            }
            client.attach(&["eth1"]).await;
        })
        .await;
    });
}

/// Sends a UDP packet from a host on the cable of a member to a multicast group.
fn send_multicast(from: &str, to: [u8; 4], port: u16) {
    let builder =
        etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [1, 0, 0x5e, to[1] & 0x7f, to[2], to[3]])
            .ipv4([192, 168, 178, 9], to, 1)
            .udp(port, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"multicast").unwrap();
    let index = nix::net::if_::if_nametoindex(from).unwrap();
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
    // SAFETY: sockaddr_ll is plain data, all zeros is valid, and it fits a sockaddr_storage.
    let ((), address) = unsafe {
        socket2::SockAddr::try_init(|storage, length| {
            let address = storage.cast::<libc::sockaddr_ll>();
            (*address).sll_family = libc::AF_PACKET as u16;
            (*address).sll_ifindex = index as i32;
            (*address).sll_halen = 6;
            *length = size_of::<libc::sockaddr_ll>() as u32;
            Ok(())
        })
    }
    .unwrap();
    socket.send_to(&frame, &address).unwrap();
}

#[test]
fn program_that_joined_multicast_on_nic_receives_after_attach() {
    on_a_host(|links| async move {
        let eth0 = links.need("eth0").await;
        let program = std::net::UdpSocket::bind("0.0.0.0:5353").unwrap();
        program.set_nonblocking(true).unwrap();
        let program = Socket::from(program);
        let group = [239, 178, 0, 1];
        let on_nic = socket2::InterfaceIndexOrAddress::Index(eth0.ifindex);
        program.join_multicast_v4_n(&group.into(), &on_nic).unwrap();
        with_daemon(|client| async move {
            let receives = async || {
                for _ in 0..200 {
                    send_multicast("sw0", group, 5353);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let mut buffer = [MaybeUninit::uninit(); 64];
                    if program.recv(&mut buffer).is_ok() {
                        return true;
                    }
                }
                false
            };
            assert!(receives().await, "before attach");
            let notes = client.attach(&["eth0"]).await;
            assert!(
                notes.iter().any(|note| note.contains("on eth0: 239.178.0.1; production0 receives")),
                "{notes:?}"
            );
            client.until("all are active", settled).await;
            let mut buffer = [MaybeUninit::uninit(); 64];
            while program.recv(&mut buffer).is_ok() {}
            assert!(receives().await, "after attach");
        })
        .await;
    });
}
