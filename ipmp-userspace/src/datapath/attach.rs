//! Attaching a program to a device: by tcx, in a stated order, or by clsact where tcx is missing or disabled.
//!
//! Egress is last on the group interface, ingress first on each member. A tcx link is pinned so that it outlives the
//! daemon; a clsact filter outlives it by itself. Both are replaced without a gap.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use aya::programs::{
    LinkOrder, ProgramInfo, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
};
use nix::net::if_::if_indextoname;
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcHandle as QdiscHandle, TcHeader, TcMessage},
    },
    sys::{Socket, protocols::NETLINK_ROUTE},
};

use super::{
    Error,
    error::{one_line, pin_error},
    pins,
};

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachKind {
    /// Linux 6.6 and later.
    Tcx,
    /// A `bpf` filter in the clsact qdisc.
    Clsact,
}

impl fmt::Display for AttachKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

impl AttachKind {
    /// tcx if the kernel has it, unless `IPMP_ATTACH=clsact` is set.
    pub fn of_this_host() -> Self {
        let forced = std::env::var_os("IPMP_ATTACH").is_some_and(|value| value == "clsact");
        if forced || !has_tcx() { Self::Clsact } else { Self::Tcx }
    }
}

/// Whether the kernel has tcx, by a query of the loopback interface: without it, `bpf_prog_query` in `kernel/bpf/syscall.c`
/// rejects the attach type.
fn has_tcx() -> bool {
    const LOOPBACK: u32 = 1;
    let name = if_indextoname(LOOPBACK).ok().and_then(|name| name.into_string().ok());
    name.is_some_and(|name| SchedClassifier::query_tcx(&name, TcAttachType::Ingress).is_ok())
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// On the group interface, last in order.
    Egress,
    /// On a member, first in order.
    Ingress,
    /// On the peer of a group interface that is a veth, ingress.
    FarEnd,
}

impl Hook {
    /// Name of the program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
            Self::FarEnd => "sink",
        }
    }
    pub(super) const fn kind(self) -> TcAttachType {
        match self {
            Self::Egress => TcAttachType::Egress,
            Self::Ingress | Self::FarEnd => TcAttachType::Ingress,
        }
    }
    /// clsact runs filters by ascending priority: 1 is first.
    pub(super) const fn priority(self) -> u16 {
        match self {
            Self::Egress => u16::MAX,
            Self::Ingress | Self::FarEnd => 1,
        }
    }
    fn order(self) -> LinkOrder {
        match self {
            Self::Egress => LinkOrder::last(),
            Self::Ingress | Self::FarEnd => LinkOrder::first(),
        }
    }
}

/// Handle of our filter in clsact.
pub(super) const HANDLE: TcHandle = TcHandle::new(0, 0x1b);

/// Where a program is attached: a device, a hook, and the pins of program and link.
#[derive(Clone, Debug)]
pub struct Place {
    /// Interface name, for messages.
    pub interface: String,
    /// Interface index.
    pub ifindex: u32,
    /// Hook.
    pub hook: Hook,
    /// Directory of the group's pins.
    pub directory: PathBuf,
    /// Name of the pins: `egress`, `ingress-<member>` or `sink`.
    pub pin: String,
}

impl Place {
    pub(super) fn link_pin(&self) -> PathBuf {
        self.directory.join("links").join(&self.pin)
    }
    fn program_pin(&self) -> PathBuf {
        self.directory.join("programs").join(&self.pin)
    }
    /// A marker: we added the clsact qdisc of the device, and remove it.
    fn qdisc_mark(&self) -> PathBuf {
        self.directory.join("clsact").join(&self.pin)
    }

    /// Whether a program was attached here before.
    pub fn is_pinned(&self) -> bool {
        self.link_pin().exists() || self.program_pin().exists()
    }

    /// Identifier of the pinned program.
    pub(super) fn program_id(&self) -> Option<u32> {
        ProgramInfo::from_pin(self.program_pin()).ok().map(|info| info.id())
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        Error::Attach {
            program: self.hook.program(),
            interface: self.interface.clone(),
            reason: reason.into(),
        }
    }

    /// The device's name now: it may have been renamed.
    pub(super) fn name_now(&self) -> Result<String, Error> {
        if_indextoname(self.ifindex)
            .ok()
            .and_then(|name| name.into_string().ok())
            // Of an interface that does not exist it is empty.
            .filter(|name| !name.is_empty())
            .ok_or_else(|| Error::Vanished { name: self.interface.clone(), ifindex: self.ifindex })
    }

