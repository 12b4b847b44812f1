//! Commands for service managers and monitoring: `wait-online` and `health`.

lab::lane!(side_by_side, seconds = 10, no_clsact = "the commands read reports only");

use std::process::{Command, Stdio};

use ipmp::types::MemberState;
use lab::network::DATA;
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
