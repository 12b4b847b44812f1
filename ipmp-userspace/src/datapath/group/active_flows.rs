//! The table of the flows that egress sees while members are in transition. It is larger than all other maps of a group together, so it exists
//! only then: as the one element of the map `active_flows`, which is empty otherwise.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
};

use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use ipmp_common::transition::ACTIVE_FLOWS;

use crate::datapath::{
    Error,
    error::{map_error, one_line},
    mapped::Mapped,
    pins,
    syscall::bpf,
};

/// Name of the map.
pub(super) const MAP: &str = "active_flows";
/// Name of the pin of the table. To open it by its identifier, which is in the map, needs CAP_SYS_ADMIN, which the daemon does not keep.
pub(in crate::datapath) const TABLE: &str = "active_flows_table";

/// A flag and a command of `linux/bpf.h`.
const BPF_F_MMAPABLE: u32 = 1 << 10;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;

type Table = Array<MapData, u64>;

/// The flows of a group, by the directory of its maps.
pub(super) struct ActiveFlows(PathBuf);

impl ActiveFlows {
    pub(super) fn of(maps: &Path) -> Self {
        Self(maps.to_owned())
    }

    /// From now on egress writes the flows that it sees. An earlier daemon may have left the table.
    pub(super) fn begin(&self) -> Result<(), Error> {
        if !self.exists()? {
            self.create()?;
        }
        let table: Table = pins::typed(&self.0, TABLE, Map::Array)?;
        let mut map: ArrayOfMaps<MapData, Table> = pins::typed(&self.0, MAP, Map::ArrayOfMaps)?;
        map.set(0, &table, 0).map_err(map_error(MAP))
    }

    fn create(&self) -> Result<(), Error> {
        let path = self.0.join(TABLE);
        let table = Table::create(ACTIVE_FLOWS as u32, BPF_F_MMAPABLE).map_err(map_error(TABLE))?;
        table.pin(&path).map_err(|error| Error::Pin { path, source: io::Error::other(one_line(&error)) })
    }

    /// Releases the table, if there is one.
    pub(super) fn end(&self) -> Result<(), Error> {
        /// `struct { … }` of `BPF_MAP_*_ELEM` in `union bpf_attr`.
        #[repr(C)]
        struct Element {
            map: u32,
            pad: u32,
            key: u64,
        }
        if !self.exists()? {
            return Ok(());
        }
        let (map, key) = (pins::open_map(&self.0, MAP)?, 0u32);
        let descriptor = map.fd().as_fd().as_raw_fd().cast_unsigned();
        let mut element = Element { map: descriptor, pad: 0, key: (&raw const key) as u64 };
        // SAFETY: the key outlives the call.
        match unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut element) } {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Map { map: MAP, source }),
            _ => pins::remove(&self.0.join(TABLE)),
        }
    }

    /// The words of the table; `None`: there is none.
    pub(super) fn words(&self) -> Result<Option<Mapped>, Error> {
        match self.exists()? {
            true => Mapped::new(TABLE, &pins::open_map(&self.0, TABLE)?, ACTIVE_FLOWS).map(Some),
            false => Ok(None),
        }
    }

    fn exists(&self) -> Result<bool, Error> {
        let path = self.0.join(TABLE);
        path.try_exists().map_err(|source| Error::Pin { path, source })
    }
}
