//! Members whose devices vanish and return: with other indexes and names, two swapped, with the daemon running or not. They
//! stay in the group as absent, and rejoin with all their settings.

lab::lane!(side_by_side, seconds = 40);

use ipmp::control::report::MemberReport;
use ipmp::types::MemberState::{self, Absent, Offline, Ok as Good};
use lab::daemon::binary;
use lab::network::DATA;
use lab::production::GROUP;
use lab::{Lab, MS, Mac, Production, SECOND, TIMEOUT, command, show_mac, wait_until};

const TEST_ADDRESS: &str = "192.168.178.201/24";

struct Scene<'lab> {
    lab: &'lab Lab,
    production: Production<'lab>,
    macs: Vec<Mac>,
}

impl<'lab> Scene<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        let production = Production::create(lab).unwrap();
        Self { lab, production, macs: lab.members().iter().map(lab::Member::mac).collect() }
    }

    fn ctl(&self, arguments: &str) -> String {
        self.production.daemon.ctl(arguments).unwrap()
    }

    /// Deletes the interface, as the removal of its driver does.
    fn delete(&self, name: &str) {
        self.lab.host().ip(&format!("link del {name}")).unwrap();
    }

    /// The members in the order of their MACs in the lab.
    fn members(&self) -> Vec<MemberReport> {
        let report = self.production.report().unwrap();
        let with = |mac: &Mac| report.members.iter().find(|member| member.mac == show_mac(*mac)).cloned();
        self.macs.iter().filter_map(with).collect()
    }

    fn states(&self) -> Vec<(String, MemberState)> {
        self.members().into_iter().map(|member| (member.name, member.state)).collect()
    }

    /// Waits until the members have these names and states.
    fn wait(&self, what: &str, expected: &[(&str, MemberState)]) {
        let expected: Vec<_> = expected.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect();
        let reached = wait_until(TIMEOUT, || self.states() == expected);
        println!("{what}: {:?}", self.states());
        assert!(reached, "{what}: expected {expected:?}\n{}", self.production.show());
    }

    fn ipmpstat(&self) -> String {
        let mut command = self.lab.host().command(binary("ipmpstat").unwrap().to_str().unwrap());
        command.args(["-i", "-P", "-o", "interface,active,flags,link,probe,state", "--socket"]);
        command::run(command.arg(self.production.daemon.socket())).unwrap()
    }

    fn reaches_peer(&self) -> bool {
        let peer = self.lab.peer(0);
        peer.ping(DATA.into(), 3, 10 * MS, SECOND).is_ok_and(|answers| answers.answered == 3)
    }

    fn wait_line(&self, line: &str, since: usize) {
        println!("{}", self.production.daemon.wait_line(line, since, 5 * SECOND).unwrap());
    }

    fn lines(&self) -> usize {
        self.production.daemon.log().len()
    }
}

