//! `[data]`: which tokens, in which mixture, in which stage.

use super::Train;
use smolt_data::order;
use smolt_run::error::Failure;
use smolt_run::recipe;
use std::collections::BTreeMap;

recipe! {
    /// Token shards and how they are read.
    pub struct Data {
        /// Folder with tokenizer.json.
        pub tokenizer: String,
        /// What is trained on.
        pub sources: Vec<Source>,
        /// Mixtures that follow one another (spec DMX-06); without any, the weights of the sources hold throughout.
        pub stages: Vec<Stage> = Vec::new(),
        /// What is held out, one loss each.
        pub validation: Vec<HeldOut> = Vec::new(),
        /// Tokens see only their own document (spec PKD-03).
        pub intra_document_masking: bool = true,
        /// Positions start anew with each document; off, they count along the sequence.
        pub reset_positions: bool = true,
    }

    /// A token shard in the mixture.
    pub struct Source {
        /// Its name in logs.
        pub name: String,
        /// The `.ds` file.
        pub path: String,
        /// Its share of the tokens, relative to the others; not used where there are stages.
        pub weight: f64 = 1.0,
        /// What it is counted under by `smolt data mix`; its name when left out.
        pub category: Option<String>,
    }

    /// A mixture from a step on, until the next stage (spec DMX-06). Sources go on where the stage before left them.
    pub struct Stage {
        /// Its name in logs.
        pub name: String,
        /// Its first step, counted from 1; left out in the first stage.
        pub start_step: Option<u64>,
        /// Instead of `start_step`: tokens trained on before it, rounded up to whole steps.
        pub start_tokens: Option<u64>,
        /// Source → its share of what `mix` leaves, relative to the others; sources left out are not drawn.
        pub weights: BTreeMap<String, f64> = BTreeMap::new(),
        /// Shares of earlier stages' mixtures (spec DAB-03).
        pub mix: Vec<Mix> = Vec::new(),
        /// What was written about the stage elsewhere, for `smolt data mix` to compare (spec MIX-04).
        pub stated: Option<Stated>,
    }

    /// An earlier stage's mixture as part of another.
    pub struct Mix {
        /// The earlier stage's name.
        pub stage: String,
        /// Its share of the tokens, above 0 and at most 1.
        pub share: f64,
    }

    /// Documented numbers of a stage.
    pub struct Stated {
        /// Tokens.
        pub tokens: Option<f64>,
        /// Category → share, in percent.
        pub percent: BTreeMap<String, f64> = BTreeMap::new(),
    }

    /// A token shard for validation.
    pub struct HeldOut {
        /// The domain's name.
        pub name: String,
        /// The `.ds` file.
        pub path: String,
    }
}

impl Data {
    /// Applies `change` to every path.
    pub fn map_paths(&mut self, change: impl Fn(&mut String)) {
        change(&mut self.tokenizer);
        self.sources.iter_mut().for_each(|s| change(&mut s.path));
        self.validation.iter_mut().for_each(|s| change(&mut s.path));
    }
}

impl Train {
    /// The mixtures of the run, each with a weight for every source, in the order of `data.sources`. Without
    /// `data.stages` there is one, by the weights of the sources.
    pub fn stages(&self) -> Result<Vec<order::Stage>, Failure> {
        if self.data.stages.is_empty() {
            let weights = self.data.sources.iter().map(|source| source.weight).collect();
            return Ok(vec![order::Stage { name: "all".into(), first_sample: 0, weights }]);
        }
        let mut stages: Vec<order::Stage> = Vec::with_capacity(self.data.stages.len());
        for (number, stage) in self.data.stages.iter().enumerate() {
            let of = |problem: String| {
                Failure::bad_input(format!("data.stages[{number}] (\"{}\"): {problem}", stage.name))
            };
            if stages.iter().any(|other| other.name == stage.name) {
                return Err(of("another stage has this name; rename one".into()));
            }
            let first_sample = self.first_sample(stage, number).map_err(of)?;
            if stages.last().is_some_and(|last| first_sample <= last.first_sample) {
                return Err(of("begins no later than the stage before it; put stages in order".into()));
            }
            let weights = self.weights(stage, &stages).map_err(of)?;
            stages.push(order::Stage { name: stage.name.clone(), first_sample, weights });
        }
        let unused = |i: &usize| stages.iter().all(|stage| stage.weights[*i] == 0.0);
        match (0..self.data.sources.len()).find(unused) {
            Some(source) => Err(Failure::bad_input(format!(
                "data.sources: no stage gives \"{}\" a weight; name it in a stage or remove it",
                self.data.sources[source].name
            ))),
            None => Ok(stages),
        }
    }

