//! Packets in, verdicts, rewritten bytes and counters out: the programs of a group run one frame at a time.
//!
//! A file a scenario; [`harness`] describes the group, [`frames`] writes what goes in and what must come
//! out, [`outcome`] compares.

lab::lane!(
    side_by_side,
    seconds = 120,
    quiet,
    no_clsact = "the programs run by BPF_PROG_TEST_RUN, not attached"
);

mod frames;
mod harness;
mod outcome;
mod wire;

mod arp_announcement;
mod arp_learnt;
mod arp_probe;
mod arp_reply;
mod arp_request;
mod capture;
mod dhcp_client;
mod duplicate_detection;
mod early_drop;
mod failover;
mod foreign_source;
mod fragments;
mod link_protocols;
mod membership_reports;
mod moved_member;
mod multicast;
mod nd_advertisement;
mod nd_checksum;
mod nd_options;
mod nd_redirect;
mod nd_router;
mod nd_solicitation;
mod on_the_wire;
mod path;
mod probe_floods;
mod probe_near_misses;
mod probe_replies;
mod receive_check;
mod reflected;
mod reserve;
mod returning;
mod runts;
mod selection;
mod sixteen_members;
mod spreading;
mod stacked;
mod sweep;
mod test_address;
mod transition;
mod unicast_in;
mod verifier;
mod vlan;
