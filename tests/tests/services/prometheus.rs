//! Prometheus scrapes `ipmpctl metrics --listen`, and the alert rules fire while a cable is pulled.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{Lab, Namespace, Production, daemon, wait_until};
use serde_json::Value;

const EXPORTER: &str = "127.0.0.1:9978";
const PROMETHEUS: u16 = 9090;
/// Prometheus starts, scrapes each second and evaluates its rules each second.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child of the test in the namespace of the host.
struct Running(Child);

impl Running {
    fn start(namespace: &Namespace, command: &mut Command) -> Self {
        Self(namespace.run(|| command.stdin(Stdio::null()).spawn()).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `data` of a reply of the HTTP API of Prometheus.
fn api(namespace: &Namespace, path: &str) -> Option<Value> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PROMETHEUS));
    let mut stream = namespace.run(|| TcpStream::connect(address)).ok()?;
    stream.write_all(format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (_, body) = reply.split_once("\r\n\r\n")?;
    let reply: Value = serde_json::from_str(body).ok()?;
    (reply["status"] == "success").then(|| reply["data"].clone())
}

/// Names of the alerts that fire, each with its member.
fn alerts(namespace: &Namespace) -> Vec<String> {
    let data = api(namespace, "alerts").unwrap_or_default();
    let firing = data["alerts"].as_array().into_iter().flatten().filter(|alert| alert["state"] == "firing");
    let mut names: Vec<String> = firing
        .map(|alert| {
            let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
            format!("{} {}", label("alertname"), label("member")).trim().to_owned()
        })
        .collect();
    names.sort();
    names
}

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging").join(path)
}

fn promtool(arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "promtool {arguments:?}: {text}");
    text
}

#[test]
#[ignore = "soak: Prometheus itself"]
fn soak_prometheus_scrapes_group_and_alert_fires_while_cable_is_pulled() {
    lab::needs_root!();
    let lab = Lab::tutorial().unwrap();
    let host = lab.host();
    host.ip("link set lo up").unwrap();
    let production = Production::create(&lab).unwrap();
    let rules = shipped("prometheus/ipmp.rules.yml");
    println!("{}", promtool(&["check", "rules", rules.to_str().unwrap()], b""));
    let metrics = production.daemon.ctl("metrics").unwrap();
    println!("{}", promtool(&["check", "metrics"], metrics.as_bytes()));

    let mut exporter = Command::new(daemon::binary("ipmpctl").unwrap());
    exporter.arg("--socket").arg(lab.directory().join("ipmpd.sock")).args(["metrics", "--listen", EXPORTER]);
    let _exporter = Running::start(host, &mut exporter);
    let directory = lab.directory();
    let configuration = directory.join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\nscrape_configs:\n  - job_name: ipmp\n    \
         static_configs: [{{ targets: ['{EXPORTER}'] }}]\n",
        rules.display()
    );
    fs::write(&configuration, text).unwrap();
    let mut prometheus = Command::new("prometheus");
    prometheus
        .arg(format!("--config.file={}", configuration.display()))
        .arg(format!("--storage.tsdb.path={}", directory.join("prometheus").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{PROMETHEUS}"))
        .arg("--log.level=error");
    let _prometheus = Running::start(host, &mut prometheus);
    let functioning = || {
        let data = api(host, "query?query=ipmp_group_members_functioning")?;
        data["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    assert!(wait_until(PATIENCE, || functioning().as_deref() == Some("3")), "{:?}", functioning());
    assert_eq!(alerts(host), Vec::<String>::new());

    lab.cable(2).pull().unwrap();
    assert!(wait_until(PATIENCE, || alerts(host) == ["IpmpMemberFailed e1000g1"]), "{:?}", alerts(host));
    println!("{}", api(host, "alerts").unwrap());
    lab.cable(2).replug().unwrap();
    assert!(wait_until(PATIENCE, || alerts(host).is_empty()), "{:?}", alerts(host));
    production.assert_clean();
}
