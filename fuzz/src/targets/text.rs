//! What an operator types: what is understood is written as something that is understood likewise.

use std::{ffi::OsString, fmt::Display, os::unix::ffi::OsStringExt, str::FromStr};

use ipmp::{
    control::{DataAddress, Setting, detection::DetectionTime, name, target, test_address::TestAddressSpec},
    datapath::Interval,
    stat::options::Options,
};

pub fn run(input: &[u8]) -> bool {
    let words = input.split(|&byte| byte == b' ').map(|word| OsString::from_vec(word.to_vec()));
    let _ = Options::parse(words);
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let names = [name::check_group(text), name::check_interface(text), name::check_groupname(text)];
    for refusal in names.iter().filter_map(|name| name.as_ref().err()) {
        is_a_line(refusal);
    }
    if names[0].is_ok() {
        assert!(names[1].is_ok() && names[2].is_ok(), "{text:?}");
        assert!(text.len() < 16 && !text.contains(['/', '.', '\0']));
        let _ = name::note(text);
    }
    let understood = [
        is_read_again::<DataAddress>(text),
        is_read_again::<Setting>(text),
        is_read_again::<TestAddressSpec>(text),
        text.parse::<DetectionTime>().is_ok(),
        // Shown with a blank before the unit, for people.
        text.parse::<Interval>().is_ok(),
        target::read(text).is_ok(),
    ];
    understood.contains(&true)
}

fn is_read_again<T: FromStr<Err: Display> + Display + PartialEq + std::fmt::Debug>(text: &str) -> bool {
    match text.parse::<T>() {
        Ok(first) => {
            let written = first.to_string();
            assert_eq!(written.parse::<T>().ok().as_ref(), Some(&first), "{written:?}");
            true
        }
        Err(error) => {
            is_a_line(&error);
            false
        }
    }
}

/// A message to users is one line, without control characters from their input.
fn is_a_line(error: &impl Display) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
}
