//! A target that starts up while it is probed by ARP, and looks whether somebody has its address (RFC 5227).

use lab::neighbour::arp_request;
use lab::packet::PacketSocket;
use lab::probe_capture::Message;
use lab::{Host, MS, MeasurementLock, ProbeCapture, Program, SECOND, TIMEOUT, filter};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

const DARK: &str = "No target of group production0 replies on any interface (inet)";
const LIGHT: &str = "Targets of group production0 reply again (inet)";

/// What systemd-networkd finds: a machine of its own, with one network and no device manager.
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

/// The machine starts up: systemd-networkd gives it its address, when it has found that nobody else has it.
fn start_up(lab: &Lab, host: &Host) -> Program {
    let mut command = host.namespace().command("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", BOOT, "sh"]);
    command.args([lab::host::INTERFACE, &host.v4().to_string()]);
    command
        .env("SYSTEMD_LOG_LEVEL", "debug")
        .env("SYSTEMD_LOG_TARGET", "console")
        .env("SYSTEMD_LOG_COLOR", "0");
    Program::start(lab, command).unwrap()
}

/// The machine goes down.
fn go_down(host: &Host) {
    host.namespace().ip(&format!("-4 addr flush dev {}", lab::host::INTERFACE)).unwrap();
}

#[test]
fn a_target_that_starts_up_finds_its_address_free() {
    lab::needs_root!();
    let _lock = MeasurementLock::acquire().unwrap();
    let lab = Lab::tutorial().unwrap();
    let (target, control) = (lab.peer(0), lab.peer(1));
    let production = without_test_addresses(&lab, &format!("fdt=500ms probe=arp targets={}", target.v4()));
    let probe = Message::Arp { reply: false, sender: Ipv4Addr::UNSPECIFIED, target: target.v4() };
    let capture = ProbeCapture::on(target.namespace(), lab::host::INTERFACE).unwrap();
    let count = |heard: &[lab::probe_capture::CapturedFrame]| {
        heard.iter().filter(|heard| !heard.outgoing && heard.message == probe).count()
    };
    let before = count(&capture.read(SECOND).unwrap());
    assert!(before > 5, "{before} ARP probes a second");

    let since = production.daemon.log().len();
    go_down(target);
    production.daemon.wait_line(DARK, since, TIMEOUT).unwrap();
    // Whoever goes on probing keeps a machine from its address: another one is treated so.
    go_down(control);
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
        let (mut up, mut kept) = (start_up(&lab, target), start_up(&lab, control));
        let refused = kept.wait_line("Dropping address", 0, TIMEOUT);
        let free = up.wait_line("Successfully claimed address", 0, TIMEOUT);
        stop.store(true, SeqCst);
        println!("probed all the time: {}", refused.unwrap());
        println!("a target of the group: {}", free.unwrap());
        let heard = capture.read(Duration::ZERO).unwrap();
        assert_eq!(count(&heard), 0, "ARP probes to a target that starts up");
        println!("{}", production.daemon.wait_line(LIGHT, since, TIMEOUT).unwrap());
        assert!(said(&production, "failure detected", since).is_empty());
        assert!(count(&capture.read(SECOND).unwrap()) > 5, "it is probed again");
    });
    production.assert_clean();
}
