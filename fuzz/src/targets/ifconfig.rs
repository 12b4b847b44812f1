//! A command line of `ipmp-ifconfig`, and the files that its netmasks are from.

use ipmp::ifconfig::{
    grammar::{self, Line},
    netmask,
};

pub fn run(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let (prefix, source) = netmask::prefix([192, 168, 178, 200].into(), &text, &text);
    assert!((1..=32).contains(&prefix) && !source.to_string().is_empty());
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    match grammar::parse(&words) {
        Ok(Line::Show(_)) => true,
        Ok(Line::Change(change)) => {
            assert!(change.interface.name.len() < 16 && !change.interface.name.contains(['/', ':']));
            let given = change.base.address.iter().chain(&change.removed);
            let given = given.chain(change.added.iter().filter_map(|one| one.address.as_ref()));
            for address in given {
                assert!(words.contains(address), "{address:?}");
            }
            true
        }
        Err(error) => {
            let line = error.to_string();
            assert!(!line.is_empty() && !line.contains(char::is_control), "{line:?}");
            false
        }
    }
}