    /// Attaches a loaded program, or replaces the attached one. `same_device`: the pins belong to this device, not to an
    /// earlier one of the same name or number.
    ///
    /// # Errors
    /// [`Error::Attach`], [`Error::Vanished`], [`Error::Pin`]. The attached program stays.
    pub fn attach(
        &self,
        program: &mut SchedClassifier,
        kind: AttachKind,
        same_device: bool,
    ) -> Result<(), Error> {
        match kind {
            AttachKind::Tcx => self.attach_tcx(program, same_device)?,
            AttachKind::Clsact => self.attach_clsact(program, same_device)?,
        }
        self.pin_program(program)
    }

    /// Attaches a loaded program first, or last, also where the attached one is not, or was removed by another program. With
    /// tcx, the attached one stays until the new one runs.
    ///
    /// # Errors
    /// As [`Place::attach`].
    pub fn attach_in_place(&self, program: &mut SchedClassifier, kind: AttachKind) -> Result<(), Error> {
        match kind {
            AttachKind::Tcx => {
                let link = self.new_tcx_link(program)?;
                self.pin_link(link)?;
            }
            AttachKind::Clsact => self.attach_clsact(program, true)?,
        }
        self.pin_program(program)
    }

    fn pin_program(&self, program: &mut SchedClassifier) -> Result<(), Error> {
        let pin = self.program_pin();
        pins::remove(&pin)?;
        program.pin(&pin).map_err(pin_error(pin))
    }

    fn new_tcx_link(&self, program: &mut SchedClassifier) -> Result<FdLink, Error> {
        let name = self.name_now()?;
        let id = program
            .attach_with_options(&name, self.hook.kind(), TcAttachOptions::TcxOrder(self.hook.order()))
            .map_err(|error| self.error(one_line(&error)))?;
        let link = program.take_link(id).map_err(|error| self.error(one_line(&error)))?;
        link.try_into().map_err(|error: aya::programs::links::LinkError| self.error(one_line(&error)))
    }

    fn pin_link(&self, link: FdLink) -> Result<(), Error> {
        let pin = self.link_pin();
        pins::remove(&pin)?;
        link.pin(&pin).map(drop).map_err(pin_error(pin))
    }

    fn attach_tcx(&self, program: &mut SchedClassifier, same_device: bool) -> Result<(), Error> {
        let pin = self.link_pin();
        if same_device && pin.exists() && self.replace_tcx(program, &pin) {
            return Ok(());
        }
        pins::remove(&pin)?;
        let link = self.new_tcx_link(program)?;
        self.pin_link(link)?;
        // A filter of an earlier daemon that used clsact would see no packet, but cost time.
        if self.qdisc_mark().exists() {
            self.detach_clsact();
        }
        Ok(())
    }

    /// Replaces the program of a pinned link; false if the device of the link was deleted.
    fn replace_tcx(&self, program: &mut SchedClassifier, pin: &Path) -> bool {
        let link =
            PinnedLink::from_pin(pin).and_then(|link| SchedClassifierLink::try_from(FdLink::from(link)));
        let Ok(id) = link.map_err(drop).and_then(|link| program.attach_to_link(link).map_err(drop)) else {
            return false;
        };
        // The pin holds the link: the descriptor is not needed.
        drop(program.take_link(id));
        true
    }

    fn attach_clsact(&self, program: &mut SchedClassifier, same_device: bool) -> Result<(), Error> {
        let name = self.name_now()?;
        if tc::qdisc_add_clsact(&name).is_ok() {
            pins::make_directory(&self.qdisc_mark())?;
        } else if !same_device {
            let _ = std::fs::remove_dir(self.qdisc_mark());
        }
        let old = SchedClassifierLink::attached(&name, self.hook.kind(), self.hook.priority(), HANDLE, None)
            .map_err(|source| Error::System { call: "if_nametoindex", source })?;
        let id = program.attach_to_link(old).or_else(|_| {
            let options = NlOptions { priority: self.hook.priority(), handle: HANDLE, classid: None };
            program.attach_with_options(&name, self.hook.kind(), TcAttachOptions::Netlink(options))
        });
        let link = id.and_then(|id| program.take_link(id)).map_err(|error| self.error(one_line(&error)))?;
        // Dropping it would detach the filter, which must outlive the daemon.
        std::mem::forget(link);
        pins::remove(&self.link_pin())
    }

    fn detach_clsact(&self) {
        let Ok(name) = self.name_now() else { return };
        if let Ok(link) =
            SchedClassifierLink::attached(&name, self.hook.kind(), self.hook.priority(), HANDLE, None)
        {
            // The drop detaches the filter.
            drop(link);
        }
        // With the qdisc, the kernel would delete the filters of other programs.
        if std::fs::remove_dir(self.qdisc_mark()).is_ok()
            && other_filters(self.ifindex).is_ok_and(|filters| filters.is_empty())
        {
            let _ = delete_clsact(self.ifindex);
        }
    }

