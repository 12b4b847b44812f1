//! OpenSSH on a NIC that is attached and detached: sessions and copies survive, and where a firewall refuses new connections
//! `--confirm` restores the host.

use lab::ssh::{SshConnection, SshServer};

use super::*;

/// How long a connection may be silent: retransmission timeouts are at least 200 ms, each twice as long as the one before.
const LONGEST_STALL: Duration = Duration::from_secs(3);

/// Prints the longest stall since the last call.
fn continues(connection: &SshConnection, after: &str) {
    let stall = connection.continues().unwrap_or_else(|error| panic!("{after}: {error:#}"));
    println!("{after}: longest stall of the {}: {stall:?}", connection.name());
    assert!(stall < LONGEST_STALL, "{after}: the {} stalled {stall:?}", connection.name());
}

#[test]
#[ignore = "needs OpenSSH, which the soak unpacks"]
fn soak_ssh_session_and_copy_survive_attach_apply_detach_and_teardown() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    configure_host(&lab);
    let before = snapshot(&lab);
    let server = SshServer::start(&lab, PLAIN).unwrap();
    let connections = [server.session().unwrap(), server.copy().unwrap()];
    let check = |after: &str| connections.iter().for_each(|connection| continues(connection, after));
    check("login");
    let mut daemon = Daemon::start_in(&lab).unwrap();
    let file = lab.directory().join("ipmp.toml");
    let write = |more: &str| {
        let members = "e1000g1 = {}\nrge0 = { standby = true }\ne1000g0 = {}\n";
        let text = format!("[group.production0]\n{more}\n[group.production0.members]\n{members}");
        fs::write(&file, text).unwrap();
    };
    write("addresses = [\"192.168.178.210/24\"]\nhash = \"flow\"\nfdt = \"1s\"\nprobe = \"arp\"");
    let run = |line: &str| {
        daemon.ctl(line).unwrap();
        check(line);
    };
    run("attach e1000g0 --group production0");
    run("attach e1000g1 --group production0");
    run(&format!("apply {}", file.display()));
    // Removes what the other one has added.
    write("");
    run(&format!("apply {}", file.display()));
    run("detach e1000g1");
    run("detach rge0");
    run("detach e1000g0 --restore");
    run("attach e1000g0 e1000g1 --group production0");
    let login = server.run("echo $SSH_CONNECTION").unwrap();
    assert!(String::from_utf8_lossy(&login.stdout).contains(&PLAIN.to_string()), "{login:?}");
    daemon.kill().unwrap();
    daemon.teardown().unwrap();
    check("ipmpd --teardown");
    connections.into_iter().for_each(|connection| connection.end().unwrap());
    drop(server);
    assert_same(&lab, &before, "ipmpd --teardown");
}

/// Rules that accept new connections on the NIC only.
fn firewall() -> String {
    "table inet firewall {
        chain input {
            type filter hook input priority filter; policy drop
            ct state established accept
            iifname e1000g0 tcp dport 22 accept
            icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        }
    }\n"
    .into()
}

#[test]
#[ignore = "needs OpenSSH, which the soak unpacks"]
fn soak_ssh_connections_that_a_firewall_refuses_are_possible_again_after_confirm_deadline() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    configure_host(&lab);
    // Else another NIC replies for the address, and the connection comes in through that one.
    lab.host().sysctl("net.ipv4.conf.all.arp_ignore", "1").unwrap();
    let server = SshServer::start(&lab, PLAIN).unwrap();
    let rules = lab.directory().join("firewall.nft");
    fs::write(&rules, firewall()).unwrap();
    command::run(lab.host().command("nft").arg("-f").arg(&rules)).unwrap();
    let before = snapshot(&lab);
    let session = server.session().unwrap();
    continues(&session, "login");
    assert!(server.run("true").unwrap().status.success());
    let mut daemon = Daemon::start_in(&lab).unwrap();

    let refused = daemon.ctl_error("attach e1000g0 e1000g1 --group production0").unwrap();
    assert!(refused.contains("nftables inet firewall input"), "{refused}");
    // The operator has only the session, and it survives.
    println!("{}", daemon.ctl("attach e1000g0 e1000g1 --group production0 --confirm 6").unwrap().trim());
    continues(&session, "attach --confirm");
    let login = server.run("true").unwrap();
    assert!(!login.status.success(), "the firewall does not refuse new connections");
    println!("new connection: {}", String::from_utf8_lossy(&login.stderr).trim());
    assert!(wait_until(60 * SECOND, || lab.host().link(GROUP).is_err()), "not undone");
    continues(&session, "undone");
    let start = Instant::now();
    let again = wait_until(TIMEOUT, || server.run("true").unwrap().status.success());
    assert!(again, "no new connection after the undo");
    println!("new connection {:?} after the undo", start.elapsed());
    session.end().unwrap();
    daemon.terminate().unwrap();
    drop(server);
    assert_same(&lab, &before, "undone at the deadline");
}
