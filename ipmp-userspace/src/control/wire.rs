//! Calls and replies on the socket: JSON objects, each ended by a NUL (<https://varlink.org>).

use std::net::IpAddr;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    address::DataAddress,
    explanation::Explanation,
    monitor::EventRecord,
    name,
    probes::ProbeUpdate,
    report::{GroupReport, VERSION},
    request::{Refused, Request, Response, reason},
    setting::Setting,
    target::{self, TargetReport},
    test_address::TestAddressSpec,
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
        /// Side effects, a sentence each.
        notes: Vec<String>,
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
    /// To the standard interface.
    Service(Value),
}

impl From<Response> for ReplyParameters {
    fn from(response: Response) -> Self {
        match response {
            Response::Done(notes) => Self::Done { notes },
            Response::Show(groups) => Self::Shown { version: VERSION, groups },
            Response::Explained(explanation) => Self::Explained { version: VERSION, explanation },
            Response::Targets(targets) => Self::Targets { version: VERSION, targets },
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
            (INTERFACE, _) => ParsedCall::Request(parameters.request(method).ok_or_else(not_found)??),
            _ => return Err(Failure::InterfaceNotFound { interface: interface.into() }),
        };
        parameters.end()?;
        Ok(parsed)
    }
}

/// Parameters that have not been taken yet.
struct Parameters(Map<String, Value>);

impl Parameters {
    /// The request of a method of ours; `None`: there is no such method.
    fn request(&mut self, method: &str) -> Option<Result<Request, Failure>> {
        Some(match method {
            "Create" => self.create(),
            "Destroy" => self.group().map(|group| Request::Destroy { group }),
            "Attach" => self.attach(),
            "Detach" => self
                .interface()
                .and_then(|interface| Ok(Request::Detach { interface, last: self.take("last")? })),
            "AddAddress" => self
                .group()
                .and_then(|group| Ok(Request::AddAddress { group, addresses: self.some_addresses()? })),
            "RemoveAddress" => self
                .group()
                .and_then(|group| Ok(Request::RemoveAddress { group, addresses: self.some_addresses()? })),
            "AddTestAddress" => self.interface().and_then(|interface| {
                Ok(Request::AddTestAddress { interface, address: self.test_address()? })
            }),
            "RemoveTestAddress" => self.interface().and_then(|interface| {
                Ok(Request::RemoveTestAddress { interface, address: self.test_address()? })
            }),
            "Offline" => self.interface().map(|interface| Request::Offline { interface }),
            "Online" => self.interface().map(|interface| Request::Online { interface }),
            "Set" => self.set(),
            "AddTarget" => self.targets().map(|(group, addresses)| Request::AddTarget { group, addresses }),
            "RemoveTarget" => {
                self.targets().map(|(group, addresses)| Request::RemoveTarget { group, addresses })
            }
            "EnableTarget" => {
                self.targets().map(|(group, addresses)| Request::EnableTarget { group, addresses })
            }
            "DisableTarget" => {
                self.targets().map(|(group, addresses)| Request::DisableTarget { group, addresses })
            }
            "DiscoverTargets" => self.group().map(|group| Request::DiscoverTargets { group }),
            "ListTargets" => self.group().map(|group| Request::ListTargets { group }),
            "Show" => self.name().map(|name| Request::Show { name }),
            "Monitor" => self.name().map(|name| Request::Monitor { name }),
            "Probes" => self.name().map(|name| Request::Probes { name }),
            "Explain" => self.explain(),
            _ => return None,
        })
    }

    fn create(&mut self) -> Result<Request, Failure> {
        let group = self.group()?;
        let groupname: Option<String> = self.take("groupname")?;
        groupname.as_deref().map_or(Ok(()), name::check_groupname).map_err(bad_name)?;
        Ok(Request::Create { group, groupname, addresses: self.addresses()? })
    }

