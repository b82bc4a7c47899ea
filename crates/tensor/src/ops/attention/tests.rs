use super::oracle::Oracle;
use super::*;
use crate::gemm::Precision;
use crate::isa::Isa;
use crate::ops::testing::assert_slope;
use crate::tape::{KvCache, LayoutBuilder, Run, Tape};
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

fn plain(heads: usize, kv_heads: usize, head_dim: usize) -> Attention {
    Attention::new(Shape::new(heads, kv_heads, head_dim))
}

/// The layer with values of another width.
fn valued(layer: Attention, value_dim: usize) -> Attention {
    Attention { shape: Shape { value_dim, ..layer.shape }, ..layer }
}

/// What layers may do besides, each for itself and all together.
fn variants(layer: Attention) -> Vec<Attention> {
    let with = |scores: Scores| Attention { scores, ..layer };
    let see = |window: Window, sink_tokens: usize| Attention { window, sink_tokens, ..layer };
    let bent = Scores { scale: 0.4, softcap: Some(1.5), alibi: true };
    vec![
        layer,
        valued(layer, layer.shape.head_dim + 20),
        valued(layer, 3),
        with(Scores::scaled(0.9)),
        with(Scores { softcap: Some(0.8), ..layer.scores }),
        with(Scores { alibi: true, ..layer.scores }),
        see(Window::Sliding(1), 0),
        see(Window::Sliding(40), 0),
        see(Window::Chunked(37), 0),
        see(Window::Sliding(8), 4),
        see(Window::Sliding(70), 3),
        see(Window::Sliding(3), 90),
        see(Window::Chunked(50), 2),
        Attention { scores: bent, ..valued(see(Window::Sliding(33), 5), 21) },
    ]
}

/// A score per head.
fn sinks_of(layer: &Attention) -> Vec<f32> {
    cast(&noise(21, layer.shape.heads))
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
    d_sinks: Vec<f32>,
}

fn run<E: Elem>(cpu: &Cpu, layer: &Attention, segments: &[u32], qkv: &[E], d_out: &[E]) -> Result<E> {
    run_with(cpu, layer, None, segments, qkv, d_out)
}

