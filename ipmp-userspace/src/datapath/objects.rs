//! The compiled eBPF objects, and the constants that they are loaded with.

use super::{Error, btf::Kernel, error::one_line};
use crate::priority::at_normal_priority;
use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{CgroupSockAddr, FEntry, Iter, Program, ProgramError, SchedClassifier, SockOps, Xdp},
};

/// `egress`, `ingress`, `early_drop` and `sink`.
pub static DATAPATH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/datapath"));
/// The same with aya-log.
pub static DATAPATH_LOG: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/datapath-log"));
/// The sentinel.
pub static SENTINEL: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sentinel"));
/// `tcp_evidence` and `cover_established`.
pub static EVIDENCE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/evidence"));
/// `list_connections`.
pub static CONNECTIONS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/connections"));
/// `spread_source4` and `spread_source6`.
pub static SOURCE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/source"));
/// The device finder.
pub static DEVICE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/device"));

/// The only program of XDP.
pub const EARLY_DROP: &str = "early_drop";

/// The read-only globals of an object, by name. An object may lack some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constants {
    words: Vec<(&'static str, u32)>,
    longs: Vec<(&'static str, u64)>,
}

impl Constants {
    /// The globals that describe the kernel.
    pub fn of(kernel: &Kernel) -> Self {
        let offsets = &kernel.offsets;
        Self {
            words: vec![
                ("NET_DEVICE", kernel.cast.map_or(0, |cast| cast.net_device)),
                ("SK_BUFF", kernel.cast.map_or(0, |cast| cast.sk_buff)),
                ("OFF_STATE", offsets.state),
                ("OFF_IFINDEX", offsets.ifindex),
                ("OFF_ND_NET", offsets.nd_net),
                ("OFF_OPERSTATE", offsets.operstate),
                ("OFF_SKB_DEV", offsets.skb_dev),
                ("OFF_PTYPE_ALL", offsets.ptype_all),
                ("OFF_PROMISCUITY", offsets.promiscuity),
                ("OFF_UPPER", offsets.upper),
                ("OFF_DEV_ADDR", offsets.dev_addr),
                ("OFF_NET_LIST", offsets.net_list),
                ("OFF_NET_COOKIE", offsets.net_cookie),
            ],
            longs: Vec::new(),
        }
    }

    /// With a constant of 32 bits.
    #[must_use]
    pub fn word(mut self, name: &'static str, value: u32) -> Self {
        self.words.push((name, value));
        self
    }

    /// With a constant of 64 bits.
    #[must_use]
    pub fn long(mut self, name: &'static str, value: u64) -> Self {
        self.longs.push((name, value));
        self
    }

    /// Sets them in a loader.
    pub fn set_in<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (name, value) in &self.words {
            loader.override_global(name, value, false);
        }
        for (name, value) in &self.longs {
            loader.override_global(name, value, false);
        }
    }
}

/// A program of a loaded object.
///
/// # Errors
/// [`Error::Load`] if the object lacks it.
pub fn program<'a, T>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, Error>
where
    &'a mut T: TryFrom<&'a mut Program>,
{
    object
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| Error::Load { program: name, reason: "the object does not contain it".to_owned() })
}

/// Loads a program into the kernel, unless it is loaded. The verifier takes tens of milliseconds: they are those of another thread, which
/// has normal priority (`SCHED_RESET_ON_FORK`, see `daemon/startup/priority.rs`).
///
/// # Errors
/// [`Error::Load`] with the last line of the verifier's log; the whole log is logged at level debug.
pub fn load<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, Error> {
    let program: &mut SchedClassifier = program(object, name)?;
    if program.fd().is_err() {
        at_normal_priority(|| program.load()).map_err(|error| rejected(name, error))?;
    }
    Ok(program)
}

/// The same for a program of XDP.
///
/// # Errors
/// As [`load`].
pub fn load_xdp<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, Error> {
    let program: &mut Xdp = program(object, name)?;
    if program.fd().is_err() {
        at_normal_priority(|| program.load()).map_err(|error| rejected(name, error))?;
    }
    Ok(program)
}

/// The same for a program that the kernel calls at the entry of one of its functions.
///
/// # Errors
/// As [`load`].
pub fn load_fentry<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
    function: &str,
) -> Result<&'a mut FEntry, Error> {
    let btf = Btf::from_sys_fs().map_err(|error| Error::Load { program: name, reason: one_line(&error) })?;
    let program: &mut FEntry = program(object, name)?;
    at_normal_priority(|| program.load(function, &btf)).map_err(|error| rejected(name, error))?;
    Ok(program)
}

/// The same for a program of connections. The caller has normal priority.
///
/// # Errors
/// As [`load`].
pub fn load_sock_ops<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SockOps, Error> {
    let program: &mut SockOps = program(object, name)?;
    program.load().map_err(|error| rejected(name, error))?;
    Ok(program)
}

/// The same for a program of socket addresses. The caller has normal priority.
///
/// # Errors
/// As [`load`].
pub fn load_sock_addr<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut CgroupSockAddr, Error> {
    let program: &mut CgroupSockAddr = program(object, name)?;
    program.load().map_err(|error| rejected(name, error))?;
    Ok(program)
}

/// The same for an iterator over the TCP sockets of a network namespace. The caller has normal priority.
///
/// # Errors
/// As [`load`].
pub fn load_tcp_iterator<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Iter, Error> {
    let btf = Btf::from_sys_fs().map_err(|error| Error::Load { program: name, reason: one_line(&error) })?;
    let program: &mut Iter = program(object, name)?;
    program.load("tcp", &btf).map_err(|error| rejected(name, error))?;
    Ok(program)
}

/// Why the kernel does not load a program.
fn rejected(program: &'static str, error: ProgramError) -> Error {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return Error::Load { program, reason: one_line(&error) };
    };
    let text = verifier_log.to_string();
    log::debug!("verifier log of {program}: {text}");
    let verdict = text.lines().rev().map(str::trim).find(|line| {
        !line.is_empty()
            && !line.starts_with("processed ")
            && !line.starts_with("stack depth ")
            && !line.starts_with("verification time")
    });
    Error::Load { program, reason: format!("{io_error}: {}", verdict.unwrap_or("no reason given")) }
}
