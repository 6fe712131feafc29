//! What a stand-in is set up with: who may sign in, who may subscribe to what, and how fast its
//! time runs.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio_rustls::rustls;

use crate::clock::Clock;

/// Everything a stand-in can be told before it starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; loopback only, port 0 takes a free one.
    pub listen: SocketAddr,
    /// TLS for its own endpoint; plain HTTP without.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Clients registered with Maskinporten.
    pub clients: Vec<Client>,
    /// Registered service owners: organisation number → short code.
    pub service_owners: BTreeMap<String, String>,
    /// Resources whose policy grants `subscribe`; everything else is denied.
    pub resources: Vec<String>,
    /// Exceptions from that, first match wins.
    pub decisions: Vec<Decision>,
    /// Units: organisation number of a subunit → of its main unit.
    pub main_units: BTreeMap<String, String>,
    /// Which of Altinn's two delivery engines is played.
    pub engine: Engine,
    /// All of Altinn's delays and cache times are divided by this.
    pub time_scale: NonZeroU32,
    /// How long tokens live.
    pub lifetimes: Lifetimes,
    /// When set, platform calls without it as `Ocp-Apim-Subscription-Key` are 401.
    pub api_key: Option<String>,
    /// PEM: the only certificates that are trusted when events are pushed.
    pub push_ca: String,
    /// Whether the subscription and authorization caches are on.
    pub caches: bool,
    /// Where the time comes from.
    pub clock: Clock,
}

impl Options {
    /// Engine B in real time on a free port, nobody registered, pushing to servers under `push_ca`.
    pub fn new(push_ca: String) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            clients: Vec::new(),
            service_owners: BTreeMap::new(),
            resources: Vec::new(),
            decisions: Vec::new(),
            main_units: BTreeMap::new(),
            engine: Engine::B,
            time_scale: NonZeroU32::MIN,
            lifetimes: Lifetimes::default(),
            api_key: None,
            push_ca,
            caches: true,
            clock: Clock::System,
        }
    }

    /// One of Altinn's delays in the stand-in's time.
    pub(super) fn scaled(&self, delay: Duration) -> Duration {
        delay / self.time_scale.get()
    }
}

/// A client registered with Maskinporten.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its id, the `iss` of its assertions.
    pub id: String,
    /// The organisation number it belongs to: nine digits.
    pub org: String,
    /// Scopes on the client.
    pub scopes: Vec<String>,
    /// Of these, scopes the organisation has not been granted (MP-250).
    pub not_granted: Vec<String>,
    /// Its registered keys.
    pub keys: Vec<ClientKey>,
    /// Its organisation's enterprise certificates, which it may show instead of a registered key.
    pub certificates: Vec<EnterpriseCertificate>,
    /// Scopes that other organisations have delegated to it.
    pub delegations: Vec<Delegation>,
    /// System users it may act for.
    pub system_users: Vec<SystemUser>,
}

impl Client {
    /// The id of its system in the system register.
    pub(super) fn system_id(&self) -> String {
        format!("{}_brevdue", self.org)
    }
}

/// A certificate that Maskinporten takes for the client's.
#[derive(Debug, Clone)]
pub struct EnterpriseCertificate {
    /// PEM; the first is the one that counts.
    pub chain: String,
    /// Its RSA public key: PEM (`PUBLIC KEY`) or a JWK.
    pub public: String,
}

/// A scope that a consumer has delegated to a supplier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The consumer's organisation number.
    pub consumer: String,
    /// The scope.
    pub scope: String,
}

/// A registered key.
#[derive(Debug, Clone)]
pub struct ClientKey {
    /// The `kid`.
    pub id: String,
    /// An RSA public key: PEM (`PUBLIC KEY`) or a JWK.
    pub public: String,
    /// Whether it is older than a year (MP-121).
    pub expired: bool,
}

/// A system user that has accepted the client's system.
#[derive(Debug, Clone)]
pub struct SystemUser {
    /// The organisation number of the customer.
    pub org: String,
    /// As given when it was requested; Altinn takes the organisation number if there was none.
    pub external_ref: Option<String>,
    /// Its id.
    pub uuid: String,
}

/// One row of the policy table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The consumer, such as `/organisation/999888777`; anyone if left out.
    #[serde(default)]
    pub consumer: Option<String>,
    /// The whole URN.
    pub resource: String,
    /// The subject filter or event subject; any if left out.
    #[serde(default)]
    pub subject: Option<String>,
    /// Whether it is allowed.
    pub permit: bool,
}

/// Altinn's two delivery engines: they differ in time-outs and retry schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Storage Queue and Azure Functions.
    A,
    /// Service Bus.
    B,
}

/// How long tokens live.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// `expires_in` of a Maskinporten answer, in seconds.
    pub expires_in: u64,
    /// `exp - iat` of a Maskinporten token, in seconds.
    pub maskinporten: u64,
    /// `exp - iat` of an Altinn token, in seconds.
    pub altinn: u64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { expires_in: 119, maskinporten: 120, altinn: 1800 }
    }
}
