use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd},
    path::Path,
};

use aya::maps::MapData;

use super::*;
use crate::datapath::{
    Datapath,
    tests::{in_new_namespace, two_members},
};

#[test]
fn running_kernel_has_all_offsets() {
    let kernel = Kernel::running().unwrap();
    assert_ne!(kernel.offsets.state, kernel.offsets.nd_net);
    assert!(kernel.offsets.ifindex > 0 && kernel.offsets.skb_dev > 0, "{kernel:?}");
    assert!(kernel.offsets.ptype_all > 0, "{kernel:?}");
    assert!(kernel.offsets.net_list > 0 && kernel.offsets.net_cookie > 0, "{kernel:?}");
}

#[test]
fn truncated_or_corrupted_btf_is_rejected() {
    let bytes = std::fs::read(VMLINUX).unwrap();
    for length in [0, 1, 23, 24, 1000, bytes.len() / 2] {
        assert_eq!(Kernel::parse(&bytes[..length]), None, "{length} bytes");
    }
    let mut garbled = bytes.clone();
    for at in (24..200_000).step_by(7) {
        garbled[at] ^= 0x5a;
    }
    let _ = Kernel::parse(&garbled);
}

#[test]
fn adapt_replaces_only_the_placeholder_call() {
    let offsets = Offsets::default();
    let cast = Some(Cast { function: 0x0102_0304, net_device: 7, sk_buff: 8 });
    let [a, b, c, d] = RDONLY_CAST.to_ne_bytes();
    let object =
        [[0x85, 0, 0, 0, a, b, c, d], [0x85, 0, 0, 0, 113, 0, 0, 0], [0xb7, 0, 0, 0, a, b, c, d]].concat();
    let adapted = Kernel { offsets, cast }.adapt(&object);
    assert_eq!(adapted[..8], [&[0x85, 0x20, 0, 0][..], &0x0102_0304u32.to_ne_bytes()].concat());
    assert_eq!(adapted[8..], object[8..]);
    assert_eq!(Kernel { offsets, cast: None }.adapt(&object), object);
}

// `enum bpf_cmd` of linux/bpf.h.
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BTF_GET_FD_BY_ID: libc::c_long = 19;

/// `bpf(command)` with attributes that begin with these words.
fn bpf<const N: usize>(command: libc::c_long, mut attributes: [u64; N]) -> libc::c_long {
    // SAFETY: the attributes are as long as said; what they point to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(&attributes)) };
    assert!(result >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    result
}

/// Fills `info` by BPF_OBJ_GET_INFO_BY_FD.
fn get_info(fd: BorrowedFd<'_>, info: &mut [u64]) {
    let descriptor_and_length = fd.as_raw_fd() as u64 | (size_of_val(info) as u64) << 32;
    bpf(OBJ_GET_INFO_BY_FD, [descriptor_and_length, info.as_mut_ptr() as u64]);
}

/// The BTF of a pinned map from the kernel, and the numbers of its key type and value type; `None`: it has none.
fn map_btf(path: &Path) -> Option<(Vec<u8>, [usize; 2])> {
    let map = MapData::from_pin(path).unwrap();
    // struct bpf_map_info: btf_id, btf_key_type_id and btf_value_type_id are at 64, 68 and 72.
    let mut info = [0u64; 11];
    get_info(map.fd().as_fd(), &mut info);
    let (id, key, value) = (info[8] as u32, (info[8] >> 32) as usize, (info[9] & 0xffff_ffff) as usize);
    if id == 0 {
        return None;
    }
    let fd = bpf(BTF_GET_FD_BY_ID, [id.into()]);
    // SAFETY: a new descriptor.
    let fd = unsafe { File::from_raw_fd(fd as i32) };
    // struct bpf_btf_info: the buffer, its size, the identifier.
    let mut info = [0u64; 2];
    get_info(fd.as_fd(), &mut info);
    let mut bytes = vec![0u8; (info[1] & 0xffff_ffff) as usize];
    info = [bytes.as_mut_ptr() as u64, bytes.len() as u64];
    get_info(fd.as_fd(), &mut info);
    Some((bytes, [key, value]))
}

impl Blob<'_> {
    fn word(&self, id: usize, at: usize) -> u32 {
        u32_at(self.types, self.starts[id] + at).unwrap()
    }

    /// A type as text: `name: int`, `{ member: type, .. }`, `[type; length]`.
    fn describe(&self, id: usize) -> String {
        let info = self.word(id, 4);
        let name = self.name(self.word(id, 0)).unwrap();
        let count = (info & 0xffff) as usize;
        match info >> 24 & 0x1f {
            KIND_STRUCT | KIND_UNION => {
                let members = (0..count).map(|place| {
                    let at = 12 + 12 * place;
                    let member = self.name(self.word(id, at)).unwrap();
                    format!("{member}: {}", self.describe(self.word(id, at + 4) as usize))
                });
                format!("{name} {{ {} }}", members.collect::<Vec<_>>().join(", "))
            }
            KIND_ENUM => {
                let words = (0..count).map(|place| self.name(self.word(id, 12 + 8 * place)).unwrap());
                format!("{name} ({})", words.collect::<Vec<_>>().join(", "))
            }
            KIND_ARRAY => format!("[{}; {}]", self.describe(self.word(id, 12) as usize), self.word(id, 20)),
            _ => name.to_owned(),
        }
    }
}

/// Every map as `bpftool map dump` sees it: fields have names, and interface names are text.
#[test]
fn maps_in_the_kernel_have_named_fields_and_text() {
    in_new_namespace(|| {
        let (spec, [member, _]) = two_members();
        let mut datapath = Datapath::open(false).unwrap();
        let mut group = datapath.group(&spec).unwrap();
        group.attach(&member).unwrap();
        let host = datapath.host.borrow();
        let mut values = HashMap::new();
        for directory in [host.pins.group("g0").join("maps"), host.pins.sentinel()] {
            for entry in std::fs::read_dir(directory).unwrap() {
                let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
                let name = name.into_string().unwrap();
                let Some((bytes, types)) = map_btf(&path) else {
                    assert!(
                        ["hints", "probe_replies", "active_flows"].contains(&&*name),
                        "{name} has no BTF"
                    );
                    continue;
                };
                let blob = Blob::new(&bytes).unwrap();
                let [key, value] = types.map(|id| blob.describe(id));
                assert!(
                    !key.contains("__") && !value.replace("__opaque", "").contains("__"),
                    "{name}: {key}, {value}"
                );
                values.insert(name, value);
            }
        }
        assert_eq!(values["live"], "MemberSet { bits: u64 }");
        assert_eq!(values["slots"], "Preference { nibbles: u64 }");
        let member = &values["members"];
        assert!(member.contains("name: [char; 16]"), "{member}");
        assert!(member.contains("state: MemberStatus (Vacant, Ok, Failed, Offline, Unknown)"), "{member}");
    });
}
