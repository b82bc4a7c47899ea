//! A pass that keeps what others forget: values inside the decoder, for looking at them. Nothing that trains or generates
//! runs it.

use super::attention::{Past, Rows};
use super::passes::Hidden;
use super::{Branches, Marks, Router, Transformer};
use smolt_arch::memory::Recompute;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::ops::attention::Attention;
use smolt_tensor::tape::{Program, Tape, Var};

/// A compiled fp32 pass over packed sequences whose inner values can be read after a run.
pub struct ProbePass {
    /// Run it after filling the inputs.
    pub program: Program,
    /// `[n]` token ids.
    pub tokens: Var,
    /// `[n]` first row of each row's document.
    pub segments: Var,
    /// `[n]` positions.
    pub positions: Var,
    /// `[n, d]` the residual stream before the first block.
    pub embedded: Var,
    /// Every block.
    pub blocks: Vec<Block>,
    /// One per layer with experts, in order.
    pub routers: Vec<Router>,
    hidden: Hidden,
}

/// What is kept of a block, fp32.
pub struct Block {
    /// How its attention makes scores.
    pub attention: Attention,
    /// `[n, heads·head_dim + kv_heads·(head_dim + value_dim)]` queries, keys and values, as scores are made of them.
    pub qkv: Var,
    /// `[n, d]` what attention adds to the residual stream.
    pub attention_out: Var,
    /// `[n, d]` what the MLP or the experts add to it.
    pub mlp_out: Var,
    /// `[n, d]` the residual stream behind the block.
    pub stream: Var,
}

impl Transformer {
    /// A pass over `n` packed tokens that keeps its inner values.
    pub fn probe_pass(&self, n: usize) -> ProbePass {
        let mut tape = Tape::new(Precision::Fp32);
        let t = &mut tape;
        let (tokens, segments, positions) = (t.input_indices(n), t.input_indices(n), t.input_indices(n));
        let rows = Rows { tokens, positions, past: Past::Packed(segments), share: None };
        let mut marks = Marks::default();
        let h_nd = self.decoder(t, rows, Recompute::None, &mut marks);
        let hidden = Hidden::kept(t, h_nd);
        let Marks { routers, streams, branches } = marks;
        streams.iter().for_each(|&stream| t.keep(stream));
        let block = |(Branches { attended, attn_nd, mlp_nd }, &stream): (Branches, &Var)| {
            [attended.qkv, attn_nd, mlp_nd].into_iter().for_each(|var| t.keep(var));
            let (attention, qkv) = (attended.layer, attended.qkv);
            Block { attention, qkv, attention_out: attn_nd, mlp_out: mlp_nd, stream }
        };
        let blocks = branches.into_iter().zip(&streams[1..]).map(block).collect();
        let embedded = streams[0];
        ProbePass {
            program: tape.compile(false),
            tokens,
            segments,
            positions,
            embedded,
            blocks,
            routers,
            hidden,
        }
    }
}

impl ProbePass {
    /// Logits of `rows` of the last run: out `[rows, vocab]`.
    ///
    /// # Panics
    /// When out has another shape or a row is none of the pass (a caller bug).
    pub fn logits(&self, cpu: &Cpu, model: &Transformer, weights: &[f32], rows: &[u32], out: &mut [f32]) {
        self.hidden.logits((cpu, Precision::Fp32), &self.program, (model, weights), rows, out);
    }
}