    fn first_sample(&self, stage: &Stage, number: usize) -> Result<u64, String> {
        let (batch, length) = (self.train.global_batch_size as u64, self.train.sequence_length as u64);
        let tokens_per_step = batch.saturating_mul(length).max(1);
        let steps_before = match (stage.start_step, stage.start_tokens) {
            (Some(_), Some(_)) => return Err("start_step and start_tokens are both given; keep one".into()),
            (None, None) if number == 0 => 0,
            (None, None) => {
                return Err("needs start_step, its first step counted from 1, or start_tokens".into());
            }
            (Some(0), None) => return Err("start_step is 0; steps are counted from 1".into()),
            (Some(step), None) => step - 1,
            (None, Some(tokens)) => tokens.div_ceil(tokens_per_step),
        };
        if number == 0 && steps_before != 0 {
            return Err("the first stage begins at step 1; leave start_step and start_tokens out".into());
        }
        steps_before.checked_mul(batch).ok_or_else(|| "begins beyond all samples; lower its start".into())
    }

    /// w = Σ share · earlier mixture ⊕ the rest · own weights, each mixture summing to 1 (spec DAB-03).
    fn weights(&self, stage: &Stage, earlier: &[order::Stage]) -> Result<Vec<f64>, String> {
        let sources = &self.data.sources;
        let mut weights = vec![0.0; sources.len()];
        for (name, &weight) in &stage.weights {
            let Some(source) = sources.iter().position(|source| source.name == *name) else {
                let known: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
                return Err(format!("data.sources has no \"{name}\", only {}", known.join(", ")));
            };
            if !weight.is_finite() || weight < 0.0 {
                return Err(format!("weight of \"{name}\" is {weight}; weights are finite and not negative"));
            }
            weights[source] = weight;
        }
        if stage.mix.is_empty() {
            return Ok(weights);
        }
        let mixed: f64 = stage.mix.iter().map(|mix| mix.share).sum();
        if stage.mix.iter().any(|mix| !(mix.share > 0.0 && mix.share <= 1.0)) || mixed > 1.0 + 1e-9 {
            return Err(format!("shares in mix are above 0 and at most 1 together; they are {mixed}"));
        }
        let (own, rest) = (weights.iter().sum::<f64>(), (1.0 - mixed).max(0.0));
        if (own > 0.0) != (rest > 1e-9) {
            return Err(format!(
                "mix takes {mixed} of the tokens and the weights sum to {own}; weights share what mix leaves, so \
                 give weights exactly when the shares are below 1"
            ));
        }
        weights.iter_mut().for_each(|weight| *weight *= if own > 0.0 { rest / own } else { 0.0 });
        for mix in &stage.mix {
            let Some(other) = earlier.iter().find(|other| other.name == mix.stage) else {
                return Err(format!("mix names \"{}\", which is no earlier stage", mix.stage));
            };
            let total: f64 = other.weights.iter().sum();
            for (weight, part) in weights.iter_mut().zip(&other.weights) {
                *weight += mix.share * part / total;
            }
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolt_run::recipe::Document;

    fn train(stages: &str) -> Train {
        let text = format!(
            r#"
            [model]
            [data]
            tokenizer = "tokenizer"
            sources = [{{ name = "web", path = "web.ds" }}, {{ name = "code", path = "code.ds", weight = 3.0 }}]
            stages = [{stages}]
            [train]
            train_steps = 100
            sequence_length = 10
            global_batch_size = 4
            micro_batch_size = 4
            "#
        );
        Document::parse("r.toml", text.as_bytes()).unwrap().read().unwrap()
    }

    fn stages(text: &str) -> Vec<(u64, Vec<f64>)> {
        train(text).stages().unwrap().into_iter().map(|stage| (stage.first_sample, stage.weights)).collect()
    }

    #[test]
    fn stages_begin_at_steps_or_tokens() {
        assert_eq!(stages(""), [(0, vec![1.0, 3.0])]);
        let text = r#"{ name = "a", weights = { web = 2 } }, { name = "b", start_step = 11, weights = { code = 1 } },
            { name = "c", start_tokens = 401, weights = { code = 1, web = 0.5 } }"#;
        assert_eq!(stages(text), [(0, vec![2.0, 0.0]), (40, vec![0.0, 1.0]), (44, vec![0.5, 1.0])]);
    }

    #[test]
    fn an_annealing_mix_is_part_of_an_earlier_mixture_and_candidates() {
        let text = r#"{ name = "main", weights = { web = 3, code = 1 } },
            { name = "anneal", start_step = 2, mix = [{ stage = "main", share = 0.4 }], weights = { code = 7 } },
            { name = "control", start_step = 3, mix = [{ stage = "main", share = 1 }] }"#;
        let found = stages(text);
        let near = |found: &[f64], expected: [f64; 2]| {
            found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12)
        };
        assert!(near(&found[1].1, [0.3, 0.7]), "{found:?}");
        assert!(near(&found[2].1, [0.75, 0.25]), "{found:?}");
    }

    #[test]
    fn impossible_stages_are_refused_by_name() {
        let first = r#"{ name = "a", weights = { web = 1, code = 1 } }"#;
        for (second, words) in [
            (r#"{ name = "a", start_step = 2, weights = { web = 1 } }"#, "another stage has this name"),
            (r#"{ name = "b", weights = { web = 1 } }"#, "needs start_step"),
            (r#"{ name = "b", start_step = 0, weights = { web = 1 } }"#, "counted from 1"),
            (r#"{ name = "b", start_step = 1, weights = { web = 1 } }"#, "no later than the stage before"),
            (r#"{ name = "b", start_step = 2, start_tokens = 9, weights = { web = 1 } }"#, "keep one"),
            (r#"{ name = "b", start_step = 2, weights = { wob = 1 } }"#, "has no \"wob\", only web, code"),
            (r#"{ name = "b", start_step = 2, weights = { web = -1 } }"#, "not negative"),
            (r#"{ name = "b", start_step = 2, mix = [{ stage = "b", share = 1 }] }"#, "no earlier stage"),
            (r#"{ name = "b", start_step = 2, mix = [{ stage = "a", share = 1.5 }] }"#, "at most 1"),
            (r#"{ name = "b", start_step = 2, mix = [{ stage = "a", share = 0.4 }] }"#, "below 1"),
            (
                r#"{ name = "b", start_step = 2, mix = [{ stage = "a", share = 1 }], weights = { web = 1 } }"#,
                "below 1",
            ),
        ] {
            let message = train(&format!("{first}, {second}")).stages().unwrap_err().message;
            assert!(message.starts_with("data.stages[1] (\"") && message.contains(words), "{message}");
        }
        let message =
            train(r#"{ name = "a", start_step = 3, weights = { web = 1 } }"#).stages().unwrap_err().message;
        assert!(message.contains("begins at step 1"), "{message}");
        let message = train(r#"{ name = "a", weights = { web = 1 } }"#).stages().unwrap_err().message;
        assert!(message.contains("no stage gives \"code\" a weight"), "{message}");
    }
}
