//! What the stand-in remembers: rows, events, caches, tokens, faults, and what it has counted.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    auth::tokens::{PublicKey, SigningKey},
    events::{
        cloud_event::CloudEvent,
        push::{Break, Pusher},
    },
    options::{Decision, Engine, Options},
    times,
};
use crate::clock::Timestamp;

/// Attempts that are remembered for `GET /simulator/deliveries`; the oldest go first.
const REMEMBERED: usize = 100_000;
/// Rows, stored events and waiting deliveries at the most: a stand-in is no place to fill memory.
pub(super) const MAX_SUBSCRIPTIONS: usize = 10_000;
pub(super) const MAX_EVENTS: usize = 1_000_000;
pub(super) const MAX_JOBS: usize = 200_000;

/// Everything, shared by requests and deliveries.
pub(super) struct State {
    pub(super) options: Options,
    /// Without a slash at the end.
    pub(super) base: String,
    /// The keys that clients have registered, by client and `kid`.
    pub(super) client_keys: HashMap<(String, String), PublicKey>,
    /// Their enterprise certificates by client and the certificate's DER.
    pub(super) certificates: HashMap<(String, Vec<u8>), PublicKey>,
    pub(super) maskinporten_key: SigningKey,
    pub(super) altinn_key: SigningKey,
    pub(super) pusher: Pusher,
    /// Pushes at the same time.
    pub(super) slots: Semaphore,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    tables: Mutex<Tables>,
}

impl State {
    /// Nothing has happened yet.
    pub(super) fn new(options: Options, base: String) -> anyhow::Result<Self> {
        let mut client_keys = HashMap::new();
        let mut certificates = HashMap::new();
        for client in &options.clients {
            for key in &client.keys {
                let name = (client.id.clone(), key.id.clone());
                client_keys.insert(name, PublicKey::read(&key.public)?);
            }
            for certificate in &client.certificates {
                let leaf = CertificateDer::from_pem_slice(certificate.chain.as_bytes());
                let leaf = leaf.map_err(|error| anyhow!("not a certificate: {error}"))?.to_vec();
                let name = (client.id.clone(), leaf);
                certificates.insert(name, PublicKey::read(&certificate.public)?);
            }
        }
        Ok(Self {
            base,
            client_keys,
            certificates,
            maskinporten_key: SigningKey::generate()?,
            altinn_key: SigningKey::generate()?,
            pusher: Pusher::new(&options)?,
            slots: Semaphore::new(match options.engine {
                Engine::A => 24,
                Engine::B => 20,
            }),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            tables: Mutex::default(),
            options,
        })
    }

    /// The tables, for a moment: never held over an await.
    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    pub(super) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// Maskinporten's issuer identifier, with its slash.
    pub(super) fn issuer(&self) -> String {
        format!("{}/maskinporten/", self.base)
    }

    /// The issuer of Altinn tokens, with its slash.
    pub(super) fn altinn_issuer(&self) -> String {
        format!("{}/authentication/api/v1/openid/", self.base)
    }
}

/// The changing part.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) subscriptions: BTreeMap<i32, Subscription>,
    last_id: i32,
    pub(super) events: Vec<StoredEvent>,
    pub(super) stored_ids: HashSet<(String, String)>,
    /// (resource, subject, type) → what matched then; until when.
    pub(super) matches: HashMap<MatchKey, (Vec<Subscription>, Timestamp)>,
    /// (resource, consumer) → permit; until when.
    pub(super) decisions: HashMap<(String, String), (bool, Timestamp)>,
    /// Assertions that have been used, until when they must be remembered.
    pub(super) used: HashMap<String, u64>,
    /// `sid` of the Altinn tokens that hold, and their end.
    pub(super) sessions: HashMap<String, u64>,
    pub(super) faults: Faults,
    pub(super) counts: Counts,
    pub(super) deliveries: VecDeque<Delivery>,
    pub(super) dead_letters: usize,
    pub(super) jobs: usize,
}

/// What a fan-out's cache is keyed by.
pub(super) type MatchKey = (String, Option<String>, String);

impl Tables {
    /// A new row under the next id; `None` when there are too many.
    pub(super) fn insert(&mut self, mut row: Subscription) -> Option<Subscription> {
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return None;
        }
        self.last_id = self.last_id.checked_add(1)?;
        row.id = self.last_id;
        self.subscriptions.insert(row.id, row.clone());
        Some(row)
    }

    /// Notes an attempt.
    pub(super) fn note(&mut self, delivery: Delivery) {
        if self.deliveries.len() >= REMEMBERED {
            self.deliveries.pop_front();
        }
        self.deliveries.push_back(delivery);
    }

    /// Takes a place for a delivery or a validation; false when there is none.
    pub(super) fn take_job(&mut self) -> bool {
        let free = self.jobs < MAX_JOBS;
        if free {
            self.jobs += 1;
        }
        free
    }
}

/// A row of the subscription table, as it is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subscription {
    pub(super) id: i32,
    pub(super) end_point: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source_filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resource_filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject_filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) type_filter: Option<String>,
    pub(super) consumer: String,
    pub(super) created_by: String,
    #[serde(serialize_with = "times::in_microseconds")]
    pub(super) created: Timestamp,
    pub(super) validated: bool,
    pub(super) include_subunits: bool,
}

