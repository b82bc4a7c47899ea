//! What a curation did, so that a rule which deletes one kind of text is seen (spec `CLN-03`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::tally::{Group, StepTally, Tally};
use crate::recipe::Curation;

/// Hosts that the report names: those which lost most.
const HOSTS: usize = 50;

/// Fewer documents than this prove nothing.
const FEWEST: u64 = 20;

/// A group is pointed out when a step takes this share of it...
const LARGE_SHARE: f64 = 0.2;

/// ...and this many times the share that it takes of all others...
const TIMES_OTHERS: f64 = 2.0;

/// ...and chance would not: standard errors between both shares.
const Z: f64 = 4.0;

/// `curation.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this file's format.
    pub format_version: u32,
    /// The recipe's name.
    pub name: String,
    /// Names of the steps, in order.
    pub steps: Vec<String>,
    /// What happened, in all; hosts are the [`HOSTS`] that lost most.
    pub total: Tally,
    /// By source, hosts left out.
    pub sources: BTreeMap<String, Tally>,
    /// What steps over all documents report, by step.
    pub decisions: BTreeMap<String, serde_json::Value>,
    /// Groups that a step took out of proportion.
    pub findings: Vec<Finding>,
}

/// A step takes much more of one group than of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The step.
    pub step: String,
    /// What the group is: `kind math`, `host example.org`, `source books`.
    pub group: String,
    /// Documents of the group that the step rejected.
    pub rejected: u64,
    /// Documents of the group that were read.
    pub read: u64,
    /// The share it rejected of the group, 0 to 1.
    pub share: f64,
    /// The share it rejected of all other documents of the sources that the step is for.
    pub share_of_others: f64,
}

/// Adds up what the sources' shards counted.
pub(super) fn report(
    curation: &Curation,
    chain: &Chain,
    tallies: Vec<Tally>,
    decisions: BTreeMap<String, serde_json::Value>,
) -> Report {
    let findings = findings(curation, chain, &tallies);
    let mut total = Tally::default();
    let mut sources = BTreeMap::new();
    for (source, mut tally) in curation.source.iter().zip(tallies) {
        total.join(tally.clone());
        tally.hosts.clear();
        sources.insert(source.name.clone(), tally);
    }
    keep_largest_losses(&mut total.hosts);
    let steps = chain.links.iter().map(|link| link.name.clone()).collect();
    Report { format_version: 1, name: curation.name.clone(), steps, total, sources, decisions, findings }
}

/// What was counted in some sources together.
struct Seen {
    is_for: Vec<bool>,
    total: Tally,
    groups: Vec<(String, Group)>,
}

/// Of each step, among the documents of the sources that it is for: the others tell nothing of it.
fn findings(curation: &Curation, chain: &Chain, tallies: &[Tally]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut before: Option<Seen> = None;
    for (number, link) in chain.links.iter().enumerate() {
        let is_for: Vec<bool> = (0..tallies.len()).map(|source| link.is_for(source)).collect();
        // Steps in a row are mostly for the same sources.
        let seen = before.take().filter(|seen| seen.is_for == is_for);
        let seen = seen.unwrap_or_else(|| Seen::of(curation, tallies, is_for));
        findings
            .extend(seen.groups.iter().filter_map(|group| finding((number, &link.name), &seen.total, group)));
        before = Some(seen);
    }
    findings
}

impl Seen {
    fn of(curation: &Curation, tallies: &[Tally], is_for: Vec<bool>) -> Self {
        let mut total = Tally::default();
        let mut groups = Vec::new();
        let sources = curation.source.iter().zip(tallies).zip(&is_for);
        for ((source, tally), _) in sources.filter(|(_, is_for)| **is_for) {
            total.join(tally.clone());
            let rejected = tally.steps.iter().map(|(step, tally)| (*step, tally.rejected)).collect();
            groups.push((format!("source {}", source.name), Group { read: tally.read, rejected }));
        }
        groups.extend(total.kinds.iter().map(|(kind, group)| (format!("kind {kind}"), group.clone())));
        groups.extend(total.hosts.iter().map(|(host, group)| (format!("host {host}"), group.clone())));
        Self { is_for, total, groups }
    }
}

/// Whether a step took this group out of proportion.
fn finding(step: (usize, &str), total: &Tally, (name, group): &(String, Group)) -> Option<Finding> {
    let StepTally { rejected: all, .. } = total.steps.get(&step.0)?;
    let rejected = group.rejected.get(&step.0).map_or(0, |amount| amount.documents);
    let read = group.read.documents;
    let (others, others_rejected) =
        (total.read.documents.saturating_sub(read), all.documents.saturating_sub(rejected));
    if rejected < FEWEST || others < FEWEST {
        return None;
    }
    let (share, share_of_others) = (rejected as f64 / read as f64, others_rejected as f64 / others as f64);
    let pooled = all.documents as f64 / total.read.documents as f64;
    let error = (pooled * (1.0 - pooled) * (1.0 / read as f64 + 1.0 / others as f64)).sqrt();
    let found = share >= LARGE_SHARE
        && share >= TIMES_OTHERS * share_of_others
        && share - share_of_others > Z * error;
    let (step, group) = (step.1.to_owned(), name.clone());
    found.then_some(Finding { step, group, rejected, read, share, share_of_others })
}

fn lost(group: &Group) -> u64 {
    group.rejected.values().map(|amount| amount.documents).sum()
}

fn keep_largest_losses(hosts: &mut BTreeMap<String, Group>) {
    let mut order: Vec<(u64, String)> =
        hosts.iter().map(|(host, group)| (lost(group), host.clone())).collect();
    order.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    for (_, host) in order.drain(HOSTS.min(order.len())..) {
        hosts.remove(&host);
    }
}
