//! What the datapath has counted, over all processors.

use ipmp_common::maps::{Answering, Counters, Drops};

use super::{super::Error, Group, map_error};

impl Group {
    /// Traffic of a member, over all processors.
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
            stepped_in: sum.stepped_in + cpu.stepped_in,
        }))
    }

    /// What has become of the answers to probes that a member received, over all processors.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn answering(&self, number: u8) -> Result<Answering, Error> {
        let values = self.answering.get(&u32::from(number), 0).map_err(map_error("answering"))?;
        Ok(values.iter().fold(Answering::default(), |sum, cpu| Answering {
            handed: sum.handed + cpu.handed,
            strange: sum.strange + cpu.strange,
            flood: sum.flood + cpu.flood,
            lost: sum.lost + cpu.lost,
        }))
    }

    /// Drops by reason, and copies, over all processors.
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
