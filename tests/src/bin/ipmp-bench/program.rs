//! BPF programs as file descriptors, and BPF_PROG_TEST_RUN. All programs use the same system calls, so that measurements
//! are comparable.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

// enum bpf_cmd and enum bpf_prog_type of linux/bpf.h.
const PROG_LOAD: libc::c_long = 5;
const OBJ_GET: libc::c_long = 7;
const PROG_TEST_RUN: libc::c_long = 10;
const LINK_CREATE: libc::c_long = 28;
const SCHED_CLS: u32 = 3;

/// Offset of `ifindex` in `struct __sk_buff`.
const CONTEXT_IFINDEX: usize = 40;

/// Multiplications in the reference, each of which needs the result of the one before.
const COMPUTATIONS: usize = 24;

/// A loaded classifier.
pub struct Program {
    descriptor: OwnedFd,
}

/// The result of a run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The return value of the last repetition.
    pub verdict: u32,
    /// Average nanoseconds per packet, which the kernel rounds down.
    pub nanoseconds: u32,
}

/// The used part of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The same for BPF_OBJ_GET.
#[repr(C)]
struct Get {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// The same for BPF_LINK_CREATE.
#[repr(C)]
#[derive(Default)]
struct Create {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    revision: u64,
}

/// The same for BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    verdict: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
}

impl Program {
    /// Loads instructions.
    pub fn load(instructions: &[u64]) -> Result<Self> {
        let license = c"GPL";
        let mut load = Load {
            kind: SCHED_CLS,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
        };
        // SAFETY: the instructions and the license outlive the call.
        let descriptor = unsafe { bpf(PROG_LOAD, &mut load) }.context("cannot load a program")?;
        Ok(Self::own(descriptor))
    }

    /// A program that passes every packet.
    pub fn empty() -> Result<Self> {
        // r0 = 0; exit
        Self::load(&[instruction(0xb7, 0, 0), instruction(0x95, 0, 0)])
    }

    /// A program that redirects every packet to an interface, without reading it.
    pub fn redirect_only(ifindex: u32) -> Result<Self> {
        Self::redirect(ifindex, 0)
    }

    /// The same, to the interface as if that had received it.
    pub fn redirect_to_ingress(ifindex: u32) -> Result<Self> {
        const BPF_F_INGRESS: u32 = 1;
        Self::redirect(ifindex, BPF_F_INGRESS)
    }

    fn redirect(ifindex: u32, flags: u32) -> Result<Self> {
        // r1 = ifindex; r2 = flags; call bpf_redirect; exit
        Self::load(&[
            instruction(0xb7, 1, ifindex),
            instruction(0xb7, 2, flags),
            instruction(0x85, 0, 23),
            instruction(0x95, 0, 0),
        ])
    }

    /// A program that computes for about as long as ours, then redirects: what it takes varies with the processor as ours do, and
    /// never with our code.
    pub fn reference(ifindex: u32) -> Result<Self> {
        // r1 = 1; then, COMPUTATIONS times: r1 *= r1 + 2 (odd again), in a copy; then as above.
        let mut instructions = vec![instruction(0xb7, 1, 1)];
        for _ in 0..COMPUTATIONS {
            instructions.extend([
                // r2 = r1; r2 += 2; r1 *= r2
                register_instruction(0xbf, 2, 1),
                instruction(0x07, 2, 2),
                register_instruction(0x2f, 1, 2),
            ]);
        }
        instructions.extend([
            instruction(0xb7, 1, ifindex),
            instruction(0xb7, 2, 0),
            instruction(0x85, 0, 23),
            instruction(0x95, 0, 0),
        ]);
        Self::load(&instructions)
    }

    /// The program pinned at this path.
    pub fn pinned(path: &Path) -> Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes()).context("a path that contains a zero byte")?;
        let mut get = Get { path: name.as_ptr() as u64, descriptor: 0, flags: 0 };
        // SAFETY: the path outlives the call.
        let descriptor = unsafe { bpf(OBJ_GET, &mut get) };
        Ok(Self::own(descriptor.with_context(|| format!("cannot open {}", path.display()))?))
    }

    /// A program that is open elsewhere.
    pub fn of(descriptor: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self { descriptor: descriptor.try_clone_to_owned()? })
    }

    fn own(descriptor: libc::c_long) -> Self {
        // SAFETY: the kernel has just opened this descriptor, and nothing else owns it.
        Self { descriptor: unsafe { OwnedFd::from_raw_fd(descriptor as i32) } }
    }

    /// Attaches it by tcx (Linux 6.6) to a device of the calling thread's namespace, until the result is dropped.
    pub fn attach(&self, ifindex: u32, is_egress: bool) -> Result<OwnedFd> {
        // enum bpf_attach_type of linux/bpf.h: BPF_TCX_INGRESS, BPF_TCX_EGRESS.
        let attach_type = if is_egress { 47 } else { 46 };
        let mut create = Create {
            program: self.descriptor.as_raw_fd() as u32,
            ifindex,
            attach_type,
            ..Default::default()
        };
        // SAFETY: numbers alone.
        let descriptor =
            unsafe { bpf(LINK_CREATE, &mut create) }.context("cannot attach a program by tcx")?;
        // SAFETY: as in `own`.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
    }

    /// Runs it on a packet of this device, `repeat` times. Changes to the packet are kept between repetitions.
    pub fn run(&self, packet: &[u8], ifindex: u32, repeat: u32) -> Result<Run> {
        let mut context = [0u8; CONTEXT_IFINDEX + 4];
        context[CONTEXT_IFINDEX..].copy_from_slice(&ifindex.to_ne_bytes());
        let mut run = TestRun {
            program: self.descriptor.as_raw_fd() as u32,
            data_size_in: packet.len() as u32,
            data_in: packet.as_ptr() as u64,
            repeat,
            context_size_in: context.len() as u32,
            context_in: context.as_ptr() as u64,
            ..Default::default()
        };
        // SAFETY: packet and context outlive the call, and no output is requested.
        unsafe { bpf(PROG_TEST_RUN, &mut run) }.context("BPF_PROG_TEST_RUN failed")?;
        Ok(Run { verdict: run.verdict, nanoseconds: run.duration })
    }
}

/// One instruction with a destination register and an immediate value.
const fn instruction(code: u8, register: u8, value: u32) -> u64 {
    code as u64 | (register as u64) << 8 | (value as u64) << 32
}

/// The same with a source register.
const fn register_instruction(code: u8, destination: u8, source: u8) -> u64 {
    instruction(code, destination | source << 4, 0)
}

/// # Safety
/// The attributes are those of the command, and what they point to is valid for it.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: ensured by the caller; the kernel reads missing attributes as zeros.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_the_layout_of_struct_bpf_insn() {
        assert_eq!(instruction(0xb7, 1, 7).to_le_bytes(), [0xb7, 1, 0, 0, 7, 0, 0, 0]);
    }

    #[test]
    fn empty_program_returns_0_and_those_that_redirect_return_7() {
        let packet = [0u8; 60];
        assert_eq!(Program::empty().unwrap().run(&packet, 1, 10).unwrap().verdict, 0);
        assert_eq!(Program::redirect_only(1).unwrap().run(&packet, 1, 10).unwrap().verdict, 7);
        assert_eq!(Program::reference(1).unwrap().run(&packet, 1, 10).unwrap().verdict, 7);
    }
}
