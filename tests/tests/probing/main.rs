//! Probe-based failure detection, but for the time that it takes: what is on the wire, what it is not fooled by, and
//! what it leaves alone.

lab::lane!(side_by_side, seconds = 110);

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipmp::types::Family;
use lab::network::ROUTER;
use lab::production::GROUP;
use lab::{Lab, Production};
use serde_json::Value;

mod conflict;
mod dark;
mod forged;
mod seen;
mod spare;
mod wire;

/// The group with IPv4 test addresses and these settings, when probes are answered.
fn with_test_addresses<'lab>(lab: &'lab Lab, settings: &str) -> Production<'lab> {
    let production = Production::create_probed(lab, &[Family::V4], settings).unwrap();
    production.wait_answered().unwrap();
    production
}

/// The group without test addresses, with these settings.
fn without_test_addresses<'lab>(lab: &'lab Lab, settings: &str) -> Production<'lab> {
    let production = Production::create(lab).unwrap();
    production.daemon.ctl(&format!("set {GROUP} {settings}")).unwrap();
    production.wait_answered().unwrap();
    production
}

/// Lines of the daemon that contain `text`, since its log had so many lines.
fn said(production: &Production<'_>, text: &str, since: usize) -> Vec<String> {
    production.daemon.log().into_iter().skip(since).filter(|line| line.contains(text)).collect()
}
