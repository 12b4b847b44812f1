//! Other programs remove ours from their hooks, or attach theirs before them: ours are attached again, first or last as they
//! must be, and the log, `show` and `explain` name what cannot be undone.

lab::lane!(side_by_side, seconds = 15, clsact = "removed_programs");

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;

use ipmp::types::MemberState;
use lab::network::DATA;
use lab::production::GROUP;
use lab::{Lab, MS, Oracle, Production, SECOND, Stream, TIMEOUT, command, wait_until};

const PROG_LOAD: i32 = 5;
const OBJ_GET: i32 = 7;
const LINK_CREATE: i32 = 28;
const LINK_DETACH: i32 = 34;
const SCHED_CLS: u32 = 3;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
const BEFORE: u32 = 1 << 3;
/// Results of tcx programs: the next program decides; the packet passes, and no further program runs.
const NEXT: i32 = -1;
const PASS: i32 = 0;
/// Most programs at a tcx hook.
const MAX_PROGRAMS: usize = 63;

/// `bpf(2)` with these attributes.
fn bpf<T>(call: i32, mut attributes: T) -> i32 {
    // SAFETY: the attributes have the layout and size of the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, call, &raw mut attributes, size_of::<T>()) };
    assert!(result >= 0, "bpf call {call}: {}", std::io::Error::last_os_error());
    result as i32
}

/// A program of another owner.
fn load(result: i32) -> OwnedFd {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u32; 4],
        kernel_version: u32,
        flags: u32,
    }
    // r0 = result; exit
    let instructions = [0xb7 | u64::from(result.cast_unsigned()) << 32, 0x95];
    let license = c"GPL";
    let descriptor = bpf(
        PROG_LOAD,
        Load {
            kind: SCHED_CLS,
            count: 2,
            instructions: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log: [0; 4],
            kernel_version: 0,
            flags: 0,
        },
    );
    // SAFETY: a new descriptor.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Attaches a program by tcx; it is detached when the link is dropped.
fn attach(lab: &Lab, program: &OwnedFd, interface: &str, hook: u32, flags: u32) -> OwnedFd {
    let index = lab.host().link(interface).unwrap().index;
    let attributes = [program.as_raw_fd().cast_unsigned(), index, hook, flags, 0, 0, 0, 0];
    let descriptor = lab.host().run(|| bpf(LINK_CREATE, attributes));
    // SAFETY: a new descriptor.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn is_tcx(production: &Production<'_>) -> bool {
    production.member("e1000g0").unwrap().attach == "tcx"
}

/// Removes a program as `bpftool link detach` does, or the qdisc with its filter.
fn remove(lab: &Lab, production: &Production<'_>, interface: &str, pin: &str) {
    if !is_tcx(production) {
        let arguments = ["qdisc", "del", "dev", interface, "clsact"];
        command::run(lab.host().command("tc").args(arguments)).unwrap();
        return;
    }
    detach_link(lab, pin);
}

fn detach_link(lab: &Lab, pin: &str) {
    let layout = ipmp_common::LAYOUT;
    let cookie = lab.host().cookie().unwrap();
    let path = PathBuf::from(format!("/sys/fs/bpf/ipmp/v{layout}/{cookie}/{GROUP}/links/{pin}"));
    let path = CString::new(path.into_os_string().into_encoded_bytes()).unwrap();
    let link = bpf(OBJ_GET, [path.as_ptr() as u64, 0]);
    bpf(LINK_DETACH, [link.cast_unsigned()]);
    // SAFETY: opened above.
    drop(unsafe { OwnedFd::from_raw_fd(link) });
}

fn wait_line(production: &Production<'_>, text: &str, since: usize) {
    println!("{}", production.daemon.wait_line(text, since, 5 * SECOND).unwrap());
}

#[track_caller]
fn assert_reached(lab: &Lab) {
    lab.peer(0).flush_neighbours().unwrap();
    let ping = lab.peer(0).ping(DATA.into(), 5, MS, 5 * SECOND).unwrap();
    assert_eq!((ping.answered, ping.duplicates), (5, 0), "{ping:?}");
}

