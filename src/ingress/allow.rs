//! Who may call at all, by address.

use std::net::IpAddr;

use crate::network::{self, Network};

/// The list, and whether it keeps others out or only tells of them.
#[derive(Debug, Clone)]
pub struct AllowList {
    /// Who may call.
    pub networks: Vec<Network>,
    /// Others get 403; without this they are let in and reported.
    pub enforce: bool,
}

impl AllowList {
    /// Whether this peer is on it; one whose address is not known never is.
    pub fn contains(&self, peer: Option<IpAddr>) -> bool {
        peer.is_some_and(|peer| network::any_contains(&self.networks, peer))
    }
}
