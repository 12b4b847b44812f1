//! Attaching a program to a device: by tcx, in a stated order, or by clsact where tcx is missing or not wanted.
//!
//! Egress is last on the group interface, ingress first on each member. A tcx link is pinned, so it outlives the
//! daemon; a clsact filter outlives it by itself. Either is replaced without a gap.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
};
use nix::net::if_::if_indextoname;
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcHandle as QdiscHandle, TcHeader, TcMessage},
    },
    sys::{Socket, protocols::NETLINK_ROUTE},
};

use super::{Error, error::one_line, pins};

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
    /// What this kernel has, unless `IPMP_ATTACH=clsact` asks for the other.
    pub fn of_this_host() -> Self {
        let forced = std::env::var_os("IPMP_ATTACH").is_some_and(|value| value == "clsact");
        if forced || kernel_version() < (6, 6) { Self::Clsact } else { Self::Tcx }
    }
}

fn kernel_version() -> (u32, u32) {
    let name = nix::sys::utsname::uname();
    let release = name.as_ref().map(|name| name.release().to_string_lossy()).unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Which way packets go when the program sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// On the group interface, last in order.
    Egress,
    /// On a member, first in order.
    Ingress,
    /// On the far end of a group interface that is a veth, what arrives there.
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
    const fn kind(self) -> TcAttachType {
        match self {
            Self::Egress => TcAttachType::Egress,
            Self::Ingress | Self::FarEnd => TcAttachType::Ingress,
        }
    }
    /// clsact runs filters by ascending priority: first is 1; last leaves room for nobody.
    const fn priority(self) -> u16 {
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
const HANDLE: TcHandle = TcHandle::new(0, 0x1b);

/// Where a program is attached: a device, a hook, and the pins that tell of it.
pub struct Place {
    /// Interface name, for what is said.
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
    fn link_pin(&self) -> PathBuf {
        self.directory.join("links").join(&self.pin)
    }
    fn program_pin(&self) -> PathBuf {
        self.directory.join("programs").join(&self.pin)
    }
    /// A mark that the clsact qdisc of the device is ours to remove.
    fn qdisc_mark(&self) -> PathBuf {
        self.directory.join("clsact").join(&self.pin)
    }

    /// Whether something was attached here before.
    pub fn is_pinned(&self) -> bool {
        self.link_pin().exists() || self.program_pin().exists()
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        Error::Attach {
            program: self.hook.program(),
            interface: self.interface.clone(),
            reason: reason.into(),
        }
    }

    /// The device's name now: it may have been renamed.
    fn name_now(&self) -> Result<String, Error> {
        if_indextoname(self.ifindex)
            .ok()
            .and_then(|name| name.into_string().ok())
            .ok_or_else(|| Error::Vanished { name: self.interface.clone(), ifindex: self.ifindex })
    }

    /// Attaches a loaded program, in place of the one that was here. `same_device` tells that what is pinned belongs to
    /// the device as it is now, and not to one that had its place before.
    ///
    /// # Errors
    /// [`Error::Attach`], [`Error::Vanished`], [`Error::Pin`]. What was attached stays.
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
        let pin = self.program_pin();
        pins::remove(&pin)?;
        program
            .pin(&pin)
            .map_err(|error| Error::Pin { path: pin, source: std::io::Error::other(one_line(&error)) })
    }

    fn attach_tcx(&self, program: &mut SchedClassifier, same_device: bool) -> Result<(), Error> {
        let pin = self.link_pin();
        if same_device && pin.exists() && self.replace_tcx(program, &pin) {
            return Ok(());
        }
        pins::remove(&pin)?;
        let name = self.name_now()?;
        let id = program
            .attach_with_options(&name, self.hook.kind(), TcAttachOptions::TcxOrder(self.hook.order()))
            .map_err(|error| self.error(one_line(&error)))?;
        let link: FdLink = program
            .take_link(id)
            .map_err(|error| self.error(one_line(&error)))?
            .try_into()
            .map_err(|error: aya::programs::links::LinkError| self.error(one_line(&error)))?;
        link.pin(&pin)
            .map_err(|error| Error::Pin { path: pin, source: std::io::Error::other(one_line(&error)) })?;
        // A filter of an earlier daemon that preferred clsact would see nothing any more, but costs its time.
        if self.qdisc_mark().exists() {
            self.detach_clsact();
        }
        Ok(())
    }

    /// Replaces the program of a pinned link; false if the link leads nowhere any more.
    fn replace_tcx(&self, program: &mut SchedClassifier, pin: &Path) -> bool {
        let link =
            PinnedLink::from_pin(pin).and_then(|link| SchedClassifierLink::try_from(FdLink::from(link)));
        let Ok(id) = link.map_err(drop).and_then(|link| program.attach_to_link(link).map_err(drop)) else {
            return false;
        };
        // The pin holds the link; this descriptor may go.
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
        // Dropping it would detach the filter: it is to outlive the daemon.
        std::mem::forget(link);
        pins::remove(&self.link_pin())
    }

    fn detach_clsact(&self) {
        let Ok(name) = self.name_now() else { return };
        if let Ok(link) =
            SchedClassifierLink::attached(&name, self.hook.kind(), self.hook.priority(), HANDLE, None)
        {
            // A filter that is not there any more is detached.
            drop(link);
        }
        if std::fs::remove_dir(self.qdisc_mark()).is_ok() {
            let _ = delete_clsact(self.ifindex);
        }
    }

    /// Detaches whatever is attached here; a device that is gone has nothing.
    ///
    /// # Errors
    /// [`Error::Pin`].
    pub fn detach(&self) -> Result<(), Error> {
        let by_link = self.link_pin().exists();
        if by_link && let Ok(link) = PinnedLink::from_pin(self.link_pin()) {
            // Detached by force: another descriptor of the link would keep it.
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

/// Removes the clsact qdisc of a device.
fn delete_clsact(ifindex: u32) -> std::io::Result<()> {
    // TcHeader can only be made by Default: it may grow.
    let header = {
        let mut header = TcHeader::default();
        (header.index, header.parent, header.handle) =
            (ifindex as i32, QdiscHandle::CLSACT, QdiscHandle::from(0xffff_0000));
        header
    };
    let mut message = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::from(RouteNetlinkMessage::DelQueueDiscipline(TcMessage::from_parts(
            header,
            Vec::new(),
        ))),
    );
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&rtnetlink::sys::SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (reply, _) = socket.recv_from_full()?;
    let reply = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply).map_err(std::io::Error::other)?;
    match reply.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}
