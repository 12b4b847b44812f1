//! Replies and events, as clients read them: what is understood can be written, and is then understood again.

use ipmp::control::{
    GroupReport, TargetReport,
    explanation::Explanation,
    monitor::EventRecord,
    path::{PathReport, Simulation},
    probes,
    timeline::Transition,
    wire::Failure,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Deserialize, Serialize)]
struct Success<T> {
    parameters: T,
}

#[derive(Deserialize, Serialize)]
struct Done {
    notes: Vec<String>,
}

#[derive(Deserialize, Serialize)]
struct Shown {
    groups: Vec<GroupReport>,
}

#[derive(Deserialize, Serialize)]
struct Explained {
    explanation: Box<Explanation>,
}

#[derive(Deserialize, Serialize)]
struct Listed {
    targets: Vec<TargetReport>,
}

#[derive(Deserialize, Serialize)]
struct Predicted {
    path: PathReport,
}

#[derive(Deserialize, Serialize)]
struct Simulated {
    simulation: Simulation,
}

#[derive(Deserialize, Serialize)]
struct Timeline {
    transitions: Vec<Transition>,
}

#[derive(Deserialize, Serialize)]
struct EventReply {
    event: EventRecord,
}

pub fn run(input: &[u8]) -> bool {
    let understood = [
        is_read_again::<Success<Done>>(input),
        is_read_again::<Success<Shown>>(input),
        is_read_again::<Success<Explained>>(input),
        is_read_again::<Success<Listed>>(input),
        is_read_again::<Success<Predicted>>(input),
        is_read_again::<Success<Simulated>>(input),
        is_read_again::<Success<Timeline>>(input),
        is_read_again::<Success<EventReply>>(input),
        is_read_again::<Success<probes::ProbeUpdate>>(input),
        is_read_again::<Failure>(input),
    ];
    understood.contains(&true)
}

fn is_read_again<T: DeserializeOwned + Serialize>(input: &[u8]) -> bool {
    let Ok(first) = serde_json::from_slice::<T>(input) else { return false };
    let bytes = serde_json::to_vec(&first).expect("a reply can be written");
    let again: T = serde_json::from_slice(&bytes).expect("and read");
    assert_eq!(serde_json::to_vec(&again).expect("and written"), bytes);
    true
}