#[test]
fn removed_programs_are_attached_again() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let number = production.member("e1000g0").unwrap().number;
    for (program, interface, pin) in
        [("ingress", "e1000g0", format!("ingress-{number}")), ("egress", GROUP, "egress".to_owned())]
    {
        let since = production.daemon.log().len();
        remove(&lab, &production, interface, &pin);
        let line = format!("The {program} program on {interface} was removed by another program");
        wait_line(&production, &line, since);
        assert_reached(&lab);
    }
    assert_eq!(production.member("e1000g0").unwrap().state, MemberState::Ok);
    production.assert_clean();
}

#[test]
fn program_ahead_is_displaced_or_named() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let explain = || production.daemon.ctl("explain e1000g0").unwrap();
    let since = production.daemon.log().len();
    let (pass, next) = (load(PASS), load(NEXT));
    let on_member = attach(&lab, &pass, "e1000g0", TCX_INGRESS, BEFORE);
    let on_group = attach(&lab, &next, GROUP, TCX_EGRESS, BEFORE);
    let on = |interface| format!("n {interface}, program with id ");
    wait_line(&production, &on(GROUP), since);
    assert!(explain().contains(&on(GROUP)), "{}", explain());
    assert!(production.show().contains(&on(GROUP)), "{}", production.show());
    if is_tcx(&production) {
        wait_line(&production, "The ingress program on e1000g0 is first again", since);
        let shown = || production.show();
        assert!(!shown().contains(&on("e1000g0")), "{}", shown());
        assert_reached(&lab);
    } else {
        // tcx programs run before clsact.
        wait_line(&production, &on("e1000g0"), since);
        assert!(explain().contains(&on("e1000g0")), "{}", explain());
    }
    drop((on_member, on_group));
    let is_named = || production.show().contains("program with id ");
    assert!(wait_until(TIMEOUT, || !is_named()), "{}", production.show());
    assert_reached(&lab);
    production.assert_clean();
}

/// The hook has no room for our program.
#[test]
fn member_without_program_is_not_inbound_member() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    if !is_tcx(&production) {
        return production.assert_clean();
    }
    let inbound = production.inbound(DATA).unwrap();
    let number = production.member(&inbound).unwrap().number;
    let since = production.daemon.log().len();
    let programs: Vec<OwnedFd> = (0..MAX_PROGRAMS).map(|_| load(NEXT)).collect();
    production.daemon.stop().unwrap();
    detach_link(&lab, &format!("ingress-{number}"));
    let links: Vec<OwnedFd> =
        programs.iter().map(|program| attach(&lab, program, &inbound, TCX_INGRESS, 0)).collect();
    production.daemon.resume().unwrap();
    wait_line(&production, &format!("The ingress program on {inbound} is missing: "), since);
    production.wait_state(&inbound, MemberState::Failed, TIMEOUT).unwrap();
    assert_ne!(production.inbound(DATA).unwrap(), inbound);
    let explained = production.daemon.ctl(&format!("explain {inbound}")).unwrap();
    println!("{explained}");
    assert!(explained.contains("its ingress program is missing"), "{explained}");
    assert_reached(&lab);
    drop(links);
    production.wait_state(&inbound, MemberState::Ok, TIMEOUT).unwrap();
    assert_reached(&lab);
    production.assert_clean();
}

/// `ip link set GROUP address`.
#[test]
fn new_mac_of_group_interface_is_followed() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let production = Production::create(&lab).unwrap();
    let since = production.daemon.log().len();
    let mac = [2, 0, 0, 0x5e, 0, 1];
    let oracle = Oracle::watch(&lab, mac).unwrap();
    lab.host().ip(&format!("link set {GROUP} address {}", lab::show_mac(mac))).unwrap();
    wait_line(&production, &format!("The hardware address of group {GROUP} is now 02:00:00:5e:00:01"), since);
    assert_eq!(production.report().unwrap().mac, "02:00:00:5e:00:01");
    assert_reached(&lab);
    // Frames that the host sent before the daemon read the new MAC were dropped.
    let dropped = || production.report().unwrap().drops.foreign_source;
    let before = dropped();
    let running = Stream::outbound(&lab).flows(8).rate(2_000).start().unwrap();
    running.wait_received(500, TIMEOUT).unwrap();
    let report = running.stop().unwrap();
    assert_eq!((report.lost(), report.duplicated()), (0, 0), "{report}");
    assert_eq!(dropped(), before);
    oracle.assert_clean();
    production.assert_clean();
}
