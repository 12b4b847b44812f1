//! Offsets of kernel structures, from the kernel's own BTF.
//!
//! rustc emits no CO-RE relocations, so the offsets are read here and passed to the programs as constants. So is the type of the one
//! kernel function that they call. Format: Linux `Documentation/bpf/btf.rst`.

use std::{collections::HashMap, path::Path};

use ipmp_common::maps::{Offsets, RDONLY_CAST};

use super::Error;

/// The BTF of the running kernel.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;
const KIND_INT: u32 = 1;
/// Anonymous structures nest at most this deep: bounds the recursion on malformed input.
const MAX_NESTING: u32 = 8;
/// Members of a structure, nested ones included: bounds the walk through malformed input. The kernel's largest have hundreds.
const MAX_MEMBERS: usize = 20_000;

/// What the programs need of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Offsets of fields.
    pub offsets: Offsets,
    /// Types for reading a `net_device` by plain loads, where the kernel has `bpf_rdonly_cast` (Linux 6.2).
    pub cast: Option<Cast>,
}

/// BTF types for `bpf_rdonly_cast`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Of the function.
    pub function: u32,
    /// Of `struct net_device`.
    pub net_device: u32,
    /// Of `struct sk_buff`.
    pub sk_buff: u32,
}

impl Kernel {
    /// Reads the running kernel's BTF.
    ///
    /// # Errors
    /// [`Error::NoBtf`] if the kernel exposes no BTF, [`Error::BadBtf`] if a field is missing.
    pub fn running() -> Result<Self, Error> {
        let bytes =
            std::fs::read(Path::new(VMLINUX)).map_err(|source| Error::NoBtf { path: VMLINUX, source })?;
        Self::parse(&bytes).ok_or(Error::BadBtf { path: VMLINUX })
    }

    /// Parses BTF; `None` if it is malformed or lacks a field.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let btf = Blob::new(bytes)?;
        let device = btf.find(KIND_STRUCT, "net_device")?;
        let net_device = btf.members_of(device)?;
        let packet = btf.find(KIND_STRUCT, "sk_buff")?;
        let sk_buff = btf.members_of(packet)?;
        let net = btf.find(KIND_STRUCT, "net").and_then(|net| btf.members_of(net)).unwrap_or_default();
        let offsets = Offsets {
            state: *net_device.get("state")?,
            ifindex: *net_device.get("ifindex")?,
            nd_net: *net_device.get("nd_net")?,
            operstate: *net_device.get("operstate")?,
            skb_dev: *sk_buff.get("dev")?,
            ptype_all: net_device.get("ptype_all").copied().unwrap_or(0),
            promiscuity: net_device.get("promiscuity").copied().unwrap_or(0),
            // An anonymous type, whose first member is the list.
            upper: net_device.get("adj_list").copied().unwrap_or(0),
            dev_addr: net_device.get("dev_addr").copied().unwrap_or(0),
            net_list: net.get("list").copied().unwrap_or(0),
            net_cookie: net.get("net_cookie").copied().unwrap_or(0),
        };
        let function = btf.find(KIND_FUNC, "bpf_rdonly_cast");
        let cast = function.map(|function| Cast {
            function: function as u32,
            net_device: device as u32,
            sk_buff: packet as u32,
        });
        Some(Self { offsets, cast })
    }

    /// A compiled object with its placeholder calls replaced by calls of `bpf_rdonly_cast`.
    pub fn adapt(&self, object: &[u8]) -> Vec<u8> {
        /// `BPF_JMP | BPF_CALL`; the second byte holds the registers, `BPF_PSEUDO_KFUNC_CALL` in the upper half.
        const CALL: u8 = 0x85;
        const KERNEL_FUNCTION: u8 = 2 << 4;
        let mut object = object.to_vec();
        if let Some(cast) = self.cast {
            let mut placeholder = [CALL, 0, 0, 0, 0, 0, 0, 0];
            placeholder[4..].copy_from_slice(&RDONLY_CAST.to_ne_bytes());
            for instruction in object.as_chunks_mut::<8>().0 {
                if *instruction == placeholder {
                    instruction[1] = KERNEL_FUNCTION;
                    instruction[4..].copy_from_slice(&cast.function.to_ne_bytes());
                }
            }
        }
        object
    }
}

