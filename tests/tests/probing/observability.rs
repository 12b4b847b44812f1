//! Output about probing: `ipmpstat -p`, `ipmpstat -t`, and `ipmpctl explain`.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use ipmp::types::MemberState;
use lab::daemon::binary;
use lab::{Program, TIMEOUT, wait_until};
use nix::sys::signal::Signal;

use super::*;

/// `ipmpstat` with these arguments, for this daemon.
pub fn stat(production: &Production<'_>, arguments: &str) -> Command {
    let mut command = Command::new(binary("ipmpstat").unwrap());
    command.arg("--socket").arg(production.daemon.socket()).args(arguments.split(' ')).stdin(Stdio::null());
    command
}

/// Waits for a row of `ipmpstat -p` about an answered or a lost probe of a member. Returns NETRTT and RTT, if any.
fn wait_probe(live: &Program, member: &str, answered: bool) -> Vec<f64> {
    let mut times = None;
    let seen = wait_until(TIMEOUT, || {
        times = live.log().iter().rev().find_map(|row| parse_row(row, member, answered));
        times.is_some()
    });
    assert!(seen, "no probe of {member} with answered={answered}: {:?}", live.log());
    times.unwrap_or_default()
}

/// The times of a row INTERFACE:NETRTT:RTT:TARGET in milliseconds, if it is about this member.
fn parse_row(row: &str, member: &str, answered: bool) -> Option<Vec<f64>> {
    let fields: Vec<&str> = row.split(':').collect();
    let [interface, netrtt, rtt, target] = fields[..] else { panic!("{row:?} does not have four fields") };
    assert_eq!(target, ROUTER.to_string(), "{row}");
    let time = |text: &str| text.strip_suffix("ms").map(|number| number.parse().unwrap());
    let times: Vec<f64> = [netrtt, rtt].into_iter().filter_map(time).collect();
    assert!(times.len() != 1, "{row}");
    (interface == member && times.is_empty() != answered).then_some(times)
}

#[test]
fn probes_are_shown_live_and_path_failure_is_explained() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = with_test_addresses(&lab, &format!("fdt=500ms targets={ROUTER}"));
    let explain = |member: &str| production.daemon.ctl(&format!("explain {member}")).unwrap();
    let live = stat(&production, "-pnP -o interface,netrtt,rtt,target");
    let mut live = Program::start(&lab, live).unwrap();
    for member in ["e1000g0", "e1000g1", "rge0"] {
        let times = wait_probe(&live, member, true);
        assert!(0.0 < times[0] && times[0] <= times[1], "NETRTT and RTT {times:?} ms");
        let first = explain(member).lines().next().unwrap_or_default().to_owned();
        assert!(first.starts_with(&format!("{member} works: its link is up, ")), "{first}");
    }
    let targets = stat(&production, "-tnP -o interface,mode,targets").output().unwrap();
    let expected: String =
        ["rge0", "e1000g1", "e1000g0"].map(|m| format!("{m}:explicit:{ROUTER}\n")).concat();
    assert_eq!(String::from_utf8_lossy(&targets.stdout), expected);

    lab.member("e1000g0").cable().cut().unwrap();
    wait_probe(&live, "e1000g0", false);
    production.wait_state("e1000g0", MemberState::Failed, TIMEOUT).unwrap();
    // On a busy machine, a probe of another member may be late too.
    let wanted = [
        "e1000g0 has failed: its link is up, and its probes are not answered (inet); it neither receives nor transmits; check its \
         cable and its switch port\n",
        "\n        It is not active: its probes have failed, and others work.\n",
        "\n        inet: other members with replies: e1000g1 rge0.\n",
        "IP interface failure detected on e1000g0 of group production0 (consecutive probes on e1000g0 were lost)\n",
    ];
    let mut explained = String::new();
    let complete = wait_until(TIMEOUT, || {
        explained = explain("e1000g0");
        explained.starts_with(wanted[0]) && wanted.iter().all(|line| explained.contains(line))
    });
    println!("{explained}");
    assert!(complete, "not all of {wanted:?} is in:\n{explained}");

    live.signal(Signal::SIGINT).unwrap();
    let mut status = None;
    wait_until(TIMEOUT, || {
        status = live.exit_status();
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.signal()), Some(Signal::SIGINT as i32));
    lab.member("e1000g0").cable().restore().unwrap();
    production.wait_state("e1000g0", MemberState::Ok, TIMEOUT).unwrap();
    production.wait_usable(3).unwrap();
    production.assert_clean();
}
