//! Who has an address? Asked again and again from a machine of the lab, and every answer kept: how many there were to
//! each question, and whose MAC they told.
//!
//! Every question is asked under an address of its own, which the answer repeats: however late an answer is, it is
//! known which question it is to. Nobody's neighbour table has a part in it, but for that of whoever answers.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::clock;
use crate::host::{self, Host, INTERFACE};
use crate::packet::PacketSocket;
use crate::{Mac, filter};

/// How often the listener looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);
/// The last bytes of the IPv4 addresses to ask under.
const UNDER: std::ops::RangeInclusive<u8> = 23..=199;

/// Questions from one machine, and the answers.
#[derive(Debug)]
pub struct Inquiry {
    mac: Mac,
    socket: PacketSocket,
    under: Mutex<Under>,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

/// Addresses that nobody has asked under yet.
#[derive(Debug)]
struct Under {
    v4: Vec<IpAddr>,
    v6: u16,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    questions: Mutex<Vec<Question>>,
}

/// A question, and what it was answered.
#[derive(Clone, Debug)]
pub struct Question {
    /// The address that is looked for.
    pub about: IpAddr,
    /// The address that it was asked under.
    pub under: IpAddr,
    /// When.
    pub asked: Instant,
    /// Its answers so far.
    pub answers: Vec<Told>,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The MAC that it tells.
    pub mac: Mac,
    /// The MAC that it came from.
    pub from: Mac,
}

impl Inquiry {
    /// Listens for answers on the interface of a machine. IPv4 questions are asked under 192.168.178.23 to .199, but for
    /// the addresses that are `taken`.
    pub fn open(host: &Host, taken: &[IpAddr]) -> Result<Self> {
        let [a, b, c, _] = host.v4.octets();
        let v4 = UNDER.rev().map(|last| IpAddr::from([a, b, c, last]));
        let v4 = v4.filter(|address| !taken.contains(address)).collect();
        let open = || PacketSocket::open(&host.namespace, Some(INTERFACE), &filter::answers());
        let (socket, ear) = (open()?, open()?);
        ear.set_buffer(4 << 20)?;
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let listener = std::thread::Builder::new()
            .name("inquiry".into())
            .spawn(move || listen(&ear, &theirs))
            .context("cannot start an inquiry")?;
        let under = Mutex::new(Under { v4, v6: 0 });
        Ok(Self { mac: host.mac, socket, under, shared, listener: Some(listener) })
    }

    /// Asks once; gives the number of the question.
    pub fn ask(&self, about: IpAddr) -> Result<usize> {
        let under = self.under(about)?;
        let frame = match (under, about) {
            (IpAddr::V4(under), IpAddr::V4(about)) => host::arp_request(self.mac, under, about)?,
            (IpAddr::V6(under), IpAddr::V6(about)) => host::solicitation(self.mac, under, about)?,
            _ => anyhow::bail!("{under} is no address to ask for {about} under"),
        };
        let number = {
            let mut questions = self.shared.questions();
            questions.push(Question { about, under, asked: Instant::now(), answers: Vec::new() });
            questions.len() - 1
        };
        self.socket.send(&frame)?;
        Ok(number)
    }

    fn under(&self, about: IpAddr) -> Result<IpAddr> {
        let mut under = self.under.lock().unwrap_or_else(PoisonError::into_inner);
        if about.is_ipv4() {
            return under.v4.pop().context("no IPv4 address is left to ask under");
        }
        under.v6 += 1;
        Ok(Ipv6Addr::new(0xfd00, 0x178, 0, 0, 0, 0, 0xa, under.v6).into())
    }

    /// A question as it is now.
    pub fn question(&self, number: usize) -> Question {
        self.shared.questions()[number].clone()
    }

    /// Waits until a question has been answered, or gives up with an error.
    pub fn wait_answered(&self, number: usize, patience: Duration) -> Result<Question> {
        let answered = clock::wait_until(patience, || !self.shared.questions()[number].answers.is_empty());
        let question = self.question(number);
        ensure!(answered, "nobody says within {patience:?} who has {}", question.about);
        Ok(question)
    }

    /// Ends it, and gives all questions with all their answers.
    pub fn close(mut self) -> Vec<Question> {
        self.stop();
        std::mem::take(&mut *self.shared.questions())
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        if let Some(listener) = self.listener.take() {
            let ended = listener.join();
            if let (Err(panic), false) = (ended, std::thread::panicking()) {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn questions(&self) -> MutexGuard<'_, Vec<Question>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(socket: &PacketSocket, shared: &Shared) {
    let mut buffer = [0; 256];
    loop {
        // Read before looking: what came before the stop is still read after it.
        let stopping = shared.stop.load(SeqCst);
        let patience = if stopping { Duration::ZERO } else { LOOK };
        let seen = socket.receive(&mut buffer, patience).unwrap_or_else(|error| panic!("inquiry: {error:#}"));
        let Some(seen) = seen else {
            if stopping {
                let missed = socket.statistics().map_or(0, |(_, missed)| missed);
                assert_eq!(missed, 0, "an inquiry has missed {missed} frames");
                return;
            }
            continue;
        };
        let frame = &buffer[..seen.length.min(buffer.len())];
        let Some(reply) = host::arp_reply(frame).or_else(|| host::advertisement(frame)) else { continue };
        let Some(from) = frame.get(6..12).and_then(|from| Mac::try_from(from).ok()) else { continue };
        if !seen.outgoing {
            let mut questions = shared.questions();
            let asked =
                |question: &&mut Question| (question.about, question.under) == (reply.about, reply.to);
            if let Some(question) = questions.iter_mut().find(asked) {
                question.answers.push(Told { mac: reply.mac, from });
            }
        }
    }
}
