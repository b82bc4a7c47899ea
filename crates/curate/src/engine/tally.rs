//! What happened to the documents of a shard: counted, never lost, added up without counting anything twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smolt_data::document::Document;

use super::kind::Kind;
use crate::lists::{MAX_HOST, host};
use crate::step::Rejection;

/// Hosts that a shard counts apart; the documents of further ones are counted as [`OTHER_HOSTS`].
const MAX_HOSTS: usize = 10_000;

/// Hosts that joined tallies count apart: enough for every large one, and bounds the memory of the report.
const MAX_JOINED_HOSTS: usize = 1_000_000;

/// Stands for all hosts beyond the first [`MAX_HOSTS`].
pub(super) const OTHER_HOSTS: &str = "(other hosts)";

/// Documents and their bytes of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How many.
    pub documents: u64,
    /// UTF-8 bytes of their text.
    pub bytes: u64,
}

impl Amount {
    /// One document more.
    pub fn add(&mut self, bytes: usize) {
        self.documents += 1;
        self.bytes += bytes as u64;
    }

    fn join(&mut self, other: Self) {
        self.documents += other.documents;
        self.bytes += other.bytes;
    }
}

/// What one step did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTally {
    /// What it was given.
    pub seen: Amount,
    /// What it rejected, as it was given.
    pub rejected: Amount,
    /// Documents whose text it changed and kept, and the bytes they lost (bytes that a step added do not count).
    pub changed: Amount,
    /// Rejected documents by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Documents in which the step found a thing of its own, by the number it calls it by; what it tells of them stands
    /// in the report's decisions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub found: BTreeMap<u32, u64>,
}

impl StepTally {
    /// Adds what was counted elsewhere.
    pub fn join(&mut self, other: Self) {
        self.seen.join(other.seen);
        self.rejected.join(other.rejected);
        self.changed.join(other.changed);
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        for (thing, count) in other.found {
            *self.found.entry(thing).or_default() += count;
        }
    }
}

/// What happened to a group of documents that belong together, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Documents that were read.
    pub read: Amount,
    /// Rejected, by step.
    pub rejected: BTreeMap<usize, Amount>,
}

/// Everything counted in one shard, or in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// What was read.
    pub read: Amount,
    /// What went on to the end.
    pub kept: Amount,
    /// Records that could not be read, by what was wrong.
    pub unreadable: BTreeMap<String, u64>,
    /// By the step's place in the recipe.
    pub steps: BTreeMap<usize, StepTally>,
    /// By kind of content (spec `CLN-03`).
    pub kinds: BTreeMap<Kind, Group>,
    /// By host of the address.
    pub hosts: BTreeMap<String, Group>,
}

/// The groups a document is counted in from the moment it is read: kind and host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    kind: Kind,
    host: Option<String>,
}

impl Tally {
    /// The groups of a document whose text, before any step, is of this kind. Later passes are told them: where the tally
    /// has no more room for hosts depends on those it has seen.
    pub fn groups(&self, document: &Document, kind: Kind) -> Groups {
        let host = document.url.as_deref().map(host).filter(|host| !host.is_empty()).map(|host| {
            let room = self.hosts.len() < MAX_HOSTS || self.hosts.contains_key(&host);
            // A name too long for a host is none.
            if room && host.len() <= MAX_HOST { host } else { OTHER_HOSTS.to_owned() }
        });
        Groups { kind, host }
    }

    /// A document of these groups was read; `bytes` are those of its text before any step.
    pub fn read(&mut self, bytes: usize, groups: &Groups) {
        self.read.add(bytes);
        self.each_group(groups, |group| group.read.add(bytes));
    }

    /// `step` rejected a document that had `bytes` when the step got it.
    pub fn reject(&mut self, step: usize, bytes: usize, rejection: &Rejection, groups: &Groups) {
        let tally = self.steps.entry(step).or_default();
        tally.seen.add(bytes);
        tally.rejected.add(bytes);
        *tally.reasons.entry(rejection.reason.to_owned()).or_default() += 1;
        self.each_group(groups, |group| group.rejected.entry(step).or_default().add(bytes));
    }

    /// `step` kept a document.
    pub fn keep(&mut self, step: usize, before: usize, after: usize, changed: bool) {
        let tally = self.steps.entry(step).or_default();
        tally.seen.add(before);
        if changed {
            tally.changed.add(before.saturating_sub(after));
        }
    }

    /// `step` found this thing in a document.
    pub fn found(&mut self, step: usize, thing: u32) {
        *self.steps.entry(step).or_default().found.entry(thing).or_default() += 1;
    }

    fn each_group(&mut self, groups: &Groups, mut act: impl FnMut(&mut Group)) {
        act(self.kinds.entry(groups.kind).or_default());
        if let Some(host) = &groups.host {
            act(self.hosts.entry(host.clone()).or_default());
        }
    }

    /// Adds what another shard or pass counted.
    pub fn join(&mut self, other: Self) {
        self.read.join(other.read);
        self.kept.join(other.kept);
        for (problem, count) in other.unreadable {
            *self.unreadable.entry(problem).or_default() += count;
        }
        for (step, tally) in other.steps {
            self.steps.entry(step).or_default().join(tally);
        }
        for (kind, group) in other.kinds {
            self.kinds.entry(kind).or_default().join(group);
        }
        for (host, group) in other.hosts {
            let room = self.hosts.len() < MAX_JOINED_HOSTS || self.hosts.contains_key(&host);
            let host = if room { host } else { OTHER_HOSTS.to_owned() };
            self.hosts.entry(host).or_default().join(group);
        }
    }
}

impl Group {
    fn join(&mut self, other: Self) {
        self.read.join(other.read);
        for (step, amount) in other.rejected {
            self.rejected.entry(step).or_default().join(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_tallies_are_the_tally_of_both() {
        let documents: Vec<Document> = (0..40)
            .map(|i| Document {
                text: "word ".repeat(i),
                url: Some(format!("http://host{}/", i % 3)),
                ..Document::default()
            })
            .collect();
        let count = |documents: &[Document]| {
            let mut tally = Tally::default();
            for document in documents {
                let groups = tally.groups(document, Kind::of(&document.text));
                let bytes = document.text.len();
                tally.read(bytes, &groups);
                if bytes % 3 == 0 {
                    let rejection = Rejection { reason: "third", detail: String::new() };
                    tally.reject(0, bytes, &rejection, &groups);
                } else {
                    tally.keep(0, bytes, bytes / 2, true);
                    tally.kept.add(bytes / 2);
                }
            }
            tally
        };
        let mut joined = count(&documents[..13]);
        joined.join(count(&documents[13..]));
        assert_eq!(joined, count(&documents));
        assert_eq!(joined.steps[&0].seen, joined.read);
        assert_eq!(joined.hosts.values().map(|group| group.read.documents).sum::<u64>(), 40);
    }

    #[test]
    fn hosts_are_bounded() {
        let mut tally = Tally::default();
        for i in 0..MAX_HOSTS + 50 {
            let url = Some(format!("http://{i}.example/"));
            let groups = tally.groups(&Document { url, ..Document::default() }, Kind::Short);
            tally.read(0, &groups);
        }
        assert_eq!(tally.hosts[OTHER_HOSTS].read.documents, 50);
        assert_eq!(tally.hosts.len(), MAX_HOSTS + 1);
    }
}
