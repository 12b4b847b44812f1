//! Programs that are loaded before they are attached, by another thread.
//!
//! The verifier takes tens of milliseconds for a program, in which the daemon must react to failures in other groups. What is to be loaded
//! is described by plain data ([`Preparation`]); a thread loads it, and the datapath keeps the result until the program is attached.

use std::{
    fmt, fs,
    hash::{DefaultHasher, Hash, Hasher as _},
    path::PathBuf,
    sync::OnceLock,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::MapInfo,
    programs::{ProgramError, ProgramInfo},
};

use super::{
    Error,
    btf::Kernel,
    error::one_line,
    objects::{self, Constants},
    pins,
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
    /// Directory of the group's pins.
    pub(super) directory: PathBuf,
}

/// A loaded program.
pub struct Prepared {
    preparation: Preparation,
    object: Ebpf,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Prepared").field(&self.preparation).finish()
    }
}

/// Directory of the pins of programs, among the pins of a group.
const PROGRAMS: &str = "programs";
/// Directory of marks, beside the pins of a group: `PIN-ID-FINGERPRINT` for the program that is pinned as PIN.
const MARKS: &str = "loaded";

impl Preparation {
    /// The same for a program of one member.
    pub(super) fn of_member(mut self, number: u8) -> Self {
        self.constants = self.constants.word("MEMBER", u32::from(number));
        self
    }

    /// Identifier of the program with this pin, if it was loaded from the same object, with the same constants and on the same maps: the
    /// verifier, which takes tens of milliseconds or more, would accept it again.
    pub(super) fn loaded_as(&self, pin: &str) -> Option<u32> {
        let id = ProgramInfo::from_pin(self.program_pin(pin)).ok()?.id();
        self.mark(pin, id)?.exists().then_some(id)
    }

    /// The pin of such a program: its name, or that with the number of any member, since all share one ingress program.
    fn loaded(&self) -> Option<String> {
        let program = self.program?;
        let pins = fs::read_dir(self.directory.join(PROGRAMS)).ok()?.flatten();
        let mut pins = pins.filter_map(|entry| entry.file_name().into_string().ok());
        pins.find(|pin| {
            let is_of_member = pin.strip_prefix(program).is_some_and(|rest| rest.starts_with('-'));
            (pin == program || is_of_member) && self.loaded_as(pin).is_some()
        })
    }

    /// Whether such a program is pinned.
    pub(super) fn is_pinned(&self) -> bool {
        self.loaded().is_some()
    }

    /// Such a program.
    pub(super) fn pinned<T>(&self, open: impl FnOnce(PathBuf) -> Result<T, ProgramError>) -> Option<T> {
        open(self.program_pin(&self.loaded()?)).ok()
    }

    fn program_pin(&self, pin: &str) -> PathBuf {
        self.directory.join(PROGRAMS).join(pin)
    }

    /// Whether its maps are pinned: loading it creates none.
    pub fn has_maps(&self) -> bool {
        self.maps.iter().all(|(_, pin)| pin.exists())
    }

    /// Removes the mark of the program with this pin, before it is replaced.
    pub(super) fn unmark(&self, pin: &str) {
        for entry in fs::read_dir(self.directory.join(MARKS)).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("{pin}-")) {
                // A mark that stays names a program that is no longer pinned.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// Records what the program with this pin and identifier was loaded from.
    pub(super) fn set_mark(&self, pin: &str, id: u32) -> Result<(), Error> {
        self.mark(pin, id).map_or(Ok(()), |mark| pins::make_directory(&mark))
    }

    /// `None`: a map is not pinned, or programs log, which only the daemon can read that has loaded them.
    fn mark(&self, pin: &str, id: u32) -> Option<PathBuf> {
        if self.log {
            return None;
        }
        static OBJECT: OnceLock<u64> = OnceLock::new();
        let object = *OBJECT.get_or_init(|| hash(&objects::DATAPATH));
        let map = |(name, pin): &(&'static str, PathBuf)| Some((*name, MapInfo::from_pin(pin).ok()?.id()));
        let maps: Vec<_> = self.maps.iter().map(map).collect::<Option<_>>()?;
        let fingerprint =
            hash(&(object, format!("{:?} {:?} {maps:?}", self.kernel, self.constants), self.program));
        Some(self.directory.join(MARKS).join(format!("{pin}-{id}-{fingerprint:x}")))
    }

    /// Loads the program. Maps that are not pinned are created and pinned.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn load(&self) -> Result<Prepared, Error> {
        Loader::default().load(self)
    }
}

/// Loads programs one after another. A new one reads and parses the types of the running kernel: tens of milliseconds, and of megabytes.
#[derive(Default)]
pub struct Loader<'a>(EbpfLoader<'a>);

