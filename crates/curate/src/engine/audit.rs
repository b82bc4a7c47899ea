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
    /// The share it rejected of all other documents.
    pub share_of_others: f64,
}

/// Adds up what the sources' shards counted.
pub(super) fn report(
    curation: &Curation,
    chain: &Chain,
    tallies: Vec<Tally>,
    decisions: BTreeMap<String, serde_json::Value>,
) -> Report {
    let steps: Vec<String> = chain.links.iter().map(|link| link.name.clone()).collect();
    let mut total = Tally::default();
    let mut sources = BTreeMap::new();
    let mut groups: Vec<(String, Group)> = Vec::new();
    for (source, mut tally) in curation.source.iter().zip(tallies) {
        total.join(tally.clone());
        tally.hosts.clear();
        let rejected = tally.steps.iter().map(|(step, tally)| (*step, tally.rejected)).collect();
        groups.push((format!("source {}", source.name), Group { read: tally.read, rejected }));
        sources.insert(source.name.clone(), tally);
    }
    groups.extend(total.kinds.iter().map(|(kind, group)| (format!("kind {kind}"), group.clone())));
    groups.extend(total.hosts.iter().map(|(host, group)| (format!("host {host}"), group.clone())));
    let findings = findings(&steps, &total, &groups);
    keep_largest_losses(&mut total.hosts);
    Report { format_version: 1, name: curation.name.clone(), steps, total, sources, decisions, findings }
}

fn findings(steps: &[String], total: &Tally, groups: &[(String, Group)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, name) in steps.iter().enumerate() {
        let Some(StepTally { rejected, .. }) = total.steps.get(&number) else { continue };
        for (group, counts) in groups {
            let taken = counts.rejected.get(&number).map_or(0, |amount| amount.documents);
            let read = counts.read.documents;
            let (others, others_taken) =
                (total.read.documents.saturating_sub(read), rejected.documents.saturating_sub(taken));
            if taken < FEWEST || others < FEWEST {
                continue;
            }
            let (share, share_of_others) = (taken as f64 / read as f64, others_taken as f64 / others as f64);
            let pooled = rejected.documents as f64 / total.read.documents as f64;
            let error = (pooled * (1.0 - pooled) * (1.0 / read as f64 + 1.0 / others as f64)).sqrt();
            let apart = share - share_of_others;
            if share >= LARGE_SHARE && share >= TIMES_OTHERS * share_of_others && apart > Z * error {
                let (step, group) = (name.clone(), group.clone());
                findings.push(Finding { step, group, rejected: taken, read, share, share_of_others });
            }
        }
    }
    findings
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
