//! Configuration files: the groups that `ipmpd` creates at its start, what `apply` and SIGHUP change, what `save` writes, and that a refused step
//! undoes all others.

lab::lane!(side_by_side, seconds = 10, no_clsact = "how programs are attached does not depend on the files");

use std::path::PathBuf;
use std::process::{Command, Stdio};

use lab::{Daemon, Lab, MeasurementLock, Production, SECOND, Snapshot, Stream, TIMEOUT, daemon, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A lab whose daemon reads files.
struct Scene<'lab> {
    lab: &'lab Lab,
    daemon: Daemon<'lab>,
    file: PathBuf,
}

impl<'lab> Scene<'lab> {
    fn start(lab: &'lab Lab, text: &str) -> Self {
        let directory = lab.directory().join("ipmp");
        std::fs::create_dir(&directory).unwrap();
        let file = directory.join("ipmp.toml");
        std::fs::write(&file, text).unwrap();
        let daemon = Daemon::builder(lab).argument("--config-dir").argument(directory.to_str().unwrap());
        Self { lab, daemon: daemon.start().unwrap(), file }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.file, text).unwrap();
    }

    /// Runs `ipmpctl` with the directory of the files; returns exit status and output.
    fn ctl(&self, line: &str) -> (i32, String) {
        let mut command = Command::new(daemon::binary("ipmpctl").unwrap());
        command.arg("--socket").arg(self.daemon.socket()).args(line.split_whitespace()).stdin(Stdio::null());
        command.env("IPMP_STATE_DIR", self.lab.directory().join("state"));
        command.arg("--config-dir").arg(self.file.parent().unwrap());
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        println!("{line}: {} {}", output.status, text.trim_end());
        (output.status.code().unwrap(), text)
    }

    fn reload(&self, line: &str) -> String {
        let since = self.daemon.log().len();
        self.daemon.signal(Signal::SIGHUP).unwrap();
        self.daemon.wait_line(line, since, TIMEOUT).unwrap()
    }

    fn group(&self) -> Value {
        let report: Value =
            serde_json::from_str(&self.daemon.ctl("show production0 --json").unwrap()).unwrap();
        report["groups"][0].clone()
    }

    /// Names of the members, and whether each is absent.
    fn members(&self) -> Vec<(String, bool)> {
        let members = self.group()["members"].as_array().unwrap().clone();
        members
            .iter()
            .map(|member| (member["name"].as_str().unwrap().to_owned(), member["state"] == "absent"))
            .collect()
    }

    fn addresses(&self) -> String {
        self.lab.host().ip("-4 -br address show dev production0").unwrap()
    }
}

fn group(addresses: &str, more: &str, members: &str) -> String {
    format!(
        "[group.production0]\naddresses = [{addresses}]\n{more}\n[group.production0.members]\n{members}\n"
    )
}

const GATEWAY: &str = "gateways = [\"192.168.178.1\"]\nfdt = \"2s\"\nfailback = false";

