//! Replies to probes that the datapath did not pass to the daemon.

use ipmp_common::maps::ReplyCounters;

/// A message on the replies that a member has dropped; `None`: none.
pub fn message(member: &str, counters: &ReplyCounters) -> Option<String> {
    let ReplyCounters { unknown_id, flood, lost, .. } = *counters;
    let reasons = [
        (unknown_id, "with an unknown id (to requests of another program, or forged)"),
        (flood, "above the rate limit"),
        (lost, "while ipmpd did not read them"),
    ];
    let list: Vec<String> = reasons
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, reason)| format!("{count} {reason}"))
        .collect();
    (!list.is_empty())
        .then(|| format!("replies to probes that {member} received and dropped: {}", list.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dropped_replies_are_reported() {
        let handed = ReplyCounters { delivered: 7, ..ReplyCounters::default() };
        assert_eq!(message("eth0", &handed), None);
        assert_eq!(
            message("eth0", &ReplyCounters { unknown_id: 3, lost: 1, ..handed }).unwrap(),
            "replies to probes that eth0 received and dropped: 3 with an unknown id (to requests of another program, or \
             forged); 1 while ipmpd did not read them"
        );
    }
}
