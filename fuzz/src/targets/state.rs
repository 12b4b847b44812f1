//! The state file: what is read is the same when it has been written.

use ipmp::daemon::state_file::SavedState as State;

pub fn run(input: &[u8]) -> bool {
    let Ok(state) = State::read(input) else { return false };
    let bytes = serde_json::to_vec(&state).expect("a state can be written");
    assert_eq!(State::read(&bytes), Ok(state));
    true
}
