//! After its first run a program with experts allocates nothing, wherever tokens go. A binary of its own, because the
//! allocator that counts is the whole process's.

#![allow(clippy::unwrap_used)]

use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::ops::activation::Activation;
use smolt_tensor::ops::moe_experts::Experts;
use smolt_tensor::ops::moe_route::{Gate, Groups, RouteInputs, Routing};
use smolt_tensor::tape::{LayoutBuilder, Run, Tape};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counting what all threads ask of it.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Layout) -> *mut u8 {
        BYTES.fetch_add(block.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(block) }
    }
    unsafe fn alloc_zeroed(&self, block: Layout) -> *mut u8 {
        BYTES.fetch_add(block.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(block) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, block: Layout, size: usize) -> *mut u8 {
        BYTES.fetch_add(size, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, block, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, block: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, block) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const ROWS: usize = 500;
const VOCAB: usize = 64;
const EXPERTS: usize = 8;

/// One layer of experts and a loss; the selection bias moves the load from run to run, from balance to collapse.
fn run(precision: Precision) {
    let (d, width) = (40, 300);
    let mut layout = LayoutBuilder::default();
    let mut add = |shape: &[usize]| layout.add(&[(String::new(), shape.to_vec())]);
    let (embedding, norm, router) = (add(&[VOCAB, d]), add(&[d]), add(&[EXPERTS, d]));
    let (gate_up, down) = (add(&[EXPERTS, 2 * width, d]), add(&[EXPERTS, d, width]));
    let biases = [add(&[EXPERTS, 2 * width]), add(&[EXPERTS, d])];
    let bias = add(&[EXPERTS]);
    let layout = layout.build();
    let mut t = Tape::new(precision);
    let (tokens, labels) = (t.input_indices(ROWS), t.input_indices(ROWS));
    let scale = t.input_scalars(1);
    let x = t.embedding(tokens, embedding, d, 1.0);
    let h = t.rms_norm(x, norm, 1e-6);
    let logits = t.linear_fp32(h, router, None, EXPERTS);
    let routing = Routing {
        experts: EXPERTS,
        top_k: 2,
        gate: Gate::Sigmoid,
        norm_topk_prob: true,
        routed_scaling_factor: 2.0,
        groups: Some(Groups { count: 4, chosen: 2 }),
        aux_loss_coef: 0.01,
        z_loss_coef: 0.001,
    };
    let inputs = RouteInputs { scale_aux: Some(scale), fractions: None, bias: Some(bias) };
    let routed = t.moe_route(logits, routing, inputs);
    let experts =
        Experts { intermediate: width, activation: Activation::Silu, gate_up, down, biases: Some(biases) };
    let branch = t.moe_experts(h, &routed, experts);
    let sum = t.add(x, branch);
    let h = t.rms_norm(sum, norm, 1e-6);
    t.linear_cross_entropy(h, embedding, labels, scale, 0.0, None);
    let mut program = t.compile(true);
    let cpu = Cpu::new(1).unwrap();
    let mut weights: Vec<f32> = (0..layout.len()).map(|i| ((i * 37 % 101) as f32 - 50.0) / 200.0).collect();
    let mut grads = vec![0.0; layout.len()];
    program.input_mut::<f32>(scale)[0] = 0.01;
    let mut loads = Vec::with_capacity(16);
    for step in 0..12 {
        for (row, token) in program.input_mut::<u32>(tokens).iter_mut().enumerate() {
            *token = ((row * 7 + step * row * row) % VOCAB) as u32;
        }
        for (expert, bias) in weights[layout.range(bias)].iter_mut().enumerate() {
            *bias = ((expert * 5 + step) % EXPERTS) as f32 * step as f32 * 0.01;
        }
        let before = BYTES.load(Ordering::Relaxed);
        let grads = Some(&mut grads[..]);
        program.run(Run { cpu: &cpu, layout: &layout, weights: &weights, grads, cache: None });
        let bytes = BYTES.load(Ordering::Relaxed) - before;
        assert!(step == 0 || bytes == 0, "{precision:?}: {bytes} bytes in step {step}");
        loads.push(*program.output::<u32>(routed.counts).iter().max().unwrap());
    }
    assert!(loads.iter().min().unwrap() * 3 < loads.iter().max().unwrap() * 2, "the load moves: {loads:?}");
}

/// One test, because tests run at the same time and would count each other's memory.
#[test]
fn nothing_is_allocated_after_the_first_run() {
    run(Precision::Fp32);
    run(Precision::Bf16);
}