impl Subscription {
    /// The seven values that make two subscriptions the same.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.resource_filter == other.resource_filter
            && self.source_filter == other.source_filter
            && self.subject_filter == other.subject_filter
            && self.type_filter == other.type_filter
            && self.consumer == other.consumer
            && self.end_point == other.end_point
            && self.include_subunits == other.include_subunits
    }
}

/// An event in the order of storing.
pub(super) struct StoredEvent {
    pub(super) event: Arc<CloudEvent>,
    pub(super) at: Timestamp,
}

/// One attempt to push.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delivery {
    pub(super) event_id: String,
    pub(super) subscription_id: i32,
    pub(super) validation: bool,
    pub(super) attempt: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) at: Timestamp,
}

/// What was asked of the stand-in, so that a test can say "and no more than that".
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Counts {
    pub(super) token_requests: u64,
    pub(super) tokens_issued: u64,
    pub(super) exchanges: u64,
    pub(super) altinn_tokens_issued: u64,
    pub(super) subscription_posts: u64,
    pub(super) subscriptions_created: u64,
    pub(super) subscription_lists: u64,
    pub(super) subscription_gets: u64,
    pub(super) subscription_deletes: u64,
    pub(super) feed_reads: u64,
    pub(super) publishes: u64,
    pub(super) unauthorized: u64,
    /// Calls that are left without an answer on purpose.
    pub(super) hanging: u64,
}

/// What goes wrong on purpose.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Faults {
    pub(super) token: Option<TokenFault>,
    pub(super) exchange: Option<ExchangeFault>,
    pub(super) events: Option<EventsFault>,
    pub(super) push: Option<PushFault>,
    /// Maskinporten's clock is so many seconds ahead of ours, or behind.
    pub(super) clock_offset: i64,
    pub(super) metadata: Option<MetadataFault>,
    /// A scope that is asked for and not granted, though nobody says no.
    pub(super) withheld_scope: Option<String>,
    pub(super) registry: Option<RegistryFault>,
    pub(super) search: Option<SearchFault>,
    pub(super) vendor: Option<VendorFault>,
    pub(super) hang: Option<Hang>,
    /// Calls that are answered with this status, and with `retry_after` if that is set.
    pub(super) status: BTreeMap<Call, u16>,
    pub(super) retry_after: Option<u64>,
    /// Decisions that come before those of the options.
    pub(super) decisions: Vec<Decision>,
    /// All Altinn tokens issued so far stop holding, once.
    #[serde(skip_serializing)]
    pub(super) expire_tokens: bool,
}

/// A call that can be made to fail by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Call {
    Token,
    Exchange,
    List,
    Post,
    Get,
    Delete,
    Feed,
}

/// At the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TokenFault {
    #[serde(rename = "500")]
    Error,
    /// No answer.
    #[serde(rename = "timeout")]
    Timeout,
    /// Tokens that live for a second.
    #[serde(rename = "tiny")]
    Tiny,
}

/// At the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ExchangeFault {
    /// An outage told as 401, which heals.
    #[serde(rename = "401-once")]
    UnauthorizedOnce,
    /// Another Altinn than the token is for.
    #[serde(rename = "401")]
    Unauthorized,
    #[serde(rename = "500")]
    Error,
}

/// At the Events API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum EventsFault {
    #[serde(rename = "429")]
    TooMany,
    #[serde(rename = "500")]
    Error,
    /// The row is there, the validation is not sent.
    #[serde(rename = "500-after-insert")]
    ErrorAfterInsert,
    /// Answers three seconds late.
    #[serde(rename = "slow")]
    Slow,
    /// The first validation attempt comes before the 201 is written.
    #[serde(rename = "validate-first")]
    ValidateFirst,
    /// All looks well, and no validation is ever sent.
    #[serde(rename = "never-validate")]
    NeverValidate,
}

/// Of Maskinporten's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum MetadataFault {
    /// There are none.
    Missing,
    /// They are another issuer's.
    Issuer,
}

/// In the resource registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RegistryFault {
    /// No resource is known.
    Missing,
    /// Resources are of another type than Correspondence's.
    Type,
    /// No policy permits to subscribe.
    NoSubscribe,
}

/// At Correspondence's search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SearchFault {
    /// The caller lacks the right: 401 with an error code of its own.
    #[serde(rename = "4001")]
    NoAccess,
    #[serde(rename = "500")]
    Error,
}

/// In the system register and among system users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum VendorFault {
    /// The system does not list the client.
    Client,
    /// The request for the system user was rejected.
    Rejected,
    /// There is no such system user.
    Missing,
}

/// A call to the Events API that is never answered, whether it was carried out or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Hang {
    List,
    Post,
    PostDone,
    Delete,
    DeleteDone,
}

/// On the way to the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PushFault {
    /// Stored, never pushed.
    Drop,
    /// Pushed twice at the same time.
    Duplicate,
    /// Pushed in any order.
    Shuffle,
    /// At the first attempt the connection breaks off in the middle of the body.
    HalfBody,
    /// At the first attempt the connection breaks off when the body is sent.
    Disconnect,
    /// At the first attempt the answer is not read in time.
    ReadTimeout,
    /// Whatever connection is at hand is used, also one that its peer is closing.
    Stale,
}

impl PushFault {
    /// How a first attempt breaks off.
    pub(super) fn breaks(self) -> Option<Break> {
        match self {
            Self::HalfBody => Some(Break::InBody),
            Self::Disconnect => Some(Break::AfterBody),
            Self::ReadTimeout => Some(Break::Unread),
            Self::Drop | Self::Duplicate | Self::Shuffle | Self::Stale => None,
        }
    }
}
