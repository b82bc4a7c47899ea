//! A compiled tape: one slab, replayed.

use super::frame::Frame;
use super::plan::Plan;
use super::schedule::{Phase, Schedule};
use super::{Layout, Node, Tape, ValueInfo, Var};
use crate::Cpu;
use crate::gemm::Precision;
use crate::memory::Slab;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::time::{Duration, Instant};

/// A recorded and planned pass over fixed shapes.
pub struct Program {
    nodes: Vec<Box<dyn Node>>,
    values: Vec<ValueInfo>,
    pub(super) steps: Vec<(Phase, usize)>,
    plan: Plan,
    slab: Slab,
    precision: Precision,
    training: bool,
    times: Option<Vec<OpTime>>,
}

/// Keys and values of every layer for decoding: `[layers, slots, capacity, width]` each, fp32. Layers may have narrower
/// rows than the widest, for which each has room.
pub struct KvCache {
    /// Number of sequences it can hold.
    pub slots: usize,
    /// Tokens per sequence.
    pub capacity: usize,
    /// The widest layer's kv_heads · head_dim.
    pub key_width: usize,
    /// The widest layer's kv_heads · value_dim; 0 where values are the first features of keys.
    pub value_width: usize,
    keys: Slab,
    values: Slab,
    /// Widths of keys and values of each layer, as it was last used; zeros before.
    used: Vec<(usize, usize)>,
}

impl KvCache {
    /// An empty cache.
    pub fn new(
        layers: usize,
        slots: usize,
        capacity: usize,
        key_width: usize,
        value_width: usize,
    ) -> KvCache {
        let slab = |width: usize| Slab::new(layers * slots * capacity * width * 4);
        let used = vec![(0, 0); layers];
        KvCache {
            slots,
            capacity,
            key_width,
            value_width,
            keys: slab(key_width),
            values: slab(value_width),
            used,
        }
    }

    /// Keys `[slots, capacity, key_width]` and values `[slots, capacity, value_width]` of one layer whose rows are so wide.
    ///
    /// # Panics
    /// When the cache's rows are narrower (a caller bug).
    pub fn layer(&mut self, layer: usize, key_width: usize, value_width: usize) -> (&mut [f32], &mut [f32]) {
        let fits = key_width <= self.key_width && value_width <= self.value_width;
        assert!(fits, "the cache is narrower than rows of {key_width} and {value_width}");
        self.used[layer] = (key_width, value_width);
        let rows = self.slots * self.capacity;
        let (keys, values) = (layer * rows * self.key_width, layer * rows * self.value_width);
        (
            &mut self.keys.as_mut_slice()[keys..keys + rows * key_width],
            &mut self.values.as_mut_slice()[values..values + rows * value_width],
        )
    }

    /// Gives `to` what `from` holds at `positions`, in every layer: sequences that begin alike need not both be computed.
    ///
    /// # Panics
    /// When a slot or position is outside the cache (a caller bug).
    pub fn copy(&mut self, from: usize, to: usize, positions: Range<usize>) {
        let (slots, capacity) = (self.slots, self.capacity);
        assert!(from < slots && to < slots, "slots {from} and {to} of a cache of {slots}");
        assert!(positions.end <= capacity, "positions {positions:?} of a cache of {capacity}");
        for (layer, &(key_width, value_width)) in self.used.iter().enumerate() {
            let first = layer * slots * capacity;
            for (slab, width, widest) in [
                (&mut self.keys, key_width, self.key_width),
                (&mut self.values, value_width, self.value_width),
            ] {
                let at = |slot: usize, position: usize| first * widest + (slot * capacity + position) * width;
                let range = at(from, positions.start)..at(from, positions.end);
                slab.as_mut_slice::<f32>().copy_within(range, at(to, positions.start));
            }
        }
    }
}

/// Wall time of one op of the program, forward and backward.
#[derive(Clone, Debug)]
pub struct OpTime {
    /// The op's name.
    pub name: &'static str,
    /// Time spent in forward.
    pub forward: Duration,
    /// Time spent in backward, with what it had to compute again.
    pub backward: Duration,
    /// Floating-point operations of one forward and one backward.
    pub flops: [u64; 2],
    /// Bytes that one forward and one backward move at least.
    pub bytes: [u64; 2],
    /// Times it ran forward.
    pub calls: u64,
}

/// What a run reads and writes besides the program's own memory.
pub struct Run<'a> {
    /// Threads and instruction set.
    pub cpu: &'a Cpu,
    /// Where parameters lie.
    pub layout: &'a Layout,
    /// Flat parameters, `[layout.len()]`.
    pub weights: &'a [f32],
    /// Flat gradients, `[layout.len()]`, overwritten; required by a training program.
    pub grads: Option<&'a mut [f32]>,
    /// The cache of a decoding program.
    pub cache: Option<&'a mut KvCache>,
}

impl Program {
    pub(super) fn new(tape: Tape, training: bool) -> Program {
        let schedule = Schedule::new(&tape.values, &tape.nodes, &tape.ranges, training);
        let plan = Plan::new(&tape.values, &tape.nodes, &schedule);
        let slab = Slab::new(plan.size);
        Program {
            nodes: tape.nodes,
            values: tape.values,
            steps: schedule.steps,
            plan,
            slab,
            precision: tape.precision,
            training,
            times: None,
        }
    }

