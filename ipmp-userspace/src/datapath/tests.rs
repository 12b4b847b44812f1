//! The datapath in network namespaces of its own, on the running kernel.

use std::{process::Command, time::Duration};

use aya::maps::{Array, Map, MapData};
use ipmp_common::{
    hash::HashPolicy,
    maps::{CaptureMode, MemberStatus, Steering},
    steer::{MemberSet, Preference, SLOTS},
    transition::{ACTIVE_FLOWS, ActiveFlow, IDLE, Usable},
};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::core::Time;

/// Runs a test on a thread in a new network namespace, and removes what it left pinned.
pub(super) fn in_new_namespace(test: impl FnOnce() + Send + 'static) {
    std::thread::spawn(|| {
        let _ = env_logger::builder().is_test(true).try_init();
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
        Datapath::teardown().expect("teardown");
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    })
    .join()
    .expect("the test failed");
}

pub(super) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().expect("ip");
    assert!(status.success(), "ip {arguments}");
}

fn index_of(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).expect("the interface exists")
}

const GROUP_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

pub(super) fn two_members() -> (GroupSpec, [MemberSpec; 2]) {
    ip("link set lo up");
    ip("link add g0 address 02:00:00:00:00:09 type veth peer name far");
    let mut members = Vec::new();
    for number in 0..2u8 {
        ip(&format!("link add m{number} address 02:00:00:00:01:0{number} type veth peer name p{number}"));
        ip(&format!("link set m{number} up"));
        ip(&format!("link set p{number} up"));
        members.push(MemberSpec {
            number,
            name: format!("m{number}"),
            ifindex: index_of(&format!("m{number}")),
            mac: [2, 0, 0, 0, 1, number],
            lower: Vec::new(),
        });
    }
    ip("link set g0 up");
    ip("link set far up");
    let spec = GroupSpec {
        name: "g0".to_owned(),
        ifindex: index_of("g0"),
        mac: GROUP_MAC,
        policy: HashPolicy::Connection,
        updelay: Duration::from_millis(50),
    };
    (spec, members.try_into().expect("two"))
}

/// A group with these members.
fn group_with(datapath: &mut Datapath, spec: &GroupSpec, members: &[MemberSpec]) -> Group {
    let mut group = datapath.group(spec).unwrap();
    for member in members {
        group.attach(member).unwrap();
    }
    group
}

pub(super) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not happen in 5 s");
}

#[test]
fn early_drop_is_adopted_by_the_next_daemon_and_refused_beside_another_program() {
    in_new_namespace(|| {
        let (spec, members) = two_members();
        let mut datapath = Datapath::open(false).unwrap();
        let mut group = group_with(&mut datapath, &spec, &members);
        let link = pins::Pins::open().unwrap().group("g0").join("links/early_drop-0");
        let link_of = || aya::programs::links::PinnedLink::from_pin(&link).unwrap();
        let info = || aya::programs::links::FdLink::from(link_of()).info().unwrap();
        group.start_early_drop(0, "m0", members[0].ifindex).unwrap();
        let before = info();

        drop((group, datapath));
        let mut datapath = Datapath::open(false).unwrap();
        let mut group = group_with(&mut datapath, &spec, &members);
        assert!(group.has_early_drop(0) && !group.is_early_drop_current(0));
        group.start_early_drop(0, "m0", members[0].ifindex).unwrap();
        let after = info();
        assert_eq!((before.id(), before.program_id()), (after.id(), after.program_id()));
        // The same link with a program that has the new MAC of the group interface: no frame has passed without one.
        group.set_mac([2, 0, 0, 0, 0, 8]).unwrap();
        assert_eq!(info().id(), after.id());
        assert_ne!(info().program_id(), after.program_id());

        let program = pins::Pins::open().unwrap().group("g0").join("programs/early_drop-0");
        ip(&format!("link set dev m1 xdpdrv pinned {}", program.display()));
        let refused = group.start_early_drop(1, "m1", members[1].ifindex).unwrap_err().to_string();
        assert_eq!(
            refused,
            "cannot attach the early_drop program to m1: it has an XDP program of another program"
        );
        assert!(!group.has_early_drop(1));
        ip("link set dev m1 xdpdrv off");
        group.start_early_drop(1, "m1", members[1].ifindex).unwrap();
        group.detach(1).unwrap();
        assert!(!group.has_early_drop(1));
        // A device without XDP in its driver.
        ip("link add link m1 name v1 type macvlan");
        let refused = group.start_early_drop(2, "v1", index_of("v1")).unwrap_err().to_string();
        assert_eq!(refused, "cannot attach the early_drop program to v1: its driver has no XDP");
        group.remove().unwrap();
        assert!(!link.exists());
    });
}