#[test]
fn files_are_applied_at_start_on_sighup_and_by_apply_or_not_at_all() {
    lab::needs_root!();
    let lab = Lab::builder().members(3).peers(&[]).build().unwrap();
    lab.host().sysctl("net.ipv6.conf.default.accept_dad", "0").unwrap();
    let members = "e1000g0 = {}\nrge0 = { standby = true }\nlate = { match = { name = \"e1000g7\" } }";
    let mut scene = Scene::start(&lab, &group("\"192.168.178.200/24\"", GATEWAY, members));

    // The group exists as soon as the daemon serves clients.
    let member = |name: &str, absent| (name.to_owned(), absent);
    assert_eq!(scene.members(), [member("e1000g0", false), member("rge0", false), member("e1000g7", true)]);
    assert!(scene.addresses().contains("192.168.178.200/24"), "{}", scene.addresses());
    let routes = || lab.host().ip("route show dev production0").unwrap();
    assert!(routes().contains("default via 192.168.178.1"), "{}", routes());
    let configuration = scene.group()["configuration"].clone();
    assert_eq!(configuration["settings"], serde_json::json!(["fdt=2s", "failback=no"]), "{configuration}");
    assert_eq!(configuration["origin"], "file", "{configuration}");
    assert_eq!(configuration["members"][1]["settings"], serde_json::json!(["standby=on", "match=name"]));
    assert_eq!(scene.ctl("diff --exit-code"), (0, String::new()));
    // The next daemon adopts it, with the member that never existed.
    scene.daemon.kill().unwrap();
    scene.daemon.start().unwrap();
    assert_eq!(scene.ctl("diff --exit-code"), (0, String::new()));
    assert_eq!(scene.ctl("apply --json"), (0, "{\"version\":1,\"changed\":false,\"notes\":[]}\n".into()));
    // It joins when it appears.
    lab.host().ip("link set e1000g1 down").unwrap();
    lab.host().ip("link set e1000g1 name e1000g7").unwrap();
    let joined = || scene.members().contains(&member("e1000g7", false));
    assert!(wait_until(TIMEOUT, joined), "{:?}", scene.members());

    // What another program added stays; what a command added is removed.
    lab.host().ip("address add 192.168.178.250/24 dev production0").unwrap();
    scene.daemon.ctl("address add 192.168.178.210/24 --group production0").unwrap();
    let command = "production0: remove 192.168.178.210/24\n";
    assert_eq!(scene.ctl("diff --exit-code"), (10, command.into()));
    let members = "e1000g0 = { weight = 7 }\nlate = { match = { name = \"e1000g7\" }, inbound = [\"192.168.178.201\"] }";
    scene.write(&group("\"192.168.178.201/24\"", "gateways = [\"192.168.178.2\"]\nfdt = \"2s\"", members));
    let changes = "production0: set failback=default\n\
                   production0: add 192.168.178.201/24\n\
                   production0: set weight=7 of e1000g0\n\
                   production0: set inbound of 192.168.178.201 to e1000g7\n\
                   production0: add route default via 192.168.178.2\n\
                   production0: detach rge0\n\
                   production0: remove 192.168.178.200/24, 192.168.178.210/24\n\
                   production0: remove route default via 192.168.178.1\n";
    assert_eq!(scene.ctl("apply --dry-run"), (0, changes.into()));
    println!("{}", scene.reload("The configuration files have been applied; changes: 8"));
    assert_eq!(scene.ctl("diff --exit-code"), (0, String::new()));
    // A preference of a command is one of the files after `save`.
    let prefer = "address add 192.168.178.201/24 --group production0 --inbound e1000g0";
    scene.daemon.ctl(prefer).unwrap();
    let back = "production0: set inbound of 192.168.178.201 to e1000g7\n";
    assert_eq!(scene.ctl("diff --exit-code"), (10, back.into()));
    let text = std::fs::read_to_string(&scene.file).unwrap();
    scene.ctl("save");
    let saved = std::fs::read_to_string(&scene.file).unwrap();
    assert!(saved.contains("e1000g0 = { weight = 7, inbound = [\"192.168.178.201\"] }"), "{saved}");
    scene.write(&text);
    assert_eq!(scene.ctl("apply"), (0, back.into()));
    assert_eq!(
        scene.group()["configuration"]["members"][1]["inbound"],
        serde_json::json!(["192.168.178.201"])
    );
    let addresses = scene.addresses();
    assert!(
        addresses.contains("192.168.178.250/24") && addresses.contains("192.168.178.201/24"),
        "{addresses}"
    );
    assert!(
        !addresses.contains("192.168.178.200/24") && !addresses.contains("192.168.178.210/24"),
        "{addresses}"
    );
    assert!(
        routes().contains("default via 192.168.178.2") && !routes().contains("192.168.178.1 "),
        "{}",
        routes()
    );
    assert_eq!(scene.members(), [member("e1000g0", false), member("e1000g7", false)]);

    // What commands changed is saved, and what another program added is not.
    scene.write(&format!("# Our servers.\n{}", std::fs::read_to_string(&scene.file).unwrap()));
    assert_eq!(scene.ctl("save --json").1.matches("\"changed\":false").count(), 1);
    scene.daemon.ctl("set production0 hash=flow").unwrap();
    scene.daemon.ctl("address add 192.168.178.211/24 --group production0").unwrap();
    let left_out = "192.168.178.250/24 of production0 is left out: another program added it\n";
    assert_eq!(scene.ctl("save"), (0, format!("wrote {}\n{left_out}", scene.file.display())));
    assert_eq!(scene.ctl("save"), (0, left_out.into()));
    assert_eq!(scene.ctl("diff --exit-code"), (0, String::new()));
    let saved = std::fs::read_to_string(&scene.file).unwrap();
    println!("{saved}");
    assert!(saved.starts_with("# Our servers.\n") && saved.contains("hash = \"flow\""), "{saved}");
    assert!(saved.contains("\"192.168.178.211/24\"]"), "{saved}");

    // Every mistake is logged, and nothing changes. What an attached interface brings along returns to it.
    lab.host().ip("address add 10.9.9.1/24 dev rge0").unwrap();
    lab.host().ip("route add 10.10.0.0/16 via 10.9.9.2 dev rge0").unwrap();
    let before = Snapshot::settled(&lab).unwrap();
    scene.write("[group.production0]\naddress = []\nfdt = \"5ms\"\n");
    let since = scene.daemon.log().len();
    println!("{}", scene.reload("The configuration files are not applied, and nothing has changed: "));
    assert_eq!(scene.daemon.log_matches("Configuration: ", since).len(), 2);
    assert_eq!(scene.ctl("apply").0, 1);
    assert_eq!(Snapshot::take(&lab).unwrap().differences(&before), [""; 0]);

    // A step that the kernel refuses, after others: all of it is undone.
    let members =
        "e1000g0 = { weight = 9 }\nrge0 = { test-addresses = [\"192.168.178.203/24\"] }\nnosuch0 = {}";
    let route =
        "routes = [{ to = \"2001:db8:9::/48\", via = \"2001:db8:5::1\" }]\nfdt = \"3s\"\nhash = \"flow\"";
    scene.write(&group("\"192.168.178.202/24\", \"fd00:178::9/64\"", route, members));
    let configuration = scene.group()["configuration"].clone();
    let (code, text) = scene.ctl("apply");
    assert_eq!(code, 1);
    assert!(text.starts_with("ipmpctl: cannot production0: add route 2001:db8:9::/48"), "{text}");
    assert!(text.ends_with("all steps before it were undone\n"), "{text}");
    let after = Snapshot::settled(&lab).unwrap();
    assert_eq!(after.differences(&before), [""; 0]);
    assert_eq!(scene.group()["configuration"], configuration);

    // A group that files described is removed with what they added; the rest moves to the last member.
    scene.write("[defaults]\nfdt = \"2s\"\n");
    let (code, text) = scene.ctl("apply");
    assert!(code == 0 && text.starts_with("remove group production0\n"), "{text}");
    let last = lab.host().ip("-4 -br address show dev e1000g7").unwrap();
    assert!(last.contains("192.168.178.250/24"), "{last}");
    assert_eq!(scene.daemon.ctl("show --json").unwrap(), "{\"version\":1,\"groups\":[]}\n");

    // What was saved comes back at the next start.
    scene.write(&saved);
    scene.daemon.kill().unwrap();
    scene.daemon.start().unwrap();
    assert_eq!(scene.members(), [member("e1000g0", false), member("e1000g7", false)]);
    assert!(scene.addresses().contains("192.168.178.211/24"), "{}", scene.addresses());
    assert_eq!(scene.ctl("diff --exit-code"), (0, String::new()));

    // A start changes no group that exists, unless a killed daemon has begun to create it.
    scene.write(&format!("{saved}rge0 = {{}}\n"));
    let state = PathBuf::from(format!("/run/ipmp/{}/state.json", lab.host().cookie().unwrap()));
    for (unfinished, members) in [(false, 2), (true, 3)] {
        scene.daemon.kill().unwrap();
        let mut text: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
        text["groups"]["production0"]["unfinished"] = unfinished.into();
        std::fs::write(&state, text.to_string()).unwrap();
        scene.daemon.start().unwrap();
        assert_eq!(scene.members().len(), members, "{:?}", scene.members());
    }
}

