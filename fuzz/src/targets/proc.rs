//! Tables in `/proc`: IGMP and MLD memberships, and the multicast MACs of devices.

use ipmp::link::{Memberships, multicast};

pub fn run(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let as_igmp = Memberships::parse(&text, "");
    let as_mld = Memberships::parse("", &text);
    let as_macs = multicast::parse(&text);
    assert!(as_macs.values().all(|list| list.requested.is_subset(&list.all)));
    !(as_igmp.is_empty() && as_mld.is_empty() && as_macs.is_empty())
}
