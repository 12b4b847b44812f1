//! A module a target: what decodes, and what must hold of it.

mod btf;
mod call;
mod firewall;
mod frame;
mod hostname;
mod ifconfig;
mod import;
mod mpathd;
mod netlink;
mod owners;
mod proc;
mod reply;
mod state;
mod text;

use crate::Target;

/// All of them.
pub const TARGETS: [Target; 14] = [
    Target { name: "frame", longest: 2048, run: frame::run },
    Target { name: "call", longest: 4096, run: call::run },
    Target { name: "reply", longest: 8192, run: reply::run },
    Target { name: "text", longest: 256, run: text::run },
    Target { name: "ifconfig", longest: 512, run: ifconfig::run },
    Target { name: "hostname", longest: 1024, run: hostname::run },
    Target { name: "import", longest: 4096, run: import::run },
    Target { name: "mpathd", longest: 2048, run: mpathd::run },
    Target { name: "state", longest: 8192, run: state::run },
    Target { name: "netlink", longest: 4096, run: netlink::run },
    Target { name: "proc", longest: 2048, run: proc::run },
    Target { name: "owners", longest: 2048, run: owners::run },
    Target { name: "firewall", longest: 8192, run: firewall::run },
    Target { name: "btf", longest: 4096, run: btf::run },
];
