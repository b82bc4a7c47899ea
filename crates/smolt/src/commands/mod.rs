//! One file per command.

pub(crate) mod ablate;
pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod checkpoint;
pub(crate) mod data;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod tokenizer;
pub(crate) mod train;