    /// Detaches the program; a deleted device has none.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn detach(&self) -> Result<(), Error> {
        let by_link = self.link_pin().exists();
        if by_link && let Ok(link) = PinnedLink::from_pin(self.link_pin()) {
            // The last descriptor: without the pin, the kernel detaches the link.
            let link = FdLink::from(link);
            drop(link);
        }
        pins::remove(&self.link_pin())?;
        if !by_link && self.program_pin().exists() {
            self.detach_clsact();
        }
        pins::remove(&self.program_pin())
    }
}

/// The filters of other programs in the clsact qdisc of a device: `ingress bpf (priority 77)`.
pub fn other_filters(ifindex: u32) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    for (hook, minor) in [("ingress", 0xfff2), ("egress", 0xfff3)] {
        let header = {
            let mut header = TcHeader::default();
            (header.index, header.parent) = (ifindex as i32, QdiscHandle { major: 0xffff, minor });
            header
        };
        let request = RouteNetlinkMessage::GetTrafficFilter(TcMessage::from_parts(header, Vec::new()));
        for message in exchange(request, NLM_F_REQUEST | NLM_F_DUMP)? {
            let RouteNetlinkMessage::NewTrafficFilter(message) = message else { continue };
            let handle = u32::from(message.header.handle);
            let priority = (message.header.info >> 16) as u16;
            let kind = message.attributes.iter().find_map(|attribute| match attribute {
                TcAttribute::Kind(kind) => Some(kind.as_str()),
                _ => None,
            });
            let kind = kind.unwrap_or("filter");
            let is_ours = kind == "bpf" && handle == u32::from(HANDLE) && matches!(priority, 1 | u16::MAX);
            // Without a handle: the list that the filters of this priority are in.
            if handle != 0 && !is_ours {
                found.push(format!("{hook} {kind} (priority {priority})"));
            }
        }
    }
    found.dedup();
    Ok(found)
}

/// Removes the clsact qdisc of a device.
fn delete_clsact(ifindex: u32) -> std::io::Result<()> {
    // TcHeader is non_exhaustive.
    let header = {
        let mut header = TcHeader::default();
        (header.index, header.parent, header.handle) =
            (ifindex as i32, QdiscHandle::CLSACT, QdiscHandle::from(0xffff_0000));
        header
    };
    let request = RouteNetlinkMessage::DelQueueDiscipline(TcMessage::from_parts(header, Vec::new()));
    exchange(request, NLM_F_REQUEST | NLM_F_ACK).map(drop)
}

/// Sends a request, and returns the answers up to the acknowledgement or the end of the dump.
fn exchange(request: RouteNetlinkMessage, flags: u16) -> std::io::Result<Vec<RouteNetlinkMessage>> {
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
    message.header.flags = flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&rtnetlink::sys::SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (reply, _) = socket.recv_from_full()?;
        let mut rest = reply.as_slice();
        while !rest.is_empty() {
            let answer =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(std::io::Error::other)?;
            let length = (answer.header.length as usize).next_multiple_of(4).max(16);
            match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::in_namespace;

    #[test]
    fn detach_keeps_qdisc_while_it_has_filters_of_other_programs() {
        in_namespace(|links| async move {
            let (eth0, _) = links.add_pair("eth0", "sw0").await;
            let run = |arguments: &str| {
                let output = std::process::Command::new("tc").args(arguments.split(' ')).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                String::from_utf8(output.stdout).unwrap()
            };
            let directory = tempfile::tempdir().unwrap();
            let place = Place {
                interface: "eth0".into(),
                ifindex: eth0.ifindex,
                hook: Hook::Ingress,
                directory: directory.path().to_owned(),
                pin: "ingress-0".into(),
            };
            assert_eq!(other_filters(eth0.ifindex).unwrap(), [""; 0]);
            tc::qdisc_add_clsact("eth0").unwrap();
            for (hook, kept) in [("ingress", true), ("egress", true), ("ingress", false)] {
                std::fs::create_dir_all(place.qdisc_mark()).unwrap();
                if kept {
                    let at = format!("dev eth0 {hook} prio 77 protocol all bpf da bytecode");
                    let mut arguments: Vec<&str> =
                        ["filter", "add"].into_iter().chain(at.split(' ')).collect();
                    arguments.push("1,6 0 0 0");
                    assert!(std::process::Command::new("tc").args(arguments).status().unwrap().success());
                    assert_eq!(other_filters(eth0.ifindex).unwrap(), [format!("{hook} bpf (priority 77)")]);
                }
                place.detach_clsact();
                assert_eq!(run("qdisc show dev eth0").contains("clsact"), kept, "{hook}");
                if kept {
                    assert!(run(&format!("filter show dev eth0 {hook}")).contains("pref 77"), "{hook}");
                    run(&format!("filter del dev eth0 {hook}"));
                }
            }
        });
    }
}
