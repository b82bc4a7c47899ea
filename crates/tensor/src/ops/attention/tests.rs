use super::oracle::Oracle;
use super::*;
use crate::isa::Isa;
use half::bf16;

/// Pseudo-random numbers in −1..1.
fn noise(seed: u64, len: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

/// Segments of consecutive documents of these lengths.
fn documents(lengths: &[usize]) -> Vec<u32> {
    let mut segments = Vec::new();
    for &length in lengths {
        let start = segments.len() as u32;
        segments.extend(std::iter::repeat_n(start, length));
    }
    segments
}

fn shape(heads: usize, kv_heads: usize, head_dim: usize) -> Shape {
    Shape { heads, kv_heads, head_dim }
}

fn scale(shape: Shape) -> f32 {
    1.0 / (shape.head_dim as f32).sqrt()
}

fn cast<E: Elem>(x: &[f64]) -> Vec<E> {
    x.iter().map(|&x| E::from_f32(x as f32)).collect()
}

fn wide<E: Elem>(x: &[E]) -> Vec<f64> {
    x.iter().map(|x| f64::from(x.to_f32())).collect()
}

/// Outputs, log-sum-exp and gradients of the kernels.
struct Result<E> {
    out: Vec<E>,
    lse: Vec<f32>,
    d_qkv: Vec<E>,
}

fn run<E: Elem>(cpu: &Cpu, shape: Shape, segments: &[u32], qkv: &[E], d_out: &[E]) -> Result<E> {
    let n = segments.len();
    let stale = E::from_f32(f32::NAN);
    let mut out = vec![stale; n * shape.out_width()];
    let (mut lse, mut d_qkv) = (vec![f32::NAN; n * shape.heads], vec![stale; n * shape.qkv_width()]);
    forward(cpu, shape, scale(shape), segments, qkv, &mut out, &mut lse);
    backward(cpu, shape, scale(shape), segments, qkv, &out, &lse, d_out, &mut d_qkv);
    Result { out, lse, d_qkv }
}

fn bits<E: Elem>(x: &[E]) -> Vec<u32> {
    x.iter().map(|x| x.to_f32().to_bits()).collect()
}

fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs();
        assert!(error <= tolerance * (1.0 + want.abs()), "{what}[{i}] = {got}, want {want}");
    }
}

fn compare<E: Elem>(isa: Isa, shape: Shape, segments: &[u32], size: f64, tolerance: f64) {
    let n = segments.len();
    let qkv: Vec<E> = cast(&noise(1, n * shape.qkv_width()).iter().map(|x| x * size).collect::<Vec<_>>());
    let d_out: Vec<E> = cast(&noise(2, n * shape.out_width()));
    let exact = wide(&qkv);
    let oracle = Oracle { shape, scale: f64::from(scale(shape)), segments, qkv: &exact };
    let (out, lse) = oracle.forward();
    let d_qkv = oracle.backward(&wide(&d_out));
    let one = run(&Cpu::with_isa(isa, 1), shape, segments, &qkv, &d_out);
    let name = format!("{isa} {:?} {shape:?} n={n}", E::DTYPE);
    close(&format!("{name} out"), &wide(&one.out), &out, tolerance);
    close(&format!("{name} lse"), &wide(&one.lse), &lse, 1e-5);
    close(&format!("{name} d_qkv"), &wide(&one.d_qkv), &d_qkv, tolerance * size.max(1.0));
    let two = run(&Cpu::with_isa(isa, 2), shape, segments, &qkv, &d_out);
    assert_eq!(bits(&one.out), bits(&two.out), "{name}");
    assert_eq!(bits(&one.lse), bits(&two.lse), "{name}");
    assert_eq!(bits(&one.d_qkv), bits(&two.d_qkv), "{name}");
}

#[test]
fn oracle_backward_is_the_derivative_of_its_forward() {
    let shape = shape(4, 2, 3);
    let segments = documents(&[3, 1, 5]);
    let qkv = noise(3, 9 * shape.qkv_width());
    let d_out = noise(4, 9 * shape.out_width());
    let loss = |qkv: &[f64]| -> f64 {
        let (out, _) = Oracle { shape, scale: 0.7, segments: &segments, qkv }.forward();
        out.iter().zip(&d_out).map(|(a, b)| a * b).sum()
    };
    let gradient = Oracle { shape, scale: 0.7, segments: &segments, qkv: &qkv }.backward(&d_out);
    for i in 0..qkv.len() {
        let (mut up, mut down) = (qkv.clone(), qkv.clone());
        up[i] += 1e-5;
        down[i] -= 1e-5;
        let slope = (loss(&up) - loss(&down)) / 2e-5;
        assert!((slope - gradient[i]).abs() < 1e-8, "d_qkv[{i}] = {}, slope {slope}", gradient[i]);
    }
}