fn run_with<E: Elem>(
    cpu: &Cpu,
    layer: &Attention,
    sinks: Option<&[f32]>,
    segments: &[u32],
    qkv: &[E],
    d_out: &[E],
) -> Result<E> {
    let (n, shape) = (segments.len(), layer.shape);
    let stale = E::from_f32(f32::NAN);
    let mut out = vec![stale; n * shape.out_width()];
    let (mut lse, mut d_qkv) = (vec![f32::NAN; n * shape.heads], vec![stale; n * shape.qkv_width()]);
    let mut d_sinks = vec![f32::NAN; sinks.map_or(0, <[f32]>::len)];
    forward(cpu, layer, sinks, segments, qkv, &mut out, &mut lse);
    let more = sinks.map(|_| (&mut d_sinks[..], false));
    backward(cpu, layer, sinks, segments, qkv, (&out, &lse), d_out, &mut d_qkv, more);
    Result { out, lse, d_qkv, d_sinks }
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

fn compare<E: Elem>(
    isa: Isa,
    layer: &Attention,
    sinks: Option<&[f32]>,
    segments: &[u32],
    size: f64,
    tolerance: f64,
) {
    let (n, shape) = (segments.len(), layer.shape);
    let qkv: Vec<E> = cast(&noise(1, n * shape.qkv_width()).iter().map(|x| x * size).collect::<Vec<_>>());
    let d_out: Vec<E> = cast(&noise(2, n * shape.out_width()));
    let exact = wide(&qkv);
    let exact_sinks = sinks.map(wide);
    let oracle = Oracle { layer, sinks: exact_sinks.as_deref(), segments, qkv: &exact };
    let (out, lse) = oracle.forward();
    let gradients = oracle.backward(&wide(&d_out));
    let one = run_with(&Cpu::with_isa(isa, 1), layer, sinks, segments, &qkv, &d_out);
    let name = format!("{isa} {:?} {layer:?} n={n}", E::DTYPE);
    close(&format!("{name} out"), &wide(&one.out), &out, tolerance);
    close(&format!("{name} lse"), &wide(&one.lse), &lse, 1e-5);
    close(&format!("{name} d_qkv"), &wide(&one.d_qkv), &gradients.d_qkv, tolerance * size.max(1.0));
    if sinks.is_some() {
        close(&format!("{name} d_sinks"), &wide(&one.d_sinks), &gradients.d_sinks, tolerance);
    }
    for threads in [2, 3] {
        let more = run_with(&Cpu::with_isa(isa, threads), layer, sinks, segments, &qkv, &d_out);
        assert_eq!(bits(&one.out), bits(&more.out), "{name}");
        assert_eq!(bits(&one.lse), bits(&more.lse), "{name}");
        assert_eq!(bits(&one.d_qkv), bits(&more.d_qkv), "{name}");
        assert_eq!(bits(&one.d_sinks), bits(&more.d_sinks), "{name}");
    }
}

#[test]
fn oracle_backward_is_the_derivative_of_its_forward() {
    let segments = documents(&[3, 1, 5]);
    for layer in variants(plain(4, 2, 3)) {
        // Windows that cut so short documents.
        let window = match layer.window {
            Window::Full => Window::Full,
            Window::Sliding(_) => Window::Sliding(2),
            Window::Chunked(_) => Window::Chunked(3),
        };
        let layer = &Attention { window, sink_tokens: layer.sink_tokens.min(1), ..layer };
        let (qkv, d_out) = (noise(3, 9 * layer.shape.qkv_width()), noise(4, 9 * layer.shape.out_width()));
        for sinks in [None, Some(noise(5, 4))] {
            let (segments, sinks) = (&segments[..], sinks.as_deref());
            let loss = |qkv: &[f64], sinks: Option<&[f64]>| -> f64 {
                let (out, _) = Oracle { layer, sinks, segments, qkv }.forward();
                out.iter().zip(&d_out).map(|(a, b)| a * b).sum()
            };
            let got = Oracle { layer, sinks, segments, qkv: &qkv }.backward(&d_out);
            assert_slope(&format!("{layer:?} d_qkv"), &qkv, &got.d_qkv, |qkv| loss(qkv, sinks));
            if let Some(sinks) = sinks {
                assert_slope(&format!("{layer:?} d_sinks"), sinks, &got.d_sinks, |s| loss(&qkv, Some(s)));
            }
        }
    }
}

#[test]
fn kernels_agree_with_the_oracle_on_every_path_dtype_and_thread_count() {
    let cases = [
        (plain(4, 2, 16), documents(&[1])),
        (plain(2, 1, 24), documents(&[70, 3, 1, 61, 5, 130])),
        (plain(3, 3, 80), documents(&[64, 64, 7])),
        (plain(6, 2, 64), documents(&[200])),
        (plain(2, 2, 5), documents(&[1, 1, 63, 65, 66])),
        (plain(1, 1, 33), (0..150u32).map(|row| row.saturating_sub(40)).collect()),
    ];
    for isa in Isa::available() {
        for (layer, segments) in &cases {
            compare::<f32>(isa, layer, None, segments, 1.0, 1e-5);
            compare::<f32>(isa, layer, None, segments, 3.0, 3e-5);
            compare::<bf16>(isa, layer, None, segments, 1.0, 1.5e-2);
        }
    }
}

#[test]
fn variants_agree_with_the_oracle_on_every_path_dtype_and_thread_count() {
    for isa in Isa::available() {
        for layer in variants(plain(4, 2, 24)) {
            let sinks = sinks_of(&layer);
            for (sinks, lengths) in [
                (None, &[70, 3, 1, 61, 5, 130][..]),
                (Some(&sinks[..]), &[210]),
                (Some(&sinks), &[9, 55, 80]),
            ] {
                compare::<f32>(isa, &layer, sinks, &documents(lengths), 1.0, 1e-5);
                compare::<f32>(isa, &layer, sinks, &documents(lengths), 3.0, 3e-5);
                compare::<bf16>(isa, &layer, sinks, &documents(lengths), 1.0, 1.5e-2);
            }
            // Strips of several tiles, of which the first is seen by more queries than the last.
            compare::<f32>(isa, &layer, None, &documents(&[200; 5]), 1.0, 1e-5);
        }
    }
}

/// The first row that each row sees, as [`Attention::with_starts`] tells.
fn starts(window: Window, segments: &[u32]) -> Vec<u32> {
    Attention { window, ..plain(1, 1, 1) }.with_starts(segments, <[u32]>::to_vec)
}

/// SCP-03: with a window of 8, token 15 sees 8..=15. SCP-02: chunks are counted from the document's start.
#[test]
fn windows_show_what_the_specification_says() {
    assert_eq!(starts(Window::Sliding(8), &documents(&[16]))[15], 8);
    assert_eq!(starts(Window::Sliding(2), &documents(&[3, 4])), [0, 0, 1, 3, 3, 4, 5]);
    assert_eq!(starts(Window::Chunked(2), &documents(&[3, 4])), [0, 0, 2, 3, 3, 5, 5]);
}

/// A window at least as long as the document is none, and neither is one of which all else is kept.
#[test]
fn a_window_of_everything_equals_full_attention_to_the_bit() {
    let (layer, segments) = (plain(4, 2, 16), documents(&[100, 60]));
    let (qkv, d_out): (Vec<f32>, Vec<f32>) =
        (cast(&noise(1, 160 * layer.shape.qkv_width())), cast(&noise(2, 160 * layer.shape.out_width())));
    let cpu = Cpu::with_isa(Isa::available()[0], 2);
    let want = run(&cpu, &layer, &segments, &qkv, &d_out);
    for (window, sink_tokens) in [
        (Window::Sliding(100), 0),
        (Window::Chunked(100), 7),
        (Window::Sliding(usize::MAX), 0),
        (Window::Sliding(1), 99),
        (Window::Sliding(1), usize::MAX),
    ] {
        let got = run(&cpu, &Attention { window, sink_tokens, ..layer }, &segments, &qkv, &d_out);
        assert_eq!(bits(&got.out), bits(&want.out), "{window:?}");
        assert_eq!(bits(&got.d_qkv), bits(&want.d_qkv), "{window:?}");
    }
}

/// POS-02: the published slopes, of 8 heads and of 12.
#[test]
fn alibi_slopes_are_the_published_ones() {
    let slopes = |heads: usize| (0..heads).map(|head| alibi_slope(heads, head)).collect::<Vec<_>>();
    let eight = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625];
    assert_eq!(slopes(8), eight);
    let more = [-0.5f32, -1.5, -2.5, -3.5].map(f32::exp2);
    for (got, want) in slopes(12).iter().zip(eight.into_iter().chain(more)) {
        assert!((got - want).abs() < 1e-7, "{got}, want {want}");
    }
    assert_eq!(slopes(1), [2.0f32.powi(-8)]);
}

