//! What a probe says, against a transformer written out in f64 and against passes that keep nothing.

#![allow(clippy::unwrap_used)]

#[path = "../../model/tests/common/mod.rs"]
mod common;

use common::{Rows, max_error, some_ids, toys};
use smolt_arch::{ModelConfig, ModelType};
use smolt_infer::probe::{Error, FEW, Needle, Report, Subject, Text, kept_bytes, needle, probe};
use smolt_model::folder::Loaded;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;

fn tiny() -> Loaded {
    let mut config = ModelConfig {
        model_type: ModelType::Llama,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 4,
        vocab_size: 40,
        max_position_embeddings: 128,
        initializer_range: 0.4,
        ..ModelConfig::default()
    };
    config.set_no_rope_layer_interval(0);
    Loaded::fresh(config, 4)
}

fn subject<'m>(cpu: &'m Cpu, loaded: &'m Loaded) -> Subject<'m> {
    Subject { cpu, model: &loaded.model, weights: &loaded.weights }
}

fn text(name: &str, documents: &[&[u32]]) -> Text {
    Text { name: name.into(), documents: documents.iter().map(|d| d.to_vec()).collect() }
}

type Matrix = Vec<Vec<f64>>;

/// A Llama as its equations read, one document at a time.
struct Naive<'m> {
    loaded: &'m Loaded,
}

/// What it computes on the way, by layer.
#[derive(Default)]
struct Inside {
    embedded: Matrix,
    streams: Vec<Matrix>,
    attention: Vec<Matrix>,
    mlp: Vec<Matrix>,
    /// `[layer][head][row][other]`
    shares: Vec<Vec<Matrix>>,
    /// The same of scores.
    scores: Vec<Vec<Matrix>>,
    logits: Matrix,
}

impl Naive<'_> {
    fn weight(&self, name: &str) -> Vec<f64> {
        let layout = self.loaded.model.layout();
        let view = layout.views().iter().find(|view| view.name == name).unwrap();
        self.loaded.weights[view.range.clone()].iter().map(|&w| f64::from(w)).collect()
    }

    fn linear(&self, x: &Matrix, name: &str) -> Matrix {
        let w = self.weight(name);
        x.iter().map(|row| w.chunks_exact(row.len()).map(|w| dot(w, row)).collect()).collect()
    }

    fn norm(&self, x: &Matrix, name: &str) -> Matrix {
        let (w, eps) = (self.weight(name), self.loaded.model.config().rms_norm_eps);
        let norm = |row: &Vec<f64>| {
            let inv = 1.0 / (dot(row, row) / row.len() as f64 + eps).sqrt();
            row.iter().zip(&w).map(|(x, w)| x * inv * w).collect()
        };
        x.iter().map(norm).collect()
    }

    fn rotate(&self, head: &mut [f64], position: usize) {
        let half = head.len() / 2;
        for i in 0..half {
            let base = self.loaded.model.config().rope_theta;
            let angle = position as f64 * base.powf(-2.0 * i as f64 / head.len() as f64);
            let (a, b) = (head[i], head[i + half]);
            head[i] = a * angle.cos() - b * angle.sin();
            head[i + half] = b * angle.cos() + a * angle.sin();
        }
    }

    fn attention(&self, l: usize, x: &Matrix, inside: &mut Inside) -> Matrix {
        let c = self.loaded.model.config();
        let (h, e, group) =
            (c.num_attention_heads, c.head_dim, c.num_attention_heads / c.num_key_value_heads);
        let name = |part: &str| format!("model.layers.{l}.self_attn.{part}_proj.weight");
        let [mut q, mut k, v] = ["q", "k", "v"].map(|part| self.linear(x, &name(part)));
        for (position, row) in q.iter_mut().enumerate().chain(k.iter_mut().enumerate()) {
            row.chunks_exact_mut(e).for_each(|head| self.rotate(head, position));
        }
        let mut out = vec![vec![0.0; h * e]; x.len()];
        let (mut shares, mut all_scores) = (Vec::new(), Vec::new());
        for head in 0..h {
            let (at, kv) = (head * e, head / group * e);
            let (mut of_head, mut scores_of_head) = (Vec::new(), Vec::new());
            for row in 0..x.len() {
                let scores: Vec<f64> = (0..=row)
                    .map(|other| dot(&q[row][at..at + e], &k[other][kv..kv + e]) / (e as f64).sqrt())
                    .collect();
                let sum: f64 = scores.iter().map(|s| s.exp()).sum();
                let share: Vec<f64> = scores.iter().map(|s| s.exp() / sum).collect();
                for (other, p) in share.iter().enumerate() {
                    (0..e).for_each(|i| out[row][at + i] += p * v[other][kv + i]);
                }
                of_head.push(share);
                scores_of_head.push(scores);
            }
            shares.push(of_head);
            all_scores.push(scores_of_head);
        }
        inside.shares.push(shares);
        inside.scores.push(all_scores);
        self.linear(&out, &name("o"))
    }

    fn run(&self, tokens: &[u32]) -> Inside {
        let c = self.loaded.model.config();
        let table = self.weight("model.embed_tokens.weight");
        let row = |&token: &u32| table[token as usize * c.hidden_size..][..c.hidden_size].to_vec();
        let mut x: Matrix = tokens.iter().map(row).collect();
        let mut inside = Inside { embedded: x.clone(), ..Inside::default() };
        for l in 0..c.num_hidden_layers {
            let name = |part: &str| format!("model.layers.{l}.{part}.weight");
            let normed = self.norm(&x, &name("input_layernorm"));
            let attention = self.attention(l, &normed, &mut inside);
            x = plus(&x, &attention);
            let normed = self.norm(&x, &name("post_attention_layernorm"));
            let [gate, up] =
                ["gate", "up"].map(|part| self.linear(&normed, &name(&format!("mlp.{part}_proj"))));
            let silu = |(g, u): (&f64, &f64)| g / (1.0 + (-g).exp()) * u;
            let act = gate.iter().zip(&up).map(|(g, u)| g.iter().zip(u).map(silu).collect()).collect();
            let mlp = self.linear(&act, &name("mlp.down_proj"));
            x = plus(&x, &mlp);
            inside.attention.push(attention);
            inside.mlp.push(mlp);
            inside.streams.push(x.clone());
        }
        let normed = self.norm(&x, "model.norm.weight");
        inside.logits = self.linear(&normed, "model.embed_tokens.weight");
        inside
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn plus(a: &Matrix, b: &Matrix) -> Matrix {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

fn rms<'a>(matrices: impl Iterator<Item = &'a Matrix>) -> f64 {
    let all: Vec<f64> = matrices.flatten().flatten().copied().collect();
    (dot(&all, &all) / all.len() as f64).sqrt()
}

#[track_caller]
fn close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() <= 1e-4 * (1.0 + want.abs()), "{what}: {got}, want {want}");
}

