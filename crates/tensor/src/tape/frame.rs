//! What a node sees while it runs: its values, gradients and parameters.

use super::plan::Plan;
use super::program::KvCache;
use super::schedule::Phase;
use super::{DType, Layout, ParamId, Tape, ValueInfo, Var};
use crate::Cpu;
use crate::gemm::Precision;
use std::cell::{Cell, RefCell, RefMut};

const MAX_BORROWS: usize = 24;

/// One node's window on the program's memory.
///
/// Blocks are handed out as slices; overlap with a block already handed out to this node, unless
/// both only read, is refused by a panic: it would mean that the memory plan is wrong.
pub struct Frame<'a> {
    /// Threads and instruction set.
    pub cpu: &'a Cpu,
    /// How operands enter matrix products.
    pub precision: Precision,
    /// Whether a backward pass follows.
    pub training: bool,
    pub(super) node: usize,
    pub(super) phase: Phase,
    pub(super) values: &'a [ValueInfo],
    pub(super) plan: &'a Plan,
    pub(super) slab: *mut u8,
    pub(super) layout: &'a Layout,
    pub(super) weights: &'a [f32],
    pub(super) grads: *mut f32,
    pub(super) cache: Option<&'a RefCell<&'a mut KvCache>>,
    pub(super) borrows: Cell<[(usize, usize, bool); MAX_BORROWS]>,
    pub(super) count: Cell<usize>,
}

impl<'a> Frame<'a> {
    fn borrow(&self, start: usize, bytes: usize, write: bool) {
        let (mut borrows, count) = (self.borrows.get(), self.count.get());
        for &(from, to, other_writes) in &borrows[..count] {
            let apart = start + bytes <= from || to <= start;
            assert!(apart || !(write || other_writes), "memory plan: a node's blocks overlap");
        }
        borrows[count] = (start, start + bytes, write);
        self.borrows.set(borrows);
        self.count.set(count + 1);
    }

    fn block(&self, offset: Option<usize>, info: &ValueInfo, elem: usize, write: bool) -> *mut u8 {
        let Some(offset) = offset else { unreachable!("memory plan: a value in use has no place") };
        assert_eq!(info.dtype.size(), elem, "a value is read as another dtype than it has");
        let address = self.slab as usize + offset;
        self.borrow(address, info.bytes(), write);
        // SAFETY: the plan placed the block inside the slab.
        unsafe { self.slab.add(offset) }
    }

    /// Shape and storage of a value.
    pub fn info(&self, var: Var) -> ValueInfo {
        self.values[var.index()]
    }

    /// Storage of a value.
    pub fn dtype(&self, var: Var) -> DType {
        self.values[var.index()].dtype
    }

    /// A value, to read.
    pub fn read<T: bytemuck::Pod>(&self, var: Var) -> &'a [T] {
        let info = &self.values[var.index()];
        let p = self.block(self.plan.value(var.index(), self.phase), info, size_of::<T>(), false);
        // SAFETY: in bounds by the plan; not handed out for writing, by `borrow`.
        unsafe { std::slice::from_raw_parts(p.cast(), info.len()) }
    }

    /// A value, to write.
    #[allow(clippy::mut_from_ref)]
    pub fn write<T: bytemuck::Pod>(&self, var: Var) -> &'a mut [T] {
        let info = &self.values[var.index()];
        let p = self.block(self.plan.value(var.index(), self.phase), info, size_of::<T>(), true);
        // SAFETY: in bounds by the plan; not handed out at all, by `borrow`.
        unsafe { std::slice::from_raw_parts_mut(p.cast(), info.len()) }
    }

    /// The gradient of a value, to read.
    pub fn grad<T: bytemuck::Pod>(&self, var: Var) -> &'a [T] {
        let class = self.values[var.index()].grad_class as usize;
        let info = &self.values[class];
        let p = self.block(self.plan.grad(class), info, size_of::<T>(), false);
        // SAFETY: as in `read`.
        unsafe { std::slice::from_raw_parts(p.cast(), info.len()) }
    }

    /// The gradient of a value, to write (see [`Frame::accumulates`]).
    #[allow(clippy::mut_from_ref)]
    pub fn grad_mut<T: bytemuck::Pod>(&self, var: Var) -> &'a mut [T] {
        let class = self.values[var.index()].grad_class as usize;
        let info = &self.values[class];
        let p = self.block(self.plan.grad(class), info, size_of::<T>(), true);
        // SAFETY: as in `write`.
        unsafe { std::slice::from_raw_parts_mut(p.cast(), info.len()) }
    }

    /// Whether the gradient of `var` holds something already, to which this node must add.
    pub fn accumulates(&self, var: Var) -> bool {
        self.plan.accumulate.contains(&(self.node, self.values[var.index()].grad_class))
    }

    /// A parameter.
    pub fn param(&self, id: ParamId) -> &'a [f32] {
        &self.weights[self.layout.range(id)]
    }

    /// The gradient of a parameter, to write (see [`Frame::accumulates_param`]).
    #[allow(clippy::mut_from_ref)]
    pub fn param_grad(&self, id: ParamId) -> &'a mut [f32] {
        let range = self.layout.range(id);
        assert!(!self.grads.is_null(), "gradients are asked of a program that runs forward only");
        self.borrow(self.grads as usize + range.start * 4, range.len() * 4, true);
        // SAFETY: the run's gradient buffer is `layout.len()` long; not handed out, by `borrow`.
        unsafe { std::slice::from_raw_parts_mut(self.grads.add(range.start), range.len()) }
    }

    /// Whether the parameter's gradient holds something of this pass already.
    pub fn accumulates_param(&self, id: ParamId) -> bool {
        self.plan.accumulate_param.contains(&(self.node, id))
    }

    /// The key–value cache of a decoding run.
    ///
    /// # Panics
    /// When the run was given none (a caller bug).
    pub fn cache(&self) -> RefMut<'a, &'a mut KvCache> {
        let Some(cache) = self.cache else { unreachable!("a cached program runs with a cache") };
        cache.borrow_mut()
    }
}

impl Tape {
    /// The op's output in the activation dtype.
    pub(crate) fn activation_like(&mut self, rows: usize, cols: usize) -> Var {
        self.computed(rows, cols, self.activation)
    }
}
