//! Messages of the kernel.

use ipmp::link::{Address, Device, Neighbour, Route};
use rtnetlink::{
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};

pub fn run(input: &[u8]) -> bool {
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(input) else { return false };
    let NetlinkPayload::InnerMessage(message) = message.payload else { return false };
    match message {
        RouteNetlinkMessage::NewLink(message) => {
            let _ = Device::parse(&message).link();
            true
        }
        RouteNetlinkMessage::NewAddress(message) => Address::parse(&message).is_some(),
        RouteNetlinkMessage::NewNeighbour(message) => Neighbour::parse(&message).is_some(),
        RouteNetlinkMessage::NewRoute(message) => match Route::parse(message) {
            None => false,
            Some(route) => {
                let _ = (route.to_string(), route.has_gateway(), route.nexthop_object());
                let there = route.through(7, 8);
                assert!(!there.uses(7));
                assert!(there.same_destination(&route));
                true
            }
        },
        _ => false,
    }
}
