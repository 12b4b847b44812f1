//! Lists of routes, read one by one: a router has more of them than this program may keep in memory.

use std::{collections::BTreeSet, io};

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAttribute, RouteMessage},
};

use super::{Error, Lookup, Route, dump::each_object};

/// For more interfaces than this, all routes are read once, since the kernel walks through all of them for each interface.
const MAX_FILTERED: usize = 16;

/// Reads the routes of both families through these interfaces, in every table, also to broadcast addresses, each once. The call blocks: a
/// million routes take about a second. Where the table changes meanwhile, the events about it follow.
pub fn read_routes_through(interfaces: &BTreeSet<u32>, mut each: impl FnMut(Route)) -> Result<(), Error> {
    let ours = |route: &Route| route.interfaces().into_iter().find(|ifindex| interfaces.contains(ifindex));
    let lists: Vec<Option<u32>> = match interfaces.len() {
        ..=MAX_FILTERED => interfaces.iter().copied().map(Some).collect(),
        _ => vec![None],
    };
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for &list in &lists {
            // A route with several next hops is in the lists of all their interfaces.
            let is_first = |route: &Route| ours(route).is_some_and(|first| list.is_none_or(|of| of == first));
            let mut route =
                |message| Route::leading(message).filter(is_first).into_iter().for_each(&mut each);
            let what = || match list {
                Some(ifindex) => format!("list the routes of interface {ifindex}"),
                None => "list routes".to_owned(),
            };
            read(family, list.map(RouteAttribute::Oif), &mut route)
                .or_else(|error| without_missing(error, what))?;
        }
    }
    Ok(())
}

/// Reads the tables `local` and `main` of both families. The call blocks, as [`read_routes_through`].
pub fn read_lookups(mut each: impl FnMut(Lookup)) -> Result<(), Error> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for table in [libc::RT_TABLE_LOCAL, libc::RT_TABLE_MAIN] {
            let mut route = |message| Lookup::of(message).into_iter().for_each(&mut each);
            let what = || format!("list the routes of table {table}");
            read(family, Some(RouteAttribute::Table(table.into())), &mut route)
                .or_else(|error| without_missing(error, what))?;
        }
    }
    Ok(())
}

/// Reads the configured routes to the same destinations as these, in their tables, through whatever interface.
pub(super) fn read_routes_beside(routes: &[Route]) -> Result<Vec<Route>, Error> {
    let destinations: BTreeSet<_> = routes.iter().map(Route::destination).collect();
    let tables: BTreeSet<(bool, u32)> = routes.iter().map(|route| (route.is_ipv4(), route.table())).collect();
    let mut found = Vec::new();
    for (is_ipv4, table) in tables {
        let family = if is_ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let mut route = |message| {
            if let Some(route) = Route::parse(message)
                && destinations.contains(&route.destination())
            {
                found.push(route);
            }
        };
        let what = || format!("list the routes of table {table}");
        read(family, Some(RouteAttribute::Table(table)), &mut route)
            .or_else(|error| without_missing(error, what))?;
    }
    Ok(found)
}

/// Reads the IPv4 routes of a table.
pub(super) fn read_table(table: u32) -> Result<Vec<Route>, Error> {
    let mut routes = Vec::new();
    let mut route = |message| routes.extend(Route::parse(message));
    let what = || format!("list the routes of table {table}");
    read(AddressFamily::Inet, Some(RouteAttribute::Table(table)), &mut route)
        .or_else(|error| without_missing(error, what))?;
    Ok(routes)
}

/// What does not exist, an interface or a table, has no routes.
fn without_missing(source: io::Error, what: impl FnOnce() -> String) -> Result<(), Error> {
    match (Error::Kernel { what: what(), source }) {
        error if error.is_missing() => Ok(()),
        error => Err(error),
    }
}

/// Reads the routes that the kernel selects by this attribute, or all. Where the table changes meanwhile, events about it follow.
fn read(
    family: AddressFamily,
    filter: Option<RouteAttribute>,
    each: &mut dyn FnMut(RouteMessage),
) -> io::Result<()> {
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    request.attributes.extend(filter);
    each_object(RouteNetlinkMessage::GetRoute(request), |object| {
        if let RouteNetlinkMessage::NewRoute(route) = object {
            each(route);
        }
    })
    .map(drop)
}
