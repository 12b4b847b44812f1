//! Calls and replies on the socket: JSON objects, each ended by a NUL (<https://varlink.org>).

use std::net::IpAddr;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    address::DataAddress,
    explanation::Explanation,
    monitor::EventRecord,
    path::{Packet, PathReport, Simulation},
    probes::ProbeUpdate,
    report::{GroupReport, VERSION},
    request::{Refused, Request, Response, reason},
    setting::Setting,
    target::{self, TargetReport},
    timeline::Transition,
    verb::{Permission, VERBS, VerbInfo},
};

/// Name of our interface.
pub const INTERFACE: &str = "net.ipmp.Manager";
/// Name of the interface that every Varlink service has.
pub const SERVICE: &str = "org.varlink.service";
/// Definition of the interface that every Varlink service has.
pub const SERVICE_DEFINITION: &str = include_str!("org.varlink.service.varlink");

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodCall {
    /// Interface, a dot, method.
    pub method: String,
    /// Parameters by name.
    #[serde(default)]
    pub parameters: Option<Map<String, Value>>,
    /// The caller accepts more than one reply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The caller expects no reply, not even an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oneway: bool,
}

/// A decoded call.
#[derive(Clone, Debug, PartialEq)]
pub enum ParsedCall {
    /// `GetInfo`.
    Info,
    /// `GetInterfaceDescription`, with the description.
    Description(&'static str),
    /// A request to the daemon.
    Request(Request),
}

/// An error reply, by its Varlink name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
#[allow(missing_docs, reason = "the fields are the parameters of the error of the variant's name")]
pub enum Failure {
    /// No such interface.
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    InterfaceNotFound { interface: String },
    /// No such method.
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound { method: String },
    /// The method replies more than once, and the caller did not set "more".
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    ExpectedMore {},
    /// A parameter is missing, has the wrong type, or is none of the method's.
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    InvalidParameter { parameter: String },
    /// Well formed, and not possible.
    #[serde(rename = "net.ipmp.Manager.Refused")]
    Refused { reason: String, message: String },
    /// The caller has no permission.
    #[serde(rename = "net.ipmp.Manager.NotPermitted")]
    NotPermitted { message: String },
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused { reason: refused.reason.into(), message: refused.message }
    }
}

/// The parameters of a reply that is not an error.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ReplyParameters {
    /// To a changing request.
    Done {
        /// Side effects and what holds already, a sentence each.
        notes: Vec<String>,
        /// Whether anything changed.
        changed: bool,
    },
    /// To `Show`.
    Shown {
        /// [`VERSION`].
        version: u32,
        /// The groups.
        groups: Vec<GroupReport>,
    },
    /// To `Explain`.
    Explained {
        /// [`VERSION`].
        version: u32,
        /// Why.
        explanation: Box<Explanation>,
    },
    /// To `ListTargets`.
    Targets {
        /// [`VERSION`].
        version: u32,
        /// The targets.
        targets: Vec<TargetReport>,
    },
    /// To `Path`.
    Path {
        /// [`VERSION`].
        version: u32,
        /// Which member.
        path: PathReport,
    },
    /// To `Simulate`.
    Simulated {
        /// [`VERSION`].
        version: u32,
        /// What moves.
        simulation: Simulation,
    },
    /// To `Timeline`.
    Timeline {
        /// [`VERSION`].
        version: u32,
        /// Oldest first.
        transitions: Vec<Transition>,
    },
    /// To `RecordState`.
    Recorded {
        /// The state.
        state: String,
    },
    /// To the standard interface.
    Service(Value),
}