/// A sink that no score comes near takes everything; one far below them all changes no bit.
#[test]
fn sinks_take_what_they_score() {
    let (layer, segments) = (plain(2, 1, 16), documents(&[90]));
    let (qkv, d_out): (Vec<f32>, Vec<f32>) =
        (cast(&noise(1, 90 * layer.shape.qkv_width())), cast(&noise(2, 90 * layer.shape.out_width())));
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa, 2);
        let none = run(&cpu, &layer, &segments, &qkv, &d_out);
        let r = run_with(&cpu, &layer, Some(&[-1e30, 80.0]), &segments, &qkv, &d_out);
        for (got, want) in r.out.chunks_exact(32).zip(none.out.chunks_exact(32)) {
            assert_eq!(bits(&got[..16]), bits(&want[..16]), "{isa}");
            assert!(got[16..].iter().all(|x| x.abs() < 1e-30), "{isa}");
        }
        assert_eq!(r.d_sinks[0], 0.0);
        let row = |lse: &[f32]| lse[90..].iter().all(|lse| (lse - 80.0).abs() < 1e-4);
        assert!(row(&r.lse) && !row(&none.lse), "{isa}");
    }
}

#[test]
fn gradients_of_sinks_are_added_to_where_told() {
    let (layer, segments) = (plain(2, 1, 4), documents(&[5, 70]));
    let sinks = sinks_of(&layer);
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    let (qkv, d_out): (Vec<f32>, Vec<f32>) =
        (cast(&noise(1, 75 * layer.shape.qkv_width())), cast(&noise(2, 75 * layer.shape.out_width())));
    let r = run_with(&cpu, &layer, Some(&sinks), &segments, &qkv, &d_out);
    let (mut d_qkv, mut d_sinks) = (vec![0.0; qkv.len()], vec![3.0, -2.0]);
    let (output, add) = ((&r.out[..], &r.lse[..]), Some((&mut d_sinks[..], true)));
    backward(&cpu, &layer, Some(&sinks), &segments, &qkv, output, &d_out, &mut d_qkv, add);
    assert_eq!(d_sinks, [3.0 + r.d_sinks[0], -2.0 + r.d_sinks[1]]);
}

