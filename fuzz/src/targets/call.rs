//! Calls of clients: what is understood is the same when it is sent again.

use ipmp::control::wire::{MethodCall, ParsedCall};

pub fn run(input: &[u8]) -> bool {
    let Ok(call) = serde_json::from_slice::<MethodCall>(input) else { return false };
    let Ok(asked) = call.parse() else { return false };
    if let ParsedCall::Request(request) = &asked {
        let bytes = serde_json::to_vec(&MethodCall::new(request)).expect("a call can be written");
        let again: MethodCall = serde_json::from_slice(&bytes).expect("and read");
        assert_eq!(again.parse().as_ref(), Ok(&asked));
        let _ = request.changes();
    }
    true
}
