//! Programs that are loaded before they are attached, by another thread.
//!
//! The verifier takes tens of milliseconds for a program, in which the daemon must react to failures in other groups. What is to be loaded
//! is described by plain data ([`Preparation`]); a thread loads it, and the datapath keeps the result until the program is attached.

use std::path::PathBuf;

use aya::{Ebpf, EbpfLoader};

use super::{
    Error,
    btf::Kernel,
    error::one_line,
    objects::{self, Constants},
};
use crate::priority::at_normal_priority;

/// A program of a group, and all that its object is loaded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparation {
    pub(super) kernel: Kernel,
    pub(super) constants: Constants,
    /// Names and pins of the maps of the group, and of those that all groups share.
    pub(super) maps: Vec<(&'static str, PathBuf)>,
    /// Whether the programs that log are loaded.
    pub(super) log: bool,
    /// The program; `None`: only the maps are created.
    pub(super) program: Option<&'static str>,
}

/// A loaded program.
pub struct Prepared {
    preparation: Preparation,
    object: Ebpf,
}

impl Preparation {
    /// Loads the program. Maps that are not pinned are created and pinned.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn load(self) -> Result<Prepared, Error> {
        let mut loader = EbpfLoader::new();
        self.constants.set_in(&mut loader);
        for (map, pin) in &self.maps {
            loader.map_pin_path(map, pin);
        }
        let mut object = loader
            .load(&self.kernel.adapt(if self.log { objects::DATAPATH_LOG } else { objects::DATAPATH }))
            .map_err(|error| Error::Load { program: "datapath", reason: one_line(&error) })?;
        match self.program {
            Some(program @ objects::EARLY_DROP) => drop(objects::load_xdp(&mut object, program)?),
            Some(program) => drop(objects::load(&mut object, program)?),
            None => {}
        }
        Ok(Prepared { preparation: self, object })
    }
}

/// The programs that wait until they are attached.
#[derive(Default)]
pub(super) struct Waiting(Vec<Prepared>);

impl Waiting {
    /// Keeps a program.
    pub fn keep(&mut self, prepared: Prepared) {
        self.0.push(prepared);
    }

    /// Discards all programs.
    pub fn discard(&mut self) {
        self.0.clear();
    }

    /// The object of this program: the one that waits, or it is loaded now.
    pub fn take(&mut self, preparation: Preparation) -> Result<Ebpf, Error> {
        match self.0.iter().position(|waiting| waiting.preparation == preparation) {
            Some(place) => Ok(self.0.swap_remove(place).object),
            None => at_normal_priority(|| preparation.load()).map(|prepared| prepared.object),
        }
    }
}
