//! `ipmpctl metrics`: states, traffic and probes for Prometheus.
//!
//! A program of its own and not part of the daemon: what listens on the network has no privileges, and a scrape that hangs delays
//! no failover.

mod counts;
mod exporter;
mod samples;

use std::{fmt, io::Write, net::SocketAddr, path::PathBuf, str::FromStr};

use samples::Samples;

use super::{
    error::Error,
    output::Content,
    verb::{Command, Invocation, Outcome},
};
use crate::control::Client;

/// Print states, traffic and probes in the text format of Prometheus
///
/// Without --listen once, for example for the textfile collector of node_exporter. With --listen until it is interrupted, by HTTP at
/// /metrics, without encryption or passwords: on a loopback address, or on a Unix socket for a proxy that has them.
/// ipmp-metrics.service does that. It needs no privileges.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ipmpctl metrics                             print them once
  ipmpctl metrics --listen 127.0.0.1:9978     http://127.0.0.1:9978/metrics")]
pub struct Metrics {
    /// Loopback address with a port, or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Listen>,
}

impl Command for Metrics {
    fn execute(&self, invocation: &Invocation<'_>, out: &mut dyn Write) -> Result<Outcome, Error> {
        match &self.listen {
            None => {
                let groups = Client::connect(invocation.socket)?.groups()?;
                let metrics = Samples::of(&groups).to_string();
                let content = Content::Metrics { metrics: &metrics };
                Ok(Outcome::done(content.print(invocation.format, || metrics.clone())))
            }
            Some(listen) => Err(exporter::serve(listen, invocation.socket, out)),
        }
    }
}

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Listen {
    Loopback(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("a path must follow unix:".into()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let address: SocketAddr =
            text.parse().map_err(|_| "give a loopback address with a port, 127.0.0.1:9978, or unix:PATH")?;
        if !address.ip().is_loopback() {
            return Err(format!(
                "{} is no loopback address, and there is neither encryption nor a password: give 127.0.0.1:{} and a proxy",
                address.ip(),
                address.port()
            ));
        }
        Ok(Self::Loopback(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_and_paths_are_accepted() {
        let listen = |text: &str| text.parse::<Listen>();
        assert_eq!(listen("[::1]:9978"), Ok(Listen::Loopback("[::1]:9978".parse().unwrap())));
        assert_eq!(listen("unix:/run/x.sock"), Ok(Listen::Unix("/run/x.sock".into())));
        for (text, part) in [
            ("0.0.0.0:9978", "0.0.0.0 is no loopback address"),
            ("[::]:9978", ":: is no loopback address"),
            ("192.168.178.200:9978", "give 127.0.0.1:9978 and a proxy"),
            ("127.0.0.1", "with a port"),
            ("localhost:9978", "with a port"),
            ("unix:", "a path must follow"),
            ("", "with a port"),
        ] {
            let error = listen(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
