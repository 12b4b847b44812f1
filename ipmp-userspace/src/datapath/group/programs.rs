//! The programs of a group: loading, attaching, replacing and detaching them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use aya::programs::SchedClassifier;
use aya_log::EbpfLogger;
use ipmp_common::{
    hash::HashPolicy,
    maps::{Device, GROUP_ITSELF, MacKey},
    steer::MAX_MEMBERS,
};

use super::{
    super::{
        Error, Host,
        attach::{Hook, Place},
        error::{map_error, one_line},
        objects::{self, Constants, EARLY_DROP},
        order::Order,
        pins,
        preparation::Preparation,
        sentinel::SHARED,
    },
    Group, GroupSpec, SHAPES, SINK, ignore_missing,
};

/// An attached program.
pub(super) struct Installed {
    place: Place,
    /// Its identifier in the kernel.
    id: u32,
}

/// Where a program of a group is among those at its hook.
#[derive(Clone, Debug)]
pub struct ProgramOrder {
    /// Name of its pins.
    pub pin: String,
    /// Name of the program.
    pub program: &'static str,
    /// The member whose ingress it is.
    pub member: Option<u8>,
    /// The interface that it is attached to.
    pub interface: String,
    /// Its place.
    pub order: Order,
}

/// Name of the pins of the early drop of a member.
pub(super) fn early_drop_pin(number: u8) -> String {
    format!("{EARLY_DROP}-{number}")
}

/// The member to which a pin belongs.
fn member_of(pin: &str) -> Option<u8> {
    pin.strip_prefix("ingress-")?.parse().ok()
}

impl Group {
    /// Attaches a program to a device, in place of the one that was there. Where that is the same, it stays.
    pub(super) fn attach_program(
        &mut self,
        place: &Place,
        device: Device,
        preparation: Preparation,
    ) -> Result<(), Error> {
        let kind = self.host.borrow().kind;
        if let Some(id) = preparation.loaded_as(&place.pin)
            && device_mark(&self.directory, &place.pin, device).exists()
            && place.is_attached(kind, id)
        {
            self.record_program(place, id);
            return Ok(());
        }
        if let Some(mut program) = preparation.pinned(SchedClassifier::from_pin) {
            preparation.unmark(&place.pin);
            let same_device = self.mark_device(&place.pin, device)?;
            match place.attach(&mut program, kind, same_device) {
                Ok(()) => return self.record_attached(place, &preparation, &program),
                // As when it is there already, by a link without a pin: the kernel attaches no program twice to a device.
                Err(error) => log::debug!("{error}; another one is loaded"),
            }
        }
        preparation.unmark(&place.pin);
        let mut object = self.host.borrow().waiting.borrow_mut().take(preparation.clone())?;
        let program = objects::load(&mut object, place.hook.program())?;
        let same_device = self.mark_device(&place.pin, device)?;
        place.attach(program, kind, same_device)?;
        self.finish_attach(place, &preparation, object)
    }

    /// Records what was attached.
    fn finish_attach(
        &mut self,
        place: &Place,
        preparation: &Preparation,
        mut object: aya::Ebpf,
    ) -> Result<(), Error> {
        self.record_attached(place, preparation, objects::load(&mut object, place.hook.program())?)?;
        self.open_logger(&place.pin, object);
        Ok(())
    }

    fn record_attached(
        &mut self,
        place: &Place,
        preparation: &Preparation,
        program: &SchedClassifier,
    ) -> Result<(), Error> {
        let id = program.info().map(|info| info.id()).unwrap_or_default();
        self.record_program(place, id);
        preparation.set_mark(&place.pin, id)
    }

    fn record_program(&mut self, place: &Place, id: u32) {
        self.installed.insert(place.pin.clone(), Installed { place: place.clone(), id });
    }

    /// Where each program of the group is among those at its hook. Programs whose device was deleted are left out.
    pub fn program_orders(&self) -> Vec<ProgramOrder> {
        let kind = self.host.borrow().kind;
        let order = |(pin, installed): (&String, &Installed)| {
            let place = &installed.place;
            let order = place.order(kind, installed.id).ok()?;
            // The name is only for messages: it is not read each second.
            let is_fine = order.is_attached && order.is_in_place && order.ahead.is_empty();
            Some(ProgramOrder {
                pin: pin.clone(),
                program: place.hook.program(),
                member: member_of(pin),
                interface: if is_fine { place.interface.clone() } else { place.name_now().ok()? },
                order,
            })
        };
        self.installed.iter().filter_map(order).collect()
    }

    /// Whether the pinned ingress program of a member runs on this device.
    pub fn runs_on(&self, number: u8, ifindex: u32) -> bool {
        let kind = self.host.borrow().kind;
        let place = self.ingress_place(number, "", ifindex);
        let id = place.program_id();
        id.is_some_and(|id| place.order(kind, id).is_ok_and(|order| order.is_attached))
    }

