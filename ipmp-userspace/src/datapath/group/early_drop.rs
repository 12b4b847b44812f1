//! The early drop of a member: an XDP program, attached by a pinned link in the mode of the driver (docs/xdp.md).

use std::path::PathBuf;

use aya::programs::{
    Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};

use ipmp_common::steer::MAX_MEMBERS;

use super::{
    super::{
        Error,
        error::{one_line, pin_error},
        objects::{self, EARLY_DROP},
        pins,
        preparation::Preparation,
    },
    Group, GroupSpec,
    programs::{early_drop_pin, preparation},
};

impl Group {
    /// The early drop of a member, to be loaded before [`Group::start_early_drop`].
    pub fn prepare_early_drop(&self, number: u8) -> Preparation {
        self.early_drop_of(&self.spec, number)
    }

    fn early_drop_of(&self, spec: &GroupSpec, number: u8) -> Preparation {
        preparation(&self.host.borrow(), spec, &self.directory, self.index, Some(EARLY_DROP))
            .of_member(number)
    }

    /// Whether [`Group::start_early_drop`] loads nothing; else the program is to be loaded before.
    pub fn is_early_drop_ready(&self, number: u8) -> bool {
        let preparation = self.prepare_early_drop(number);
        preparation.is_pinned() || self.host.borrow().waiting.borrow_mut().is_ready(preparation)
    }

    /// The same for all that are attached, in a group as described.
    pub(super) fn are_early_drops_ready(&self, spec: &GroupSpec) -> bool {
        let mut are_ready = true;
        for &number in self.early.keys() {
            let preparation = self.early_drop_of(spec, number);
            are_ready &= self.host.borrow().waiting.borrow_mut().is_ready(preparation);
        }
        are_ready
    }

    /// Whether the member has an early drop, of this daemon or of an earlier one.
    pub fn has_early_drop(&self, number: u8) -> bool {
        self.early.contains_key(&number) || self.inherited_early.contains(&number)
    }

    /// The members with an early drop of an earlier daemon. Read once: they are compared with the settings each second.
    pub(super) fn find_inherited_early_drops(&mut self) {
        self.inherited_early =
            (0..MAX_MEMBERS as u8).filter(|number| self.early_link(*number).exists()).collect();
    }

    /// Whether this daemon has attached the early drop of the member.
    pub fn is_early_drop_current(&self, number: u8) -> bool {
        self.early.contains_key(&number)
    }

    fn early_link(&self, number: u8) -> PathBuf {
        self.directory.join("links").join(early_drop_pin(number))
    }

    fn early_program(&self, number: u8) -> PathBuf {
        self.directory.join("programs").join(early_drop_pin(number))
    }

    /// Whether this kernel can run the early drop of a member with this name. To be called before it is loaded: the verifier would reject it
    /// without the reason.
    ///
    /// # Errors
    /// [`Error::Attach`].
    pub fn check_early_drop(&self, name: &str) -> Result<(), Error> {
        let host = self.host.borrow();
        let reason = if !host.finder.reads_kernel_memory() {
            "kernel lockdown forbids programs to read whether the device is captured"
        } else if let offsets = host.kernel.offsets
            && [offsets.ptype_all, offsets.promiscuity, offsets.upper, offsets.dev_addr].contains(&0)
        {
            "this kernel does not show whether the device is captured"
        } else {
            return Ok(());
        };
        Err(Error::Attach { program: EARLY_DROP, interface: name.to_owned(), reason: reason.to_owned() })
    }

    /// Attaches the early drop of a member, or replaces the attached one, which does not interrupt the link. To attach the first one can:
    /// many drivers reset their queues then.
    ///
    /// # Errors
    /// [`Error::Vanished`], [`Error::Load`], [`Error::Attach`] or [`Error::Pin`]; nothing is attached then.
    pub fn start_early_drop(&mut self, number: u8, name: &str, ifindex: u32) -> Result<(), Error> {
        let error =
            |reason: String| Error::Attach { program: EARLY_DROP, interface: name.to_owned(), reason };
        self.check_early_drop(name)?;
        let device = self.host.borrow_mut().finder.find(name, ifindex)?;
        let preparation = self.prepare_early_drop(number);
        let (mut pinned, mut object);
        let program = if let Some(shared) =
            preparation.pinned(|pin| Xdp::from_pin(pin, aya_obj::programs::XdpAttachType::Interface))
        {
            pinned = shared;
            &mut pinned
        } else {
            object = self.host.borrow().waiting.borrow_mut().take(preparation.clone())?;
            objects::load_xdp(&mut object, EARLY_DROP)?
        };
        let name_of_pins = early_drop_pin(number);
        preparation.unmark(&name_of_pins);
        let pin = self.early_link(number);
        let same_device = self.mark_device(&name_of_pins, device)?;
        let attached = PinnedLink::from_pin(&pin).map(FdLink::from).and_then(XdpLink::try_from);
        if let Some(link) = attached.ok().filter(|_| same_device)
            && let Ok(id) = program.attach_to_link(link)
        {
            // The pin holds the link: the descriptor is not needed.
            drop(program.take_link(id));
        } else {
            pins::remove(&pin)?;
            self.inherited_early.remove(&number);
            let id =
                program.attach_to_if_index(ifindex, XdpMode::Driver).map_err(|cause| error(why(&cause)))?;
            let link = program.take_link(id).map_err(|cause| error(one_line(&cause)))?;
            let link = FdLink::try_from(link).map_err(|cause| error(one_line(&cause)))?;
            link.pin(&pin).map(drop).map_err(pin_error(pin))?;
        }
        let pin = self.early_program(number);
        pins::remove(&pin)?;
        program.pin(&pin).map_err(pin_error(pin))?;
        preparation.set_mark(&name_of_pins, program.info().map(|info| info.id()).unwrap_or_default())?;
        self.inherited_early.remove(&number);
        self.early.insert(number, (name.to_owned(), ifindex));
        Ok(())
    }

    /// Detaches the early drop of a member, if it has one.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn stop_early_drop(&mut self, number: u8) -> Result<(), Error> {
        self.early.remove(&number);
        // The kernel detaches a link without pin and descriptor.
        pins::remove(&self.early_link(number))?;
        self.inherited_early.remove(&number);
        pins::remove(&self.early_program(number))?;
        self.prepare_early_drop(number).unmark(&early_drop_pin(number));
        self.unmark_device(&early_drop_pin(number))
    }

    /// Replaces the early drops, after a constant of theirs has changed.
    pub(super) fn reload_early_drops(&mut self) -> Result<(), Error> {
        for (number, (name, ifindex)) in self.early.clone() {
            self.start_early_drop(number, &name, ifindex)?;
        }
        Ok(())
    }
}

/// Why the program cannot be attached.
fn why(error: &aya::programs::ProgramError) -> String {
    let aya::programs::ProgramError::SyscallError(system) = error else { return one_line(error) };
    match system.io_error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "its driver has no XDP".to_owned(),
        Some(libc::EBUSY | libc::EEXIST) => "it has an XDP program of another program".to_owned(),
        _ => system.io_error.to_string(),
    }
}
