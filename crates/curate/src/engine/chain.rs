//! The recipe's steps, built, and cut where a step must have seen every document.

use std::path::PathBuf;

use smolt_run::recipe::Document as Table;

use super::error::Error;
use crate::global::GlobalStep;
use crate::recipe::{Curation, Places};
use crate::step::Step;
use crate::steps::{self, StepInputs};

/// What a step does.
pub enum Work {
    /// One document at a time.
    Each(Box<dyn Step>),
    /// Over all documents.
    Global(Box<dyn GlobalStep>),
}

/// A step of the recipe.
pub struct Link {
    /// As reports call it: its `name`, or else its kind.
    pub name: String,
    /// Indexes of the sources it is for; `None` is all.
    pub(super) sources: Option<Vec<usize>>,
    /// What it does.
    pub work: Work,
}

impl Link {
    /// Whether documents of `source` pass through it.
    pub fn is_for(&self, source: usize) -> bool {
        self.sources.as_ref().is_none_or(|sources| sources.contains(&source))
    }
}

/// One pass over the documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The global step whose verdicts are carried out first.
    pub judged: Option<usize>,
    /// Then these steps, one document at a time.
    pub each: Vec<usize>,
    /// Then records are gathered for this global step.
    pub gathered: Option<usize>,
}

/// All steps.
pub struct Chain {
    /// In the recipe's order.
    pub links: Vec<Link>,
    /// At least one.
    pub segments: Vec<Segment>,
    /// Models, lists and evaluation sets that the steps read.
    pub files: Vec<PathBuf>,
    /// The settings of all steps, defaults included.
    pub settings: String,
}

impl Chain {
    /// Builds every step; unknown kinds, keys and sources are errors that name them.
    pub fn build(curation: &Curation, places: &Places) -> Result<Self, Error> {
        curation.check().map_err(Error::Settings)?;
        let (mut links, mut inputs): (Vec<Link>, _) = (Vec::new(), StepInputs::default());
        for table in &curation.step {
            let link = link(curation, table, places, &mut inputs)?;
            if links.iter().any(|other| other.name == link.name) {
                let message = format!("two steps are called {:?}; give one a `name` of its own", link.name);
                return Err(table.error("kind", message).into());
            }
            links.push(link);
        }
        let StepInputs { files, settings } = inputs;
        Ok(Self { files, settings, ..Self::of(links) })
    }

    pub(super) fn of(links: Vec<Link>) -> Self {
        let segments = cut(&links);
        Self { links, segments, files: Vec::new(), settings: String::new() }
    }
}

fn link(curation: &Curation, table: &Table, places: &Places, inputs: &mut StepInputs) -> Result<Link, Error> {
    let mut settings = table.clone();
    let kind: steps::Kind = settings.take("kind")?;
    let name: Option<String> = settings.take("name")?;
    let only: Option<Vec<String>> = settings.take("sources")?;
    let index = |name: &String| {
        curation.source.iter().position(|source| source.name == *name).ok_or_else(|| {
            let names: Vec<&str> = curation.source.iter().map(|source| source.name.as_str()).collect();
            table.error("sources", format!("no source is named {name:?}; there are {}", names.join(", ")))
        })
    };
    let sources = only.map(|names| names.iter().map(index).collect::<Result<Vec<_>, _>>()).transpose()?;
    let work = steps::build(kind, &settings, places, inputs)?;
    Ok(Link { name: name.unwrap_or_else(|| kind.to_string()), sources, work })
}

fn cut(links: &[Link]) -> Vec<Segment> {
    let mut segments = vec![Segment::default()];
    for (number, link) in links.iter().enumerate() {
        let last = segments.len() - 1;
        match link.work {
            Work::Each(_) => segments[last].each.push(number),
            Work::Global(_) => {
                segments[last].gathered = Some(number);
                segments.push(Segment { judged: Some(number), ..Segment::default() });
            }
        }
    }
    segments
}
