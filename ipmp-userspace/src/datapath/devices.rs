//! The addresses of devices in the kernel, which programs read carriers from.

use std::collections::BTreeSet;

use aya::{
    Ebpf, EbpfLoader, TestRun,
    maps::Array,
    programs::{SchedClassifier, TestRunOptions},
};
use ipmp_common::maps::{Device, MAX_NAMESPACES, link_state};
use rtnetlink::packet_route::link::LinkFlags;

use super::{
    Error,
    btf::Kernel,
    error::{map_error, one_line},
    objects::{self, Constants},
};
use crate::link::Ioctl;

/// The program that finds a device.
const FIND: &str = "find_device";
/// The program that lists network namespaces.
const LIST: &str = "list_namespaces";
/// A program that loads only where the kernel lets programs read its memory: not with `lockdown=confidentiality`.
const PROBE: &str = "read_kernel_memory";
/// Offset of `ifindex` in `struct __sk_buff`.
const CONTEXT_IFINDEX: usize = 40;

/// Finds devices by index. Where programs may not read kernel memory, a device has no address: only its index is known.
pub struct DeviceFinder {
    object: Ebpf,
    reads_kernel_memory: bool,
}

impl DeviceFinder {
    /// Probes whether programs may read kernel memory, and loads the program that finds devices if so.
    ///
    /// # Errors
    /// [`Error::Load`].
    pub fn load(kernel: &Kernel) -> Result<Self, Error> {
        let constants = Constants::of(kernel);
        let mut loader = EbpfLoader::new();
        constants.set_in(&mut loader);
        let mut object = loader
            .load(&kernel.adapt(objects::DEVICE))
            .map_err(|error| Error::Load { program: FIND, reason: one_line(&error) })?;
        let reads_kernel_memory = objects::load(&mut object, PROBE).is_ok();
        if reads_kernel_memory {
            objects::load(&mut object, FIND)?;
        }
        Ok(Self { object, reads_kernel_memory })
    }

    /// Whether programs may read kernel memory.
    pub fn reads_kernel_memory(&self) -> bool {
        self.reads_kernel_memory
    }

    /// Finds the device with this index in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Vanished`] if there is none.
    pub fn find(&mut self, name: &str, ifindex: u32) -> Result<Device, Error> {
        let vanished = || Error::Vanished { name: name.to_owned(), ifindex };
        if !self.reads_kernel_memory {
            let name = Ioctl::open().ok().and_then(|ioctl| ioctl.name(ifindex));
            return name.map(|_| Device { ifindex, ..Device::default() }).ok_or_else(vanished);
        }
        let mut context = [0u8; CONTEXT_IFINDEX + 4];
        context[CONTEXT_IFINDEX..].copy_from_slice(&ifindex.to_ne_bytes());
        let packet = [0u8; 64];
        let program: &mut SchedClassifier = objects::program(&mut self.object, FIND)?;
        let result = program
            .test_run(TestRunOptions { data_in: Some(&packet), ctx_in: Some(&context), ..Default::default() })
            .map_err(|_| vanished())?;
        let found = self.object.map("found").expect("the object has this map");
        let found = Array::<_, Device>::try_from(found).map_err(map_error("found"))?;
        let device = found.get(&0, 0).map_err(map_error("found"))?;
        if result.return_value == 1 && device.ifindex == ifindex { Ok(device) } else { Err(vanished()) }
    }

    /// Address of the calling thread's network namespace in the kernel.
    ///
    /// # Errors
    /// [`Error::Vanished`].
    pub fn namespace(&mut self) -> Result<u64, Error> {
        // The loopback has the same index in every namespace: `LOOPBACK_IFINDEX` of `include/net/flow.h`.
        Ok(self.find("lo", 1)?.netns)
    }

    /// Cookies of all network namespaces of the host, with or without a process in them; `None` if programs may not read kernel
    /// memory, or there are [`MAX_NAMESPACES`] or more.
    ///
    /// # Errors
    /// [`Error::Load`] or [`Error::Map`].
    pub fn namespaces(&mut self) -> Result<Option<BTreeSet<u64>>, Error> {
        if !self.reads_kernel_memory {
            return Ok(None);
        }
        let packet = [0u8; 64];
        let result = objects::load(&mut self.object, LIST)?
            .test_run(TestRunOptions { data_in: Some(&packet), ..Default::default() })
            .map_err(|error| Error::Load { program: LIST, reason: one_line(&error) })?;
        let cookies = self.object.map("namespaces").expect("the object has this map");
        let cookies =
            Array::<_, [u64; MAX_NAMESPACES]>::try_from(cookies).map_err(map_error("namespaces"))?;
        let cookies = cookies.get(&0, 0).map_err(map_error("namespaces"))?;
        let found: BTreeSet<u64> = cookies.into_iter().take(result.return_value as usize).collect();
        // The list was read as expected if the own namespace is in it.
        let is_complete = found.contains(&super::pins::netns_cookie()?);
        Ok(is_complete.then_some(found))
    }

    /// Whether the device with this index is administratively up. It takes no `rtnl` lock, which a program that deletes the
    /// device may hold.
    ///
    /// # Errors
    /// [`Error::Vanished`] if there is none.
    pub fn is_up(&mut self, name: &str, ifindex: u32) -> Result<bool, Error> {
        self.find(name, ifindex)?;
        if !self.reads_kernel_memory {
            return has_flag_up(ifindex).ok_or_else(|| Error::Vanished { name: name.to_owned(), ifindex });
        }
        let state = self.object.map("found_state").expect("the object has this map");
        let state = Array::<_, u64>::try_from(state).map_err(map_error("found_state"))?;
        let state = state.get(&0, 0).map_err(map_error("found_state"))?;
        Ok(state & link_state::START != 0)
    }
}

/// Whether the device has IFF_UP, without the `rtnl` lock; `None` if it was deleted.
fn has_flag_up(ifindex: u32) -> Option<bool> {
    let ioctl = Ioctl::open().ok()?;
    Some(ioctl.flags(&ioctl.name(ifindex)?)?.contains(LinkFlags::Up))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_up_is_read_by_index() {
        // The tests of the datapath have a namespace of their own; index 1 is its loopback, and there is none that high.
        assert!(has_flag_up(1).is_some());
        assert_eq!(has_flag_up(0x7fff_fff0), None);
    }
}