#[test]
fn offline_member_disabled_target_and_onlink_route_are_saved_and_return_at_start() {
    lab::needs_root!();
    let lab = Lab::builder().members(3).peers(&[]).build().unwrap();
    lab.host().sysctl("net.ipv6.conf.default.accept_dad", "0").unwrap();
    let more = "routes = [{ to = \"10.8.0.0/16\", via = \"10.9.9.1\", onlink = true }]\n\
                targets = [\"192.168.178.1\", \"192.168.178.22\"]";
    let members = "e1000g0 = {}\ne1000g1 = {}\nrge0 = {}";
    let mut scene = Scene::start(&lab, &group("\"192.168.178.200/24\"", more, members));
    let is_offline = |scene: &Scene<'_>, name: &str| {
        let members = scene.group()["members"].as_array().unwrap().clone();
        members.iter().any(|member| member["name"] == name && member["state"] == "offline")
    };
    let disabled = |scene: &Scene<'_>| {
        let text = scene.daemon.ctl("target list --group production0 --json").unwrap();
        let targets: Value = serde_json::from_str(&text).unwrap();
        let targets = targets["targets"].as_array().unwrap().clone();
        let disabled = targets.iter().filter(|target| target["enabled"] == false);
        disabled.map(|target| target["address"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let route = || lab.host().ip("route show dev production0 10.8.0.0/16").unwrap();
    assert_eq!(scene.ctl("diff --exit-code"), (0, String::new()));
    assert!(route().contains("10.8.0.0/16 via 10.9.9.1") && route().contains("onlink"), "{}", route());

    // What is in no file stays as it is, and is saved.
    scene.daemon.ctl("offline e1000g1").unwrap();
    scene.daemon.ctl("target disable 192.168.178.22 --group production0").unwrap();
    assert_eq!(scene.ctl("apply"), (0, String::new()));
    assert!(is_offline(&scene, "e1000g1"));
    assert_eq!(scene.ctl("save").0, 0);
    let saved = std::fs::read_to_string(&scene.file).unwrap();
    println!("{saved}");
    assert!(saved.contains("e1000g1 = { offline = true }"), "{saved}");
    assert!(saved.contains("disabled-targets = [\"192.168.178.22\"]"), "{saved}");
    assert!(saved.contains("onlink = true"), "{saved}");
    scene.daemon.ctl("online e1000g1").unwrap();
    scene.daemon.ctl("target enable 192.168.178.22 --group production0").unwrap();
    let changes =
        "production0: disable the targets 192.168.178.22, and no others\nproduction0: take e1000g1 offline\n";
    assert_eq!(scene.ctl("diff --exit-code"), (10, changes.into()));
    assert_eq!(scene.ctl("apply"), (0, changes.into()));
    assert!(is_offline(&scene, "e1000g1"));
    // Online again without the line, after `save`.
    scene.daemon.ctl("online e1000g1").unwrap();
    assert_eq!(scene.ctl("save").0, 0);
    assert!(std::fs::read_to_string(&scene.file).unwrap().contains("e1000g1 = {}"));

    // As after a boot. All members cannot be offline: one stays in use, and the host is reached.
    let all = saved.replace("= {}", "= { offline = true }");
    for (text, offline) in [(&saved, ["e1000g1"].as_slice()), (&all, &["e1000g0", "e1000g1"])] {
        // What the file gave the group is the network of this host: a card has it then.
        let plan = scene.daemon.ctl("detach --all --restore --dry-run").unwrap();
        let done = scene.daemon.ctl("detach --all --restore").unwrap();
        for text in [&plan, &done] {
            assert!(text.contains("192.168.178.200/24"), "{plan}\n{done}");
        }
        assert_network_is_on(&lab, "e1000g0");
        scene.daemon.kill().unwrap();
        scene.write(text);
        let since = scene.daemon.log().len();
        scene.daemon.start().unwrap();
        let found = ["e1000g0", "e1000g1", "rge0"].map(|name| (name, is_offline(&scene, name)));
        assert_eq!(found, ["e1000g0", "e1000g1", "rge0"].map(|name| (name, offline.contains(&name))));
        assert_eq!(disabled(&scene), ["192.168.178.22"]);
        assert!(route().contains("onlink"), "{}", route());
        let refused = scene.daemon.log_matches("cannot production0: take rge0 offline: ", since);
        assert_eq!(refused.len(), usize::from(offline.len() == 2), "{refused:?}");
    }
}

/// The network of [`offline_member_disabled_target_and_onlink_route_are_saved_and_return_at_start`] is on a card.
fn assert_network_is_on(lab: &Lab, card: &str) {
    let address = lab.host().ip(&format!("-4 -oneline address show dev {card}")).unwrap();
    assert!(address.contains(" 192.168.178.200/24 "), "{card}: {address}");
    let routes = lab.host().ip(&format!("route show dev {card}")).unwrap();
    assert!(routes.contains("10.8.0.0/16 via 10.9.9.1") && routes.contains("onlink"), "{card}: {routes}");
}

/// A host that was booted with its group is reached through a card afterwards, whatever has removed the group.
#[test]
fn network_from_files_returns_to_first_card_by_teardown_and_when_group_interface_is_deleted() {
    lab::needs_root!();
    let lab = Lab::builder().members(3).peers(&[]).build().unwrap();
    lab.host().sysctl("net.ipv6.conf.default.accept_dad", "0").unwrap();
    lab.host().ip("link delete e1000g0").unwrap();
    let routes = "routes = [{ to = \"10.8.0.0/16\", via = \"10.9.9.1\", onlink = true }, \
                  { to = \"2001:db8:8::/48\", via = \"2001:db8::1\" }]";
    let members = "e1000g0 = {}\ne1000g1 = {}\nrge0 = {}";
    let text = group("\"192.168.178.200/24\", \"2001:db8::200/64\"", routes, members);
    let mut scene = Scene::start(&lab, &text);
    for way in ["--teardown", "deleted", "deleted without daemon"] {
        println!("{way}");
        // Answered after the files are applied.
        scene.group();
        assert!(scene.addresses().contains("192.168.178.200/24"));
        scene.write("");
        if way != "deleted" {
            scene.daemon.kill().unwrap();
        }
        if way == "--teardown" {
            scene.daemon.teardown().unwrap();
        } else {
            lab.host().ip("link delete production0").unwrap();
        }
        if way == "deleted without daemon" {
            scene.daemon.start().unwrap();
        }
        let routes = || lab.host().ip("-6 route show dev e1000g1").unwrap();
        let is_back = wait_until(TIMEOUT, || routes().contains("2001:db8:8::/48 via 2001:db8::1"));
        assert!(is_back, "{}", routes());
        assert_network_is_on(&lab, "e1000g1");
        let others = lab.host().ip("address show dev rge0").unwrap();
        assert!(!others.contains("2001:db8::200") && !others.contains("192.168.178.200"), "{others}");
        // As after the next boot.
        if way != "--teardown" {
            scene.daemon.kill().unwrap();
        }
        lab.host().ip("address flush dev e1000g1 scope global").unwrap();
        scene.write(&text);
        scene.daemon.start().unwrap();
    }
}

#[test]
fn apply_of_changed_files_loses_no_packet() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(lab::MemberKind::Tap).build().unwrap();
    let data = format!("\"{}/24\", \"{}/64\"", lab::network::DATA, lab::network::DATA6);
    let scene = Scene::start(&lab, &group(&data, "fdt = \"2s\"", "e1000g0 = {}\ne1000g1 = {}"));
    // The socket exists before the group, and replies after it.
    println!("{}", scene.group()["configuration"]);
    let production = Production::with_daemon(&lab, scene.daemon).unwrap();
    production.wait_usable(2).unwrap();
    let running = Stream::outbound(&lab).flows(8).rate(20_000).start().unwrap();
    running.wait_received(1_000, TIMEOUT).unwrap();
    let more = "gateways = [\"192.168.178.1\"]\nhash = \"flow\"\nfdt = \"1s\"";
    let members = "e1000g1 = { weight = 300 }\nrge0 = { weight = 700 }";
    std::fs::write(&scene.file, group(&format!("{data}, \"192.168.178.210/24\""), more, members)).unwrap();
    let directory = scene.file.parent().unwrap().display();
    println!("{}", production.daemon.ctl(&format!("apply --config-dir {directory}")).unwrap());
    production.wait_usable(2).unwrap();
    running.wait_received(20_000, TIMEOUT).unwrap();
    // Every member is replaced.
    std::fs::write(&scene.file, group(&format!("{data}, \"192.168.178.210/24\""), more, "e1000g0 = {}"))
        .unwrap();
    println!("{}", production.daemon.ctl(&format!("apply --config-dir {directory}")).unwrap());
    production.wait_usable(1).unwrap();
    running.wait_received(20_000, TIMEOUT).unwrap();
    let report = running.stop().unwrap();
    report.ensure_valid().unwrap();
    println!("{report}");
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    std::thread::sleep(SECOND / 10);
    production.assert_clean();
}