#[test]
fn every_figure_is_that_of_the_equations() {
    let (cpu, loaded) = (Cpu::new(2).unwrap(), tiny());
    let documents = documents();
    let [a, b, c] = [&documents[0][..], &documents[1], &documents[2]];
    let report = probe(subject(&cpu, &loaded), &[text("one", &[a, b]), text("two", &[c])]).unwrap();
    let naive = Naive { loaded: &loaded };
    let inside: Vec<Inside> = documents.iter().map(|document| naive.run(document)).collect();
    close(report.embedded_rms, rms(inside.iter().map(|i| &i.embedded)), "embedding");
    for (l, layer) in report.layers.iter().enumerate() {
        close(layer.stream_rms, rms(inside.iter().map(|i| &i.streams[l])), "stream");
        close(layer.attention_rms, rms(inside.iter().map(|i| &i.attention[l])), "attention");
        close(layer.mlp_rms, rms(inside.iter().map(|i| &i.mlp[l])), "mlp");
        let scores: Vec<f64> =
            inside.iter().flat_map(|i| &i.scores[l]).flatten().flatten().copied().collect();
        let largest = |of: fn(f64) -> f64| scores.iter().copied().map(of).fold(f64::NEG_INFINITY, f64::max);
        close(layer.looks.largest_score, largest(|s| s), "largest score");
        close(layer.looks.largest_product, largest(f64::abs), "largest product");
        for (mass, tokens) in [(layer.looks.first, 1), (layer.looks.few, FEW)] {
            let heads: Vec<f64> = (0..4).map(|head| mean_share(&inside, l, head, tokens)).collect();
            close(mass.unwrap().mean, heads.iter().sum::<f64>() / 4.0, "mean share");
            close(mass.unwrap().most, heads.iter().copied().fold(0.0, f64::max), "largest share");
        }
        assert!(layer.looks.sinks.is_none() && layer.experts.is_none());
    }
    let mut rows = 0;
    let log_z: Vec<Vec<f64>> = inside.iter().map(log_z).collect();
    for (report, range) in report.texts.iter().zip([0..2, 2..3]) {
        let of_text: Vec<f64> = log_z[range.clone()].concat();
        close(report.log_z.mean, of_text.iter().sum::<f64>() / of_text.len() as f64, "log Z of a text");
        let losses: Vec<f64> = range.clone().flat_map(|i| losses(&inside[i], &documents[i])).collect();
        close(report.loss, losses.iter().sum::<f64>() / losses.len() as f64, "loss");
        rows += of_text.len();
    }
    let all = log_z.concat();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let deviation = (all.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
    close(report.log_z.mean, mean, "log Z");
    close(report.log_z.deviation, deviation, "its deviation");
    assert_eq!(rows, all.len());
}

fn documents() -> [Vec<u32>; 3] {
    [some_ids(1, 30, 40), some_ids(2, 23, 40), some_ids(3, 41, 40)]
}

/// Share of the first `tokens` of each document, over rows from [`FEW`] on.
fn mean_share(inside: &[Inside], l: usize, head: usize, tokens: usize) -> f64 {
    let rows = inside.iter().flat_map(|i| &i.shares[l][head][FEW..]);
    let shares: Vec<f64> = rows.map(|row| row[..tokens].iter().sum()).collect();
    shares.iter().sum::<f64>() / shares.len() as f64
}

/// Of rows that have a successor.
fn log_z(inside: &Inside) -> Vec<f64> {
    let rows = &inside.logits[..inside.logits.len() - 1];
    rows.iter().map(|row| row.iter().map(|l| l.exp()).sum::<f64>().ln()).collect()
}

fn losses(inside: &Inside, document: &[u32]) -> Vec<f64> {
    let rows = log_z(inside).into_iter().zip(&inside.logits).zip(&document[1..]);
    rows.map(|((z, logits), &next)| z - logits[next as usize]).collect()
}

#[test]
fn a_needle_has_the_attention_that_the_equations_give_it() {
    let (cpu, loaded) = (Cpu::new(1).unwrap(), tiny());
    let (haystack, sentence, question) = (some_ids(5, 90, 40), some_ids(6, 5, 40), some_ids(7, 3, 40));
    let asked = Needle { haystack: &haystack, sentence: &sentence, question: &question, tokens: 60 };
    let planted = needle(subject(&cpu, &loaded), &asked).unwrap();
    assert_eq!(planted.iter().map(|p| p.rows.start).collect::<Vec<_>>(), [4, 16, 28, 40, 52]);
    for planted in planted {
        let (hay, at) = (&haystack[..60 - 8], planted.rows.start);
        let sequence = [&hay[..at], &sentence, &hay[at..], &question].concat();
        let inside = Naive { loaded: &loaded }.run(&sequence);
        for (l, found) in planted.layers.iter().enumerate() {
            let share = |head: &Matrix| head[59][at..at + 5].iter().sum::<f64>();
            let heads: Vec<f64> = inside.shares[l].iter().map(share).collect();
            close(found.mass.mean, heads.iter().sum::<f64>() / 4.0, "mean share");
            close(found.mass.most, heads.iter().copied().fold(0.0, f64::max), "largest share");
            close(found.uniform, 5.0 / 60.0, "uniform share");
        }
    }
    let few = Needle { tokens: 20, ..asked };
    let (asked, tokens, needed) = (8, 20, 8 + FEW + 32);
    assert_eq!(needle(subject(&cpu, &loaded), &few), Err(Error::NoHaystack { asked, tokens, needed }));
}

/// Loss of each text from the pass that validation uses, and rows per expert.
fn plain(cpu: &Cpu, loaded: &Loaded, text: &Text) -> (f64, Vec<Vec<u64>>) {
    let mut packed = Rows::default();
    text.documents.iter().for_each(|document| packed.push_document(document));
    let mut pass = loaded.model.loss_pass(text.tokens(), Precision::Fp32, 0.0, false);
    let loss = packed.run(&mut pass, cpu, loaded, None);
    let counts = |router: &smolt_model::transformer::Router| {
        pass.program.output::<u32>(router.routed.counts).iter().map(|&count| u64::from(count)).collect()
    };
    (loss, pass.routers.iter().map(counts).collect())
}

#[test]
fn every_architecture_is_looked_into_and_computes_what_it_always_does() {
    let cpu = Cpu::new(2).unwrap();
    for (name, config) in toys(64) {
        let loaded = Loaded::fresh(config, 4);
        let (a, b, c) = (some_ids(2, 33, 64), some_ids(3, 20, 64), some_ids(4, 40, 64));
        let texts = [text("one", &[&a, &b]), text("two", &[&c])];
        let report = probe(subject(&cpu, &loaded), &texts).unwrap();
        let config = loaded.model.config();
        for (i, text) in texts.iter().enumerate() {
            let (loss, counts) = plain(&cpu, &loaded, text);
            close(report.texts[i].loss, loss, &name);
            let seen = report.layers.iter().filter_map(|layer| layer.experts.as_ref());
            let seen: Vec<Vec<u64>> = seen.map(|experts| experts.counts[i].clone()).collect();
            assert_eq!(seen, counts, "{name}");
        }
        check_shares(&name, config, &report);
        // What is kept is what is predicted: the slab of a probe has it and little else.
        let slab = loaded.model.probe_pass(512).program.slab_bytes() as u64;
        let kept = kept_bytes(&loaded.model, 512);
        assert!(kept <= slab && slab < 3 * kept, "{name}: {kept} bytes kept, {slab} in all");
    }
}

fn check_shares(name: &str, config: &ModelConfig, report: &Report) {
    for (l, layer) in report.layers.iter().enumerate() {
        let looks = &layer.looks;
        assert_eq!(looks.sinks.is_some(), config.attention_sinks, "{name}");
        let (first, few) = (looks.first.unwrap(), looks.few.unwrap());
        assert!(0.0 < first.mean && first.mean <= first.most && first.most <= 1.0, "{name}: {first:?}");
        assert!(first.mean < few.mean && few.most <= 1.0 + 1e-9, "{name}: {first:?}, {few:?}");
        let tokens: Vec<u64> = layer.experts.iter().flat_map(|experts| experts.tokens.clone()).collect();
        assert_eq!(tokens, if config.is_sparse(l) { vec![53, 40] } else { Vec::new() }, "{name}");
        if let (Some(experts), Some(moe)) = (&layer.experts, &config.moe) {
            let all: f64 = (0..moe.num_experts).map(|expert| experts.share(1, expert)).sum();
            close(all, moe.num_experts_per_tok as f64, name);
        }
        if let Some(cap) = config.attn_logit_softcapping {
            assert!(looks.largest_score <= cap, "{name}");
        }
    }
}

/// A block adds to the stream what its branches are said to add.
#[test]
fn branches_add_up_to_the_stream() {
    let cpu = Cpu::new(1).unwrap();
    for (name, config) in toys(64) {
        let loaded = Loaded::fresh(config, 4);
        let tokens = some_ids(2, 40, 64);
        let mut pass = loaded.model.probe_pass(tokens.len());
        let positions: Vec<u32> = (0..40).collect();
        pass.program.input_mut::<u32>(pass.tokens).copy_from_slice(&tokens);
        pass.program.input_mut::<u32>(pass.segments).fill(0);
        pass.program.input_mut::<u32>(pass.positions).copy_from_slice(&positions);
        let layout = loaded.model.layout();
        let run =
            smolt_tensor::tape::Run { cpu: &cpu, layout, weights: &loaded.weights, grads: None, cache: None };
        pass.program.run(run);
        let mut before: Vec<f32> = pass.program.output(pass.embedded).to_vec();
        for block in &pass.blocks {
            let [attention, mlp, stream] =
                [block.attention_out, block.mlp_out, block.stream].map(|var| pass.program.output::<f32>(var));
            let sums = before.iter().zip(attention).zip(mlp).map(|((x, a), m)| x + a + m);
            let error = max_error(&sums.collect::<Vec<f32>>(), stream);
            assert!(error < 1e-6, "{name}: {error:e}");
            before = stream.to_vec();
        }
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    let (cpu, mut loaded) = (Cpu::new(1).unwrap(), tiny());
    let ids = some_ids(1, 129, 40);
    let told =
        |loaded: &Loaded, document: &[u32]| probe(subject(&cpu, loaded), &[text("some", &[document])]).err();
    assert_eq!(told(&loaded, &ids), Some(Error::TooLong { needed: 129, longest: 128 }));
    assert_eq!(told(&loaded, &ids[..15]), Some(Error::TooShort { name: "some".into(), tokens: 15 }));
    let unknown = [vec![40], ids[..20].to_vec()].concat();
    assert_eq!(told(&loaded, &unknown), Some(Error::UnknownToken { token: 40, vocab_size: 40 }));
    let view = loaded.model.layout().views().iter().find(|v| v.name.contains("layers.1.mlp.down")).unwrap();
    let at = view.range.start;
    loaded.weights[at] = f32::NAN;
    assert_eq!(told(&loaded, &ids[..20]), Some(Error::NotANumber { place: "layer 1".into() }));
}
