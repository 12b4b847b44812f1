//! Host names of addresses, from /etc/hosts and DNS, within a time limit.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    ptr,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use socket2::SockAddr;

/// Time limit for all names together: a resolver whose server is unreachable takes 10 s for each.
pub const TIME_LIMIT: Duration = Duration::from_secs(2);
/// Queries in parallel.
const PARALLEL: usize = 16;

/// Resolved names.
#[derive(Debug, Default)]
pub struct Names {
    names: HashMap<IpAddr, String>,
    queried: HashSet<IpAddr>,
    unanswered: usize,
}

impl Names {
    /// Resolves these addresses, several in parallel, until `limit` is over.
    pub fn of(addresses: &[IpAddr], limit: Duration, resolve: fn(IpAddr) -> Option<String>) -> Self {
        let deadline = Instant::now() + limit;
        let mut unresolved = addresses.to_vec();
        unresolved.sort_unstable();
        unresolved.dedup();
        let queried = unresolved.iter().copied().collect();
        let mut found = Self { unanswered: unresolved.len(), queried, ..Self::default() };
        let queue = Arc::new(Mutex::new(unresolved));
        let (results, received) = mpsc::channel();
        for _ in 0..PARALLEL.min(found.unanswered) {
            let (queue, results) = (queue.clone(), results.clone());
            let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let work = move || {
                while let Some(address) = next() {
                    if results.send((address, resolve(address))).is_err() {
                        return;
                    }
                }
            };
            // The other threads resolve the rest if this one cannot be created. A thread that hangs ends with the process.
            let _ = thread::Builder::new().name("names".into()).spawn(work);
        }
        drop(results);
        while let Ok((address, name)) =
            received.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            found.unanswered -= 1;
            if let Some(name) = name {
                found.names.insert(address, name);
            }
        }
        found
    }

    /// The name of an address, or the address if it has none.
    pub fn name(&self, address: IpAddr) -> String {
        self.names.get(&address).cloned().unwrap_or_else(|| address.to_string())
    }

    /// Resolves one more address, once. Returns whether the resolver timed out.
    pub fn learn(&mut self, address: IpAddr, limit: Duration, resolve: fn(IpAddr) -> Option<String>) -> bool {
        if !self.queried.insert(address) {
            return false;
        }
        let found = Self::of(&[address], limit, resolve);
        self.names.extend(found.names);
        found.unanswered > 0
    }

    /// Number of addresses for which the resolver timed out.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }
}

/// Queries the system's resolver; the local domain is stripped (`NI_NOFQDN`).
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

    /// A resolver that times out for odd addresses.
    fn slow(address: IpAddr) -> Option<String> {
        let IpAddr::V4(address) = address else { return None };
        if address.octets()[3] % 2 == 1 {
            thread::sleep(Duration::from_secs(20));
        }
        Some(format!("host{}", address.octets()[3]))
    }

    #[test]
    fn slow_resolver_is_abandoned_after_time_limit() {
        let start = Instant::now();
        let names = Names::of(&[address(2), address(1), address(2)], Duration::from_millis(500), slow);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert_eq!(names.name(address(1)), "10.0.0.1");
        assert_eq!(names.name(address(2)), "host2");
        assert_eq!(names.unanswered(), 1);
    }

    #[test]
    fn hundred_addresses_are_all_resolved() {
        let addresses: Vec<IpAddr> = (0..100).map(|n| address(2 * n)).collect();
        let names = Names::of(&addresses, Duration::from_secs(20), slow);
        assert_eq!(names.unanswered(), 0);
        assert_eq!(names.name(address(198)), "host198");
    }

    #[test]
    fn hosts_file_is_used() {
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let named =
            hosts.lines().find_map(|line| line.trim().strip_prefix("127.0.0.1")?.split_whitespace().next());
        // A machine may have no hosts file.
        if let Some(named) = named {
            assert_eq!(resolve([127, 0, 0, 1].into()).as_deref(), Some(named));
        }
        // RFC 5737: a documentation address, without a name.
        assert_eq!(Names::default().name([192, 0, 2, 1].into()), "192.0.2.1");
    }
}
