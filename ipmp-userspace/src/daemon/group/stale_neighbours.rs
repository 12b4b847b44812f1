//! Neighbours that have missed the announcement of an address: the receive check of ingress reports them, and each is corrected
//! by unicast. One that ignores that has a static entry, and is reported (docs/announcements.md).

use std::time::Duration;

use ipmp_common::address::Mac;

use super::{Context, RunningGroup};
use crate::{
    announce::{
        Corrections,
        corrections::{Answer, Stale, TRIES},
    },
    core::{Event, Time},
    daemon::clock::now,
    datapath::StaleReport,
};

/// Least time between two readings of the reports.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// The stale neighbours of a group.
#[derive(Debug)]
pub struct StaleNeighbours {
    corrections: Corrections,
    read: Time,
    /// When the reports are read next, if there are any.
    due: Option<Time>,
}

impl Default for StaleNeighbours {
    /// There may be reports from before the start.
    fn default() -> Self {
        Self { corrections: Corrections::default(), read: Time::default(), due: Some(Time::default()) }
    }
}

impl StaleNeighbours {
    /// When [`read`] has something to do.
    pub fn next(&self) -> Option<Time> {
        self.due
    }

    /// Ingress has reported a neighbour.
    pub fn reported(&mut self) {
        self.due.get_or_insert(self.read + READ_INTERVAL);
    }
}

/// Reads the reports, and corrects the neighbours.
pub fn read(group: &mut RunningGroup, context: &mut Context<'_>) {
    group.stale_neighbours.due = None;
    group.stale_neighbours.read = now();
    match group.datapath.take_stale_neighbours() {
        Ok(reports) => reports.iter().for_each(|report| handle(group, context, report)),
        Err(error) => log::error!(group = group.name(); "{error}"),
    }
}

fn handle(group: &mut RunningGroup, context: &mut Context<'_>, report: &StaleReport) {
    let StaleReport { address, mac, vlan, member, at } = *report;
    let (stale, now) = (Stale { mac, vlan, address }, now());
    let announced = context.schedule.announced(group.interface.ifindex, stale.vlan, address, at);
    let Some(announcement) = announced.copied() else { return };
    match group.stale_neighbours.corrections.report(stale, member, announcement.mac, at) {
        Answer::Nothing => {}
        Answer::Correct if context.schedule.correct(&announcement, now) => {
            let frame = announcement.correction(mac);
            match context.sender.send_frame(announcement.ifindex, &frame) {
                Ok(()) => group.stale_neighbours.corrections.corrected(stale, now),
                Err(error) => log::debug!("cannot correct {}: {error}", Mac::from(mac)),
            }
        }
        // The port has sent enough; the neighbour will be reported again.
        Answer::Correct => {}
        Answer::Static => {
            let (name, member) = (group.name().to_owned(), name_of(group, member));
            context.log(&name, &Event::NeighbourStatic { mac, address, member, group: name.clone() });
        }
    }
}

fn name_of(group: &RunningGroup, number: u8) -> String {
    group.core.member(number).map_or_else(|| "a former member".into(), |member| member.name().to_owned())
}

/// The neighbours with a static entry, a sentence each.
pub fn messages(group: &RunningGroup) -> impl Iterator<Item = String> {
    let statics = group.stale_neighbours.corrections.statics(now());
    let exists = |stale: &Stale| match stale.vlan {
        None => group.addresses.contains(stale.address),
        Some(vlan) => group.vlans.contains(vlan, stale.address),
    };
    statics.filter(move |(stale, _)| exists(stale)).map(|(stale, member)| {
        format!(
            "neighbour {}: still sends packets for {} to the MAC of {} after {TRIES} corrections; its entry is probably static: \
             remove it there",
            Mac::from(stale.mac),
            stale.address,
            name_of(group, member)
        )
    })
}
