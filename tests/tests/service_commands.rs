//! Commands for service managers and monitoring: `wait-online` and `health`.

lab::lane!(side_by_side, seconds = 15, no_clsact = "the commands read reports only");

use std::process::{Command, Stdio};

use ipmp::types::{Family, MemberState};
use lab::network::{DATA, ROUTER};
use lab::{Daemon, Lab, Production, TIMEOUT, daemon};

#[test]
fn wait_online_and_health_follow_the_group() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let socket = lab.directory().join("ipmpd.sock");
    let command = |line: &str| {
        let mut command = Command::new(daemon::binary("ipmpctl").unwrap());
        command.arg("--socket").arg(&socket).args(line.split(' ')).stdin(Stdio::null());
        command
    };
    let run = |line: &str| {
        let output = command(line).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        println!("{line}: {} {text}", output.status);
        (output.status.code().unwrap(), text)
    };
    assert_eq!(run("health").0, 3);
    let (code, text) = run("wait-online --timeout 200ms");
    assert_eq!(code, 1);
    assert!(text.starts_with("ipmpctl: not online after 200ms: cannot contact ipmpd at "), "{text}");

    // It waits for the daemon, the group, a member and an address.
    let mut waiting = command("wait-online production0 --timeout 60s").spawn().unwrap();
    let daemon = Daemon::start_in(&lab).unwrap();
    assert_eq!(run("health"), (3, "IPMP UNKNOWN: ipmpd has no group\n".into()));
    assert_eq!(run("wait-online"), (0, String::new()));
    daemon.ctl(&format!("create production0 --address {DATA}/24")).unwrap();
    let (code, text) = run("wait-online --timeout 200ms");
    assert_eq!(
        (code, text.as_str()),
        (1, "ipmpctl: not online after 200ms: no member of production0 functions\n")
    );
    assert_eq!(
        run("health"),
        (2, "IPMP CRITICAL: production0 failed, 0 of 0 members | 'production0'=0;0:;1:;0;0\n".into())
    );
    assert_eq!(waiting.try_wait().unwrap(), None);
    daemon.ctl("attach e1000g0 e1000g1 rge0 --group production0").unwrap();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(run("wait-online production0"), (0, String::new()));
    assert_eq!(run("health production1"), (2, "IPMP CRITICAL: there is no group production1\n".into()));

    let production = Production::with_daemon(&lab, daemon).unwrap();
    production.wait_usable(3).unwrap();
    let ok = "IPMP OK: production0 ok, 3 of 3 members | 'production0'=3;3:;1:;0;3\n";
    assert_eq!(run("health production0"), (0, ok.into()));
    lab.cable(3).pull().unwrap();
    production.wait_state("rge0", MemberState::Failed, TIMEOUT).unwrap();
    let degraded =
        "production0 degraded, 2 of 3 members (rge0 failed, link down) | 'production0'=2;3:;1:;0;3\n";
    assert_eq!(run("health"), (1, format!("IPMP WARNING: {degraded}")));
    production.assert_clean();
}

#[test]
fn check_compares_files_with_interfaces_and_replies_of_targets() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let file = lab.directory().join("ipmp.toml");
    let check = || {
        let mut command = lab.host().command(daemon::binary("ipmpctl").unwrap().to_str().unwrap());
        command.arg("--socket").arg(lab.directory().join("ipmpd.sock")).arg("check").arg(&file);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        println!("check: {} {}", output.status, text.trim_end());
        (output.status.code().unwrap(), text.replace(&format!("{}:", file.display()), ""))
    };
    let mac = lab.host().ip("-br link show dev e1000g1").unwrap();
    let mac = mac.split_whitespace().find(|word| word.matches(':').count() == 5).unwrap();
    let members = |third: &str| {
        let text = format!(
            "[group.production0]\naddresses = [\"{DATA}/24\"]\nprobe = \"arp\"\ntargets = [\"192.168.178.99\"]\nfdt = \"100ms\"\n\
             [group.production0.members]\ne1000g0 = {{}}\nsecond = {{ match = {{ mac = \"{mac}\" }} }}\n{third} = {{}}\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    // Without a daemon: the interfaces of the namespace.
    members("e1000g1");
    let (code, text) = check();
    assert_eq!(code, 1);
    let same =
        "9:1: error: e1000g1 matches e1000g1, as second at 8:1 does: write one entry for each interface\n";
    assert!(text.starts_with(same), "{text}");
    members("rge7");
    let (code, text) = check();
    assert_eq!(code, 0);
    let missing = "9:1: warning: no interface of this host has the name rge7: rge7 of production0 is absent until one appears\n";
    assert!(text.starts_with(missing), "{text}");
    members("rge0");
    assert_eq!(check(), (0, "1 file, 1 group: 0 errors, 0 warnings\n".into()));

    // With a daemon whose only target stops replying.
    let production = Production::create_probed(&lab, &[Family::V4], "fdt=100ms").unwrap();
    production.daemon.ctl(&format!("set production0 targets={ROUTER}")).unwrap();
    production.wait_answered().unwrap();
    lab.router().set_echo_replies(false).unwrap();
    let unreachable = "1:8: warning: no inet target of production0 replies: a failure behind the switch is not detected; check \
                       targets and gateways\n1 file, 1 group: 0 errors, 1 warning\n";
    assert!(lab::wait_until(TIMEOUT, || check() == (0, unreachable.into())), "{:?}", check());
    production.assert_clean();
}
