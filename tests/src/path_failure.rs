//! Measures how soon the daemon detects that a cable is cut while its carrier stays up, and how soon it detects the
//! repair.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::TIMEOUT;
use crate::clock;
use crate::network::Lab;
use crate::production::Production;

/// How often the daemon's log is read.
const POLL: Duration = Duration::from_micros(100);
/// Detection and repair times of all cuts.
#[derive(Clone, Debug, Default)]
pub struct DetectionTimes {
    /// From the cut until the daemon has logged that the member has failed.
    pub detected: Vec<Duration>,
    /// From the end of the cut until the daemon has logged that the member is repaired.
    pub repaired: Vec<Duration>,
}

/// Cuts the members' cables in turn, at different points of the probe interval.
pub fn measure(lab: &Lab, production: &Production<'_>, fdt: Duration, cuts: usize) -> Result<DetectionTimes> {
    // The reader of the log needs the priority of its writer.
    let reader = || {
        clock::use_realtime_priority();
        cut(lab, production, fdt, cuts)
    };
    std::thread::scope(|scope| scope.spawn(reader).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn cut(lab: &Lab, production: &Production<'_>, fdt: Duration, cuts: usize) -> Result<DetectionTimes> {
    let mut times = DetectionTimes::default();
    let members = lab.members();
    for cut in 0..cuts {
        let member = &members[cut % members.len()];
        // Multiples of the golden ratio: no two cuts are at the same point of the probe interval.
        let interval = fdt / 5;
        std::thread::sleep(2 * interval + interval.mul_f64((cut as f64 * 0.618_034).fract()));
        let log = LogTail::open(production)?;
        let change = member.cable().cut()?;
        let failed = log.wait(&format!("failure detected on {}", member.name()), 2 * fdt + TIMEOUT)?;
        times.detected.push(failed - change.after);
        let log = LogTail::open(production)?;
        let change = member.cable().restore()?;
        let repaired = log.wait(&format!("repair detected on {}", member.name()), 4 * fdt + TIMEOUT)?;
        times.repaired.push(repaired - change.after);
    }
    Ok(times)
}

/// The daemon's log from its current end on.
struct LogTail {
    file: fs::File,
    text: Vec<u8>,
}

impl LogTail {
    fn open(production: &Production<'_>) -> Result<Self> {
        let mut file = fs::File::open(production.daemon.log_file())?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, text: Vec::new() })
    }

    /// Waits until the log contains `wanted`, and returns when it was read.
    fn wait(mut self, wanted: &str, timeout: Duration) -> Result<Instant> {
        let start = Instant::now();
        while start.elapsed() < timeout {
            if self.file.read_to_end(&mut self.text)? > 0
                && String::from_utf8_lossy(&self.text).contains(wanted)
            {
                return Ok(Instant::now());
            }
            std::thread::sleep(POLL);
        }
        bail!(
            "ipmpd did not log \"{wanted}\" within {timeout:?}; its log:\n{}",
            String::from_utf8_lossy(&self.text)
        );
    }
}
