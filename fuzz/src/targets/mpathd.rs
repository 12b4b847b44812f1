//! The reference's configuration file.

use std::path::Path;

use ipmp::daemon::{events::table, mpathd};

pub fn run(input: &[u8]) -> bool {
    let (_, events) = mpathd::parse(&String::from_utf8_lossy(input), Path::new("mpathd"));
    for row in events.iter().map(table::row) {
        assert!(!row.text.contains('\n'), "{row:?}");
    }
    events.is_empty()
}
