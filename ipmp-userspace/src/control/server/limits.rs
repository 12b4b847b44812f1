//! What the clients of the socket may use: connections, calls, unread replies, log lines.
//!
//! Every user may connect, and a user may be hostile. Root is limited by none of these but its connections, so that an
//! operator can always call; of the others, one that asks for much delays only itself where possible.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

/// Most connections of one user at a time: a user that opens more locks out only itself.
pub const MAX_CONNECTIONS: usize = 32;
/// Most connections at a time; fewer where the process may not open as many files.
const TOTAL_CONNECTIONS: usize = 512;
/// Of these, the last that only root gets.
const ROOT_CONNECTIONS: usize = 32;
/// Replies to users other than root that are being made or have not been read: a report is up to some megabytes.
const UNREAD_REPLIES: usize = 8;
/// Of these, at most for one user.
const UNREAD_REPLIES_OF_USER: usize = 2;
/// Calls of one user other than root; further ones are delayed.
const CALLS_OF_USER: Rate = Rate { per_second: 10, burst: 30 };
/// Calls of all users other than root together.
const CALLS: Rate = Rate { per_second: 40, burst: 80 };
/// Log lines about refused connections and calls; further ones are counted.
const LOG_LINES: Rate = Rate { per_second: 1, burst: 20 };
/// Users that are remembered, before those that have called little are forgotten.
const USERS: usize = 1024;

/// A rate of something, and how much of it at once.
#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: u32,
    burst: u32,
}

/// What is left of a [`Rate`].
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// When it was, or will be, full: a burst before the time at which nothing is left.
    full: Instant,
}

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, full: now }
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full <= now
    }

    /// How long until one is left; zero: it can be taken now.
    fn wait(&self, now: Instant) -> Duration {
        let each = Duration::from_secs(1) / self.rate.per_second;
        let used = self.full.saturating_duration_since(now);
        (used + each).saturating_sub(each * self.rate.burst)
    }

    fn take(&mut self, now: Instant) {
        self.full = self.full.max(now) + Duration::from_secs(1) / self.rate.per_second;
    }
}

/// The limits of a server. Its copies share them.
#[derive(Clone, Debug)]
pub struct Limits(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Connections at a time.
    total: usize,
    connections: HashMap<u32, usize>,
    calls: Bucket,
    calls_of: HashMap<u32, Bucket>,
    replies: Arc<Semaphore>,
    replies_of: HashMap<u32, Arc<Semaphore>>,
    log_lines: Bucket,
    unlogged: u64,
}

/// A connection's place, released on drop.
#[derive(Debug)]
pub struct Place {
    limits: Limits,
    uid: u32,
}

