//! A target boots while it is probed by ARP, and checks its address for conflicts (RFC 5227).

use lab::neighbour::arp_request;
use lab::packet::PacketSocket;
use lab::probe_capture::Message;
use lab::{Host, MS, MeasurementLock, ProbeCapture, Program, SECOND, TIMEOUT, filter};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

const UNREACHABLE: &str = "No target of group production0 replies on any interface (inet)";
const REACHABLE: &str = "Targets of group production0 reply again (inet)";

/// Starts systemd-networkd as in a host of its own, with one network and no device manager.
const BOOT: &str = "
    mount -t tmpfs tmpfs /run
    mount -t sysfs -o ro sysfs /sys
    mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases
    chown -R systemd-network /run/systemd/netif
    cat > /run/systemd/network/10.network << END
[Match]
Name=$1
[Network]
LinkLocalAddressing=no
IPv6AcceptRA=no
[Address]
Address=$2/24
DuplicateAddressDetection=ipv4
END
    exec /lib/systemd/systemd-networkd";

/// Boots a host: systemd-networkd configures its address after address conflict detection.
fn boot(lab: &Lab, host: &Host) -> Program {
    let mut command = host.namespace().command("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", BOOT, "sh"]);
    command.args([lab::host::INTERFACE, &host.v4().to_string()]);
    command
        .env("SYSTEMD_LOG_LEVEL", "debug")
        .env("SYSTEMD_LOG_TARGET", "console")
        .env("SYSTEMD_LOG_COLOR", "0");
    Program::start(lab, command).unwrap()
}

/// Shuts a host down.
fn shut_down(host: &Host) {
    host.namespace().ip(&format!("-4 addr flush dev {}", lab::host::INTERFACE)).unwrap();
}

#[test]
fn booting_target_detects_no_address_conflict() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let (target, control) = (lab.peer(0), lab.peer(1));
    let production = without_test_addresses(&lab, &format!("fdt=500ms probe=arp targets={}", target.v4()));
    let probe = Message::Arp { reply: false, sender: Ipv4Addr::UNSPECIFIED, target: target.v4() };
    let capture = ProbeCapture::on(target.namespace(), lab::host::INTERFACE).unwrap();
    let count = |frames: &[lab::probe_capture::CapturedFrame]| {
        frames.iter().filter(|frame| !frame.outgoing && frame.message == probe).count()
    };
    let before = count(&capture.read(SECOND).unwrap());
    assert!(before > 5, "only {before} ARP probes per second");

    let since = production.daemon.log().len();
    shut_down(target);
    production.daemon.wait_line(UNREACHABLE, since, TIMEOUT).unwrap();
    // Control: ARP probes that continue during the boot make another host detect a conflict.
    shut_down(control);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let router = lab.router();
        scope.spawn(|| {
            let socket = PacketSocket::open(
                router.namespace(),
                Some(lab::host::INTERFACE),
                &filter::ethertype(0x0806),
            )
            .unwrap();
            let mut frame = arp_request(router.mac(), Ipv4Addr::UNSPECIFIED, control.v4()).unwrap();
            frame[..6].copy_from_slice(&control.mac());
            while !stop.load(SeqCst) {
                socket.send(&frame).unwrap();
                std::thread::sleep(100 * MS);
            }
        });
        let _ = capture.read(Duration::ZERO).unwrap();
        let (mut free_host, mut conflicting) = (boot(&lab, target), boot(&lab, control));
        let refused = conflicting.wait_line("Dropping address", 0, TIMEOUT);
        let free = free_host.wait_line("Successfully claimed address", 0, TIMEOUT);
        stop.store(true, SeqCst);
        println!("probed during its boot: {}", refused.unwrap());
        println!("a target of the group: {}", free.unwrap());
        let frames = capture.read(Duration::ZERO).unwrap();
        assert_eq!(count(&frames), 0, "ARP probes to a booting target");
        println!("{}", production.daemon.wait_line(REACHABLE, since, TIMEOUT).unwrap());
        assert!(production.daemon.log_matches("failure detected", since).is_empty());
        assert!(count(&capture.read(SECOND).unwrap()) > 5, "it is not probed again");
    });
    production.assert_clean();
}