#[test]
fn kernels_agree_with_the_oracle_on_every_path_dtype_and_thread_count() {
    let cases = [
        (shape(4, 2, 16), documents(&[1])),
        (shape(2, 1, 24), documents(&[70, 3, 1, 61, 5, 130])),
        (shape(3, 3, 80), documents(&[64, 64, 7])),
        (shape(6, 2, 64), documents(&[200])),
        (shape(2, 2, 5), documents(&[1, 1, 63, 65, 66])),
        (shape(1, 1, 33), (0..150u32).map(|row| row.saturating_sub(40)).collect()),
    ];
    for isa in Isa::available() {
        for (shape, segments) in &cases {
            compare::<f32>(isa, *shape, segments, 1.0, 1e-5);
            compare::<f32>(isa, *shape, segments, 3.0, 3e-5);
            compare::<bf16>(isa, *shape, segments, 1.0, 1.5e-2);
        }
    }
}

/// ATT-01: one key–value head per query head is multi-head attention, one for all is multi-query attention:
/// both equal the model whose key–value heads are copied out.
#[test]
fn grouped_heads_equal_repeated_heads() {
    let cpu = Cpu::with_isa(Isa::available()[0], 1);
    let (heads, d, segments) = (4, 8, documents(&[90, 20]));
    let n = segments.len();
    for kv_heads in [1, 2, 4] {
        let grouped = shape(heads, kv_heads, d);
        let full = shape(heads, heads, d);
        let qkv: Vec<f32> = cast(&noise(5, n * grouped.qkv_width()));
        let d_out: Vec<f32> = cast(&noise(6, n * grouped.out_width()));
        let mut repeated = Vec::new();
        for row in qkv.chunks_exact(grouped.qkv_width()) {
            repeated.extend_from_slice(&row[..heads * d]);
            for at in [grouped.key_at(0), grouped.value_at(0)] {
                (0..heads).for_each(|head| {
                    repeated.extend_from_slice(&row[at + head / grouped.group() * d..][..d])
                });
            }
        }
        let a = run(&cpu, grouped, &segments, &qkv, &d_out);
        let b = run(&cpu, full, &segments, &repeated, &d_out);
        assert_eq!(bits(&a.out), bits(&b.out));
        // The gradient of a shared head is the sum over its copies.
        let mut summed = Vec::new();
        for row in b.d_qkv.chunks_exact(full.qkv_width()) {
            summed.extend(wide(&row[..heads * d]));
            for at in [full.key_at(0), full.value_at(0)] {
                for kv in 0..kv_heads {
                    let copies = (kv * grouped.group()..(kv + 1) * grouped.group())
                        .map(|head| &row[at + head * d..][..d]);
                    let zero = vec![0.0; d];
                    summed.extend(copies.fold(zero, |sum, copy| {
                        sum.iter().zip(copy).map(|(a, &b)| a + f64::from(b)).collect()
                    }));
                }
            }
        }
        close("d_qkv", &wide(&a.d_qkv), &summed, 1e-5);
    }
}

/// PKD-03: packed documents equal each document alone.
#[test]
fn packed_documents_equal_each_alone() {
    let shape = shape(4, 2, 16);
    let lengths = [40, 100, 1, 64, 77];
    let segments = documents(&lengths);
    let qkv: Vec<f32> = cast(&noise(7, segments.len() * shape.qkv_width()));
    let d_out: Vec<f32> = cast(&noise(8, segments.len() * shape.out_width()));
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa, 2);
        let packed = run(&cpu, shape, &segments, &qkv, &d_out);
        let mut start = 0;
        for length in lengths {
            let rows = |width: usize| start * width..(start + length) * width;
            let (wide_rows, out_rows) = (rows(shape.qkv_width()), rows(shape.out_width()));
            let alone = run(&cpu, shape, &vec![0; length], &qkv[wide_rows.clone()], &d_out[out_rows.clone()]);
            close("out", &wide(&packed.out[out_rows]), &wide(&alone.out), 1e-6);
            close("d_qkv", &wide(&packed.d_qkv[wide_rows]), &wide(&alone.d_qkv), 2e-6);
            start += length;
        }
    }
}

/// PKD-03: nothing of one document reaches another, not even in the last bit.
#[test]
fn documents_do_not_leak() {
    let shape = shape(4, 2, 16);
    let segments = documents(&[50, 90, 70]);
    let qkv: Vec<f32> = cast(&noise(9, 210 * shape.qkv_width()));
    let d_out: Vec<f32> = cast(&noise(10, 210 * shape.out_width()));
    let inside = |width: usize| 50 * width..140 * width;
    let mut changed = (qkv.clone(), d_out.clone());
    changed.0[inside(shape.qkv_width())].iter_mut().for_each(|x| *x = 1e4 - 3e3 * *x);
    changed.1[inside(shape.out_width())].iter_mut().for_each(|x| *x *= -1e4);
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa, 2);
        let a = run(&cpu, shape, &segments, &qkv, &d_out);
        let b = run(&cpu, shape, &segments, &changed.0, &changed.1);
        assert_ne!(a.out, b.out);
        for (a, b, width) in [(a.out, b.out, shape.out_width()), (a.d_qkv, b.d_qkv, shape.qkv_width())] {
            let inside = inside(width);
            assert_eq!(bits(&a[..inside.start]), bits(&b[..inside.start]), "{isa}");
            assert_eq!(bits(&a[inside.end..]), bits(&b[inside.end..]), "{isa}");
        }
    }
}

