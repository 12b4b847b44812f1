//! Groups of other layouts: the present layout under the version of another one.

use std::{fs, path::PathBuf};

use aya::{
    maps::MapInfo,
    programs::{SchedClassifier, TcAttachType},
};
use ipmp_common::maps::MemberStatus;

use super::*;
use crate::datapath::{
    Datapath,
    tests::{in_new_namespace, two_members, wait_for},
};

/// Gives the pins of this namespace the version of another layout.
fn rename_layout(from: u32, to: u32) {
    let root = |layout| pins::root_of(layout, pins::netns_cookie().unwrap());
    fs::create_dir_all(root(to).parent().unwrap()).unwrap();
    fs::rename(root(from), root(to)).unwrap();
}

fn programs(interface: &str) -> Vec<u32> {
    let (_, programs) = SchedClassifier::query_tcx(interface, TcAttachType::Ingress).unwrap();
    programs.iter().map(|program| program.id()).collect()
}

fn map_id(path: PathBuf) -> u32 {
    MapInfo::from_pin(path).unwrap().id()
}

fn exists(map: u32) -> bool {
    aya::maps::loaded_maps().any(|info| info.is_ok_and(|info| info.id() == map))
}

/// Leaves the pins of a group with one member under the version of another layout. Returns the programs of the member.
fn group_of_layout(layout: u32) -> Vec<u32> {
    let (spec, [first, _]) = two_members();
    let mut datapath = Datapath::open(false).unwrap();
    datapath.group(&spec).unwrap().attach(&first).unwrap();
    drop(datapath);
    rename_layout(LAYOUT, layout);
    programs("m0")
}

#[test]
fn group_of_older_layout_continues_with_its_masks_and_links() {
    in_new_namespace(|| {
        let (spec, members) = two_members();
        let lists = [Preference::new(&[1, 0]); ipmp_common::steer::SLOTS];
        let both = MemberSet::from_bits(3);
        let address = "10.0.0.1".parse().unwrap();
        let test_address = "10.0.0.2".parse().unwrap();
        {
            let mut datapath = Datapath::open(false).unwrap();
            let mut group = datapath.group(&spec).unwrap();
            for member in &members {
                group.attach(member).unwrap();
            }
            group.set_slots(&lists);
            group.set_usable(both);
            group.set_state(1, MemberStatus::Failed).unwrap();
            group.set_inbound(address, Preference::new(&[1, 0]), None).unwrap();
            group.set_own_address(test_address, 1).unwrap();
            wait_for("both members live", || group.live() == both);
        }
        rename_layout(LAYOUT, 1);
        let old = pins::of_other_layouts().unwrap().remove(0).1;
        let clock = map_id(old.sentinel().join("clock"));
        let slots = map_id(old.group("g0").join("maps/slots"));
        let before = programs("m0");
        assert_eq!(before.len(), 1);

        // The first attempt ends before the maps are complete, the second one before the programs are replaced.
        let present = Pins::open().unwrap();
        pins::make_directory(&present.group("g0").join("maps")).unwrap();
        let attempt = Datapath::open(false).unwrap();
        assert_eq!(attempt.upgraded(), [Upgraded { group: "g0".into(), layout: 1 }]);
        drop(attempt);
        assert_eq!(programs("m0"), before);
        assert!(!old.group("g0").exists() && old.sentinel().exists());
        assert!(exists(slots) && exists(clock), "the old programs need them");

        let mut datapath = Datapath::open(false).unwrap();
        assert_eq!((datapath.upgraded(), datapath.pinned_groups().unwrap()), (&[][..], vec!["g0".into()]));
        let mut group = datapath.group(&spec).unwrap();
        assert_eq!((group.usable(), group.live()), (both, both));
        assert!(*group.slots() == lists);
        assert_eq!(group.inbound().unwrap(), [(address, Preference::new(&[1, 0]))]);
        assert_eq!(group.own_addresses().unwrap(), [(test_address, 1)]);
        let states: Vec<_> = group.members().unwrap().iter().map(|(number, m)| (*number, m.state)).collect();
        assert_eq!(states, [(0, MemberStatus::Unknown), (1, MemberStatus::Failed)]);
        for member in &members {
            group.attach(member).unwrap();
            assert_eq!(group.live(), both);
        }
        datapath.finish_upgrade().unwrap();
        let after = programs("m0");
        assert!(after.len() == 1 && after != before, "{before:?}, then {after:?}");
        assert!(!old.root().exists());
        wait_for("the old maps are freed, and the timer with them", || !exists(slots) && !exists(clock));
        group.remove().unwrap();
    });
}

#[test]
fn group_of_newer_layout_is_refused_and_stays() {
    in_new_namespace(|| {
        let before = group_of_layout(99);
        let refusals = [Datapath::open(false).map(drop), Datapath::teardown().map(drop)];
        for refused in refusals {
            let text = refused.unwrap_err().to_string();
            println!("{text}");
            assert!(text.contains("/v99/") && text.contains("newer ipmpd (map layout 99"), "{text}");
        }
        assert_eq!(programs("m0"), before);
        assert!(!pins::root_of(LAYOUT, pins::netns_cookie().unwrap()).exists());
        rename_layout(99, LAYOUT);
    });
}

#[test]
fn group_of_unread_layout_is_refused_and_removed_by_teardown() {
    in_new_namespace(|| {
        let before = group_of_layout(0);
        let text = Datapath::open(false).map(drop).unwrap_err().to_string();
        println!("{text}");
        assert!(text.contains("/v0/") && text.contains("run ipmpd --teardown"), "{text}");
        assert_eq!(programs("m0"), before);
        assert_eq!(Datapath::teardown().unwrap(), ["g0"]);
        wait_for("the program is detached", || programs("m0").is_empty());
        assert_eq!(pins::of_other_layouts().unwrap().len(), 0);
    });
}