/// ATT-01: one key–value head per query head is multi-head attention, one for all is multi-query attention:
/// both equal the model whose key–value heads are copied out.
#[test]
fn grouped_heads_equal_repeated_heads() {
    let cpu = Cpu::with_isa(Isa::available()[0], 1);
    let (heads, d, segments) = (4, 8, documents(&[90, 20]));
    let n = segments.len();
    for kv_heads in [1, 2, 4] {
        let (grouped_layer, full_layer) = (plain(heads, kv_heads, d), plain(heads, heads, d));
        let (grouped, full) = (grouped_layer.shape, full_layer.shape);
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
        let a = run(&cpu, &grouped_layer, &segments, &qkv, &d_out);
        let b = run(&cpu, &full_layer, &segments, &repeated, &d_out);
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
    let layer = plain(4, 2, 16);
    let shape = layer.shape;
    let lengths = [40, 100, 1, 64, 77];
    let segments = documents(&lengths);
    let qkv: Vec<f32> = cast(&noise(7, segments.len() * shape.qkv_width()));
    let d_out: Vec<f32> = cast(&noise(8, segments.len() * shape.out_width()));
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa, 2);
        let packed = run(&cpu, &layer, &segments, &qkv, &d_out);
        let mut start = 0;
        for length in lengths {
            let rows = |width: usize| start * width..(start + length) * width;
            let (wide_rows, out_rows) = (rows(shape.qkv_width()), rows(shape.out_width()));
            let alone =
                run(&cpu, &layer, &vec![0; length], &qkv[wide_rows.clone()], &d_out[out_rows.clone()]);
            close("out", &wide(&packed.out[out_rows]), &wide(&alone.out), 1e-6);
            close("d_qkv", &wide(&packed.d_qkv[wide_rows]), &wide(&alone.d_qkv), 2e-6);
            start += length;
        }
    }
}

/// PKD-03: nothing of one document reaches another, not even in the last bit.
#[test]
fn documents_do_not_leak() {
    let segments = documents(&[50, 90, 70]);
    for (isa, layer) in Isa::available()
        .into_iter()
        .flat_map(|isa| variants(plain(4, 2, 16)).into_iter().map(move |layer| (isa, layer)))
    {
        let shape = layer.shape;
        let qkv: Vec<f32> = cast(&noise(9, 210 * shape.qkv_width()));
        let d_out: Vec<f32> = cast(&noise(10, 210 * shape.out_width()));
        let inside = |width: usize| 50 * width..140 * width;
        let mut changed = (qkv.clone(), d_out.clone());
        changed.0[inside(shape.qkv_width())].iter_mut().for_each(|x| *x = 1e4 - 3e3 * *x);
        changed.1[inside(shape.out_width())].iter_mut().for_each(|x| *x *= -1e4);
        let cpu = Cpu::with_isa(isa, 2);
        let a = run(&cpu, &layer, &segments, &qkv, &d_out);
        let b = run(&cpu, &layer, &segments, &changed.0, &changed.1);
        assert_ne!(a.out, b.out);
        for (a, b, width) in [(a.out, b.out, shape.out_width()), (a.d_qkv, b.d_qkv, shape.qkv_width())] {
            let inside = inside(width);
            assert_eq!(bits(&a[..inside.start]), bits(&b[..inside.start]), "{isa} {layer:?}");
            assert_eq!(bits(&a[inside.end..]), bits(&b[inside.end..]), "{isa} {layer:?}");
        }
    }
}

