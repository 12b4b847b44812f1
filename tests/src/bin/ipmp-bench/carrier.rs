//! Outages of a stream to a data address whose inbound member loses its carrier while nothing else has happened for a while, by what makes
//! the sentinel check links: the kernel, messages of netlink, or a fixed interval.
//!
//! The kernel reports carriers at most once in a second, for the whole machine. So each is measured twice: alone, and after a device in
//! another network namespace has changed its carrier, which delays the message about the member.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use lab::inbound_failover::{self, InboundOutages};
use lab::tap::Tap;
use lab::{Daemon, Lab, LinkMonitor, MemberKind, Production};
use serde::{Deserialize, Serialize};

use crate::times::Times;

/// What makes the sentinel check links.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Mode {
    /// Events of the kernel when a carrier changes
    Events,
    /// Messages of netlink
    Netlink,
    /// A fixed interval of 500 µs
    Interval,
}

impl Mode {
    /// The value of `IPMP_SENTINEL`.
    fn variable(self) -> &'static str {
        match self {
            Self::Events => "",
            Self::Netlink => "timer",
            Self::Interval => "fixed",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Events => "carrier events",
            Self::Netlink => "netlink",
            Self::Interval => "fixed interval",
        }
    }
}

/// What `ipmpctl show` prints where the kernel reports carriers.
const EVENTS: &str = "when the kernel changes a carrier";
/// The interval of the sentinel is long again after this time without a change.
const QUIET: Duration = Duration::from_millis(1_300);
/// Time from the change of the other device until the cable is pulled: less than the second for which the kernel delays messages.
const APART: Duration = Duration::from_millis(100);
/// Maximum time until the kernel reports a carrier.
const PATIENCE: Duration = Duration::from_secs(5);

/// The results.
#[derive(Debug, Serialize, Deserialize)]
pub struct Carrier {
    rounds: usize,
    /// What this kernel does not have.
    pub missing: Vec<String>,
    /// The pulls of each mode.
    pub rows: Vec<Row>,
}

/// The pulls in one mode.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// What makes the sentinel check links.
    pub by: String,
    /// Whether the kernel's message about the member is late.
    pub late_message: bool,
    /// The longest time without a packet at each pull.
    pub outage_us: Times,
}

/// Measures in labs of its own: in each round, each row has so many pulls. All modes, or these.
pub fn measure(rounds: u32, pulls: u32, modes: &[Mode]) -> Result<Carrier> {
    let modes = if modes.is_empty() { Mode::value_variants() } else { modes };
    let (mut missing, mut outages) = (BTreeSet::new(), Vec::<(Mode, bool, Vec<Duration>)>::new());
    for _ in 0..rounds {
        for &mode in modes {
            for late_message in [false, true] {
                let Some(times) = outages_of(mode, late_message, pulls as usize)? else {
                    missing.insert(mode.name().to_owned());
                    continue;
                };
                match outages.iter_mut().find(|row| (row.0, row.1) == (mode, late_message)) {
                    Some(row) => row.2.extend(times),
                    None => outages.push((mode, late_message, times)),
                }
            }
        }
    }
    let rows = outages.iter();
    let rows = rows.map(|(mode, late_message, times)| Row {
        by: mode.name().to_owned(),
        late_message: *late_message,
        outage_us: Times::of(times),
    });
    let (missing, rows) = (missing.into_iter().collect(), rows.collect());
    Ok(Carrier { rounds: rounds as usize, missing, rows })
}

/// The outages in one mode; `None`: the kernel does not report carriers to the sentinel.
fn outages_of(mode: Mode, late_message: bool, pulls: usize) -> Result<Option<Vec<Duration>>> {
    let lab = Lab::builder().kind(MemberKind::Tap).build()?;
    let daemon = Daemon::builder(&lab).environment("IPMP_SENTINEL", mode.variable()).start()?;
    let production = Production::builder(&lab).daemon(daemon).create()?;
    if mode == Mode::Events && !production.report()?.checks.iter().any(|check| check.contains(EVENTS)) {
        return Ok(None);
    }
    let beside = lab.namespace("beside")?;
    let monitor = LinkMonitor::start(&beside)?;
    let tap = Tap::create(&beside, "tap0")?;
    beside.ip("link set tap0 up")?;
    let index = beside.link("tap0")?.index;
    let set_other = |carrier| -> Result<()> {
        let since = std::time::Instant::now();
        tap.set_carrier(carrier)?;
        monitor.wait(index, carrier, since, PATIENCE).map(drop).context("the carrier of another device")
    };
    // The operational state of a device stays unknown until its first carrier change, unlike that of a network card.
    set_other(false)?;
    set_other(true)?;
    let running = inbound_failover::start_stream(&lab)?;
    let mut pulled = Vec::new();
    for _ in 0..pulls {
        std::thread::sleep(QUIET);
        if late_message {
            set_other(false)?;
            std::thread::sleep(APART);
        }
        let member = lab.member(&production.inbound(lab::network::DATA)?);
        pulled.push(member.cable().pull()?);
        std::thread::sleep(QUIET / 2);
        if late_message {
            set_other(true)?;
        }
        production.replug(member)?;
    }
    Ok(Some(InboundOutages::find(running.stop()?, &pulled).outages))
}

impl fmt::Display for Carrier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "carrier: pulls of the inbound member's cable while nothing else happens, {} rounds",
            self.rounds
        )?;
        for Row { by, late_message, outage_us } in &self.rows {
            let message = if *late_message { "message of netlink late" } else { "" };
            write!(out, "\n  {by:<16} {outage_us}   {} pulls {message}", outage_us.all.len())?;
        }
        for mode in &self.missing {
            write!(out, "\n  not measured, because this kernel does not have them: {mode}")?;
        }
        Ok(())
    }
}
