//! `ipmpd`: the daemon. See [`ipmp::daemon`].

use std::{
    fs::File,
    io::Write,
    os::{
        fd::{BorrowedFd, FromRawFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use caps::{CapSet, Capability, CapsHashSet};
use clap::Parser;
use ipmp::{
    control::{self, socket::Listening},
    daemon::{self, EventLoop},
    datapath::Interval,
};
use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{getsockopt, sockopt},
};

/// What the daemon needs for as long as it runs.
const NEEDED: [Capability; 4] =
    [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW, Capability::CAP_BPF, Capability::CAP_PERFMON];
/// What it makes use of where it has it: with a real-time priority it is woken in time.
const WELCOME: Capability = Capability::CAP_SYS_NICE;
/// How long answers that are under way may take when the daemon ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Keeps IPMP groups: decides who carries what, and leaves the forwarding to the kernel.
///
/// It runs in the foreground, logs to standard error or to the journal (RUST_LOG says what), and ends on SIGTERM, SIGINT or
/// SIGQUIT. The groups stay, and traffic goes on; the next ipmpd takes them over. SIGHUP has it read its configuration file
/// again, and SIGUSR1 log what probes have come to.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Serve the network namespace of this name (see ip-netns(8)) instead of the present one
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
    /// Listen on this socket instead of that of --netns, of IPMP_SOCKET or /run/ipmp/ipmpd.sock
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Remove every group, give everything back as it was before the first attach, and end. Works with no daemon alive
    #[arg(long, conflicts_with_all = ["socket", "datapath_log"])]
    teardown: bool,
    /// Load the eBPF programs that log what they do. They are slower
    #[arg(long)]
    datapath_log: bool,
    /// How often the kernel looks at the members' links by itself, 100us to 100ms
    #[arg(long, value_name = "TIME", default_value = "500us")]
    sentinel_interval: Interval,
    /// Read defaults of groups from this file instead of /etc/default/mpathd, at the start and on SIGHUP
    #[arg(long, value_name = "FILE", conflicts_with = "teardown")]
    config: Option<PathBuf>,
    /// Stay in the foreground, which is what it does anyhow: for units and scripts that want to say so
    #[arg(long)]
    foreground: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before any thread, connection or socket is made: they belong to the namespace that they were made in.
    let entered = arguments.netns.as_deref().map_or(Ok(()), enter);
    daemon::logging::init();
    match entered.and_then(|()| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed pipe is no reason to panic.
            let _ = writeln!(std::io::stderr(), "ipmpd: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// One line, whatever the layers below had to say; many a layer has said it for the one below it.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for words in error.chain().map(ToString::to_string) {
        if !text.contains(&words) {
            let separator = if text.is_empty() { "" } else { ": " };
            text.extend([separator, &words]);
        }
    }
    text.replace('\n', " ")
}

fn enter(name: &str) -> Result<()> {
    let path = Path::new("/run/netns").join(name);
    let namespace = File::open(&path).with_context(|| {
        format!("there is no network namespace {name}; `ip netns list` lists those that exist")
    })?;
    setns(namespace, CloneFlags::CLONE_NEWNET).with_context(|| {
        format!("cannot enter the network namespace {name}; ipmpd needs CAP_SYS_ADMIN for that")
    })
}

fn run(arguments: &Arguments) -> Result<()> {
    check_capabilities()?;
    if arguments.teardown {
        let names = runtime()?.block_on(daemon::teardown())?;
        match names.as_slice() {
            [] => log::info!("there is nothing to tear down"),
            names => log::info!("torn down: {}", names.join(", ")),
        }
        return Ok(());
    }
    // A descriptor that a service manager passes is taken before any is opened.
    let socket = Socket::take(arguments)?;
    runtime()?.block_on(serve(arguments, socket))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")
}

async fn serve(arguments: &Arguments, socket: Socket) -> Result<()> {
    let namespace = arguments.netns.clone().unwrap_or_default();
    let (event_loop, requests) = EventLoop::start(
        namespace,
        arguments.datapath_log,
        arguments.sentinel_interval,
        arguments.config.clone(),
    )
    .await?;
    let clients = tokio::spawn(control::serve(socket.listener()?, requests, event_loop.feeds()));
    drop_capabilities()?;
    // Under no service manager there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    event_loop.log_started(socket.name());
    event_loop.run().await?;
    let _ = tokio::time::timeout(LAST_ANSWERS, clients).await;
    Ok(())
}

/// The control socket: ours, or the service manager's.
enum Socket {
    Ours(Listening),
    Handed(UnixListener),
}

impl Socket {
    fn take(arguments: &Arguments) -> Result<Self> {
        let mut handed = sd_notify::listen_fds().context("cannot take the socket that systemd passes")?;
        match (handed.next(), handed.next()) {
            (Some(fd), None) => {
                // SAFETY: `listen_fds` has just set a flag of it, so it is open; it is only asked what it is.
                let there = unsafe { BorrowedFd::borrow_raw(fd) };
                if !getsockopt(&there, sockopt::AcceptConn).unwrap_or(false) {
                    bail!(
                        "descriptor {fd}, which systemd passes, is no listening socket: check the .socket unit"
                    );
                }
                // SAFETY: systemd has passed this descriptor to this process, and nobody else here has taken it.
                Ok(Self::Handed(unsafe { UnixListener::from_raw_fd(fd) }))
            }
            (Some(_), Some(_)) => {
                bail!("systemd passes several sockets; ipmpd serves one: check the .socket unit")
            }
            (None, _) => {
                let path = control::socket::path(arguments.socket.as_deref(), arguments.netns.as_deref())?;
                Ok(Self::Ours(Listening::new(&path)?))
            }
        }
    }

    fn listener(&self) -> Result<UnixListener> {
        match self {
            Self::Ours(socket) => socket.listener(),
            Self::Handed(listener) => listener.try_clone(),
        }
        .context("cannot serve the control socket")
    }

    fn name(&self) -> String {
        match self {
            Self::Ours(socket) => socket.path().display().to_string(),
            Self::Handed(_) => "the socket of systemd".to_owned(),
        }
    }
}

fn check_capabilities() -> Result<()> {
    let have = caps::read(None, CapSet::Effective).context("cannot read the capabilities of this process")?;
    match NEEDED.iter().find(|needed| !have.contains(needed)) {
        None => Ok(()),
        Some(missing) => bail!(
            "missing capability {missing}: run ipmpd as root, or give it CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON"
        ),
    }
}

/// Keeps what is needed or welcome, and nothing else. Settings under /proc/sys/net want CAP_NET_ADMIN, pins and the
/// state file the user that owns them.
fn drop_capabilities() -> Result<()> {
    let mut keep: CapsHashSet = NEEDED.into_iter().collect();
    if caps::has_cap(None, CapSet::Permitted, WELCOME)
        .context("cannot read the capabilities of this process")?
    {
        keep.insert(WELCOME);
    }
    let none = CapsHashSet::new();
    for (set, left) in [
        (CapSet::Ambient, &none),
        (CapSet::Inheritable, &none),
        (CapSet::Effective, &keep),
        (CapSet::Permitted, &keep),
    ] {
        caps::set(None, set, left).with_context(|| format!("cannot drop {set:?} capabilities"))?;
    }
    Ok(())
}
