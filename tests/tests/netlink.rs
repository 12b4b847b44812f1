//! Changes of addresses, links and routes that the daemon has not seen one by one: messages of the kernel that were
//! lost because the daemon was stopped, and a flush.

lab::lane!(alone);

use std::net::IpAddr;

use ipmp::types::MemberState;
use lab::network::{DATA, DATA6};
use lab::production::GROUP;
use lab::{Lab, MS, MeasurementLock, MemberKind, Production, Stream, TIMEOUT, command, wait_until};

/// Addresses that are added and removed while the daemon is stopped: two messages each.
const CHANGED: usize = 20_000;

/// An address that is added after all others, when no message reaches the daemon any longer.
const LAST: &str = "192.168.178.210";

/// Whether a peer receives answers from an address.
fn is_answered(lab: &Lab, address: impl Into<IpAddr>) -> bool {
    lab.peer(0).ping(address.into(), 1, MS, 300 * MS).is_ok_and(|ping| ping.answered == 1)
}

/// The addresses of the group's report.
fn addresses(production: &Production<'_>) -> Vec<IpAddr> {
    let report = production.report().unwrap();
    report.addresses.into_iter().map(|known| known.address).collect()
}

/// Netlink messages that the kernel could not deliver to a full socket on the host.
fn dropped_messages(lab: &Lab) -> u64 {
    let table = lab.host().run(|| std::fs::read_to_string("/proc/thread-self/net/netlink")).unwrap();
    let drops = |line: &str| line.split_whitespace().nth(8).and_then(|drops| drops.parse::<u64>().ok());
    table.lines().skip(1).filter_map(drops).sum()
}

#[test]
fn daemon_that_missed_40000_messages_has_the_state_of_the_kernel() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::builder().kind(MemberKind::Tap).build().unwrap();
    let production = Production::create(&lab).unwrap();
    let running = Stream::outbound(&lab).flows(16).rate(5_000).start().unwrap();
    running.wait_received(1_000, TIMEOUT).unwrap();
    let before = addresses(&production);

    production.daemon.stop().unwrap();
    let change = |number: usize| {
        let address = format!("10.{}.{}.{}/32", 190 + number / 62_500, number / 250 % 250, number % 250 + 1);
        ["add", "del"].map(|verb| format!("address {verb} {address} dev {GROUP}"))
    };
    let lines: Vec<_> = (0..CHANGED).flat_map(change).collect();
    command::ip_batch(Some(lab.host()), &lines).unwrap();
    let [pulled, renamed, kept] = lab.members() else { panic!("three members") };
    pulled.cable().pull().unwrap();
    lab.host().ip(&format!("address add {LAST}/24 dev {GROUP}")).unwrap();
    lab.host().ip(&format!("address del {DATA6}/64 dev {GROUP}")).unwrap();
    lab.host().ip(&format!("link set {} name lan0", renamed.name())).unwrap();
    production.daemon.resume().unwrap();

    production.wait_state(pulled.name(), MemberState::Failed, TIMEOUT).unwrap();
    let last: IpAddr = LAST.parse().unwrap();
    let wanted = |address: &&IpAddr| **address != IpAddr::from(DATA6);
    let expected: Vec<_> = before.iter().filter(wanted).copied().chain([last]).collect();
    let is_equal = || {
        let (mut known, mut expected) = (addresses(&production), expected.clone());
        known.sort_unstable();
        expected.sort_unstable();
        known == expected
    };
    assert!(wait_until(TIMEOUT, is_equal), "{:?}, not {expected:?}", addresses(&production));
    production.wait_usable(2).unwrap();
    let names = production.report().unwrap().members.into_iter().map(|member| member.name);
    assert_eq!(names.collect::<Vec<_>>(), [pulled.name(), "lan0", kept.name()]);
    assert!(is_answered(&lab, last), "{LAST} is not answered");
    let dropped = dropped_messages(&lab);
    assert!(dropped > 0, "the kernel has dropped no message, so nothing was tested");

    pulled.cable().replug().unwrap();
    production.wait_usable(3).unwrap();
    running.wait_received(1_000, TIMEOUT).unwrap();
    let report = running.stop().unwrap();
    println!("{} address messages, {dropped} drops of the kernel: {report}", 2 * CHANGED);
    report.ensure_valid().unwrap();
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    production.assert_clean();
}

#[test]
fn flushed_addresses_that_come_back_are_answered_again() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let since = production.daemon.log().len();
    for turn in 0..2 {
        assert!(is_answered(&lab, DATA) && is_answered(&lab, DATA6), "turn {turn}:\n{}", production.show());
        lab.host().ip(&format!("address flush dev {GROUP}")).unwrap();
        let is_empty = || addresses(&production).is_empty();
        assert!(wait_until(TIMEOUT, is_empty), "{:?} after a flush", addresses(&production));
        assert!(!is_answered(&lab, DATA), "answered without an address");
        production.wait_usable(3).unwrap();
        // One member fails meanwhile, another one in each turn: what comes back must not be bound to it.
        let failed = &lab.members()[turn];
        failed.cable().pull().unwrap();
        production.wait_usable(2).unwrap();
        for (address, prefix) in [(IpAddr::from(DATA), 24), (DATA6.into(), 64)] {
            lab.host().ip(&format!("address add {address}/{prefix} dev {GROUP}")).unwrap();
        }
        production.wait_usable(2).unwrap();
        for address in [IpAddr::from(DATA), DATA6.into()] {
            assert_ne!(production.inbound(address).unwrap(), failed.name());
            assert!(wait_until(TIMEOUT, || is_answered(&lab, address)), "{address} in turn {turn}");
        }
        failed.cable().replug().unwrap();
        production.wait_usable(3).unwrap();
        production.clear_flap_history(failed).unwrap();
    }
    for address in [IpAddr::from(DATA), DATA6.into()] {
        let added = production.daemon.log_matches(&format!("Data address {address} has been added"), since);
        let removed =
            production.daemon.log_matches(&format!("Data address {address} has been removed"), since);
        assert_eq!((added.len(), removed.len()), (2, 2), "{added:?} {removed:?}");
    }
    println!("flushed and added twice");
    production.assert_clean();
}