    /// Whether [`Group::put_back`] loads nothing; else the program is to be loaded before ([`super::super::Datapath::take_wanted`]).
    pub fn is_put_back_ready(&self, pin: &str) -> bool {
        self.installed.get(pin).is_none_or(|installed| self.is_ready(&self.spec, installed))
    }

    /// Whether [`Group::set_mac`] loads nothing; else its programs are to be loaded before.
    pub fn is_mac_ready(&self, mac: [u8; 6]) -> bool {
        let spec = GroupSpec { mac, ..self.spec.clone() };
        let mut are_ready = self.are_early_drops_ready(&spec);
        for (_, installed) in self.installed.iter().filter(|(pin, _)| *pin != SINK) {
            are_ready &= self.is_ready(&spec, installed);
        }
        are_ready
    }

    /// A program of the group.
    pub(super) fn preparation(&self, hook: Option<Hook>) -> Preparation {
        let program = hook.map(Hook::program);
        preparation(&self.host.borrow(), &self.spec, &self.directory, self.index, program)
    }

    fn is_ready(&self, spec: &GroupSpec, installed: &Installed) -> bool {
        let program = Some(installed.place.hook.program());
        let host = self.host.borrow();
        let preparation = preparation(&host, spec, &self.directory, self.index, program);
        host.waiting.borrow_mut().is_ready(preparation)
    }

    /// Attaches a program again, first or last as it must be.
    ///
    /// # Errors
    /// [`Error::Vanished`], [`Error::Load`], [`Error::Attach`] or [`Error::Pin`].
    pub fn put_back(&mut self, pin: &str) -> Result<(), Error> {
        self.reload(pin, true)
    }

    /// Replaces a program by one with the present constants; `in_place`: attaches it again, first or last.
    fn reload(&mut self, pin: &str, in_place: bool) -> Result<(), Error> {
        let Some(installed) = self.installed.get(pin) else { return Ok(()) };
        // A group that was renamed has its pins in another directory.
        let place = Place { directory: self.directory.clone(), ..installed.place.clone() };
        let kind = self.host.borrow().kind;
        let device = self.host.borrow_mut().finder.find(&place.interface, place.ifindex)?;
        let preparation = self.preparation(Some(place.hook));
        if !in_place {
            return self.attach_program(&place, device, preparation);
        }
        preparation.unmark(pin);
        // Not the attached one: it stays until the new one runs, and the kernel attaches no program twice to a device.
        let mut object = self.host.borrow().waiting.borrow_mut().take(preparation.clone())?;
        let program = objects::load(&mut object, place.hook.program())?;
        self.mark_device(pin, device)?;
        place.attach_in_place(program, kind)?;
        self.finish_attach(&place, &preparation, object)
    }

    /// The MAC of the group interface has changed.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Vanished`], [`Error::Load`], [`Error::Attach`] or [`Error::Pin`]; to be tried again.
    pub fn set_mac(&mut self, mac: [u8; 6]) -> Result<(), Error> {
        self.spec.mac = mac;
        self.record_own_mac()?;
        for pin in self.installed.keys().filter(|pin| *pin != SINK).cloned().collect::<Vec<_>>() {
            self.reload(&pin, false)?;
        }
        self.reload_early_drops()
    }

    /// Writes the MAC of the group interface to the map, in place of an earlier one.
    pub(super) fn record_own_mac(&mut self) -> Result<(), Error> {
        let mac = MacKey::new(self.spec.mac);
        let own: Vec<(MacKey, u32)> = self.own_macs.iter().flatten().collect();
        // Removed first: the map has no room for two.
        for (earlier, _) in own.iter().filter(|(key, owner)| *owner == GROUP_ITSELF && *key != mac) {
            ignore_missing(self.own_macs.remove(earlier), "own_macs")?;
        }
        self.own_macs.insert(mac, GROUP_ITSELF, 0).map_err(map_error("own_macs"))
    }

    pub(super) fn place(&self, hook: Hook, pin: String) -> Place {
        let (interface, ifindex) = (self.spec.name.clone(), self.spec.ifindex);
        Place { interface, ifindex, hook, directory: self.directory.clone(), pin }
    }

    pub(super) fn egress_place(&self) -> Place {
        self.place(Hook::Egress, "egress".to_owned())
    }

    pub(super) fn ingress_place(&self, number: u8, name: &str, ifindex: u32) -> Place {
        let pin = format!("ingress-{number}");
        Place { interface: name.to_owned(), ifindex, ..self.place(Hook::Ingress, pin) }
    }

