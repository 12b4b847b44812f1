//! Frames in a VLAN.

use ipmp_common::frame::ethertype;

/// The frame in this VLAN, if any.
pub(super) fn tagged(mut frame: Vec<u8>, vlan: Option<u16>) -> Vec<u8> {
    if let Some(vlan) = vlan {
        let [high, low] = vlan.to_be_bytes();
        let [tag, kind] = ethertype::VLAN.to_be_bytes();
        // Behind the two MACs (IEEE 802.1Q 9.3), priority 0.
        frame.splice(12..12, [tag, kind, high & 0x0f, low]);
    }
    frame
}
