//! A host whose address ifupdown configures gets a group by the five commands of the README, and is booted again: with all cards, without
//! one, with the cards in another order, and after its power was cut before a change was confirmed. The name server that systemd-resolved
//! has for the card follows the address; hooks run.

use super::boot::{
    ADDRESS, check_boot, check_order, check_tables, check_traffic, connect_cables, disable_networkd,
    install_package, make_group, name_of,
};
use super::*;

const NAME_SERVER: &str = "192.168.178.1";

/// The hook writes here.
const EVENTS: &str = "/var/tmp/events";

const STANZA: &str = "/etc/network/interfaces.d/eth0";

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_five_commands_step_1_card_in_use_becomes_group() {
    needs_guest();
    write(
        STANZA,
        &format!("auto eth0\niface eth0 inet static\naddress {ADDRESS}/24\ngateway 192.168.178.1\n"),
    );
    disable_networkd();
    ok("ifup eth0");
    connect_cables();
    install_package();
    let plan = run("ipmpctl attach eth0 eth1 eth2 --group production0 --dry-run");
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.contains("eth0 is configured by ifupdown (/etc/network/interfaces.d/eth0)"), "{plan}");
    write(STANZA, "auto eth0\niface eth0 inet manual\n");
    ok("systemctl unmask systemd-resolved && systemctl enable --now systemd-resolved");
    ok(&format!("resolvectl dns eth0 {NAME_SERVER}"));
    make_group("");
    assert!(has_name_server("production0") && !has_name_server("eth0"));
    write("/tmp/dns", &format!("dns = {{ servers = [\"{NAME_SERVER}\"] }}\n"));
    ok("sed -i '/^.group.production0.$/r /tmp/dns' /etc/ipmp/ipmp.toml && ipmpctl apply");
    let hook = "/etc/ipmp/hooks.d/10-record";
    write(hook, &format!("#!/bin/sh\necho \"$IPMP_EVENT $IPMP_MEMBER\" >>{EVENTS}\n"));
    ok(&format!("chmod 755 {hook} && ipmpctl hooks --check && systemctl enable ipmp-hooks"));
}

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_five_commands_step_2_rebooted_host_shows_tables_of_tutorial() {
    needs_guest();
    check_boot();
    check_tables();
    check_order("ipmp-dns.service", "network-online.target");
    assert!(has_name_server("production0"));
    connect_cables();
    check_traffic();
    wait_recorded("watching");
    ok("ipmpctl offline eth2");
    wait_recorded("offline eth2");
    ok("ipmpctl online eth2");
    wait_recorded("online eth2");
}

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_five_commands_step_3_host_without_a_card_starts_with_the_others() {
    needs_guest();
    check_boot();
    let health = run("ipmpctl health");
    let line = String::from_utf8_lossy(&health.stdout).into_owned();
    assert!(health.status.code() == Some(1) && line.contains("absent"), "{line}");
    connect_cables();
    check_traffic();
}

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_five_commands_step_4_cards_in_another_order_are_the_same_members() {
    needs_guest();
    check_boot();
    assert_eq!([1, 2, 3].map(name_of), ["eth2", "eth1", "eth0"]);
    // The member of the first row of the file is now eth2.
    let rows = ok("ipmpstat -i");
    let rows: Vec<_> = rows.lines().skip(1).filter_map(|row| row.split_whitespace().next()).collect();
    assert_eq!(rows, ["eth0", "eth1", "eth2"]);
    connect_cables();
    check_traffic();
    ok("ipmpctl detach eth2 && ipmpctl save && cat /etc/ipmp/ipmp.toml");
    ok("ipmpctl attach eth2 --group production0 --confirm 3600 && ipmpctl show");
    println!("the power is cut");
    // The machine ends here, without an exit code.
    write("/proc/sysrq-trigger", "b");
}

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_five_commands_step_5_power_cut_undoes_unconfirmed_attach() {
    needs_guest();
    check_boot();
    let rows = ok("ipmpstat -i");
    assert!(rows.contains("eth0") && rows.contains("eth1") && !rows.contains("eth2"), "{rows}");
    assert!(refused("ipmpctl confirm").contains("nothing waits for a confirmation"));
    connect_cables();
    check_traffic();
    // Nothing of the change is left that would refuse another.
    ok("ipmpctl attach eth2 --group production0 && ipmpctl save && ls -lR /var/lib/ipmp");
    ok("ipmpctl detach --all --restore && ip -brief address && ip route");
    let holder = [1, 2, 3].map(name_of).into_iter().find(|card| has_address(card));
    let holder = holder.expect("no card has the address of the group");
    assert!(has_name_server(&holder) && !ok("resolvectl dns").contains("production0"));
    ok(&format!("ip route | grep '^default via 192.168.178.1 dev {holder}'"));
}

fn has_address(card: &str) -> bool {
    ok(&format!("ip -oneline address show dev {card}")).contains(&format!(" {ADDRESS}/24"))
}

/// Whether systemd-resolved has the name server for this link.
fn has_name_server(link: &str) -> bool {
    ok(&format!("resolvectl dns {link}")).contains(NAME_SERVER)
}

/// Waits until the hook has run for an event.
fn wait_recorded(event: &str) {
    let is_recorded =
        || fs::read_to_string(EVENTS).is_ok_and(|text| text.lines().any(|line| line.trim() == event));
    assert!(wait_until(PATIENCE, is_recorded), "{event}: {:?}", fs::read_to_string(EVENTS));
}