#[test]
fn extreme_scores_make_no_nan() {
    let segments = documents(&[100, 60]);
    for (isa, layer) in Isa::available()
        .into_iter()
        .flat_map(|isa| variants(plain(2, 1, 16)).into_iter().map(move |layer| (isa, layer)))
    {
        let shape = layer.shape;
        let d_out: Vec<f32> = cast(&noise(12, 160 * shape.out_width()));
        for size in [0.0, 1e-30, 1e3, 1e12] {
            let noise = noise(11, 160 * shape.qkv_width());
            let qkv: Vec<f32> = noise.iter().map(|&x| (x * size) as f32).collect();
            let r = run_with(&Cpu::with_isa(isa, 2), &layer, Some(&[0.5, -3.0]), &segments, &qkv, &d_out);
            let all = r.out.iter().chain(&r.lse).chain(&r.d_qkv).chain(&r.d_sinks);
            assert!(all.into_iter().all(|x| x.is_finite()), "{isa} size {size} {layer:?}");
            assert!(r.out.iter().all(|x| f64::from(x.abs()) <= size * 1.001));
        }
    }
}

fn decode<E: Elem>(isa: Isa, layer: &Attention, sinks: Option<&[f32]>, tolerance: f64) {
    let (capacity, lengths) = (150, [140usize, 9, 66]);
    let (n, shape): (usize, _) = (lengths.iter().sum(), layer.shape);
    let qkv: Vec<E> = cast(&noise(13, n * shape.qkv_width()));
    let mut want = vec![E::from_f32(0.0); n * shape.out_width()];
    let cpu = Cpu::with_isa(isa, 2);
    let lse = &mut vec![0.0; n * shape.heads];
    forward(&cpu, layer, sinks, &documents(&lengths), &qkv, &mut want, lse);
    let places: Vec<(u32, u32)> = (0u32..)
        .zip(lengths)
        .flat_map(|(slot, length)| (0..length as u32).map(move |at| (slot, at)))
        .collect();
    let cache = |width: usize| vec![f32::NAN; 3 * capacity * width];
    let mut caches = (cache(shape.key_width()), cache(shape.value_width()));
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
        cached(&cpu, layer, sinks, &queries, &slots, &positions, k, v, capacity, &mut out);
        for (row, out) in rows.iter().zip(out.chunks_exact(shape.out_width())) {
            match row {
                Some(i) => got[i * shape.out_width()..][..shape.out_width()].copy_from_slice(out),
                None => assert!(out.iter().all(|x| x.to_f32() == 0.0)),
            }
        }
    }
    close(&format!("{isa} {layer:?}"), &wide(&got), &wide(&want), tolerance);
}

#[test]
fn values_that_are_the_first_features_of_keys_need_no_cache_of_their_own() {
    let shape = Shape { value_dim: 12, ..Shape::new(6, 2, 20) };
    let (layer, capacity, n) = (Attention::new(shape), 96, 90);
    let mut qkv: Vec<f32> = noise(1, n * shape.qkv_width()).into_iter().map(|x| x as f32).collect();
    for row in qkv.chunks_exact_mut(shape.qkv_width()) {
        for kv in 0..shape.kv_heads {
            row.copy_within(shape.key_at(kv)..shape.key_at(kv) + shape.value_dim, shape.value_at(kv));
        }
    }
    let (slots, positions) = (vec![0; n], (0..n as u32).collect::<Vec<_>>());
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa, 2);
        let run = |values: usize| {
            let mut k = vec![f32::NAN; capacity * shape.key_width()];
            let (mut v, mut out) = (vec![f32::NAN; values], vec![f32::NAN; n * shape.out_width()]);
            append(shape, &qkv, &slots, &positions, capacity, &mut k, &mut v);
            cached(&cpu, &layer, None, &qkv, &slots, &positions, &k, &v, capacity, &mut out);
            out
        };
        assert_eq!(run(0), run(capacity * shape.value_width()), "{isa}");
    }
}

