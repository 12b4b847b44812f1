//! Memory that the kernel needs for maps and programs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;
use aya_obj::generated::{bpf_func_info, bpf_prog_info};

use crate::process::number_after;

/// A page.
const PAGE: u64 = 4096;
/// Bytes of an instruction, and of what the kernel stores before those of a function (`struct bpf_prog`).
const INSTRUCTION: u64 = 8;
const HEAD: u64 = 72;
/// `BPF_OBJ_GET_INFO_BY_FD` of linux/bpf.h.
const GET_INFO: libc::c_long = 15;

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelMemory {
    /// All maps (`memlock` of their descriptors).
    pub maps: u64,
    /// All programs: instructions, and what the JIT compiler makes of them. A program with several functions is stored twice, as a whole and
    /// by function, in pages each.
    pub programs: u64,
}

impl KernelMemory {
    /// What is pinned in a directory and those below it, each once.
    pub fn pinned(directory: PathBuf) -> Result<Self> {
        let (mut maps, mut programs) = (BTreeMap::new(), BTreeMap::new());
        let mut left = vec![directory.clone()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(&directory).with_context(|| format!("{}", directory.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    left.push(path);
                } else if let Ok(pin) = MapData::from_pin(&path) {
                    // Pinned programs and links open in the same way.
                    let descriptor = pin.fd().as_fd().as_raw_fd();
                    let text = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
                    let number = |name| number_after(&text, name);
                    let memory = || number("memlock:").context("no memlock in the fdinfo of a pin");
                    match (number("map_id:"), number("prog_id:")) {
                        (Some(id), _) => drop(maps.insert(id, memory()?)),
                        (None, Some(id)) if number("link_id:").is_none() && !programs.contains_key(&id) => {
                            let translated = functions_and_native_code(descriptor)?;
                            programs.insert(id, memory()? + translated);
                        }
                        _ => {}
                    }
                }
            }
        }
        ensure!(!maps.is_empty() && !programs.is_empty(), "no pins in {}", directory.display());
        Ok(Self { maps: maps.values().sum(), programs: programs.values().sum() })
    }
}

/// The used part of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Attributes {
    descriptor: u32,
    length: u32,
    info: u64,
}

fn read_info(descriptor: i32, info: &mut bpf_prog_info) -> Result<()> {
    let length = size_of::<bpf_prog_info>() as u32;
    let mut attributes =
        Attributes { descriptor: descriptor as u32, length, info: std::ptr::from_mut(info) as u64 };
    let size = size_of::<Attributes>();
    // SAFETY: the attributes, the information and the buffer that it names outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, GET_INFO, &raw mut attributes, size) };
    ensure!(result == 0, "cannot read what the kernel knows of a program: {}", io::Error::last_os_error());
    Ok(())
}

/// Memory of a program beside its instructions as a whole.
fn functions_and_native_code(descriptor: i32) -> Result<u64> {
    // SAFETY: integers and arrays of integers.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    read_info(descriptor, &mut info)?;
    let (native, instructions) = (u64::from(info.jited_prog_len), u64::from(info.xlated_prog_len));
    let count = info.nr_func_info as usize;
    if count < 2 {
        return Ok(native);
    }
    ensure!(info.func_info_rec_size as usize == size_of::<bpf_func_info>(), "another form of func_info");
    let mut functions = vec![bpf_func_info { insn_off: 0, type_id: 0 }; count];
    // SAFETY: as above.
    let mut request: bpf_prog_info = unsafe { std::mem::zeroed() };
    request.nr_func_info = count as u32;
    request.func_info_rec_size = info.func_info_rec_size;
    request.func_info = functions.as_mut_ptr() as u64;
    read_info(descriptor, &mut request)?;
    let starts = functions.iter().map(|function| u64::from(function.insn_off));
    let ends = starts.clone().skip(1).chain([instructions / INSTRUCTION]);
    let pages =
        starts.zip(ends).map(|(start, end)| (HEAD + INSTRUCTION * (end - start)).next_multiple_of(PAGE));
    Ok(native + pages.sum::<u64>())
}
