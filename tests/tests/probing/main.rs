//! Probe-based failure detection: probe packets, spoofed replies, unreachable targets, standby members. The detection time
//! is tested in `silence.rs`.

lab::lane!(side_by_side, seconds = 180);

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipmp::types::Family;
use lab::network::{DATA, ROUTER};
use lab::production::GROUP;
use lab::{Lab, Production};
use serde_json::Value;

mod address_conflict;
mod observability;
mod probe_packets;
mod router_mac;
mod split;
mod spoofed_replies;
mod standby;
mod unreachable_target;
mod unreliable_target;

/// Creates the group with IPv4 test addresses and these settings, and waits for replies to all probes.
fn with_test_addresses<'lab>(lab: &'lab Lab, settings: &str) -> Production<'lab> {
    let production = Production::create_probed(lab, &[Family::V4], settings).unwrap();
    production.wait_answered().unwrap();
    production
}

/// Creates the group without test addresses, with these settings, and waits for replies to all probes.
fn without_test_addresses<'lab>(lab: &'lab Lab, settings: &str) -> Production<'lab> {
    let production = Production::create(lab).unwrap();
    production.daemon.ctl(&format!("set {GROUP} {settings}")).unwrap();
    production.wait_answered().unwrap();
    production
}
