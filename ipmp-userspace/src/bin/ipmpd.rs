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
    config,
    control::{self, pending::Store, socket::Listening},
    daemon::{self, Arguments, EventLoop},
    ifconfig,
};
use nix::{
    sched::{CloneFlags, setns},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, Signal},
        socket::{getsockopt, sockopt},
    },
};

/// Required capabilities.
const NEEDED: [Capability; 4] =
    [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW, Capability::CAP_BPF, Capability::CAP_PERFMON];
/// Used if present: with real-time priority the daemon is woken in time.
const OPTIONAL: Capability = Capability::CAP_SYS_NICE;
/// How many files are open at most.
const FILES: u64 = 65536;
/// How long pending replies to clients may take when the daemon ends.
const LAST_REPLIES: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    daemon::memory::keep_threshold();
    let arguments = Arguments::parse();
    if !arguments.teardown {
        // Before any thread is created, which would have them delivered.
        let _ = signals_of_loop().thread_block();
    }
    // Before any thread or socket is created: they belong to the namespace in which they were created.
    let entered = arguments.netns.as_deref().map_or(Ok(()), enter);
    let logging = daemon::logging::init().context("cannot start the thread that writes the log");
    let result = entered.and(logging).and_then(|()| run(&arguments));
    log::logger().flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed pipe is no reason to panic.
            let _ = writeln!(std::io::stderr(), "ipmpd: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Signals that would end the process: they wait until the event loop handles them.
fn signals_of_loop() -> SigSet {
    [Signal::SIGHUP, Signal::SIGUSR1].into_iter().collect()
}

/// The chain of errors on one line, without repetitions: an error may include the text of its source.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for message in error.chain().map(ToString::to_string) {
        if !text.contains(&message) {
            let separator = if text.is_empty() { "" } else { ": " };
            text.extend([separator, &message]);
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

/// Lets the process open as many files as it may: programs, maps and connections are files. Not all of a limit of
/// millions, which would be memory.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard.min(FILES)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard.min(FILES), hard)
    {
        log::debug!("cannot raise the limit of open files: {error}");
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    check_capabilities()?;
    raise_file_limit();
    if arguments.teardown {
        let names = runtime()?.block_on(daemon::teardown())?;
        match names.as_slice() {
            [] => log::info!("no groups to remove"),
            names => log::info!("removed: {}", names.join(", ")),
        }
        return Ok(());
    }
    // The descriptor of a service manager is taken before any other is opened.
    let socket = Socket::take(arguments)?;
    runtime()?.block_on(serve(arguments, socket))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")
}

async fn serve(arguments: &Arguments, socket: Socket) -> Result<()> {
    let namespace = arguments.netns.clone().unwrap_or_default();
    let (mut event_loop, requests) = EventLoop::start(
        namespace,
        arguments.datapath_log,
        arguments.sentinel_interval,
        defaults_file(arguments),
    )
    .await?;
    let _ = signals_of_loop().thread_unblock();
    let directory = arguments.config_dir.clone();
    let directory = directory.unwrap_or_else(|| config::directory(arguments.netns.as_deref()));
    let path = control::socket::path(arguments.socket.as_deref(), arguments.netns.as_deref())?;
    event_loop.configure(directory, Store::of(&path)).await;
    let clients = control::server::start(socket.listener()?, requests, event_loop.feeds())?;
    drop_capabilities()?;
    match &arguments.hostname_dir {
        Some(directory) => start_hostname_files(directory.clone(), arguments)?,
        None => notify_ready(),
    }
    event_loop.log_started(socket.name());
    event_loop.run().await?;
    let _ = tokio::time::timeout(LAST_REPLIES, clients).await;
    Ok(())
}

fn notify_ready() {
    // Fails without a service manager.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// The file with the defaults of groups; `None`: that of the host.
fn defaults_file(arguments: &Arguments) -> Option<PathBuf> {
    let beside = || arguments.hostname_dir.as_ref().map(|directory| directory.join("default/mpathd"));
    arguments.config.clone().or_else(|| beside().filter(|path| path.exists()))
}

/// Executes the hostname files in a thread, as a client of this daemon: each line is what `ipmp-ifconfig` does with it.
fn start_hostname_files(directory: PathBuf, arguments: &Arguments) -> Result<()> {
    let socket = control::socket::path(arguments.socket.as_deref(), arguments.netns.as_deref())?;
    let execute = move || {
        ifconfig::start(&directory, &socket);
        notify_ready();
    };
    let thread = std::thread::Builder::new().name("hostname-files".into());
    thread.spawn(execute).context("cannot start the thread that executes the hostname files")?;
    Ok(())
}

/// The control socket.
enum Socket {
    Own(Listening),
    Passed(UnixListener),
}

impl Socket {
    fn take(arguments: &Arguments) -> Result<Self> {
        let mut passed = sd_notify::listen_fds().context("cannot take the socket from systemd")?;
        match (passed.next(), passed.next()) {
            (Some(fd), None) => {
                // SAFETY: `listen_fds` has just set a flag of it, so it is open; it is only queried.
                let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
                if !getsockopt(&borrowed, sockopt::AcceptConn).unwrap_or(false) {
                    bail!("descriptor {fd} from systemd is not a listening socket: check the .socket unit");
                }
                // SAFETY: systemd has passed this descriptor to this process, and nothing else here owns it.
                Ok(Self::Passed(unsafe { UnixListener::from_raw_fd(fd) }))
            }
            (Some(_), Some(_)) => {
                bail!("systemd passed several sockets; ipmpd serves one: check the .socket unit")
            }
            (None, _) => {
                let path = control::socket::path(arguments.socket.as_deref(), arguments.netns.as_deref())?;
                Ok(Self::Own(Listening::new(&path)?))
            }
        }
    }

    fn listener(&self) -> Result<UnixListener> {
        match self {
            Self::Own(socket) => socket.listener(),
            Self::Passed(listener) => listener.try_clone(),
        }
        .context("cannot serve the control socket")
    }

    fn name(&self) -> String {
        match self {
            Self::Own(socket) => socket.path().display().to_string(),
            Self::Passed(_) => "the socket of systemd".to_owned(),
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

/// Drops all capabilities that are neither required nor optional. Settings under /proc/sys/net need CAP_NET_ADMIN, pins and
/// the state file the user that owns them.
fn drop_capabilities() -> Result<()> {
    let mut keep: CapsHashSet = NEEDED.into_iter().collect();
    if caps::has_cap(None, CapSet::Permitted, OPTIONAL)
        .context("cannot read the capabilities of this process")?
    {
        keep.insert(OPTIONAL);
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
