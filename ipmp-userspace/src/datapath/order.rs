//! The programs at a hook of a device, in the order in which they run.

use std::fmt;

use aya::programs::loaded_programs;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{
    AttachKind, Error,
    attach::{HANDLE, Hook, Place},
    syscall::bpf,
};

/// `BPF_PROG_QUERY` of `linux/bpf.h`.
const PROG_QUERY: libc::c_int = 16;
/// Most programs at a tcx hook: `BPF_MPROG_MAX` of `linux/bpf_mprog.h`.
const MAX_PROGRAMS: usize = 64;
/// Options of `cls_bpf`, and attributes of a filter: `linux/pkt_cls.h` and `linux/rtnetlink.h`.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;

/// A program of another owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherProgram {
    /// Its identifier, as `bpftool prog` shows it; 0: a filter that is no program.
    pub id: u32,
    /// Its name, or the kind of the filter; empty if it is unknown.
    pub name: String,
}

impl fmt::Display for OtherProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.id, self.name.as_str()) {
            (0, kind) => write!(f, "filter {kind}"),
            (id, "") => write!(f, "program with id {id}"),
            (id, name) => write!(f, "program {name} with id {id}"),
        }
    }
}

/// Where our program is among those at its hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Whether it is attached.
    pub is_attached: bool,
    /// Whether it is the first, or the last, as it must be.
    pub is_in_place: bool,
    /// Programs of others that run before it.
    pub ahead: Vec<OtherProgram>,
}

impl Place {
    /// Whether the program with this identifier is attached as a new one would be.
    pub(super) fn is_attached(&self, kind: AttachKind, id: u32) -> bool {
        let by_link = kind == AttachKind::Tcx;
        by_link == self.link_pin().exists() && self.order(kind, id).is_ok_and(|order| order.is_attached)
    }

    /// Where the program with this identifier is. An error if the device was deleted.
    pub(super) fn order(&self, kind: AttachKind, id: u32) -> std::io::Result<Order> {
        let tcx = tcx_programs(self.ifindex, self.hook);
        match kind {
            AttachKind::Tcx => {
                let tcx = tcx?;
                let at = tcx.iter().position(|&program| program == id);
                let is_in_place = match self.hook {
                    Hook::Egress => at.is_some_and(|at| at + 1 == tcx.len()),
                    Hook::Ingress | Hook::FarEnd => at == Some(0),
                };
                let ahead = unnamed(&tcx[..at.unwrap_or(0)]);
                Ok(Order { is_attached: at.is_some(), is_in_place, ahead })
            }
            AttachKind::Clsact => {
                let filters = clsact_filters(self.ifindex, self.hook)?;
                let ours = |filter: &Filter| {
                    (filter.priority, filter.handle, filter.program)
                        == (self.hook.priority(), u32::from(HANDLE), id)
                };
                let at = filters.iter().position(ours);
                // A kernel without tcx rejects the query.
                let mut ahead = unnamed(&tcx.unwrap_or_default());
                ahead.extend(
                    filters
                        .into_iter()
                        .take(at.unwrap_or(0))
                        .map(|filter| OtherProgram { id: filter.program, name: filter.name }),
                );
                Ok(Order { is_attached: at.is_some(), is_in_place: true, ahead })
            }
        }
    }
}

/// `struct { … } query` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Query {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
    program_attach_flags: u64,
    links: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Identifiers of the tcx programs at a hook, in their order.
fn tcx_programs(ifindex: u32, hook: Hook) -> std::io::Result<Vec<u32>> {
    const TCX_INGRESS: u32 = 46;
    const TCX_EGRESS: u32 = 47;
    let mut programs = [0u32; MAX_PROGRAMS];
    let mut query = Query {
        ifindex,
        attach_type: if hook == Hook::Egress { TCX_EGRESS } else { TCX_INGRESS },
        programs: programs.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        ..Query::default()
    };
    // SAFETY: the kernel writes at most `count` identifiers.
    match unsafe { bpf(PROG_QUERY, &mut query) } {
        // The hook of the device was never used.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
        other => other?,
    };
    Ok(programs.into_iter().take(query.count as usize).collect())
}

/// Identifiers of the tcx programs of a device, of both hooks; none where the kernel has no tcx.
pub fn tcx_programs_of(ifindex: u32) -> Vec<u32> {
    let hooks = [Hook::Ingress, Hook::Egress];
    hooks.into_iter().flat_map(|hook| tcx_programs(ifindex, hook).unwrap_or_default()).collect()
}

/// The name of a program; `None`: it has none, or it cannot be read without CAP_SYS_ADMIN.
pub fn program_name(id: u32) -> Option<String> {
    let mut programs = loaded_programs().filter_map(Result::ok);
    let program = programs.find(|program| program.id() == id)?;
    program.name_as_str().filter(|name| !name.is_empty()).map(Into::into)
}