#[test]
fn extreme_scores_make_no_nan() {
    let shape = shape(2, 1, 16);
    let segments = documents(&[100, 60]);
    let d_out: Vec<f32> = cast(&noise(12, 160 * shape.out_width()));
    for isa in Isa::available() {
        for size in [0.0, 1e-30, 1e3, 1e12] {
            let noise = noise(11, 160 * shape.qkv_width());
            let qkv: Vec<f32> = noise.iter().map(|&x| (x * size) as f32).collect();
            let r = run(&Cpu::with_isa(isa, 2), shape, &segments, &qkv, &d_out);
            assert!(r.out.iter().chain(&r.lse).chain(&r.d_qkv).all(|x| x.is_finite()), "{isa} size {size}");
            assert!(r.out.iter().all(|x| f64::from(x.abs()) <= size * 1.001));
        }
    }
}

fn decode<E: Elem>(isa: Isa, shape: Shape, tolerance: f64) {
    let (capacity, lengths) = (150, [140usize, 9, 66]);
    let n: usize = lengths.iter().sum();
    let qkv: Vec<E> = cast(&noise(13, n * shape.qkv_width()));
    let mut want = vec![E::from_f32(0.0); n * shape.out_width()];
    let cpu = Cpu::with_isa(isa, 2);
    forward(
        &cpu,
        shape,
        scale(shape),
        &documents(&lengths),
        &qkv,
        &mut want,
        &mut vec![0.0; n * shape.heads],
    );
    let places: Vec<(u32, u32)> = (0u32..)
        .zip(lengths)
        .flat_map(|(slot, length)| (0..length as u32).map(move |at| (slot, at)))
        .collect();
    let width = shape.kv_heads * shape.head_dim;
    let mut caches = (vec![f32::NAN; 3 * capacity * width], vec![f32::NAN; 3 * capacity * width]);
    let mut got = vec![E::from_f32(0.0); n * shape.out_width()];
    // Prompts in one go, then one row of each sequence at a time, with padding rows between.
    let prompt = |&i: &usize| (places[i].1 as usize) < lengths[places[i].0 as usize] - 5;
    let mut steps: Vec<Vec<Option<usize>>> = vec![(0..n).filter(prompt).map(Some).collect()];
    for left in (1..=5).rev() {
        let last = |slot: usize| lengths[..=slot].iter().sum::<usize>() - left;
        steps.push(vec![None, Some(last(2)), Some(last(0)), None, None, Some(last(1))]);
    }
    for rows in steps {
        let slots: Vec<u32> = rows.iter().map(|row| row.map_or(PADDING, |i| places[i].0)).collect();
        let positions: Vec<u32> = rows.iter().map(|row| row.map_or(0, |i| places[i].1)).collect();
        let queries: Vec<E> = rows
            .iter()
            .flat_map(|row| &qkv[row.unwrap_or(0) * shape.qkv_width()..][..shape.qkv_width()])
            .copied()
            .collect();
        let mut out = vec![E::from_f32(f32::NAN); rows.len() * shape.out_width()];
        append(shape, &queries, &slots, &positions, capacity, &mut caches.0, &mut caches.1);
        let (k, v) = (&caches.0, &caches.1);
        cached(&cpu, shape, scale(shape), &queries, &slots, &positions, k, v, capacity, &mut out);
        for (row, out) in rows.iter().zip(out.chunks_exact(shape.out_width())) {
            match row {
                Some(i) => got[i * shape.out_width()..][..shape.out_width()].copy_from_slice(out),
                None => assert!(out.iter().all(|x| x.to_f32() == 0.0)),
            }
        }
    }
    close(&format!("{isa} {shape:?}"), &wide(&got), &wide(&want), tolerance);
}

#[test]
fn cached_decoding_equals_the_full_forward() {
    for isa in Isa::available() {
        for shape in [shape(4, 2, 16), shape(3, 3, 20), shape(6, 1, 33), shape(70, 1, 4)] {
            decode::<f32>(isa, shape, 1e-5);
            decode::<bf16>(isa, shape, 1e-2);
        }
    }
}

#[test]
fn flops_count_pairs_inside_documents() {
    assert_eq!(flops(shape(2, 1, 8), &documents(&[3, 2])), 4 * 2 * 8 * (6 + 3));
}

#[test]
#[should_panic(expected = "attention: scale -1 is not positive")]
fn a_scale_that_would_turn_the_largest_score_into_the_smallest_is_refused() {
    let shape = shape(1, 1, 8);
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    forward(&cpu, shape, -1.0, &documents(&[2]), &[0.0f32; 48], &mut [0.0; 16], &mut [0.0; 2]);
}