#[test]
fn group_is_loaded_adopted_and_removed() {
    in_new_namespace(|| {
        let (spec, members) = two_members();
        let mut datapath = Datapath::open(false).unwrap();
        let group = group_with(&mut datapath, &spec, &members);
        group.set_slots(&[Preference::new(&[1, 0]); SLOTS]);
        group.set_usable(MemberSet::from_bits(3));
        wait_for("both members live", || group.live() == MemberSet::from_bits(3));

        ip("link set p0 down");
        wait_for("member 0 not live", || group.live() == MemberSet::from_bits(2));
        ip("link set p0 up");
        wait_for("member 0 live again", || group.live() == MemberSet::from_bits(3));

        // Another daemon adopts the group: the same index and masks, and members stay live.
        drop((group, datapath));
        let mut datapath = Datapath::open(false).unwrap();
        assert_eq!(datapath.pinned_groups().unwrap(), ["g0"]);
        let mut group = datapath.group(&spec).unwrap();
        assert_eq!(group.usable(), MemberSet::from_bits(3));
        assert_eq!(group.slots()[17], Preference::new(&[1, 0]));
        assert_eq!(group.live(), MemberSet::from_bits(3));
        for member in &members {
            group.attach(member).unwrap();
        }
        let known: Vec<_> =
            group.members().unwrap().iter().map(|(number, m)| (*number, name_of(m), m.state)).collect();
        assert_eq!(
            known,
            [(0, "m0".to_owned(), MemberStatus::Unknown), (1, "m1".to_owned(), MemberStatus::Unknown)]
        );

        group.detach(1).unwrap();
        assert_eq!(group.usable(), MemberSet::from_bits(1));
        wait_for("member 1 no longer live", || group.live() == MemberSet::from_bits(1));
        group.remove().unwrap();
        assert!(datapath.pinned_groups().unwrap().is_empty());
    });
}

/// Identifiers of the attached egress and of the ingress of each member.
fn attached(spec: &GroupSpec, members: &[MemberSpec]) -> Vec<u32> {
    let interfaces = [spec.ifindex].into_iter().chain(members.iter().map(|member| member.ifindex));
    interfaces.flat_map(tcx_programs_of).collect()
}

#[test]
fn program_is_loaded_again_only_if_it_differs_or_is_not_attached() {
    in_new_namespace(|| {
        let (spec, members) = two_members();
        let mut datapath = Datapath::open(false).unwrap();
        if datapath.host.borrow().kind != AttachKind::Tcx {
            // Identifiers of attached programs are read by a query of tcx.
            return println!("skipped: no tcx");
        }
        let group = group_with(&mut datapath, &spec, &members);
        let first = attached(&spec, &members);
        assert_eq!(first.len(), 3);
        let prepared = datapath.prepare_group(&spec, false).unwrap();
        assert!(datapath.missing(prepared).is_empty());
        assert!(datapath.missing(vec![group.prepare_ingress()]).is_empty());
        assert_eq!(first[1], first[2], "members share one program");
        drop((group, datapath));

        let mut datapath = Datapath::open(false).unwrap();
        let group = group_with(&mut datapath, &spec, &members);
        assert_eq!(attached(&spec, &members), first);
        assert!(
            group.program_orders().iter().all(|order| order.order.is_attached && order.order.is_in_place)
        );
        drop((group, datapath));

        // Other constants, of all three programs.
        let other = GroupSpec { mac: [2, 0, 0, 0, 0, 8], ..spec.clone() };
        let mut datapath = Datapath::open(false).unwrap();
        let prepared = datapath.prepare_group(&other, false).unwrap();
        assert_eq!(datapath.missing(prepared).len(), 1);
        drop(group_with(&mut datapath, &other, &members));
        let second = attached(&spec, &members);
        assert!(second.iter().all(|id| !first.contains(id)), "{first:?} {second:?}");

        // Another program has detached ours from one member: it is attached there again.
        let pins = Pins::open().unwrap().group("g0");
        std::fs::remove_file(pins.join("links/ingress-0")).unwrap();
        wait_for("the link's end", || attached(&spec, &members).len() == 2);
        drop(group_with(&mut datapath, &other, &members));
        let third = attached(&spec, &members);
        assert_eq!(third, second);

        // A program that writes to the log is read by the daemon that has loaded it.
        drop(datapath);
        let mut datapath = Datapath::open(true).unwrap();
        drop(group_with(&mut datapath, &other, &members));
        let fourth = attached(&spec, &members);
        assert!(fourth.iter().all(|id| !third.contains(id)), "{third:?} {fourth:?}");
        let mut datapath = Datapath::open(false).unwrap();
        group_with(&mut datapath, &other, &members).remove().unwrap();
    });
}

