//! Rules of the kernel's firewalls.

use ipmp::firewall::{
    Interface, Joining,
    iptables::{V4, V6, rules},
    nftables::Reader,
    read_datagram,
};

pub fn run(input: &[u8]) -> bool {
    let interfaces =
        [Interface { name: "e1000g0".into(), ifindex: 2 }, Interface { name: "e1000g1".into(), ifindex: 3 }];
    let joining = Joining { interfaces: &interfaces, group: "production0" };
    let mut reader = Reader::new(&joining);
    let mut is_changed = false;
    let end = read_datagram(input, &mut reader, &mut is_changed);
    let sets = reader.sets();
    let mut found = reader.finish();
    for layout in [V4, V6] {
        found.extend(rules(layout, "filter", &[(1, 0)], input, &joining));
    }
    for rule in &found {
        assert!(interfaces.iter().any(|interface| interface.name == rule.interface));
        assert!(!rule.place.contains(char::is_control));
    }
    end.is_some() || !sets.is_empty() || !found.is_empty()
}
