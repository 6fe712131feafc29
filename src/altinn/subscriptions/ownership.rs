//! Whose a subscription is: ours, if its endpoint is under our public URL.
//!
//! Pure. Owns when a row is the same as what is asked for.

use url::Url;

use super::{
    api::{Observed, Spec, SubscriptionId, given},
    hook_url::{code_of, hook_of, normal},
};
use crate::secret::Digest;

/// A row whose endpoint is ours.
pub(super) struct OwnRow<'a> {
    pub(super) row: &'a Observed,
    pub(super) endpoint: Url,
    /// What stands after `/hooks/`.
    pub(super) name: String,
    /// Of the secret in its endpoint.
    pub(super) code: Option<Digest>,
}

/// Our rows, and the ids of the others.
pub(super) fn split<'a>(
    observed: &'a [Observed],
    public_url: &Url,
) -> (Vec<OwnRow<'a>>, Vec<SubscriptionId>) {
    let mut ours: Vec<OwnRow<'_>> = Vec::new();
    let mut foreign = Vec::new();
    for row in observed {
        match OwnRow::new(row, public_url) {
            Some(row) => ours.push(row),
            None => foreign.push(row.id),
        }
    }
    (ours, foreign)
}

impl<'a> OwnRow<'a> {
    fn new(row: &'a Observed, public_url: &Url) -> Option<Self> {
        let endpoint = Url::parse(row.endpoint.as_deref()?).ok()?;
        let name = hook_of(&endpoint, public_url)?;
        let code = code_of(&endpoint);
        Some(Self { row, endpoint, name, code })
    }

    pub(super) fn has_endpoint(&self, spec: &Spec) -> bool {
        normal(self.endpoint.as_str()) == normal(spec.endpoint.as_str())
    }

    pub(super) fn has_filters(&self, spec: &Spec) -> bool {
        let row = self.row;
        row.source.is_none()
            && row.resource.as_deref().map(str::to_lowercase) == Some(spec.resource.to_lowercase())
            && row.subject.as_deref() == given(spec.subject.as_deref())
            && row.ty.as_deref() == given(spec.ty.as_deref())
            && row.include_subunits == spec.include_subunits
    }
}