#[test]
fn active_flows_are_read_as_egress_writes_them() {
    in_new_namespace(|| {
        let (spec, members) = two_members();
        let mut datapath = Datapath::open(false).unwrap();
        let group = group_with(&mut datapath, &spec, &members);
        group.set_slots(&std::array::from_fn(|slot| {
            Preference::new(if slot == 77 { &[0, 1] } else { &[1, 0] })
        }));
        let [none, first] = [&[][..], &[0]].map(|set| set.iter().copied().collect::<MemberSet>());
        let (second, now) = (MemberSet::of(1), Time(Duration::from_secs(1000)));
        // The member is in the lowest bits of the time.
        let later = now + IDLE + Duration::from_nanos(16);
        let maps = datapath.host.borrow().pins.group("g0").join("maps");
        let returning = Usable { settled: second, returning: first, ..Usable::default() };
        let leaving = Usable { settled: first, leaving: second, ..Usable::default() };
        let table = || pins::typed::<Array<MapData, u64>>(&maps, group::TABLE, Map::Array);
        assert!(table().is_err() && group.moving(now).unwrap().is_empty(), "no transition, no table");
        group.set_usable(returning);
        let mut flows = table().unwrap();
        let (in_slot, elsewhere) = (7 * SLOTS as u32 + 77, ACTIVE_FLOWS as u32 - 1);
        for (place, member, moves_to_first, moves_from_second) in
            [(in_slot, 1, first, second), (in_slot, 0, none, none), (elsewhere, 1, none, second)]
        {
            flows.set(place, ActiveFlow::new(member, now.0.as_nanos() as u64).bits, 0).unwrap();
            // The highest bits of the hash do not count.
            assert_eq!(group.active_member(place | 1 << 31, now).unwrap(), Some(member));
            assert_eq!(group.active_member(place, later).unwrap(), None);
            group.set_usable(returning);
            assert_eq!(group.moving(now).unwrap(), moves_to_first, "{place} {member}");
            assert!(group.moving(later).unwrap().is_empty());
            group.set_usable(leaving);
            assert_eq!(group.moving(now).unwrap(), moves_from_second, "{place} {member}");
            flows.set(place, 0, 0).unwrap();
        }

        // A daemon that continues the transition reads what the one before has written.
        flows.set(in_slot, ActiveFlow::new(1, now.0.as_nanos() as u64).bits, 0).unwrap();
        drop((group, datapath));
        let mut datapath = Datapath::open(false).unwrap();
        let group = group_with(&mut datapath, &spec, &members);
        assert_eq!(group.moving(now).unwrap(), second);
        // The table of a transition that has ended was left by a daemon that was killed.
        let mut words: Array<MapData, Steering> = pins::typed(&maps, "steering", Map::Array).unwrap();
        let steering = words.get(&0, 0).unwrap();
        words.set(0, Steering { usable: first, ..steering }, 0).unwrap();
        drop((group, datapath));
        let mut datapath = Datapath::open(false).unwrap();
        let group = group_with(&mut datapath, &spec, &members);
        assert!(table().is_err());
        group.set_usable(returning);
        assert!(table().is_ok() && group.moving(now).unwrap().is_empty(), "a new one is empty");
        group.set_usable(MemberSet::of(1));
        assert!(table().is_err());
        group.remove().unwrap();
    });
}