/// Offsets of fields of the running kernel's structures, each given as structure and field; `None`: it has no such field. The fields of
/// anonymous structures inside are found, too, those of named ones are not.
///
/// # Errors
/// [`Error::NoBtf`] if the kernel exposes no BTF, [`Error::BadBtf`] if it is malformed.
pub fn offsets<const N: usize>(fields: &[(&str, &str); N]) -> Result<[Option<u32>; N], Error> {
    let bytes = std::fs::read(VMLINUX).map_err(|source| Error::NoBtf { path: VMLINUX, source })?;
    let btf = Blob::new(&bytes).ok_or(Error::BadBtf { path: VMLINUX })?;
    let mut structures = HashMap::new();
    for (name, _) in fields {
        structures.entry(*name).or_insert_with(|| {
            btf.find(KIND_STRUCT, name).and_then(|id| btf.members_of(id)).unwrap_or_default()
        });
    }
    Ok(fields.map(|(structure, field)| structures[structure].get(field).copied()))
}

/// Why a program cannot be loaded on a kernel without such a field.
pub fn missing(structure: &str, field: &str) -> String {
    format!("{VMLINUX} does not contain {structure}.{field}")
}

/// A parsed BTF blob: where each type begins.
struct Blob<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Offset of each type in `types`, by type number; number 0 is void.
    starts: Vec<usize>,
}

/// The members of a structure, as they are found.
struct Found<'a> {
    members: HashMap<&'a str, u32>,
    /// How many may still be read.
    left: usize,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

impl<'a> Blob<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        if u16_at(bytes, 0)? != MAGIC {
            return None;
        }
        let header = u32_at(bytes, 4)? as usize;
        let section = |offset: usize, length: usize| {
            let start = header.checked_add(u32_at(bytes, offset)? as usize)?;
            bytes.get(start..start.checked_add(u32_at(bytes, length)? as usize)?)
        };
        let (types, strings) = (section(8, 12)?, section(16, 20)?);
        let mut starts = vec![0];
        let mut at = 0;
        while at < types.len() {
            starts.push(at);
            let info = u32_at(types, at + 4)?;
            let count = (info & 0xffff) as usize;
            at += 12
                + match info >> 24 & 0x1f {
                    KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * count,
                    KIND_ENUM | KIND_FUNC_PROTO => 8 * count,
                    _ => 0,
                };
        }
        Some(Self { types, strings, starts })
    }

    fn name(&self, offset: u32) -> Option<&'a str> {
        let rest = self.strings.get(offset as usize..)?;
        std::str::from_utf8(&rest[..rest.iter().position(|&byte| byte == 0)?]).ok()
    }

    /// Number of the type of this kind and name; forward declarations of structures are skipped.
    fn find(&self, kind: u32, name: &str) -> Option<usize> {
        (1..self.starts.len()).find(|&id| {
            let at = self.starts[id];
            u32_at(self.types, at + 4)
                .is_some_and(|info| info >> 24 & 0x1f == kind && (kind != KIND_STRUCT || info & 0xffff != 0))
                && u32_at(self.types, at).and_then(|offset| self.name(offset)) == Some(name)
        })
    }

    /// Byte offsets of the members of a structure by name, members of anonymous structures and unions included.
    fn members_of(&self, id: usize) -> Option<HashMap<&'a str, u32>> {
        let mut found = Found { members: HashMap::new(), left: MAX_MEMBERS };
        self.collect(id, 0, 0, &mut found)?;
        Some(found.members)
    }

    fn collect(&self, id: usize, base: u32, nesting: u32, found: &mut Found<'a>) -> Option<()> {
        let at = *self.starts.get(id)?;
        let info = u32_at(self.types, at + 4)?;
        let has_bitfields = info >> 31 == 1;
        if !matches!(info >> 24 & 0x1f, KIND_STRUCT | KIND_UNION) || nesting > MAX_NESTING {
            return Some(());
        }
        for place in 0..(info & 0xffff) as usize {
            let member = at + 12 + 12 * place;
            let (name, kind) = (u32_at(self.types, member)?, u32_at(self.types, member + 4)?);
            let bits = u32_at(self.types, member + 8)?;
            let offset = base.checked_add(if has_bitfields { bits & 0xff_ffff } else { bits } / 8)?;
            found.left = found.left.checked_sub(1)?;
            match self.name(name)? {
                "" => self.collect(kind as usize, offset, nesting + 1, found)?,
                // The first of two members with one name is the one in the cache group that the kernel reads.
                name => {
                    found.members.entry(name).or_insert(offset);
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
