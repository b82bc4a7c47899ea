//! Everything wrong with a recipe, told at once.

use std::fmt;

use super::node::Place;
use crate::error::{Exit, ExitKind};

/// Problems shown in full; the rest are counted.
const SHOWN: usize = 20;

/// One thing to fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    place: Option<Place>,
    message: String,
}

impl Problem {
    pub(crate) fn new(place: Place, message: String) -> Self {
        Self { place: Some(place), message }
    }

    /// About the file as a whole.
    pub(crate) fn whole(message: String) -> Self {
        Self { place: None, message }
    }
}

/// All problems of one recipe, in the order of the file, one line each: `file:line:column: what: fix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    file: String,
    problems: Vec<Problem>,
}

impl RecipeError {
    pub(crate) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        Self { file: file.to_owned(), problems }
    }

    /// How many problems there are.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Never true for an error that this crate returns.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(SHOWN).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match &problem.place {
                Some(Place::At { line, column }) => write!(f, "{}:{line}:{column}: ", self.file)?,
                Some(Place::Base { file, line, column }) => write!(f, "{file}:{line}:{column}: ")?,
                Some(Place::Set(argument)) => write!(f, "--set {argument}: ")?,
                None => write!(f, "{}: ", self.file)?,
            }
            f.write_str(&problem.message)?;
        }
        if self.problems.len() > SHOWN {
            write!(f, "\n{}: {} more problems", self.file, self.problems.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl std::error::Error for RecipeError {}

impl ExitKind for RecipeError {
    fn exit(&self) -> Exit {
        Exit::BadInput
    }
}
