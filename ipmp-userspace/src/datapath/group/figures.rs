//! Counters, summed over all CPUs.

use std::mem::offset_of;

use ipmp_common::maps::{Counters, Drops, EarlyDrops, Replaced, ReplyCounters, Steering};

use super::{super::Error, Group, map_error, words::nanoseconds};
use crate::core::Time;

const SENT_SINCE: usize = offset_of!(Steering, sent_since_ns) / 8;
const RECEIVED_SINCE: usize = offset_of!(Steering, received_since_ns) / 8;

impl Group {
    /// Traffic of a member, summed over all CPUs.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn counters(&self, number: u8) -> Result<Counters, Error> {
        let values = self.counters.get(&u32::from(number), 0).map_err(map_error("counters"))?;
        Ok(values.iter().fold(Counters::default(), |sum, cpu| Counters {
            out_packets: sum.out_packets + cpu.out_packets,
            out_bytes: sum.out_bytes + cpu.out_bytes,
            in_packets: sum.in_packets + cpu.in_packets,
            in_bytes: sum.in_bytes + cpu.in_bytes,
            failed_over_packets: sum.failed_over_packets + cpu.failed_over_packets,
        }))
    }

    /// What others have done in place of a member: packets, summed over all CPUs, and the earliest times.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn replaced(&self, number: u8) -> Result<Replaced, Error> {
        let values = self.replaced.get(&u32::from(number), 0).map_err(map_error("replaced"))?;
        let earliest = |of: fn(&Replaced) -> u64, since: u64| {
            values.iter().map(of).filter(|at| *at >= since.max(1)).min().unwrap_or_default()
        };
        Ok(Replaced {
            packets: values.iter().map(|cpu| cpu.packets).sum(),
            sent_ns: earliest(|cpu| cpu.sent_ns, self.steering.load(SENT_SINCE)),
            received_ns: earliest(|cpu| cpu.received_ns, self.steering.load(RECEIVED_SINCE)),
        })
    }

    /// The first packets after this time that leave in place of members are stamped: [`Group::replaced`].
    pub fn stamp_sent(&self, since: Time) {
        self.steering.store(SENT_SINCE, nanoseconds(since));
    }

    /// The first packets after this time that are received in place of members are stamped; `None`: none is.
    pub fn stamp_received(&self, since: Option<Time>) {
        self.steering.store(RECEIVED_SINCE, since.map_or(0, nanoseconds));
    }

    /// Replies to probes that a member received, by result, summed over all CPUs.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn reply_counters(&self, number: u8) -> Result<ReplyCounters, Error> {
        let values = self.reply_counters.get(&u32::from(number), 0).map_err(map_error("reply_counters"))?;
        Ok(values.iter().fold(ReplyCounters::default(), |sum, cpu| ReplyCounters {
            delivered: sum.delivered + cpu.delivered,
            unknown_id: sum.unknown_id + cpu.unknown_id,
            flood: sum.flood + cpu.flood,
            lost: sum.lost + cpu.lost,
        }))
    }

    /// Frames that a member dropped by XDP, by reason, summed over all CPUs.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn early_drops(&self, number: u8) -> Result<EarlyDrops, Error> {
        let values = self.early_drops.get(&u32::from(number), 0).map_err(map_error("early_drops"))?;
        Ok(values.iter().fold(EarlyDrops::default(), |sum, cpu| EarlyDrops {
            reflected: sum.reflected + cpu.reflected,
            other_copy: sum.other_copy + cpu.other_copy,
            flooded: sum.flooded + cpu.flooded,
            passed: sum.passed + cpu.passed,
        }))
    }

    /// Drops by reason, and copies for captures, summed over all CPUs.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn drops(&self) -> Result<Drops, Error> {
        let values = self.drops.get(&0, 0).map_err(map_error("drops"))?;
        Ok(values.iter().fold(Drops::default(), |sum, cpu| Drops {
            no_member: sum.no_member + cpu.no_member,
            foreign_source: sum.foreign_source + cpu.foreign_source,
            truncated: sum.truncated + cpu.truncated,
            reflected: sum.reflected + cpu.reflected,
            other_copy: sum.other_copy + cpu.other_copy,
            captured: sum.captured + cpu.captured,
        }))
    }
}