impl From<Response> for ReplyParameters {
    fn from(response: Response) -> Self {
        match response {
            Response::Done { notes, changed } => Self::Done { notes, changed },
            Response::Show(groups) => Self::Shown { version: VERSION, groups },
            Response::Explained(explanation) => Self::Explained { version: VERSION, explanation },
            Response::Targets(targets) => Self::Targets { version: VERSION, targets },
            Response::Recorded(state) => Self::Recorded { state },
            Response::Path(path) => Self::Path { version: VERSION, path },
            Response::Timeline(transitions) => Self::Timeline { version: VERSION, transitions },
            Response::Simulated(simulation) => Self::Simulated { version: VERSION, simulation },
        }
    }
}

/// The bytes of an event, with its NUL; the last one has no `continues`.
pub fn event(event: &EventRecord, is_last: bool) -> Vec<u8> {
    #[derive(Serialize)]
    struct Parameters<'a> {
        version: u32,
        event: &'a EventRecord,
    }
    one_of_many(Parameters { version: VERSION, event }, is_last)
}

/// The bytes of a finished probe or of the number of lost ones, with its NUL.
pub fn probe(update: &ProbeUpdate, is_last: bool) -> Vec<u8> {
    #[derive(Serialize)]
    struct Parameters<'a> {
        version: u32,
        #[serde(flatten)]
        update: &'a ProbeUpdate,
    }
    one_of_many(Parameters { version: VERSION, update }, is_last)
}

fn one_of_many(parameters: impl Serialize, is_last: bool) -> Vec<u8> {
    #[derive(Serialize)]
    struct Success<P> {
        parameters: P,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        continues: bool,
    }
    let success = Success { parameters, continues: !is_last };
    let mut bytes = serde_json::to_vec(&success).expect("all keys are strings");
    bytes.push(0);
    bytes
}

/// The bytes of a reply, with its NUL.
pub fn reply(result: Result<ReplyParameters, Failure>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Success {
        parameters: ReplyParameters,
    }
    let bytes = match result {
        Ok(parameters) => serde_json::to_vec(&Success { parameters }),
        Err(failure) => serde_json::to_vec(&failure),
    };
    let mut bytes = bytes.expect("all keys are strings");
    bytes.push(0);
    bytes
}

impl MethodCall {
    /// The call for a request.
    pub fn new(request: &Request) -> Self {
        let Ok(Value::Object(parameters)) = serde_json::to_value(request) else {
            unreachable!("every request is a struct of strings, numbers and lists")
        };
        Self {
            method: format!("{INTERFACE}.{}", request.verb().method),
            parameters: Some(parameters),
            more: request.verb().streams(),
            oneway: false,
        }
    }

    /// The parameters as the log shows them: of files their paths, of a recorded state nothing.
    pub fn shown_parameters(&self) -> String {
        let mut parameters = self.parameters.clone().unwrap_or_default();
        parameters.remove("state");
        if let Some(Value::Array(files)) = parameters.get_mut("files") {
            for file in files {
                *file = file["path"].take();
            }
        }
        Value::Object(parameters).to_string()
    }

    /// Decodes and checks the call.
    pub fn parse(&self) -> Result<ParsedCall, Failure> {
        let not_found = || Failure::MethodNotFound { method: self.method.clone() };
        let (interface, method) = self.method.rsplit_once('.').ok_or_else(not_found)?;
        let mut parameters = Parameters(self.parameters.clone().unwrap_or_default());
        let parsed = match (interface, method) {
            (SERVICE, "GetInfo") => ParsedCall::Info,
            (SERVICE, "GetInterfaceDescription") => match parameters.take::<String>("interface")?.as_str() {
                SERVICE => ParsedCall::Description(SERVICE_DEFINITION),
                INTERFACE => ParsedCall::Description(super::DEFINITION),
                other => return Err(Failure::InterfaceNotFound { interface: other.into() }),
            },
            (SERVICE, _) => return Err(not_found()),
            (INTERFACE, _) => ParsedCall::Request(parameters.request(method)?.ok_or_else(not_found)?),
            _ => return Err(Failure::InterfaceNotFound { interface: interface.into() }),
        };
        parameters.end()?;
        if let ParsedCall::Request(request) = &parsed {
            request.check().map_err(Refused::from)?;
        }
        Ok(parsed)
    }
}

