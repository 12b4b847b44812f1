//! Targets from routes.

use super::*;
use crate::types::TargetMode;

fn ip(arguments: &str) {
    let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Every member has these IPv4 targets, from this source.
fn probes(group: &GroupReport, mode: TargetMode, targets: &[&str]) -> bool {
    let targets: Vec<IpAddr> = targets.iter().map(|target| target.parse().unwrap()).collect();
    group.members.iter().all(|member| {
        let of_v4 = member.probing.iter().find(|probing| probing.test_address.is_some_and(|ip| ip.is_ipv4()));
        of_v4.is_some_and(|probing| {
            let mut known: Vec<IpAddr> = probing.targets.iter().map(|target| target.address).collect();
            known.sort();
            (probing.mode, known) == (mode, targets.clone())
        })
    })
}

#[test]
fn routes_add_and_remove_targets() {
    on_a_host(|links| async move {
        with_daemon(|client| async move {
            client.attach(&["eth0", "eth1"]).await;
            for (number, name) in ["eth0", "eth1"].into_iter().enumerate() {
                let address = format!("192.168.178.{}/24", 201 + number);
                let add =
                    Request::AddTestAddress { interface: name.into(), address: address.parse().unwrap() };
                client.done(add).await;
            }
            let has = |mode, targets: &'static [&'static str]| {
                client.until("the targets", move |group| probes(group, mode, targets))
            };
            has(TargetMode::Routes, &["192.168.178.1"]).await;
            ip("route add 192.168.178.9/32 dev production0");
            ip("route add 10.0.0.0/8 via 192.168.178.2 dev production0 table 178");
            // An own address, and another subnet, give no targets.
            ip("route add 192.168.178.202/32 dev production0");
            ip("route add 10.9.9.9/32 dev production0");
            has(TargetMode::Routes, &["192.168.178.1", "192.168.178.2", "192.168.178.9"]).await;
            ip("route del default via 192.168.178.1 dev production0");
            ip("route del 10.0.0.0/8 via 192.168.178.2 dev production0 table 178");
            has(TargetMode::Routes, &["192.168.178.9"]).await;
            ip("route del 192.168.178.9/32 dev production0");
            has(TargetMode::Multicast, &[]).await;
            drop(links);
        })
        .await;
    });
}
