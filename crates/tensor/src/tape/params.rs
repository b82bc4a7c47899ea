//! Where each parameter lies in the flat fp32 buffers of weights, gradients and optimiser moments.

use std::ops::Range;

/// A parameter matrix or vector of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(u32);

impl ParamId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A tensor as checkpoints name it: a run of rows of an engine parameter. Sibling projections
/// (q, k, v; gate, up) lie contiguously so that each group is one product; their names are views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The checkpoint's name, e.g. `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Shape as checkpoints store it, `[out, in]` for a linear weight.
    pub shape: Vec<usize>,
    /// Elements in the flat buffer.
    pub range: Range<usize>,
}

/// The map of the flat buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    params: Vec<Range<usize>>,
    views: Vec<View>,
    len: usize,
}

impl Layout {
    /// Elements of each flat buffer, padding between parameters included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements of a parameter in the flat buffer.
    pub fn range(&self, id: ParamId) -> Range<usize> {
        self.params[id.index()].clone()
    }

    /// All tensors under their checkpoint names, in order of position.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Number of parameters without padding.
    pub fn count(&self) -> usize {
        self.views.iter().map(|v| v.range.len()).sum()
    }
}

/// Lays parameters out one after another.
#[derive(Debug, Default)]
pub struct LayoutBuilder(Layout);

impl LayoutBuilder {
    /// Adds one engine parameter made of checkpoint tensors that lie contiguously in it.
    pub fn add(&mut self, tensors: &[(String, Vec<usize>)]) -> ParamId {
        let layout = &mut self.0;
        let start = layout.len;
        let mut at = start;
        for (name, shape) in tensors {
            let len: usize = shape.iter().product();
            layout.views.push(View { name: name.clone(), shape: shape.clone(), range: at..at + len });
            at += len;
        }
        layout.params.push(start..at);
        // Each parameter starts on a cache line, so that vector loads do not straddle two parameters.
        layout.len = at.next_multiple_of(16);
        ParamId(layout.params.len() as u32 - 1)
    }

    /// The finished map.
    pub fn build(self) -> Layout {
        self.0
    }
}