/// Parameters that have not been taken yet.
///
/// They are decoded by hand: an error of `serde` does not tell the name of a missing parameter apart from its text, and
/// `InvalidParameter` and the reason of `Refused` need it.
struct Parameters(Map<String, Value>);

impl Parameters {
    /// The request of a method of this interface; `None`: there is no such method.
    fn request(&mut self, method: &str) -> Result<Option<Request>, Failure> {
        Ok(Some(match method {
            "Create" => Request::Create {
                group: self.take("group")?,
                groupname: self.take("groupname")?,
                addresses: self.addresses()?,
            },
            "Destroy" => Request::Destroy { group: self.take("group")? },
            "Attach" => Request::Attach {
                group: self.take("group")?,
                interfaces: self.nonempty("interfaces")?,
                standby: self.take::<Option<bool>>("standby")?.unwrap_or_default(),
                test_addresses: self
                    .take::<Option<Vec<String>>>("test_addresses")?
                    .unwrap_or_default()
                    .iter()
                    .map(|text| text.parse().map_err(bad_address))
                    .collect::<Result<_, _>>()?,
                dry_run: self.take::<Option<bool>>("dry_run")?.unwrap_or_default(),
                accept_firewall: self.take::<Option<bool>>("accept_firewall")?.unwrap_or_default(),
            },
            "Detach" => Request::Detach { interface: self.take("interface")?, last: self.take("last")? },
            "DetachAll" => Request::DetachAll { group: self.take("group")? },
            "AddAddress" => Request::AddAddress {
                group: self.take("group")?,
                addresses: self.some_addresses()?,
                inbound: self.take("inbound")?,
                logical: self.take("logical")?,
            },
            "RemoveAddress" => {
                Request::RemoveAddress { group: self.take("group")?, addresses: self.some_addresses()? }
            }
            "AddTestAddress" => Request::AddTestAddress {
                interface: self.take("interface")?,
                address: self.take::<String>("address")?.parse().map_err(bad_address)?,
            },
            "RemoveTestAddress" => Request::RemoveTestAddress {
                interface: self.take("interface")?,
                address: self.take::<String>("address")?.parse().map_err(bad_address)?,
            },
            "Offline" => Request::Offline { interface: self.take("interface")? },
            "Drain" => Request::Drain { interface: self.take("interface")?, seconds: self.take("seconds")? },
            "Online" => Request::Online { interface: self.take("interface")? },
            "Set" => Request::Set {
                name: self.take("name")?,
                settings: Setting::all_of(&self.nonempty("settings")?)
                    .map_err(|error| Refused::new(reason::BAD_SETTING, error.to_string()))?,
            },
            "AddTarget" => Request::AddTarget { group: self.take("group")?, addresses: self.targets()? },
            "RemoveTarget" => {
                Request::RemoveTarget { group: self.take("group")?, addresses: self.targets()? }
            }
            "EnableTarget" => {
                Request::EnableTarget { group: self.take("group")?, addresses: self.targets()? }
            }
            "DisableTarget" => {
                Request::DisableTarget { group: self.take("group")?, addresses: self.targets()? }
            }
            "AddTargetRoute" => {
                Request::AddTargetRoute { group: self.take("group")?, addresses: self.targets()? }
            }
            "RemoveTargetRoute" => {
                Request::RemoveTargetRoute { group: self.take("group")?, addresses: self.targets()? }
            }
            "Apply" => Request::Apply {
                files: self.take("files")?,
                complete: self.take("complete")?,
                dry_run: self.take::<Option<bool>>("dry_run")?.unwrap_or_default(),
                accept_firewall: self.take::<Option<bool>>("accept_firewall")?.unwrap_or_default(),
            },
            "RecordState" => Request::RecordState {},
            "CheckGateways" => Request::CheckGateways {},
            "RestoreState" => Request::RestoreState { state: self.take("state")?, why: self.take("why")? },
            "Plan" => self.planned()?,
            "DiscoverTargets" => Request::DiscoverTargets { group: self.take("group")? },
            "ListTargets" => Request::ListTargets { group: self.take("group")? },
            "Show" => Request::Show { name: self.take("name")? },
            "Monitor" => Request::Monitor { name: self.take("name")? },
            "Probes" => Request::Probes { name: self.take("name")? },
            "Explain" => Request::Explain { member: self.take("member")? },
            "Path" => Request::Path {
                group: self.take("group")?,
                packet: Packet {
                    source: self.take("source")?,
                    destination: self.take("destination")?,
                    protocol: self.take("protocol")?,
                    source_port: self.take("source_port")?,
                    destination_port: self.take("destination_port")?,
                },
                lost: self.take::<Option<Vec<String>>>("lost")?.unwrap_or_default(),
            },
            "Timeline" => Request::Timeline { name: self.take("name")?, last: self.take("last")? },
            "Simulate" => Request::Simulate { group: self.take("group")?, lost: self.nonempty("lost")? },
            _ => return Ok(None),
        }))
    }