#[test]
fn cached_decoding_equals_the_full_forward() {
    for isa in Isa::available() {
        for layer in [plain(4, 2, 16), plain(3, 3, 20), plain(6, 1, 33), plain(70, 1, 4)] {
            decode::<f32>(isa, &layer, None, 1e-5);
            decode::<bf16>(isa, &layer, None, 1e-2);
        }
        for layer in variants(plain(4, 2, 24)).into_iter().chain(variants(plain(128, 1, 4))) {
            decode::<f32>(isa, &layer, Some(&sinks_of(&layer)), 1e-5);
            decode::<bf16>(isa, &layer, None, 1e-2);
        }
    }
}

#[test]
fn flops_count_pairs_that_see_each_other() {
    let (layer, segments) = (plain(2, 1, 8), documents(&[3, 2]));
    let pairs = 6 + 3;
    assert_eq!(flops(&layer, &segments), [4 * 2 * 8 * pairs, 10 * 2 * 8 * pairs]);
    assert_eq!(flops(&valued(layer, 5), &segments), [2 * 2 * 13 * pairs, 2 * 2 * 34 * pairs]);
    for (window, sink_tokens, pairs) in [
        (Window::Sliding(2), 0, 1 + 2 + 2 + 2 + 2 + 2 + 1),
        (Window::Sliding(2), 1, 1 + 2 + 3 + 3 + 3 + 3 + 1),
        (Window::Chunked(4), 0, 1 + 2 + 3 + 4 + 1 + 2 + 1),
        (Window::Full, 3, 21 + 1),
    ] {
        let layer = Attention { window, sink_tokens, ..layer };
        assert_eq!(flops(&layer, &documents(&[6, 1]))[0], 4 * 2 * 8 * pairs, "{window:?}");
    }
}

#[test]
#[should_panic(expected = "attention: scale -1 is not positive")]
fn a_scale_that_would_turn_the_largest_score_into_the_smallest_is_refused() {
    let layer = Attention { scores: Scores::scaled(-1.0), ..plain(1, 1, 8) };
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    forward(&cpu, &layer, None, &documents(&[2]), &[0.0f32; 48], &mut [0.0; 16], &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "attention: a window needs the first rows of documents")]
fn a_window_on_top_of_a_window_is_refused() {
    let layer = Attention { window: Window::Sliding(2), ..plain(1, 1, 8) };
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    forward(&cpu, &layer, None, &[0, 0, 1], &[0.0f32; 72], &mut [0.0; 24], &mut [0.0; 3]);
}

/// Layers of different widths share a cache: on the tape, decoding gives what attention gives.
#[test]
fn the_tape_decodes_what_it_attends_to() {
    let (n, index) = (100, 2);
    for layer in [
        valued(plain(4, 2, 24), 9),
        Attention { window: Window::Sliding(20), sink_tokens: 3, ..plain(4, 1, 8) },
    ] {
        let width = layer.shape.qkv_width();
        let mut layout = LayoutBuilder::default();
        let sinks = layout.add(&[("sinks".into(), vec![4])]);
        let layer = Attention { sinks: Some(sinks), ..layer };
        let table = layout.add(&[("table".into(), vec![n, width])]);
        let layout = layout.build();
        let mut t = Tape::new(Precision::Fp32);
        let [tokens, segments, slots, positions] = [(); 4].map(|()| t.input_indices(n));
        let qkv = t.embedding(tokens, table, width, 1.0);
        let packed = t.attention(qkv, segments, &layer);
        let cached = t.cached_attention(qkv, slots, positions, index, &layer);
        t.keep(packed);
        t.keep(cached);
        let mut program = t.compile(false);
        for i in 0..n {
            program.input_mut::<u32>(tokens)[i] = i as u32;
            program.input_mut::<u32>(segments)[i] = i as u32 / 60 * 60;
            program.input_mut::<u32>(slots)[i] = i as u32 / 60;
            program.input_mut::<u32>(positions)[i] = i as u32 % 60;
        }
        let mut cache = KvCache::new(3, 2, 60, 48, 18);
        let (weights, cpu) = (cast::<f32>(&noise(3, layout.len())), Cpu::with_isa(Isa::portable(), 2));
        program.run(Run {
            cpu: &cpu,
            layout: &layout,
            weights: &weights,
            grads: None,
            cache: Some(&mut cache),
        });
        close("cached", &wide(program.output::<f32>(cached)), &wide(program.output::<f32>(packed)), 1e-5);
    }
}