    fn attach(&mut self) -> Result<Request, Failure> {
        let group = self.group()?;
        let interfaces: Vec<String> = self.take("interfaces")?;
        if interfaces.is_empty() {
            return Err(invalid("interfaces"));
        }
        for (at, interface) in interfaces.iter().enumerate() {
            name::check_interface(interface).map_err(bad_name)?;
            if interfaces[..at].contains(interface) {
                return Err(bad_name(format!("{interface} is named twice: name each interface once")));
            }
        }
        let standby: Option<bool> = self.take("standby")?;
        let test_addresses = self
            .take::<Option<Vec<String>>>("test_addresses")?
            .unwrap_or_default()
            .iter()
            .map(|text| text.parse().map_err(bad_test_address))
            .collect::<Result<Vec<_>, _>>()?;
        TestAddressSpec::check(&test_addresses, &interfaces).map_err(bad_test_address)?;
        let standby = standby.unwrap_or_default();
        Ok(Request::Attach { group, interfaces, standby, test_addresses })
    }

    fn targets(&mut self) -> Result<(String, Vec<IpAddr>), Failure> {
        let bad = |error: target::Error| Failure::from(Refused::new(reason::BAD_ADDRESS, error.to_string()));
        let group = self.group()?;
        let texts: Vec<String> = self.take("addresses")?;
        if texts.is_empty() {
            return Err(invalid("addresses"));
        }
        let addresses: Vec<IpAddr> =
            texts.iter().map(|text| target::read(text)).collect::<Result<_, _>>().map_err(bad)?;
        target::check(&addresses).map_err(bad)?;
        Ok((group, addresses))
    }

    fn test_address(&mut self) -> Result<TestAddressSpec, Failure> {
        self.take::<String>("address")?.parse().map_err(bad_test_address)
    }

    fn set(&mut self) -> Result<Request, Failure> {
        let name: String = self.take("name")?;
        name::check_interface(&name).map_err(bad_name)?;
        let texts: Vec<String> = self.take("settings")?;
        if texts.is_empty() {
            return Err(invalid("settings"));
        }
        let settings = Setting::all_of(&texts)
            .map_err(|error| Failure::from(Refused::new(reason::BAD_SETTING, error.to_string())))?;
        Ok(Request::Set { name, settings })
    }

    fn explain(&mut self) -> Result<Request, Failure> {
        let member: String = self.take("member")?;
        name::check_interface(&member).map_err(bad_name)?;
        Ok(Request::Explain { member })
    }

    fn name(&mut self) -> Result<Option<String>, Failure> {
        let name: Option<String> = self.take("name")?;
        name.as_deref().map_or(Ok(()), name::check_groupname).map_err(bad_name)?;
        Ok(name)
    }

    fn group(&mut self) -> Result<String, Failure> {
        let group: String = self.take("group")?;
        name::check_group(&group).map_err(bad_name)?;
        Ok(group)
    }

    fn interface(&mut self) -> Result<String, Failure> {
        let interface: String = self.take("interface")?;
        name::check_interface(&interface).map_err(bad_name)?;
        Ok(interface)
    }

    fn addresses(&mut self) -> Result<Vec<DataAddress>, Failure> {
        let bad = |message: String| Failure::from(Refused::new(reason::BAD_ADDRESS, message));
        let mut addresses: Vec<DataAddress> = Vec::new();
        for text in self.take::<Vec<String>>("addresses")? {
            let address: DataAddress = text.parse().map_err(|e: super::address::Error| bad(e.to_string()))?;
            if addresses.iter().any(|other| other.address() == address.address()) {
                return Err(bad(format!("{} is given twice: give each address once", address.address())));
            }
            addresses.push(address);
        }
        Ok(addresses)
    }

    fn some_addresses(&mut self) -> Result<Vec<DataAddress>, Failure> {
        let addresses = self.addresses()?;
        if addresses.is_empty() { Err(invalid("addresses")) } else { Ok(addresses) }
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

fn bad_name(error: impl ToString) -> Failure {
    Refused::new(reason::BAD_NAME, error.to_string()).into()
}

fn bad_test_address(error: super::test_address::Error) -> Failure {
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
