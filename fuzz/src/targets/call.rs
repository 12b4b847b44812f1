//! Calls of clients: what is understood is the same when it is sent again.

use ipmp::control::wire::{Asked, Call};

pub fn run(input: &[u8]) -> bool {
    let Ok(call) = serde_json::from_slice::<Call>(input) else { return false };
    let Ok(asked) = call.asked() else { return false };
    if let Asked::Engine(request) = &asked {
        let bytes = serde_json::to_vec(&Call::new(request)).expect("a call can be written");
        let again: Call = serde_json::from_slice(&bytes).expect("and read");
        assert_eq!(again.asked().as_ref(), Ok(&asked));
        let _ = request.changes();
    }
    true
}
