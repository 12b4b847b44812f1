//! Finding a device's address in the kernel.

use aya::{
    Ebpf, EbpfLoader, TestRun,
    maps::Array,
    programs::{SchedClassifier, TestRunOptions},
};
use ipmp_common::maps::{Device, link_state};

use super::{
    Error,
    btf::Kernel,
    error::{map_error, one_line},
    objects::{self, Constants},
};

/// The program that finds devices, loaded.
pub struct DeviceFinder {
    object: Ebpf,
}

const PROGRAM: &str = "find_device";
/// Offset of `ifindex` in `struct __sk_buff`.
const CONTEXT_IFINDEX: usize = 40;

impl DeviceFinder {
    /// Loads the program.
    ///
    /// # Errors
    /// [`Error::Load`], for example because the kernel is locked down.
    pub fn load(kernel: &Kernel) -> Result<Self, Error> {
        let constants = Constants::of(kernel);
        let mut loader = EbpfLoader::new();
        constants.hand_to(&mut loader);
        let mut object = loader
            .load(&kernel.adapt(objects::DEVICE))
            .map_err(|error| Error::Load { program: PROGRAM, reason: one_line(&error) })?;
        objects::load(&mut object, PROGRAM)?;
        Ok(Self { object })
    }

    /// Finds the device with this index in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Vanished`] if there is none.
    pub fn find(&mut self, name: &str, ifindex: u32) -> Result<Device, Error> {
        let vanished = || Error::Vanished { name: name.to_owned(), ifindex };
        let mut context = [0u8; CONTEXT_IFINDEX + 4];
        context[CONTEXT_IFINDEX..].copy_from_slice(&ifindex.to_ne_bytes());
        let packet = [0u8; 64];
        let program: &mut SchedClassifier = objects::program(&mut self.object, PROGRAM)?;
        let result = program
            .test_run(TestRunOptions { data_in: Some(&packet), ctx_in: Some(&context), ..Default::default() })
            .map_err(|_| vanished())?;
        let found = self.object.map("found").expect("the object has this map");
        let found = Array::<_, Device>::try_from(found).map_err(map_error("found"))?;
        let device = found.get(&0, 0).map_err(map_error("found"))?;
        if result.return_value == 1 && device.ifindex == ifindex { Ok(device) } else { Err(vanished()) }
    }

    /// Whether the device with this index is administratively up. It asks no lock of the kernel's, which somebody who
    /// is deleting the device may hold.
    ///
    /// # Errors
    /// [`Error::Vanished`] if there is none.
    pub fn is_up(&mut self, name: &str, ifindex: u32) -> Result<bool, Error> {
        self.find(name, ifindex)?;
        let state = self.object.map("found_state").expect("the object has this map");
        let state = Array::<_, u64>::try_from(state).map_err(map_error("found_state"))?;
        let state = state.get(&0, 0).map_err(map_error("found_state"))?;
        Ok(state & link_state::START != 0)
    }
}