#[test]
fn deleted_member_is_not_live_and_a_new_device_of_its_name_is_adopted() {
    in_new_namespace(|| {
        let (spec, [first, _]) = two_members();
        let mut datapath = Datapath::open(false).unwrap();
        let mut group = datapath.group(&spec).unwrap();
        group.attach(&first).unwrap();
        wait_for("member 0 live", || group.live() == MemberSet::from_bits(1));
        ip("link del m0");
        wait_for("member 0 not live", || group.live() == MemberSet::from_bits(0));
        let result = group.attach(&first);
        assert!(matches!(result, Err(Error::Vanished { .. })), "{result:?}");
        ip("link add m0 address 02:00:00:00:01:00 type veth peer name p0");
        ip("link set m0 up");
        ip("link set p0 up");
        group.attach(&MemberSpec { ifindex: index_of("m0"), ..first }).unwrap();
        wait_for("the new member 0 live", || group.live() == MemberSet::from_bits(1));
    });
}

#[test]
fn pinned_map_of_another_layout_is_rejected_by_name() {
    in_new_namespace(|| {
        let (spec, _) = two_members();
        let mut datapath = Datapath::open(false).unwrap();
        let maps = datapath.host.borrow().pins.group("g0").join("maps");
        pins::make_directory(&maps).unwrap();
        let other = aya::maps::Array::<_, u32>::create(3, 0).unwrap();
        other.pin(maps.join("slots")).unwrap();
        let refused = datapath.group(&spec).map(drop).unwrap_err().to_string();
        assert!(refused.contains("/g0/maps/slots") && refused.contains("--teardown"), "{refused}");
    });
}

/// Identifiers of the programs that are loaded now.
#[test]
fn new_group_does_not_take_index_of_group_whose_map_cannot_be_read() {
    in_new_namespace(|| {
        let (spec, _) = two_members();
        ip("link add g1 address 02:00:00:00:00:0a type veth peer name far1");
        let mut datapath = Datapath::open(false).unwrap();
        let first = datapath.group(&spec).unwrap();
        let maps = datapath.host.borrow().pins.group("g0").join("maps");
        let rename = |from: &str, to: &str| std::fs::rename(maps.join(from), maps.join(to)).unwrap();
        rename("steering", "kept");
        // This one is no array.
        rename("own_macs", "steering");
        let other = GroupSpec {
            name: "g1".into(),
            ifindex: index_of("g1"),
            mac: [2, 0, 0, 0, 0, 10],
            ..spec.clone()
        };
        let refused = datapath.group(&other).map(|group| group.index());
        assert!(matches!(refused, Err(Error::Map { map: "steering", .. })), "{refused:?}");
        rename("steering", "own_macs");
        rename("kept", "steering");
        assert_eq!([first.index(), datapath.group(&other).unwrap().index()], [0, 1]);
    });
}

fn loaded() -> Vec<u32> {
    aya::programs::loaded_programs().filter_map(|info| info.ok().map(|info| info.id())).collect()
}

fn ticks(datapath: &Datapath) -> u64 {
    datapath.host.borrow().sentinel.ticks().unwrap()
}

#[test]
fn sentinel_stops_with_the_last_member_and_starts_with_the_next() {
    in_new_namespace(|| {
        let (spec, [first, second]) = two_members();
        let mut datapath = Datapath::open(false).unwrap();
        let mut group = datapath.group(&spec).unwrap();
        group.attach(&first).unwrap();
        group.attach(&second).unwrap();
        let continues = || {
            let before = ticks(&datapath);
            wait_for("the sentinel ticks", || ticks(&datapath) > before + 3);
        };
        let has_ended = || {
            wait_for("the sentinel has ended", || {
                let before = ticks(&datapath);
                std::thread::sleep(Duration::from_millis(50));
                ticks(&datapath) == before
            });
        };
        continues();
        // One member is enough.
        ip("link del m0");
        group.detach(0).unwrap();
        continues();
        group.detach(1).unwrap();
        has_ended();
        group.attach(&second).unwrap();
        continues();
        wait_for("member 1 live", || group.live() == MemberSet::from_bits(2));
        super::sentinel::stop_pinned(&datapath.host.borrow().pins.sentinel()).unwrap();
        has_ended();
    });
}

