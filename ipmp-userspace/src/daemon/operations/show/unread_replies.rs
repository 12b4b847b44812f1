//! Answers to probes that the datapath did not hand over, in a sentence.

use ipmp_common::maps::ReplyCounters;

/// What a member's ingress kept to itself so far; `None`: nothing, as it should be.
pub fn sentence(member: &str, counters: &ReplyCounters) -> Option<String> {
    let ReplyCounters { unknown_id, flood, lost, .. } = *counters;
    let reasons = [
        (unknown_id, "echo replies to somebody else's requests, or forged"),
        (flood, "more at once than any probe asks for"),
        (lost, "when ipmpd did not read them"),
    ];
    let told: Vec<String> = reasons
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, reason)| format!("{count} {reason}"))
        .collect();
    (!told.is_empty()).then(|| {
        format!("answers to probes that {member} received and were not looked at: {}", told.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_handed_over_is_told() {
        let handed = ReplyCounters { delivered: 7, ..ReplyCounters::default() };
        assert_eq!(sentence("eth0", &handed), None);
        assert_eq!(
            sentence("eth0", &ReplyCounters { unknown_id: 3, lost: 1, ..handed }).unwrap(),
            "answers to probes that eth0 received and were not looked at: 3 echo replies to somebody else's requests, or \
             forged; 1 when ipmpd did not read them"
        );
    }
}