    /// The change of which the plan is requested.
    fn planned(&mut self) -> Result<Request, Failure> {
        let method: String = self.take("method")?;
        let is_change = |verb: &&VerbInfo| verb.permission == Permission::Change && verb.method != "Plan";
        if !VERBS.iter().filter(is_change).any(|verb| verb.method == method) {
            return Err(invalid("method"));
        }
        let mut parameters = Parameters(self.take("parameters")?);
        let change = parameters.request(&method)?.ok_or_else(|| invalid("method"))?;
        parameters.end()?;
        Ok(Request::plan(change))
    }

    fn addresses(&mut self) -> Result<Vec<DataAddress>, Failure> {
        let texts: Vec<String> = self.take("addresses")?;
        texts.iter().map(|text| text.parse().map_err(bad_address)).collect()
    }

    fn some_addresses(&mut self) -> Result<Vec<DataAddress>, Failure> {
        let addresses = self.addresses()?;
        if addresses.is_empty() { Err(invalid("addresses")) } else { Ok(addresses) }
    }

    fn targets(&mut self) -> Result<Vec<IpAddr>, Failure> {
        self.nonempty("addresses")?.iter().map(|text| target::read(text).map_err(bad_address)).collect()
    }

    fn nonempty(&mut self, name: &str) -> Result<Vec<String>, Failure> {
        let texts: Vec<String> = self.take(name)?;
        if texts.is_empty() { Err(invalid(name)) } else { Ok(texts) }
    }

    /// Takes a parameter. A missing one is null, which only an optional type accepts.
    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Failure> {
        serde_json::from_value(self.0.remove(name).unwrap_or_default()).map_err(|_| invalid(name))
    }

    /// Refuses unknown parameters: a misspelt option must not be ignored.
    fn end(self) -> Result<(), Failure> {
        self.0.into_iter().next().map_or(Ok(()), |(name, _)| Err(invalid(&name)))
    }
}

fn invalid(parameter: &str) -> Failure {
    Failure::InvalidParameter { parameter: parameter.into() }
}

fn bad_address(error: impl ToString) -> Failure {
    Refused::new(reason::BAD_ADDRESS, error.to_string()).into()
}

/// The reply to `GetInfo`.
pub fn info() -> ReplyParameters {
    ReplyParameters::Service(json!({
        "vendor": "ipmp",
        "product": "ipmpd",
        "version": env!("CARGO_PKG_VERSION"),
        "url": "",
        "interfaces": [SERVICE, INTERFACE],
    }))
}

/// The reply to `GetInterfaceDescription`.
pub fn description(of: &str) -> ReplyParameters {
    ReplyParameters::Service(json!({ "description": of }))
}

#[cfg(test)]
mod tests;