impl Limits {
    /// Limits for the files that the process may open.
    pub fn new() -> Self {
        let now = Instant::now();
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        // Half of them are for programs, maps and sockets.
        let files = usize::try_from(files / 2).unwrap_or(usize::MAX);
        Self(Arc::new(Mutex::new(State {
            total: TOTAL_CONNECTIONS.min(files.max(2 * ROOT_CONNECTIONS)),
            connections: HashMap::new(),
            calls: Bucket::new(CALLS, now),
            calls_of: HashMap::new(),
            replies: Arc::new(Semaphore::new(UNREAD_REPLIES)),
            replies_of: HashMap::new(),
            log_lines: Bucket::new(LOG_LINES, now),
            unlogged: 0,
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection; an error says why there is none.
    pub fn connect(&self, uid: u32) -> Result<Place, String> {
        let mut state = self.state();
        let all: usize = state.connections.values().sum();
        let of_user = state.connections.get(&uid).copied().unwrap_or_default();
        if of_user >= MAX_CONNECTIONS {
            return Err(format!("it has {MAX_CONNECTIONS} connections open"));
        }
        let for_others = state.total - ROOT_CONNECTIONS;
        if uid != 0 && all >= for_others {
            return Err(format!("{for_others} connections are open"));
        }
        state.connections.insert(uid, of_user + 1);
        Ok(Place { limits: self.clone(), uid })
    }

    /// Waits until a user may call.
    pub async fn call(&self, uid: u32) {
        loop {
            let wait = self.try_call(uid, Instant::now());
            if wait.is_zero() {
                return;
            }
            sleep(wait).await;
        }
    }

    /// Counts a call if it is permitted now; else returns how long it has to wait at least.
    fn try_call(&self, uid: u32, now: Instant) -> Duration {
        if uid == 0 {
            return Duration::ZERO;
        }
        let mut state = self.state();
        let total = state.calls.wait(now);
        if state.calls_of.len() >= USERS {
            state.calls_of.retain(|_, bucket| !bucket.is_full(now));
        }
        let bucket = state.calls_of.entry(uid).or_insert_with(|| Bucket::new(CALLS_OF_USER, now));
        let wait = bucket.wait(now).max(total);
        if wait.is_zero() {
            bucket.take(now);
            state.calls.take(now);
        }
        wait
    }

    /// Waits until a reply to a user may be made; the permits are kept until it has been read.
    pub async fn reply(&self, uid: u32) -> Vec<OwnedSemaphorePermit> {
        if uid == 0 {
            return Vec::new();
        }
        let (of_user, all) = {
            let mut state = self.state();
            if state.replies_of.len() >= USERS {
                state.replies_of.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            }
            let of_user = state
                .replies_of
                .entry(uid)
                .or_insert_with(|| Arc::new(Semaphore::new(UNREAD_REPLIES_OF_USER)));
            (Arc::clone(of_user), Arc::clone(&state.replies))
        };
        let mut permits = Vec::new();
        for semaphore in [of_user, all] {
            permits.push(semaphore.acquire_owned().await.expect("it is never closed"));
        }
        permits
    }

    /// Logs a warning about a client, unless there were too many.
    pub fn warn(&self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        let mut state = self.state();
        if !state.log_lines.wait(now).is_zero() {
            state.unlogged += 1;
            return;
        }
        state.log_lines.take(now);
        let unlogged = std::mem::take(&mut state.unlogged);
        drop(state);
        if unlogged > 0 {
            log::warn!("{unlogged} more connections and calls were refused");
        }
        log::warn!("{}", text());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.limits.state();
        if let Some(open) = state.connections.get_mut(&self.uid) {
            *open -= 1;
            if *open == 0 {
                state.connections.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_gets_a_place_while_others_hold_all_of_theirs() {
        let limits = Limits::new();
        let mut places = Vec::new();
        for uid in 1000..1100 {
            while let Ok(place) = limits.connect(uid) {
                places.push(place);
            }
        }
        assert!(places.len() <= TOTAL_CONNECTIONS - ROOT_CONNECTIONS, "{}", places.len());
        assert!(limits.connect(2000).unwrap_err().ends_with("connections are open"));
        let roots: Vec<_> = (0..ROOT_CONNECTIONS).map(|_| limits.connect(0).unwrap()).collect();
        assert!(limits.connect(0).unwrap_err().contains("it has 32 connections open"));
        drop((places, roots));
        assert!(limits.connect(2000).is_ok());
        assert!(limits.state().connections.is_empty());
    }

    #[test]
    fn calls_of_user_are_delayed_and_those_of_root_are_not() {
        let limits = Limits::new();
        let now = Instant::now();
        let calls = |uid, now| (0..1000).take_while(|_| limits.try_call(uid, now).is_zero()).count();
        assert_eq!(calls(1000, now), 30);
        // One user leaves something for the others, and all of them together have a limit.
        assert_eq!((calls(1001, now), calls(1002, now), calls(1003, now)), (30, 20, 0));
        assert_eq!(calls(0, now), 1000);
        assert!(limits.try_call(1003, now) <= Duration::from_millis(25));
        let second = now + Duration::from_secs(1);
        assert_eq!((calls(1000, second), calls(1003, second)), (10, 30));
        // After a long time there is a burst, and no more.
        assert_eq!(calls(1000, now + Duration::from_secs(3600)), 30);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn unread_replies_of_users_are_limited() {
        let limits = Limits::new();
        let mut held = Vec::new();
        for uid in 1000..1004 {
            for _ in 0..UNREAD_REPLIES_OF_USER {
                held.push(limits.reply(uid).await);
            }
        }
        let short = Duration::from_millis(20);
        assert!(tokio::time::timeout(short, limits.reply(2000)).await.is_err());
        assert!(tokio::time::timeout(short, limits.reply(0)).await.is_ok());
        held.pop();
        assert!(tokio::time::timeout(short, limits.reply(1000)).await.is_err());
        assert!(tokio::time::timeout(short, limits.reply(2000)).await.is_ok());
    }
}
