//! The tape: a model is recorded once per shape as a list of fused ops, lifetimes are planned into one
//! slab, and the list is replayed every step without allocating.
//!
//! Recording: ops append [`Node`]s and return [`Var`]s (`tape.linear(x, w)`). [`Tape::compile`] turns the
//! record into a [`Program`]. Document boundaries, labels and positions are inputs, not shape.

mod frame;
mod params;
mod plan;
mod program;
mod schedule;
#[cfg(test)]
mod tests;
mod traffic;
#[cfg(test)]
mod variants;

pub use frame::Frame;
pub use params::{Layout, LayoutBuilder, ParamId, View};
pub use program::{KvCache, OpTime, Program, Run};

use crate::gemm::Precision;
use std::ops::Range;

/// How a tensor is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit IEEE float.
    F32,
    /// bfloat16.
    Bf16,
    /// Unsigned index: token, position, row.
    U32,
    /// 64-bit float, for sums that are reported.
    F64,
}

impl DType {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::Bf16 => 2,
            DType::F64 => 8,
        }
    }
}

/// A value on the tape: an input, an activation, or a statistic saved for backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(u32);

impl Var {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Shape and storage of a [`Var`]: `[rows, cols]`.
#[derive(Clone, Copy, Debug)]
pub struct ValueInfo {
    /// Rows, usually one per token.
    pub rows: usize,
    /// Features per row.
    pub cols: usize,
    /// Storage.
    pub dtype: DType,
    pub(crate) kind: Kind,
    /// Values of one class share a gradient buffer; the class is named by its smallest member.
    pub(crate) grad_class: u32,
}

impl ValueInfo {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of bytes.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Set by the caller before a run; lives throughout.
    Input,
    /// Written by a node; lives as long as something reads it.
    Computed,
    /// Written by a node and read by the caller after the run.
    Output,
}

/// What a node touches, so that lifetimes can be planned.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    /// Values read by forward.
    pub reads: Vec<Var>,
    /// Values written by forward.
    pub writes: Vec<Var>,
    /// Values read again by backward (of `reads` and `writes`).
    pub saved: Vec<Var>,
    /// Values whose gradient backward reads.
    pub grads_in: Vec<Var>,
    /// Values whose gradient backward writes or adds to.
    pub grads_out: Vec<Var>,
    /// Parameters whose gradient backward writes or adds to.
    pub params: Vec<ParamId>,
}

/// One fused op of a recorded program.
pub trait Node: Send + Sync {
    /// The op's name, for profiles.
    fn name(&self) -> &'static str;
    /// What it touches.
    fn uses(&self) -> Uses;
    /// Floating-point operations of forward and backward, for profiles; 0 where memory and not arithmetic decides.
    fn flops(&self, _frame: &Frame<'_>) -> [u64; 2] {
        [0, 0]
    }
    /// Bytes that forward and backward move at least, for profiles.
    fn bytes(&self, frame: &Frame<'_>) -> [u64; 2] {
        frame.traffic(&self.uses())
    }
    /// Computes the outputs.
    fn forward(&self, frame: &Frame<'_>);
    /// Turns gradients of outputs into gradients of inputs and parameters.
    fn backward(&self, frame: &Frame<'_>);
}

/// The record of one forward pass.
pub struct Tape {
    /// How operands enter matrix products.
    pub precision: Precision,
    /// Storage of activations that feed matrix products (see the precision policy).
    pub activation: DType,
    pub(crate) values: Vec<ValueInfo>,
    pub(crate) nodes: Vec<Box<dyn Node>>,
    /// Nodes whose values are not kept for backward; in order, apart from each other.
    pub(crate) ranges: Vec<Range<usize>>,
}

impl Tape {
    /// An empty tape under a precision policy: fp32 stores everything as fp32; bf16 stores the
    /// operands of products as bf16 and keeps the residual stream, statistics and losses in fp32.
    pub fn new(precision: Precision) -> Tape {
        let activation = match precision {
            Precision::Fp32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
        };
        Tape { precision, activation, values: Vec::new(), nodes: Vec::new(), ranges: Vec::new() }
    }

    fn value(&mut self, rows: usize, cols: usize, dtype: DType, kind: Kind) -> Var {
        let id = self.values.len() as u32;
        self.values.push(ValueInfo { rows, cols, dtype, kind, grad_class: id });
        Var(id)
    }

    /// A `[rows]` index input set before each run.
    pub fn input_indices(&mut self, rows: usize) -> Var {
        self.value(rows, 1, DType::U32, Kind::Input)
    }

    /// A `[len]` fp32 input set before each run.
    pub fn input_scalars(&mut self, len: usize) -> Var {
        self.value(len, 1, DType::F32, Kind::Input)
    }

    /// A value some node will write.
    pub fn computed(&mut self, rows: usize, cols: usize, dtype: DType) -> Var {
        self.value(rows, cols, dtype, Kind::Computed)
    }

    /// Marks a value as read by the caller after the run.
    pub fn keep(&mut self, var: Var) {
        self.values[var.index()].kind = Kind::Output;
    }

    /// Shape and storage of a value.
    pub fn info(&self, var: Var) -> ValueInfo {
        self.values[var.index()]
    }

    /// Lets several values share one gradient buffer: `y = a + b` hands the same gradient to both.
    ///
    /// # Panics
    /// When their shapes or dtypes differ (a recording bug).
    pub fn share_gradient(&mut self, vars: &[Var]) {
        let class = vars.iter().map(|v| self.values[v.index()].grad_class).min().unwrap_or(0);
        let joined: Vec<u32> = vars.iter().map(|v| self.values[v.index()].grad_class).collect();
        let shape = self.values[class as usize];
        for value in &mut self.values {
            if joined.contains(&value.grad_class) {
                assert!(
                    (value.rows, value.cols, value.dtype) == (shape.rows, shape.cols, shape.dtype),
                    "values that share a gradient must have one shape"
                );
                value.grad_class = class;
            }
        }
    }

    /// Appends an op.
    pub fn push(&mut self, node: impl Node + 'static) {
        self.nodes.push(Box::new(node));
    }

    /// Records ops whose values backward computes again instead of keeping them (Chen et al., Training Deep Nets with
    /// Sublinear Memory Cost, 2016). Values from before that they read are kept; gradients keep their bits.
    ///
    /// # Panics
    /// When calls are nested, and [`Tape::compile`] when an op works in place on a value that crosses the border
    /// (recording bugs).
    pub fn recompute<R>(&mut self, record: impl FnOnce(&mut Tape) -> R) -> R {
        let (start, before) = (self.nodes.len(), self.ranges.len());
        let recorded = record(self);
        assert_eq!(self.ranges.len(), before, "recompute: ranges do not nest");
        self.ranges.push(start..self.nodes.len());
        recorded
    }

    /// Plans memory and makes the record runnable; `training` adds the backward pass.
    pub fn compile(self, training: bool) -> Program {
        Program::new(self, training)
    }
}

/// Runs an expression with `$E` bound to the element type of an activation dtype.
#[macro_export]
macro_rules! with_elem {
    ($dtype:expr, $E:ident => $body:expr) => {
        match $dtype {
            $crate::tape::DType::Bf16 => {
                type $E = half::bf16;
                $body
            }
            _ => {
                type $E = f32;
                $body
            }
        }
    };
}