    /// Bytes of activations, gradients of activations and inputs.
    pub fn slab_bytes(&self) -> usize {
        self.slab.len()
    }

    /// An input's memory, to fill before a run.
    ///
    /// # Panics
    /// When `T` is not the input's dtype.
    pub fn input_mut<T: bytemuck::Pod>(&mut self, var: Var) -> &mut [T] {
        let (range, len) = self.place(var, size_of::<T>());
        &mut bytemuck::cast_slice_mut(&mut self.slab.bytes_mut()[range])[..len]
    }

    /// A kept value or input, after a run.
    ///
    /// # Panics
    /// When `T` is not the value's dtype.
    pub fn output<T: bytemuck::Pod>(&self, var: Var) -> &[T] {
        let (range, len) = self.place(var, size_of::<T>());
        &bytemuck::cast_slice(&self.slab.bytes()[range])[..len]
    }

    fn place(&self, var: Var, elem: usize) -> (std::ops::Range<usize>, usize) {
        let info = &self.values[var.index()];
        assert_eq!(info.dtype.size(), elem, "a value is read as another dtype than it has");
        assert!(info.kind != super::Kind::Computed, "only inputs and kept values outlive a run");
        let Some(offset) = self.plan.value(var.index(), Phase::Forward) else {
            unreachable!("inputs and outputs have a place")
        };
        (offset..offset + info.bytes(), info.len())
    }

    /// Starts to time every op.
    pub fn profile(&mut self) {
        let fresh = self.nodes.iter().map(|node| OpTime {
            name: node.name(),
            forward: Duration::ZERO,
            backward: Duration::ZERO,
            flops: [0; 2],
            bytes: [0; 2],
            calls: 0,
        });
        self.times = Some(fresh.collect());
    }

    /// Times per op since [`Program::profile`], in order of the record.
    pub fn times(&self) -> &[OpTime] {
        self.times.as_deref().unwrap_or(&[])
    }

    /// Replays the record: forward, and backward if compiled for training.
    pub fn run(&mut self, run: Run<'_>) {
        assert_eq!(run.weights.len(), run.layout.len(), "weights and layout belong together");
        let grads = match run.grads {
            Some(grads) => {
                assert_eq!(grads.len(), run.layout.len(), "gradients and layout belong together");
                grads.as_mut_ptr()
            }
            None => std::ptr::null_mut(),
        };
        assert!(!self.training || !grads.is_null(), "a training program needs a gradient buffer");
        let cache = run.cache.map(RefCell::new);
        let slab = self.slab.bytes_mut().as_mut_ptr();
        let frame = |phase: Phase, node: usize| Frame {
            cpu: run.cpu,
            precision: self.precision,
            training: self.training,
            node,
            phase,
            values: &self.values,
            plan: &self.plan,
            slab,
            layout: run.layout,
            weights: run.weights,
            grads,
            cache: cache.as_ref(),
            borrows: Cell::default(),
            count: Cell::new(0),
        };
        if let Some(times) = &mut self.times {
            // Some depend on the inputs: how long documents are.
            for (i, (node, time)) in self.nodes.iter().zip(times).enumerate() {
                (time.flops, time.bytes) =
                    (node.flops(&frame(Phase::Forward, i)), node.bytes(&frame(Phase::Forward, i)));
            }
        }
        for &(phase, i) in &self.steps {
            let start = Instant::now();
            match phase {
                Phase::Forward | Phase::Replay => self.nodes[i].forward(&frame(phase, i)),
                Phase::Backward => self.nodes[i].backward(&frame(phase, i)),
            }
            let Some(times) = &mut self.times else { continue };
            if phase == Phase::Forward {
                times[i].forward += start.elapsed();
                times[i].calls += 1;
            } else {
                times[i].backward += start.elapsed();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::KvCache;

    #[test]
    fn a_copied_beginning_is_copied_in_every_layer_and_nothing_else_is() {
        // Layers of two widths, one never used.
        let (slots, capacity, widths) = (3, 5, [(4, 2), (3, 2), (0, 0)]);
        let mut cache = KvCache::new(3, slots, capacity, 4, 2);
        let number = |l: usize, row: usize, i: usize| (1000 * l + 10 * row + i + 1) as f32;
        for (l, &(key, value)) in widths.iter().enumerate().take(2) {
            let (keys, values) = cache.layer(l, key, value);
            keys.iter_mut().enumerate().for_each(|(i, x)| *x = number(l, i / key, i % key));
            values.iter_mut().enumerate().for_each(|(i, x)| *x = -number(l, i / value, i % value));
        }
        cache.copy(0, 2, 1..4);
        for (l, &(key, value)) in widths.iter().enumerate().take(2) {
            let from = |row: usize| if (11..14).contains(&row) { row - 10 } else { row };
            let (keys, values) = cache.layer(l, key, value);
            let same = |x: &[f32], width: usize, sign: f32| {
                x.iter().enumerate().all(|(i, &x)| x == sign * number(l, from(i / width), i % width))
            };
            assert!(same(keys, key, 1.0) && same(values, value, -1.0), "layer {l}");
        }
    }

    #[test]
    #[should_panic(expected = "slots 0 and 2 of a cache of 2")]
    fn a_slot_outside_the_cache_is_refused() {
        KvCache::new(1, 2, 5, 4, 2).copy(0, 2, 0..1);
    }
}
