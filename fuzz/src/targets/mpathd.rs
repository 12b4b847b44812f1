//! The reference's configuration file.

use std::path::Path;

use ipmp::daemon::mpathd;

pub fn run(input: &[u8]) -> bool {
    let (_, lines) = mpathd::parse(&String::from_utf8_lossy(input), Path::new("mpathd"));
    for line in &lines {
        assert!(!line.to_string().contains('\n'), "{line}");
    }
    lines.is_empty()
}
