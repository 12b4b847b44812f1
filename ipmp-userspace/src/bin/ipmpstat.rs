//! `ipmpstat`: see [`ipmp::stat`].

use std::{io, process::ExitCode};

fn main() -> ExitCode {
    let rows = terminal_rows();
    ExitCode::from(ipmp::stat::run(std::env::args_os(), &mut io::stdout(), &mut io::stderr(), rows))
}

/// Lines of the terminal that standard output is, if it is one that knows.
fn terminal_rows() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which is there and lives on.
    let failed = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) };
    (failed == 0 && size.ws_row > 0 && size.ws_col > 0).then(|| size.ws_row.into())
}
