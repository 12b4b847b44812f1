//! Addresses as names, as the hosts file and the DNS have them; never longer than the caller has patience.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    ptr,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use socket2::SockAddr;

/// How long names are waited for, all of them together: a resolver whose server is gone takes 10 s for each.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Questions at a time.
const AT_ONCE: usize = 16;

/// The names that were found.
#[derive(Debug, Default)]
pub struct Names {
    names: HashMap<IpAddr, String>,
    asked: HashSet<IpAddr>,
    unanswered: usize,
}

impl Names {
    /// Asks for the names of these addresses, several at a time, and goes on without those that come too late.
    pub fn of(addresses: &[IpAddr], patience: Duration, ask: fn(IpAddr) -> Option<String>) -> Self {
        let deadline = Instant::now() + patience;
        let mut wanted = addresses.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let asked = wanted.iter().copied().collect();
        let mut found = Self { unanswered: wanted.len(), asked, ..Self::default() };
        let queue = Arc::new(Mutex::new(wanted));
        let (answers, answered) = mpsc::channel();
        for _ in 0..AT_ONCE.min(found.unanswered) {
            let (queue, answers) = (queue.clone(), answers.clone());
            let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let work = move || {
                while let Some(address) = next() {
                    if answers.send((address, ask(address))).is_err() {
                        return;
                    }
                }
            };
            // A thread that cannot be had leaves the questions to the others. Nobody waits for one that hangs: it ends
            // with the process.
            let _ = thread::Builder::new().name("names".into()).spawn(work);
        }
        drop(answers);
        while let Ok((address, name)) =
            answered.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            found.unanswered -= 1;
            if let Some(name) = name {
                found.names.insert(address, name);
            }
        }
        found
    }

    /// The name of an address; the address itself where it has none.
    pub fn name(&self, address: IpAddr) -> String {
        self.names.get(&address).cloned().unwrap_or_else(|| address.to_string())
    }

    /// Asks for the name of one more address, unless it was asked for before; whether it came too late.
    pub fn learn(&mut self, address: IpAddr, patience: Duration, ask: fn(IpAddr) -> Option<String>) -> bool {
        if !self.asked.insert(address) {
            return false;
        }
        let found = Self::of(&[address], patience, ask);
        self.names.extend(found.names);
        found.unanswered > 0
    }

    /// How many addresses the resolver has not said anything about.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }
}

/// Asks the system's resolver, which leaves out the domain of local names.
pub fn resolve(address: IpAddr) -> Option<String> {
    let socket = SockAddr::from(SocketAddr::new(address, 0));
    let mut name = [0u8; libc::NI_MAXHOST as usize];
    // SAFETY: the address is valid for its length; the name is written within the length that is given, and ends in NUL;
    // a null service of length 0 is not written.
    let failed = unsafe {
        libc::getnameinfo(
            socket.as_ptr().cast(),
            socket.len(),
            name.as_mut_ptr().cast(),
            libc::NI_MAXHOST,
            ptr::null_mut(),
            0,
            libc::NI_NOFQDN | libc::NI_NAMEREQD,
        )
    };
    let name = name.split(|&byte| byte == 0).next().filter(|_| failed == 0)?;
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// A resolver whose server is gone knows nothing of odd addresses, and takes its time.
    fn slow(address: IpAddr) -> Option<String> {
        let IpAddr::V4(address) = address else { return None };
        if address.octets()[3] % 2 == 1 {
            thread::sleep(Duration::from_secs(20));
        }
        Some(format!("host{}", address.octets()[3]))
    }

    #[test]
    fn a_slow_resolver_is_not_waited_for() {
        let start = Instant::now();
        let names = Names::of(&[address(2), address(1), address(2)], Duration::from_millis(500), slow);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert_eq!(names.name(address(1)), "10.0.0.1");
        assert_eq!(names.name(address(2)), "host2");
        assert_eq!(names.unanswered(), 1);
    }

    #[test]
    fn many_addresses_are_all_asked_for() {
        let addresses: Vec<IpAddr> = (0..100).map(|n| address(2 * n)).collect();
        let names = Names::of(&addresses, Duration::from_secs(20), slow);
        assert_eq!(names.unanswered(), 0);
        assert_eq!(names.name(address(198)), "host198");
    }

    #[test]
    fn the_hosts_file_is_asked() {
        let name = resolve([127, 0, 0, 1].into()).expect("every hosts file has the loopback address");
        assert!(name.starts_with("localhost") || !name.contains('.'), "{name}");
        // RFC 5737: nobody's address, and a name is no address.
        assert_eq!(Names::default().name([192, 0, 2, 1].into()), "192.0.2.1");
    }
}
