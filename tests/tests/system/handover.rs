//! A host whose cards systemd-networkd, NetworkManager, or netplan for cloud-init configures: they are handed over to a group, and after a
//! boot their owner leaves them alone.

use super::boot::{
    ADDRESS, check_boot, check_tables, check_traffic, connect_cables, disable_networkd, install_package,
    make_group,
};
use super::*;

const CARDS: [&str; 3] = ["eth0", "eth1", "eth2"];

/// What a cloud would give to cloud-init.
const SEED: &str = "/var/lib/cloud/seed/nocloud";

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_networkd_step_1_cards_in_use_are_handed_over() {
    needs_guest();
    let network = |names: &str, lines: &str| format!("[Match]\nName={names}\n\n[Network]\n{lines}\n");
    write(
        "/etc/systemd/network/20-wired.network",
        &network("eth0", &format!("Address={ADDRESS}/24\nGateway=192.168.178.1\nIPv6AcceptRA=no")),
    );
    write("/etc/systemd/network/21-other.network", &network("eth1 eth2", "IPv6AcceptRA=no"));
    ok(
        "systemctl enable systemd-networkd systemd-networkd-wait-online && systemctl restart systemd-networkd",
    );
    connect_cables();
    wait_networkd("configured");
    hand_over("systemd-networkd (/etc/systemd/network/20-wired.network)");
    wait_networkd("unmanaged");
}

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_networkd_step_2_rebooted_networkd_leaves_members() {
    needs_guest();
    check_rebooted();
    check_not_awaited();
    ok("networkctl reload && systemctl restart systemd-networkd");
    wait_networkd("unmanaged");
    check_group();
}

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_network_manager_step_1_cards_in_use_are_handed_over() {
    needs_guest();
    disable_networkd();
    write("/etc/NetworkManager/conf.d/10-manual.conf", "[main]\nno-auto-default=*\n");
    for (number, name) in (0..).zip(CARDS) {
        let ipv4 = match number {
            0 => format!("method=manual\naddress1={ADDRESS}/24,192.168.178.1"),
            _ => "method=disabled".to_owned(),
        };
        let file = format!("/etc/NetworkManager/system-connections/{name}.nmconnection");
        write(
            &file,
            &format!(
                "[connection]\nid={name}\nuuid=00000000-0000-4000-8000-00000000000{number}\ntype=ethernet\ninterface-name={name}\n\n\
                 [ipv4]\n{ipv4}\n\n[ipv6]\nmethod=link-local\n"
            ),
        );
        ok(&format!("chmod 600 {file}"));
    }
    connect_cables();
    let units = "NetworkManager NetworkManager-wait-online NetworkManager-dispatcher";
    ok(&format!("systemctl unmask {units} && systemctl enable {units} && systemctl start NetworkManager"));
    wait_network_manager("connected");
    hand_over("NetworkManager (");
    wait_network_manager("unmanaged");
}

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_network_manager_step_2_rebooted_network_manager_leaves_members() {
    needs_guest();
    check_rebooted();
    ok("nmcli general reload && systemctl restart NetworkManager");
    wait_network_manager("unmanaged");
    check_group();
}

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_cloud_init_step_1_image_gets_its_data() {
    needs_guest();
    fs::remove_file("/etc/cloud/cloud-init.disabled").unwrap();
    write(
        "/etc/cloud/cloud.cfg.d/90-scene.cfg",
        "datasource_list: [NoCloud]\nsystem_info:\n  network:\n    renderers: [netplan]\n",
    );
    write(&format!("{SEED}/meta-data"), "instance-id: scene\nlocal-hostname: guest\n");
    // This system has no locales.
    write(&format!("{SEED}/user-data"), "#cloud-config\nlocale: false\n");
    write(
        &format!("{SEED}/network-config"),
        &format!(
            "version: 2\nethernets:\n  eth0:\n    match:\n      macaddress: '02:a0:00:00:00:01'\n    set-name: eth0\n    \
             addresses: [{ADDRESS}/24]\n    gateway4: 192.168.178.1\n    accept-ra: false\n  eth1:\n    accept-ra: false\n  \
             eth2:\n    accept-ra: false\n"
        ),
    );
}

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_cloud_init_step_2_cards_of_netplan_are_handed_over() {
    needs_guest();
    ok("cloud-init status --wait --long && cat /etc/netplan/50-cloud-init.yaml");
    connect_cables();
    wait_networkd("configured");
    hand_over("netplan (file /etc/netplan/50-cloud-init.yaml of cloud-init) through systemd-networkd");
    wait_networkd("unmanaged");
}

#[test]
#[ignore = "a step of a scene: `cargo xtask test --soak` boots it"]
fn scene_cloud_init_step_3_rebooted_netplan_leaves_members() {
    needs_guest();
    check_rebooted();
    check_not_awaited();
    ok("cloud-init status --wait --long && netplan apply");
    wait_networkd("unmanaged");
    check_group();
}

/// The owner is reported; then the cards are attached with a handover.
fn hand_over(owner: &str) {
    install_package();
    let refused = refused("ipmpctl attach eth0 eth1 eth2 --group production0");
    assert!(refused.contains(&format!("eth0 is configured by {owner}")), "{refused}");
    make_group("--handover");
}

fn check_rebooted() {
    check_boot();
    check_tables();
    connect_cables();
    check_group();
}

/// The boot did not wait for cards of networkd, which has none.
fn check_not_awaited() {
    let journal = ok("journalctl --boot --no-pager --output=cat --unit systemd-networkd-wait-online");
    assert!(journal.contains("all NICs of systemd-networkd are handed over"), "{journal}");
}

/// The group works with all its members, whose addresses it has.
fn check_group() {
    check_tables();
    check_traffic();
    for card in CARDS {
        let addresses = ok(&format!("ip -oneline address show dev {card} scope global"));
        assert!(addresses.is_empty(), "{addresses}");
    }
}

/// Waits until all cards are in this state of networkd.
fn wait_networkd(state: &str) {
    let state_of = |card: &str| {
        let row = run(&format!("networkctl list --no-legend {card}"));
        String::from_utf8_lossy(&row.stdout).split_whitespace().last().map(str::to_owned)
    };
    let all = || CARDS.iter().all(|card| state_of(card).as_deref() == Some(state));
    assert!(wait_until(PATIENCE, all), "{}", ok("networkctl list; systemctl status systemd-networkd"));
}

/// Waits until all cards are in this state of NetworkManager.
fn wait_network_manager(state: &str) {
    let state_of = |card: &str| {
        let value = run(&format!("nmcli --get-values GENERAL.STATE device show {card}"));
        String::from_utf8_lossy(&value.stdout).trim().to_owned()
    };
    let all = || CARDS.iter().all(|card| state_of(card).ends_with(&format!("({state})")));
    assert!(wait_until(PATIENCE, all), "{}", ok("nmcli device; systemctl status NetworkManager"));
}