#[test]
fn new_daemon_replaces_the_callback_of_the_running_timer() {
    in_new_namespace(|| {
        let (spec, [first, _]) = two_members();
        let slow: Interval = "50ms".parse().unwrap();
        let mut datapath = Datapath::open_with(false, slow).unwrap();
        let mut group = datapath.group(&spec).unwrap();
        group.attach(&first).unwrap();
        wait_for("member 0 live", || group.live() == MemberSet::from_bits(1));
        assert_eq!(datapath.host.borrow().sentinel.intervals().frequent, slow);
        // Whatever happens on the machine: a timer does not run too often.
        let (before, began) = (ticks(&datapath), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(300));
        // One more is that of the attachment.
        let most = began.elapsed().as_millis() as u64 / 50 + 3;
        let ran = ticks(&datapath) - before;
        assert!(ran <= most, "{ran} ticks of 50 ms in {:?}", began.elapsed());
        let old = datapath.host.borrow_mut().sentinel.program_id().unwrap();

        drop((group, datapath));
        assert!(loaded().contains(&old), "the timer keeps the program of a daemon that has ended");
        let mut datapath = Datapath::open(false).unwrap();
        let mut group = datapath.group(&spec).unwrap();
        assert!(loaded().contains(&old));
        group.attach(&first).unwrap();
        wait_for("the old program is unloaded", || !loaded().contains(&old));
        assert_eq!(datapath.host.borrow().sentinel.intervals().frequent, Interval::default());
        let before = ticks(&datapath);
        wait_for("the new one ticks", || ticks(&datapath) > before + 3);
        assert_eq!(group.live(), MemberSet::from_bits(1));
        assert!(datapath.host.borrow().sentinel.refused().is_none());
    });
}

#[test]
fn status_shows_the_intervals_with_many_members() {
    in_new_namespace(|| {
        let (spec, _) = two_members();
        let mut datapath = Datapath::open(false).unwrap();
        let _group = datapath.group(&spec).unwrap();
        let shown = || {
            let line = datapath.status().into_iter().find(|line| line.contains("sentinel")).unwrap();
            // Not every kernel has it.
            line.trim_end_matches(", and when the kernel changes a carrier").to_owned()
        };
        let with = |frequent| {
            format!("the sentinel checks links every {frequent} for 1 s after a change, else every 128 ms")
        };
        assert_eq!(shown(), with("500 µs"));
        let arm = |group, member| {
            datapath.host.borrow().sentinel.arm(group, member, &[]);
        };
        arm(200, 7);
        assert_eq!(shown(), with("500 µs"));
        // Eight of one group, nine of another: three intervals.
        arm(201, 8);
        assert_eq!(shown(), with("500 µs to 1500 µs"));
    });
}

#[test]
fn hash_policy_changes_in_place_and_capture_mode_persists() {
    in_new_namespace(|| {
        let (spec, [first, _]) = two_members();
        let mut datapath = Datapath::open(false).unwrap();
        let mut group = datapath.group(&spec).unwrap();
        group.attach(&first).unwrap();
        group.set_policy(HashPolicy::Flow).unwrap();
        assert_eq!(group.policy(), HashPolicy::Flow);
        assert!(datapath.missing(vec![group.prepare_ingress()]).is_empty(), "ingress stays as it is");
        group.set_capture(CaptureMode::On);
        wait_for("copies are made", || group.is_captured());
        drop((group, datapath));
        let mut datapath = Datapath::open(false).unwrap();
        let group = datapath.group(&spec).unwrap();
        assert_eq!(group.capture(), CaptureMode::On);
        assert!(group.is_captured());
        group.set_capture(CaptureMode::Off);
        wait_for("no copies are made", || !group.is_captured());
    });
}

#[test]
fn probe_replies_map_exists_before_the_first_group_and_outlives_the_daemon() {
    in_new_namespace(|| {
        let datapath = Datapath::open(false).unwrap();
        let pin = datapath.host.borrow().pins.sentinel().join("probe_replies");
        let id = || aya::maps::MapData::from_pin(&pin).unwrap().info().unwrap().id();
        let made = id();
        assert_eq!(datapath.probe_replies().unwrap().drain(), []);
        drop(datapath);
        let datapath = Datapath::open(false).unwrap();
        assert_eq!(id(), made, "the next daemon adopts it");
        drop(datapath);

        // An older daemon did not create it: the next one does.
        std::fs::remove_file(&pin).unwrap();
        let mut datapath = Datapath::open(false).unwrap();
        let (spec, [first, _]) = two_members();
        let mut group = datapath.group(&spec).unwrap();
        group.attach(&first).unwrap();
        assert!(id() > made);
        assert_eq!(datapath.probe_replies().unwrap().drain(), []);
    });
}