/// Programs by their identifiers: to read their names needs CAP_SYS_ADMIN (`bpf_prog_get_fd_by_id` in
/// `kernel/bpf/syscall.c`), which the daemon does not keep.
fn unnamed(programs: &[u32]) -> Vec<OtherProgram> {
    programs.iter().map(|&id| OtherProgram { id, name: String::new() }).collect()
}

/// A filter in the clsact qdisc.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    priority: u16,
    handle: u32,
    /// Identifier of its program; 0: none.
    program: u32,
    /// Name of the program, or kind of the filter.
    name: String,
}

/// The filters at a hook of the clsact qdisc, in their order; none if there is no such qdisc.
fn clsact_filters(ifindex: u32, hook: Hook) -> std::io::Result<Vec<Filter>> {
    // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS), TC_H_MIN_EGRESS
    let parent: u32 = if hook == Hook::Egress { 0xffff_fff3 } else { 0xffff_fff2 };
    const HEADER: usize = 16;
    const TCMSG: usize = 20;
    let mut request = Vec::with_capacity(HEADER + TCMSG);
    request.extend(((HEADER + TCMSG) as u32).to_ne_bytes());
    request.extend(libc::RTM_GETTFILTER.to_ne_bytes());
    request.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    request.extend([0; 8]);
    request.extend([0; 4]);
    request.extend(ifindex.to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    request.extend(parent.to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request, 0)?;
    let mut filters = Vec::new();
    loop {
        let (reply, _) = socket.recv_from_full()?;
        let mut rest = reply.as_slice();
        while let Some((length, kind)) = word(rest, 0).zip(half(rest, 4)) {
            let length = (length as usize).clamp(HEADER, rest.len());
            let body = &rest[HEADER..length];
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(filters),
                libc::NLMSG_ERROR => {
                    let code = word(body, 0).unwrap_or_default().cast_signed();
                    return match -code {
                        0 => Ok(filters),
                        // There is no such qdisc.
                        libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP => Ok(filters),
                        code => Err(std::io::Error::from_raw_os_error(code)),
                    };
                }
                _ => filters.extend(filter(body)),
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
}

/// A filter of a dump; `None`: the head of a list.
fn filter(body: &[u8]) -> Option<Filter> {
    const TCMSG: usize = 20;
    let (handle, info) = (word(body, 8)?, word(body, 16)?);
    if handle == 0 {
        return None;
    }
    let mut filter = Filter { priority: (info >> 16) as u16, handle, ..Filter::default() };
    let mut name = String::new();
    for (kind, value) in attributes(body.get(TCMSG..)?) {
        match kind {
            TCA_KIND => filter.name = text(value),
            TCA_OPTIONS => {
                for (kind, value) in attributes(value) {
                    match kind {
                        TCA_BPF_NAME => name = text(value),
                        TCA_BPF_ID => filter.program = word(value, 0).unwrap_or_default(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if filter.name == "bpf" {
        filter.name = name;
    } else {
        // The numbers of its options mean something else.
        filter.program = 0;
    }
    Some(filter)
}

/// The attributes in a message: type and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const HEADER: usize = 4;
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        let kind = half(bytes, 2)? & 0x3fff;
        let value = bytes.get(HEADER..length)?;
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        Some((kind, value))
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

impl Error {
    /// Whether the device was deleted.
    pub fn is_vanished(&self) -> bool {
        matches!(self, Self::Vanished { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_of_clsact_is_read_with_priority_and_program() {
        let attribute = |kind: u16, value: &[u8]| {
            let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let message = |kind: &[u8]| {
            let mut body = vec![0; 20];
            body[8..12].copy_from_slice(&0x1b_u32.to_ne_bytes());
            body[16..20].copy_from_slice(&(1_u32 << 16 | 3).to_ne_bytes());
            let options =
                [attribute(TCA_BPF_NAME, b"ingress\0"), attribute(TCA_BPF_ID, &77_u32.to_ne_bytes())];
            body.extend(attribute(TCA_KIND, kind));
            body.extend(attribute(TCA_OPTIONS, &options.concat()));
            body
        };
        let expected = |program, name: &str| Filter { priority: 1, handle: 0x1b, program, name: name.into() };
        assert_eq!(filter(&message(b"bpf\0")), Some(expected(77, "ingress")));
        assert_eq!(filter(&message(b"flower\0")), Some(expected(0, "flower")));
        assert_eq!(filter(&message(b"bpf\0")[..19]), None);
        assert_eq!(filter(&[0; 40]), None, "the head of a list has no handle");
    }
}