#[test]
fn vanished_members_rejoin_with_all_settings() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let [first, second, third] = ["e1000g0", "e1000g1", "rge0"];
    let mut scene = Scene::new(&lab);
    scene.ctl(&format!("set {GROUP} fdt=1s targets={}", lab.peer(0).v4()));
    scene.ctl(&format!("set {first} weight=3000"));
    scene.ctl(&format!("set {third} standby=on"));
    scene.ctl(&format!("test-address add {first} {TEST_ADDRESS}"));
    scene.ctl(&format!("offline {second}"));
    let numbers: Vec<(u8, u32, u32)> =
        scene.members().iter().map(|member| (member.number, member.weight, member.slots)).collect();

    // All three, as when their driver is loaded again.
    let since = scene.lines();
    for name in [first, second, third] {
        scene.delete(name);
    }
    scene.wait("deleted", &[(first, Absent), (second, Absent), (third, Absent)]);
    for name in [first, second, third] {
        scene.wait_line(&format!("IP interface {name} of group {GROUP} is absent"), since);
    }
    let shown = scene.production.show();
    assert!(shown.contains("rejoins when a device with the MAC"), "{shown}");
    let rows = scene.ipmpstat();
    println!("{rows}");
    assert_eq!(rows.matches(":-----d-:down:").count(), 2, "{rows}");
    assert_eq!(rows.matches(":-s---d-:down:").count(), 1, "{rows}");
    assert_eq!(rows.matches(":absent\n").count(), 3, "{rows}");
    let refused = scene.production.daemon.ctl_error(&format!("destroy {GROUP}")).unwrap();
    assert!(refused.contains("not empty"), "{refused}");
    for name in [first, second, third] {
        lab.recreate_member(name).unwrap();
    }
    for name in [first, second, third] {
        scene.wait_line(&format!("IP interface {name} of group {GROUP} has returned"), since);
    }
    scene.wait("recreated", &[(first, Good), (second, Offline), (third, Good)]);
    assert!(wait_until(TIMEOUT, || scene.reaches_peer()), "{}", scene.production.show());
    let members = scene.members();
    let found: Vec<_> = members.iter().map(|member| (member.number, member.weight, member.slots)).collect();
    assert_eq!(found, numbers);
    assert!(members[2].standby, "{}", scene.production.show());
    let own: Vec<String> = members[0].addresses.iter().map(|own| own.address.to_string()).collect();
    assert!(own.contains(&"192.168.178.201".to_owned()), "{own:?}");
    for name in [first, second, third] {
        assert_eq!(
            lab.host().read_sysctl(&format!("net.ipv4.conf.{name}.arp_ignore")).unwrap(),
            "1",
            "{name}"
        );
    }
    scene.ctl(&format!("online {second}"));

    // Absent and back while no daemon runs: another index, another name.
    scene.production.daemon.kill().unwrap();
    scene.delete(first);
    lab.recreate_member_as(first, "lan0").unwrap();
    let since = scene.lines();
    scene.production.daemon.start().unwrap();
    scene.wait("back while no daemon ran", &[("lan0", Good), (second, Good), (third, Good)]);
    scene.wait_line("IP interface lan0 of group production0 has returned", since);
    // Then renamed, as udev does.
    lab.host().ip(&format!("link set lan0 name {first}")).unwrap();
    scene.wait("renamed", &[(first, Good), (second, Good), (third, Good)]);
    assert_eq!(scene.members()[0].weight, 3000);
    assert!(wait_until(TIMEOUT, || scene.reaches_peer()), "{}", scene.production.show());

    // Absent over a restart; two return with swapped names.
    scene.delete(first);
    scene.delete(third);
    scene.wait("two deleted", &[(first, Absent), (second, Good), (third, Absent)]);
    scene.production.daemon.kill().unwrap();
    scene.production.daemon.start().unwrap();
    scene.wait("absent after a restart", &[(first, Absent), (second, Good), (third, Absent)]);
    lab.recreate_member_as(first, third).unwrap();
    scene.wait("first of two swapped", &[(third, Good), (second, Good), ("absent-2", Absent)]);
    lab.recreate_member_as(third, first).unwrap();
    scene.wait("two swapped", &[(third, Good), (second, Good), (first, Good)]);
    let members = scene.members();
    assert_eq!((members[0].weight, members[2].standby), (3000, true));

    // Renamed right after it appeared: it is not set up before, which would prevent that on older kernels.
    scene.delete(second);
    scene.wait("deleted", &[(third, Good), (second, Absent), (first, Good)]);
    let since = scene.lines();
    let mac = show_mac(scene.macs[1]);
    let add =
        format!("ip link add lan7 address {mac} type veth peer name far7; ip link set lan7 name {second}");
    command::run(lab.host().command("sh").args(["-c", &add])).unwrap();
    scene.wait_line(&format!("IP interface {second} of group {GROUP} has returned"), since);
    assert_eq!(scene.production.daemon.log_matches("lan7", since), [""; 0]);

    // Another interface replaces one.
    scene.delete(second);
    scene.wait("deleted", &[(third, Good), (second, Absent), (first, Good)]);
    scene.ctl(&format!("set {second} match=mac"));
    lab.host()
        .ip(&format!("link add {second} address 02:00:00:00:00:77 type veth peer name other0"))
        .unwrap();
    let refused = scene.production.daemon.ctl_error(&format!("attach {second} --group {GROUP}")).unwrap();
    println!("{refused}");
    assert!(refused.contains(&format!("ipmpctl detach {second}")), "{refused}");
    scene.ctl(&format!("detach {second}"));
    scene.ctl(&format!("attach {second} --group {GROUP}"));
    scene.ctl(&format!("detach {second}"));
    assert_eq!(scene.states().len(), 2, "{}", scene.production.show());
    scene.production.assert_clean();
}
