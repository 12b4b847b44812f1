//! Refusals of members.

use lab::network::ROUTER;

use crate::{REFUSED, Scene, USAGE, quiet_lab};

const PLAIN: &str = "192.168.178.201";

#[test]
fn unknown_interface_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    let line = "there is no interface nosuch0 in this network namespace; `ip link` lists those that exist";
    scene.refused("attach nosuch0 --group production0", REFUSED, "no-such-interface", line);
    // Its new group is not created either.
    scene.refused("attach nosuch0 --group other0", REFUSED, "no-such-interface", line);
}

#[test]
fn loopback_interface_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    let line = "lo is a loopback interface: only Ethernet interfaces can be members";
    scene.refused("attach lo --group production0", REFUSED, "unsuitable", line);
    scene.refused("attach lo --group other0", REFUSED, "unsuitable", line);
}

#[test]
fn point_to_point_interface_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    scene.ip("tuntap add dev tun0 mode tun");
    scene.ip("link set tun0 up");
    let line = "tun0 is a point-to-point interface: only Ethernet interfaces can be members";
    scene.refused("attach tun0 --group production0", REFUSED, "unsuitable", line);
}

#[test]
fn interface_without_arp_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    scene.ip("link add ifb0 type ifb");
    scene.ip("link set rge0 arp off");
    for name in ["ifb0", "rge0"] {
        let line = format!("{name} does no ARP, which a member must do: ip link set {name} arp on");
        scene.refused(&format!("attach {name} --group production0"), REFUSED, "unsuitable", &line);
    }
    // The suggested remedy works.
    scene.ip("link set rge0 arp on");
    scene.ctl("attach rge0 --group production0");
}

#[test]
fn member_of_another_group_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    let line = "e1000g0 is a member of production0: detach it there first (ipmpctl detach e1000g0)";
    scene.refused("attach e1000g0 --group other0", REFUSED, "already-member", line);
    scene.ctl("create other0");
    scene.refused("attach rge0 e1000g0 --group other0", REFUSED, "already-member", line);
    scene.ctl("detach e1000g0");
    scene.ctl("attach e1000g0 --group other0");
}

#[test]
fn bridge_port_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    scene.ip("link add br0 type bridge");
    scene.ip("link set rge0 master br0");
    let line = "rge0 belongs to br0 (bridge): take it out first (ip link set rge0 nomaster)";
    scene.refused("attach rge0 --group production0", REFUSED, "in-use", line);
    scene.refused("attach rge0 --group other0", REFUSED, "in-use", line);
    scene.ip("link set rge0 nomaster");
    scene.ctl("attach rge0 --group production0");
}

#[test]
fn duplicate_hardware_address_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0");
    let mac = lab::show_mac(lab.member("e1000g0").mac());
    scene.ip(&format!("link set e1000g1 address {mac}"));
    let line = "e1000g1 has the hardware address of e1000g0, which a group can have only once: give it another (ip link \
                set e1000g1 address …)";
    scene.refused("attach e1000g1 --group production0", REFUSED, "duplicate-mac", line);
    scene.refused("attach rge0 e1000g1 --group production0", REFUSED, "duplicate-mac", line);
    // Neither interface is a member yet.
    scene.ip(&format!("link set rge0 address {}", "02:a0:00:00:00:99"));
    scene.ip(&format!("link set e1000g1 address {}", "02:a0:00:00:00:99"));
    let line = "e1000g1 has the hardware address of rge0, which a group can have only once: give it another (ip link set \
                e1000g1 address …)";
    scene.refused("attach rge0 e1000g1 --group other0", REFUSED, "duplicate-mac", line);
}

#[test]
fn seventeenth_member_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(18);
    let names: Vec<&str> = lab.members().iter().map(|member| member.name()).collect();
    let scene = Scene::new(&lab);
    let line = |name: &str| {
        format!(
            "{name} cannot join production0: a group has 16 members at most; attach it to another group, or detach a \
             member first"
        )
    };
    let all = format!("attach {} --group production0", names[..17].join(" "));
    scene.refused(&all, REFUSED, "full", &line(names[16]));
    scene.ctl(&format!("attach {} --group production0", names[..16].join(" ")));
    scene.settle();
    scene.refused(&format!("attach {} --group production0", names[16]), REFUSED, "full", &line(names[16]));
    scene.refused(&format!("attach {} --group production0", names[17]), REFUSED, "full", &line(names[17]));
    scene.ctl(&format!("detach {}", names[3]));
    scene.ctl(&format!("attach {} --group production0", names[16]));
}

#[test]
fn group_interface_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0 e1000g1");
    for group in ["production0", "other0"] {
        let line = format!(
            "production0 is a group interface, which cannot be a member: attach the NICs themselves to {group}"
        );
        scene.refused(&format!("attach production0 --group {group}"), REFUSED, "unsuitable", &line);
        scene.refused(&format!("attach rge0 production0 --group {group}"), REFUSED, "unsuitable", &line);
    }
    // On a kernel without dummy devices the group interface is one end of a veth pair.
    let links = lab.host().netlink().links().unwrap();
    if let Some((_, far)) = links.iter().find(|(_, name)| name.starts_with("ipmpfar-")) {
        let line = format!("{far} is the far end of a group interface, which must not be used");
        scene.refused(&format!("attach {far} --group other0"), REFUSED, "unsuitable", &line);
    }
}

#[test]
fn one_unsuitable_interface_refuses_whole_attach() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    // The suitable interfaces have addresses and routes that must stay.
    for command in [
        format!("addr add {PLAIN}/24 brd + dev e1000g0"),
        "addr add fd00:178::201/64 dev e1000g0 nodad".to_owned(),
        format!("route add default via {ROUTER} dev e1000g0"),
        "route add 10.9.0.0/16 dev e1000g1".to_owned(),
    ] {
        lab.host().ip(&command).unwrap();
    }
    let scene = Scene::new(&lab);
    for group in ["production0", "other0"] {
        let line =
            "there is no interface nosuch0 in this network namespace; `ip link` lists those that exist";
        for list in ["e1000g0 e1000g1 nosuch0", "e1000g0 nosuch0 e1000g1", "nosuch0 e1000g0 e1000g1"] {
            scene.refused(&format!("attach {list} --group {group}"), REFUSED, "no-such-interface", line);
        }
        let line = "lo is a loopback interface: only Ethernet interfaces can be members";
        scene.refused(&format!("attach e1000g0 e1000g1 lo --group {group}"), REFUSED, "unsuitable", line);
        let line = "e1000g0 is named twice: name each interface once";
        scene.refused(&format!("attach e1000g0 e1000g1 e1000g0 --group {group}"), USAGE, "usage", line);
        if group == "production0" {
            scene.ctl("create other0");
        }
    }
}

#[test]
fn interface_given_by_name_and_altname_is_refused() {
    lab::needs_root!();
    let lab = quiet_lab(3);
    let scene = Scene::production(&lab, "e1000g0");
    scene.ip("link property add dev rge0 altname realtek");
    let line = "rge0 is named twice: name each interface once";
    scene.refused("attach rge0 realtek --group production0", REFUSED, "already-member", line);
    scene.refused("attach realtek rge0 --group other0", REFUSED, "already-member", line);
}
