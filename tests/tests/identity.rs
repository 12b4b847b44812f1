//! Members and groups keep their identity: interfaces are renamed, also while no daemon runs.

lab::lane!(side_by_side, seconds = 30);

use ipmp::control::report::GroupReport;
use ipmp::types::MemberState;
use lab::production::GROUP;
use lab::{Lab, Mac, Production, SECOND, show_mac};

/// The report on a group, whatever its name.
fn report(production: &Production<'_>, group: &str) -> GroupReport {
    let text = production.daemon.ctl(&format!("show {group} --json")).unwrap();
    let mut shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(shown["groups"][0].take()).unwrap()
}

/// The states of the members with these MACs.
fn states(report: &GroupReport, macs: &[Mac]) -> Vec<(String, MemberState)> {
    let with = |mac: &Mac| report.members.iter().find(|member| member.mac == show_mac(*mac)).unwrap();
    macs.iter().map(with).map(|member| (member.name.clone(), member.state)).collect()
}

fn rename(lab: &Lab, from: &str, to: &str) {
    lab.host().ip(&format!("link set {from} name {to}")).unwrap();
}

fn swap(lab: &Lab, one: &str, other: &str) {
    rename(lab, one, "meanwhile0");
    rename(lab, other, one);
    rename(lab, "meanwhile0", other);
}

const SETTINGS: [&str; 2] = ["net.ipv4.conf.NAME.arp_ignore", "net.ipv6.conf.NAME.addr_gen_mode"];

fn settings(lab: &Lab, name: &str) -> Vec<String> {
    SETTINGS.iter().map(|key| lab.host().read_sysctl(&key.replace("NAME", name)).unwrap()).collect()
}

#[test]
fn renamed_interfaces_keep_their_place_in_the_group() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let names: Vec<&str> = lab.members().iter().map(lab::Member::name).collect();
    let macs: Vec<Mac> = lab.members().iter().map(lab::Member::mac).collect();
    let [first, second, third] = names[..] else { panic!("{names:?}") };
    let before = settings(&lab, first);
    let mut production = Production::create(&lab).unwrap();
    let ok = MemberState::Ok;
    let is = |names: [&str; 3], states: [MemberState; 3]| -> Vec<(String, MemberState)> {
        names.map(str::to_owned).into_iter().zip(states).collect()
    };

    // Up, and down.
    let since = production.daemon.log().len();
    rename(&lab, first, "lan0");
    let line = format!("IP interface {first} of group {GROUP} is now named lan0");
    println!("{}", production.daemon.wait_line(&line, since, SECOND).unwrap());
    lab.host().ip(&format!("link set {second} down")).unwrap();
    rename(&lab, second, "lan1");
    lab.host().ip("link set lan1 up").unwrap();
    let line = format!("IP interface {second} of group {GROUP} is now named lan1");
    println!("{}", production.daemon.wait_line(&line, since, SECOND).unwrap());
    production.wait_usable(3).unwrap();
    let refused = production.daemon.ctl_error(&format!("offline {first}")).unwrap();
    assert!(refused.contains("is not a member"), "{refused}");

    // The right cable is relieved at once after a swap.
    swap(&lab, "lan0", third);
    production.daemon.ctl("offline lan0").unwrap();
    let shown = states(&report(&production, GROUP), &macs);
    println!("after the swap and `offline lan0`: {shown:?}");
    assert_eq!(shown, is([third, "lan1", "lan0"], [ok, ok, MemberState::Offline]));
    production.daemon.ctl("online lan0").unwrap();

    // The group. Its link-local address is among the addresses.
    let addresses = report(&production, GROUP).addresses.len() + 1;
    rename(&lab, GROUP, "lan");
    let line = format!("Group {GROUP} is now named lan, as its interface");
    println!("{}", production.daemon.wait_line(&line, since, SECOND).unwrap());
    production.daemon.ctl("address add 192.168.178.211/24 --group lan").unwrap();
    assert_eq!(report(&production, "lan").addresses.len(), addresses);

    // While no daemon runs: the group and all members.
    production.daemon.kill().unwrap();
    rename(&lab, "lan", GROUP);
    swap(&lab, "lan0", third);
    rename(&lab, "lan1", second);
    production.daemon.start().unwrap();
    let shown = report(&production, GROUP);
    println!("after the restart: {:?}", states(&shown, &macs));
    assert_eq!(states(&shown, &macs), is(["lan0", second, third], [ok, ok, ok]));
    assert_eq!(shown.addresses.len(), addresses);
    let all = production.daemon.ctl("show --json").unwrap();
    assert_eq!(all.matches("\"groupname\"").count(), 1, "{all}");

    // What was changed on the interface is restored, whatever its name.
    production.daemon.ctl("detach lan0").unwrap();
    rename(&lab, "lan0", first);
    println!("settings before {before:?}, as a member, and after: {:?}", settings(&lab, first));
    assert_eq!(settings(&lab, first), before);
    let problems: Vec<String> = production.daemon.problems(since);
    assert!(problems.iter().all(|line| line.contains("down") || line.contains("failure")), "{problems:?}");
    rename(&lab, third, "lan2");
    production.daemon.terminate().unwrap();
    rename(&lab, "lan2", third);
    production.daemon.teardown().unwrap();
    assert_eq!(settings(&lab, third), before);
    production.assert_clean();
}