    /// Records, in the name of a directory among the pins, which device a link belongs to. Returns whether it was this one before.
    /// An index is never reused in one namespace, and the address distinguishes namespaces.
    pub(super) fn mark_device(&self, pin: &str, device: Device) -> Result<bool, Error> {
        let marks = self.directory.join("devices");
        pins::make_directory(&marks)?;
        let mark = device_mark(&self.directory, pin, device);
        let mut known = false;
        for entry in std::fs::read_dir(&marks).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path() == mark {
                known = true;
            } else if name.starts_with(&format!("{pin}-")) && !known {
                let _ = std::fs::remove_dir(entry.path());
            }
        }
        pins::make_directory(&mark)?;
        Ok(known)
    }

    pub(super) fn unmark_device(&self, pin: &str) -> Result<(), Error> {
        let marks = self.directory.join("devices");
        let remove = || -> std::io::Result<()> {
            for entry in std::fs::read_dir(&marks)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(&format!("{pin}-")) {
                    std::fs::remove_dir(entry.path())?;
                }
            }
            Ok(())
        };
        match remove() {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Pin { path: marks.clone(), source })
            }
            _ => Ok(()),
        }
    }

    fn open_logger(&mut self, pin: &str, mut object: aya::Ebpf) {
        if self.host.borrow().log {
            match EbpfLogger::init(&mut object) {
                Ok(logger) => drop(self.loggers.insert(pin.to_owned(), logger)),
                Err(error) => {
                    log::warn!("cannot read the log of the datapath programs: {}", one_line(&error))
                }
            }
        }
    }

    /// Logs what the programs have logged, with `ipmpd --datapath-log`.
    pub fn flush_log(&mut self) {
        for logger in self.loggers.values_mut() {
            logger.flush();
        }
    }
}

/// The mark of the device that a pin belongs to.
fn device_mark(directory: &Path, pin: &str, device: Device) -> PathBuf {
    directory.join("devices").join(format!("{pin}-{}-{:x}", device.ifindex, device.net_device))
}

/// Detaches the programs of a group and removes its pins, without opening it.
pub(in crate::datapath) fn remove_pinned(directory: &Path) -> Result<(), Error> {
    let place = |pin: &str, hook| Place {
        interface: pin.to_owned(),
        ifindex: marked_device(directory, pin).unwrap_or(0),
        hook,
        directory: directory.to_owned(),
        pin: pin.to_owned(),
    };
    place("egress", Hook::Egress).detach()?;
    place(SINK, Hook::FarEnd).detach()?;
    for number in 0..MAX_MEMBERS {
        place(&format!("ingress-{number}"), Hook::Ingress).detach()?;
    }
    pins::remove_all(directory)
}

/// Index of the device that a pin belongs to.
pub(super) fn marked_device(directory: &Path, pin: &str) -> Option<u32> {
    std::fs::read_dir(directory.join("devices")).into_iter().flatten().flatten().find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.strip_prefix(&format!("{pin}-"))?.split('-').next()?.parse().ok()
    })
}

/// Creates and pins the maps of a group, without attaching a program.
pub(in crate::datapath) fn create_maps(host: &Host, directory: &Path, index: u32) -> Result<(), Error> {
    pins::make_directory(&directory.join("maps"))?;
    let spec = GroupSpec {
        name: String::new(),
        ifindex: 0,
        mac: [0; 6],
        policy: HashPolicy::Connection,
        updelay: Duration::ZERO,
    };
    let preparation = preparation(host, &spec, directory, index, None);
    host.waiting.borrow_mut().take(preparation).map(drop)
}

/// The datapath object with the constants of the group, and the program of this name in it.
pub(super) fn preparation(
    host: &Host,
    spec: &GroupSpec,
    directory: &Path,
    index: u32,
    program: Option<&'static str>,
) -> Preparation {
    let [a, b, c, d, e, f] = spec.mac;
    let is_egress = program == Some(Hook::Egress.program());
    let constants = Constants::of(&host.kernel)
        .word("GROUP", index)
        .word("GROUP_IFINDEX", spec.ifindex)
        .long("GROUP_MAC", u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
        // Others stay as they are when it changes.
        .word("POLICY", if is_egress { spec.policy as u32 } else { 0 })
        .word("READ_DEVICES", u32::from(host.finder.reads_kernel_memory()))
        .word("SENTINEL", u32::from(host.sentinel.refused().is_none()));
    let (maps, sentinel) = (directory.join("maps"), host.pins.sentinel());
    let own = SHAPES.iter().map(|shape| (shape.name, maps.join(shape.name)));
    let shared = SHARED.into_iter().map(|shared| (shared, sentinel.join(shared)));
    Preparation {
        kernel: host.kernel,
        constants,
        maps: own.chain(shared).collect(),
        log: host.log,
        program,
        directory: directory.to_owned(),
    }
}