impl<'a> Loader<'a> {
    /// As [`Preparation::load`].
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn load(&mut self, preparation: &'a Preparation) -> Result<Prepared, Error> {
        let Preparation { kernel, constants, maps, log, program, .. } = preparation;
        // All have the same ones, so that none of the program before is left.
        constants.set_in(&mut self.0);
        for (map, pin) in maps {
            self.0.map_pin_path(map, pin);
        }
        let mut object = self
            .0
            .load(&kernel.adapt(if *log { objects::DATAPATH_LOG } else { objects::DATAPATH }))
            .map_err(|error| Error::Load { program: "datapath", reason: one_line(&error) })?;
        match *program {
            Some(program @ objects::EARLY_DROP) => drop(objects::load_xdp(&mut object, program)?),
            Some(program) => drop(objects::load(&mut object, program)?),
            None => {}
        }
        Ok(Prepared { preparation: preparation.clone(), object })
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The programs that wait until they are attached, and those that are to be loaded for that.
#[derive(Default)]
pub(super) struct Waiting {
    loaded: Vec<Prepared>,
    /// To be loaded by a thread.
    wanted: Vec<Preparation>,
    /// A thread loads these.
    loading: Vec<Preparation>,
    /// A thread could not load these: to attach them loads them once more, and returns the error.
    failed: Vec<Preparation>,
}

impl Waiting {
    /// Those of these programs that must be loaded before they are attached.
    pub fn missing(&self, programs: Vec<Preparation>) -> Vec<Preparation> {
        let is_waiting = |one: &Preparation| self.loaded.iter().any(|waiting| waiting.preparation == *one);
        programs.into_iter().filter(|one| !is_waiting(one) && !one.is_pinned()).collect()
    }

    /// Keeps a program.
    pub fn keep(&mut self, prepared: Prepared) {
        self.loaded.push(prepared);
    }

    /// Discards all programs.
    pub fn discard(&mut self) {
        self.loaded.clear();
    }

    /// Whether a program can be attached without delay; else it is to be loaded.
    pub fn is_ready(&mut self, preparation: Preparation) -> bool {
        let is_loaded = self.loaded.iter().any(|waiting| waiting.preparation == preparation);
        if is_loaded || self.failed.contains(&preparation) {
            return true;
        }
        if !self.wanted.contains(&preparation) && !self.loading.contains(&preparation) {
            self.wanted.push(preparation);
        }
        false
    }

    /// What is to be loaded. Each is returned once, and then [`Self::finish`] is called with its result.
    pub fn take_wanted(&mut self) -> Vec<Preparation> {
        if !self.wanted.is_empty() && self.loading.is_empty() {
            // What was not attached by now is not needed any more.
            self.loaded.clear();
        }
        self.loading.extend(self.wanted.iter().cloned());
        std::mem::take(&mut self.wanted)
    }

    /// A program is loaded, or could not be. Whether it was the last one.
    pub fn finish(&mut self, preparation: Preparation, program: Option<Prepared>) -> bool {
        self.loading.retain(|loading| *loading != preparation);
        match program {
            Some(program) => self.loaded.push(program),
            None => self.failed.push(preparation),
        }
        self.loading.is_empty()
    }

    /// The object of this program: the one that waits, or it is loaded now.
    pub fn take(&mut self, preparation: Preparation) -> Result<Ebpf, Error> {
        self.failed.retain(|failed| *failed != preparation);
        match self.loaded.iter().position(|waiting| waiting.preparation == preparation) {
            Some(place) => Ok(self.loaded.swap_remove(place).object),
            None => at_normal_priority(|| preparation.load()).map(|prepared| prepared.object),
        }
    }
}
