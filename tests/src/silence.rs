//! A cable that is cut silently, again and again: after how long that is noticed, and after how long the repair.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::clock;
use crate::network::Lab;
use crate::production::Production;

/// How often the daemon's log is looked at.
const LOOK: Duration = Duration::from_micros(100);
/// How long anything may take, beyond twice the failure detection time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was measured, of every cut.
#[derive(Clone, Debug, Default)]
pub struct Silence {
    /// From the cut until the daemon has said that the member has failed.
    pub noticed: Vec<Duration>,
    /// From when the cable was good again until it has said that the member is repaired.
    pub repaired: Vec<Duration>,
}

/// Cuts the members' cables in turn, at times that have nothing to do with the probes' own.
pub fn measure(lab: &Lab, production: &Production<'_>, fdt: Duration, cuts: usize) -> Result<Silence> {
    // Whoever reads the log must not be later than who writes it.
    let reader = || {
        clock::keep_time();
        cut(lab, production, fdt, cuts)
    };
    std::thread::scope(|scope| scope.spawn(reader).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn cut(lab: &Lab, production: &Production<'_>, fdt: Duration, cuts: usize) -> Result<Silence> {
    let mut silence = Silence::default();
    let members = lab.members();
    for cut in 0..cuts {
        let member = &members[cut % members.len()];
        // The golden ratio: of any number of cuts, no two are at one place between two probes.
        let interval = fdt / 5;
        std::thread::sleep(2 * interval + interval.mul_f64((cut as f64 * 0.618_034).fract()));
        let log = Log::of(production)?;
        let change = member.cable().cut()?;
        let failed = log.wait(&format!("failure detected on {}", member.name()), 2 * fdt + PATIENCE)?;
        silence.noticed.push(failed - change.after);
        let log = Log::of(production)?;
        let change = member.cable().restore()?;
        let repaired = log.wait(&format!("repair detected on {}", member.name()), 4 * fdt + PATIENCE)?;
        silence.repaired.push(repaired - change.after);
    }
    Ok(silence)
}

/// The daemon's log from a moment on.
struct Log {
    file: fs::File,
    text: Vec<u8>,
}

impl Log {
    fn of(production: &Production<'_>) -> Result<Self> {
        let mut file = fs::File::open(production.daemon.log_file())?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, text: Vec::new() })
    }

    /// Waits until it says this, and gives when that was seen.
    fn wait(mut self, wanted: &str, patience: Duration) -> Result<Instant> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if self.file.read_to_end(&mut self.text)? > 0
                && String::from_utf8_lossy(&self.text).contains(wanted)
            {
                return Ok(Instant::now());
            }
            std::thread::sleep(LOOK);
        }
        bail!(
            "ipmpd did not say \"{wanted}\" within {patience:?}; it said:\n{}",
            String::from_utf8_lossy(&self.text)
        );
    }
}
