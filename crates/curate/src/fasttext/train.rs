//! Trains a classifier: the mean of the vectors of words and hashed n-grams, then a linear layer (Joulin et al. 2017,
//! "Bag of tricks for efficient text classification").
//!
//! fastText's threads race each other, so its results differ from run to run. Here the texts go in batches of
//! [`BATCH`]: their hidden vectors are computed by all threads, the linear layer sees them one after another, and
//! each thread then updates the rows that it owns in the order of the texts. So the bits depend on the seed alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use smolt_run::random::Stream;

use super::Error;
use super::model::{Args, Dictionary, Entry, LABEL, Loss, Matrix, Model, features, tokens};
use super::predict::softmax;
use super::read::MAX_DIM;

smolt_run::recipe! {
    /// How a classifier is trained.
    pub struct TrainSettings {
        /// Length of the vectors.
        pub dim: usize = 64,
        /// How often each text is seen.
        pub epochs: usize = 5,
        /// Learning rate at the start; it falls to zero in a straight line.
        pub lr: f64 = 0.3,
        /// Longest sequence of words that is one feature.
        pub word_ngrams: usize = 2,
        /// Shortest sequence of letters that is one feature.
        pub minn: usize = 0,
        /// Longest; zero for none.
        pub maxn: usize = 0,
        /// Words seen less often are left out of the dictionary.
        pub min_count: u64 = 1,
        /// Rows that hashed n-grams share.
        pub bucket: u32 = 1_000_000,
        /// How scores become probabilities.
        pub loss: TrainLoss = TrainLoss::Softmax,
        /// Of the first weights and of the order of the texts.
        pub seed: u64 = 0,
    }

    /// How scores become probabilities.
    pub enum TrainLoss {
        /// One of the labels holds.
        Softmax = "softmax",
        /// Each label by itself.
        OneVsAll = "ova",
    }
}

/// Texts between two updates of the input rows. More would be faster on many threads, and staler.
pub const BATCH: usize = 16;

/// Pieces of the input matrix that are locked apart: row r is in piece r % PIECES.
const PIECES: usize = 64;

/// A text and its label.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// Line breaks count as spaces.
    pub text: &'a str,
    /// Place in the list of labels.
    pub label: usize,
}

/// Trains on `examples`. `progress` is told the epoch, counted from 1, and the mean loss over it.
///
/// Takes `4 · (words + bucket) · dim` bytes for the weights, and 4 bytes per feature of all texts.
pub fn train(
    examples: &[Example<'_>],
    labels: &[String],
    settings: &TrainSettings,
    threads: usize,
    progress: &(dyn Fn(usize, f64) + Sync),
) -> Result<Model, Error> {
    let args = check(examples, labels, settings)?;
    let dictionary = count(examples, labels, settings.min_count);
    let hashed = if args.maxn > 0 || args.word_ngrams > 1 { args.bucket as usize } else { 0 };
    let rows = dictionary.words + hashed;
    if u32::try_from(rows).is_err() {
        return Err(Error::Training(format!(
            "{rows} words and buckets, at most {}; raise min_count",
            u32::MAX
        )));
    }
    let threads = threads.clamp(1, BATCH);
    let texts = rows_of(examples, &args, &dictionary, threads);
    let job = Job {
        examples: &texts,
        weights: Weights::new(rows, labels.len(), args.dim, settings.seed),
        slots: (0..BATCH).map(|_| RwLock::new(Slot::new(args.dim))).collect(),
        barrier: Barrier { threads, arrived: AtomicUsize::new(0) },
        loss: args.loss,
        settings,
        progress,
    };
    std::thread::scope(|scope| {
        for thread in 1..threads {
            let job = &job;
            scope.spawn(move || job.work(thread));
        }
        job.work(0);
    });
    let (input, output) = job.weights.joined(rows);
    if input.iter().chain(&output).any(|value| !value.is_finite()) {
        return Err(Error::Training(format!("training diverged; lower lr from {}", settings.lr)));
    }
    let columns = args.dim;
    Ok(Model {
        args,
        dictionary,
        input: Matrix::Dense { columns, values: input },
        output: Matrix::Dense { columns, values: output },
        labels: labels.to_vec(),
        tree: Vec::new(),
    })
}

fn check(examples: &[Example<'_>], labels: &[String], s: &TrainSettings) -> Result<Args, Error> {
    let fail = |problem: String| Err(Error::Training(problem));
    if examples.is_empty() || labels.len() < 2 {
        return fail(format!(
            "{} texts of {} labels; give texts of at least two",
            examples.len(),
            labels.len()
        ));
    }
    if let Some(example) = examples.iter().find(|example| example.label >= labels.len()) {
        return fail(format!("label {} of {}", example.label, labels.len()));
    }
    if let Some(label) = labels.iter().find(|l| l.is_empty() || l.contains(['\0', ' ', '\n', '\t', '\r'])) {
        return fail(format!("label {label:?}: fastText's labels have no spaces; rename it"));
    }
    if s.dim == 0 || s.dim > MAX_DIM || s.epochs == 0 || s.word_ngrams > 64 || s.maxn > 64 || s.minn > 64 {
        return fail("dim and epochs are at least 1, n-grams at most 64".into());
    }
    if !(s.lr > 0.0 && s.lr.is_finite()) {
        return fail(format!("lr is {}, expected a positive number", s.lr));
    }
    if s.bucket > i32::MAX as u32 || (s.bucket == 0 && (s.maxn > 0 || s.word_ngrams > 1)) {
        return fail(format!("bucket is {}, expected 1 to {}", s.bucket, i32::MAX));
    }
    Ok(Args {
        dim: s.dim,
        window: 5,
        epochs: s.epochs.min(i32::MAX as usize) as i32,
        min_count: s.min_count.min(i32::MAX as u64) as i32,
        negatives: 5,
        word_ngrams: s.word_ngrams,
        loss: match s.loss {
            TrainLoss::Softmax => Loss::Softmax,
            TrainLoss::OneVsAll => Loss::OneVsAll,
        },
        // As fastText: no rows where there are no n-grams.
        bucket: if s.maxn > 0 || s.word_ngrams > 1 { s.bucket } else { 0 },
        minn: s.minn,
        maxn: s.maxn,
        lr_update_rate: 100,
        sampling: 1e-4,
    })
}

/// Words by descending count, equal counts by their bytes; labels as given.
fn count(examples: &[Example<'_>], labels: &[String], min_count: u64) -> Dictionary {
    let mut counts: HashMap<&[u8], i64> = HashMap::new();
    let mut label_counts = vec![0i64; labels.len()];
    let mut total = 0;
    for example in examples {
        label_counts[example.label] += 1;
        for token in tokens(example.text) {
            total += 1;
            if !token.starts_with(LABEL) {
                *counts.entry(token).or_default() += 1;
            }
        }
    }
    let mut words: Vec<_> = counts.into_iter().filter(|(_, n)| *n as u64 >= min_count).collect();
    words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let count = words.len();
    let words = words.into_iter().map(|(word, count)| Entry { word: word.into(), count });
    let labels = labels
        .iter()
        .zip(label_counts)
        .map(|(label, count)| Entry { word: [LABEL, label.as_bytes()].concat().into(), count });
    Dictionary::new(words.chain(labels).collect(), count, total + examples.len() as i64, None)
}

struct Text {
    rows: Vec<u32>,
    label: usize,
}

fn rows_of(examples: &[Example<'_>], args: &Args, dictionary: &Dictionary, threads: usize) -> Vec<Text> {
    let of = |examples: &[Example<'_>]| -> Vec<Text> {
        let text = |example: &Example<'_>| {
            let mut rows = Vec::new();
            features(args, dictionary, example.text, &mut |row| rows.push(row as u32));
            rows.shrink_to_fit();
            Text { rows, label: example.label }
        };
        examples.iter().map(text).collect()
    };
    let parts: Vec<Mutex<Vec<Text>>> = (0..threads).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        let chunks = examples.chunks(examples.len().div_ceil(threads).max(1));
        for (examples, part) in chunks.zip(&parts) {
            scope.spawn(move || *part.lock().unwrap_or_else(PoisonError::into_inner) = of(examples));
        }
    });
    parts.into_iter().flat_map(|part| part.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

struct Weights {
    dim: usize,
    pieces: Vec<RwLock<Vec<f32>>>,
    output: Mutex<Vec<f32>>,
}

impl Weights {
    fn new(rows: usize, labels: usize, dim: usize, seed: u64) -> Self {
        let key = smolt_run::random::key(seed, "fasttext.input");
        let piece = |first: usize| {
            let mut values = Vec::with_capacity(rows.div_ceil(PIECES) * dim);
            for row in (first..rows).step_by(PIECES) {
                let mut stream = Stream::from_key(key, row as u64);
                let mut draw = || (f64::from(stream.next_u32()) / 2f64.powi(31) - 1.0) / dim as f64;
                values.extend((0..dim).map(|_| draw() as f32));
            }
            RwLock::new(values)
        };
        Self { dim, pieces: (0..PIECES).map(piece).collect(), output: Mutex::new(vec![0.0; labels * dim]) }
    }

    fn joined(self, rows: usize) -> (Vec<f32>, Vec<f32>) {
        let open = |piece: RwLock<Vec<f32>>| piece.into_inner().unwrap_or_else(PoisonError::into_inner);
        let pieces: Vec<Vec<f32>> = self.pieces.into_iter().map(open).collect();
        let mut input = Vec::with_capacity(rows * self.dim);
        for row in 0..rows {
            input.extend_from_slice(&pieces[row % PIECES][row / PIECES * self.dim..][..self.dim]);
        }
        (input, self.output.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One text of the batch.
struct Slot {
    hidden: Vec<f32>,
    gradient: Vec<f32>,
}

impl Slot {
    fn new(dim: usize) -> Self {
        Self { hidden: vec![0.0; dim], gradient: vec![0.0; dim] }
    }
}

/// All threads wait for each other; for a few microseconds at a time, so it spins first.
struct Barrier {
    threads: usize,
    arrived: AtomicUsize,
}

impl Barrier {
    fn wait(&self) {
        let mine = self.arrived.fetch_add(1, Ordering::AcqRel);
        let all = (mine / self.threads + 1) * self.threads;
        let mut turns = 0u32;
        while self.arrived.load(Ordering::Acquire) < all {
            turns += 1;
            if turns < 2000 {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

struct Job<'a> {
    examples: &'a [Text],
    weights: Weights,
    slots: Vec<RwLock<Slot>>,
    barrier: Barrier,
    loss: Loss,
    settings: &'a TrainSettings,
    progress: &'a (dyn Fn(usize, f64) + Sync),
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Job<'_> {
    fn work(&self, thread: usize) {
        let mut order: Vec<u32> = (0..self.examples.len() as u32).collect();
        let batches = order.len().div_ceil(BATCH) * self.settings.epochs;
        let mut done = 0;
        let mut scores = Vec::new();
        for epoch in 0..self.settings.epochs {
            // Every thread draws the same order.
            Stream::new(self.settings.seed, "fasttext.order", epoch as u64).shuffle(&mut order);
            let mut loss = 0.0;
            for batch in order.chunks(BATCH) {
                self.hidden(batch, thread);
                self.barrier.wait();
                if thread == 0 {
                    let lr = self.settings.lr * (1.0 - done as f64 / batches as f64);
                    loss += self.linear_layer(batch, lr as f32, &mut scores);
                }
                self.barrier.wait();
                self.update(batch, thread);
                self.barrier.wait();
                done += 1;
            }
            if thread == 0 {
                (self.progress)(epoch + 1, loss / order.len() as f64);
            }
        }
    }

    fn text(&self, place: u32) -> &Text {
        &self.examples[place as usize]
    }

    /// The mean of each text's rows, for this thread's texts.
    fn hidden(&self, batch: &[u32], thread: usize) {
        let dim = self.weights.dim;
        let pieces: Vec<_> = self.weights.pieces.iter().map(read).collect();
        for (&place, slot) in batch.iter().zip(&self.slots).skip(thread).step_by(self.barrier.threads) {
            let rows = &self.text(place).rows;
            let hidden = &mut write(slot).hidden;
            hidden.fill(0.0);
            for &row in rows {
                let row = row as usize;
                let values = &pieces[row % PIECES][row / PIECES * dim..][..dim];
                hidden.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            let scale = 1.0 / rows.len().max(1) as f32;
            hidden.iter_mut().for_each(|value| *value *= scale);
        }
    }

    /// Scores, loss and gradients of the batch, one text after another. Returns the sum of the losses.
    fn linear_layer(&self, batch: &[u32], lr: f32, scores: &mut Vec<f32>) -> f64 {
        let mut output = self.weights.output.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0.0;
        for (&place, slot) in batch.iter().zip(&self.slots) {
            let text = self.text(place);
            let Slot { hidden, gradient } = &mut *write(slot);
            gradient.fill(0.0);
            if text.rows.is_empty() {
                continue;
            }
            let dot = |row: &[f32]| row.iter().zip(&*hidden).map(|(a, b)| a * b).sum::<f32>();
            scores.clear();
            scores.extend(output.chunks_exact(self.weights.dim).map(dot));
            let small = 1e-7;
            match self.loss {
                Loss::Softmax => {
                    softmax(scores);
                    total -= f64::from(scores[text.label].max(small).ln());
                }
                _ => {
                    for (label, score) in scores.iter_mut().enumerate() {
                        *score = 1.0 / (1.0 + (-*score).exp());
                        let right = if label == text.label { *score } else { 1.0 - *score };
                        total -= f64::from(right.max(small).ln());
                    }
                }
            }
            for (label, row) in output.chunks_exact_mut(self.weights.dim).enumerate() {
                let step = lr * (f32::from(u8::from(label == text.label)) - scores[label]);
                for ((weight, gradient), hidden) in row.iter_mut().zip(&mut *gradient).zip(&*hidden) {
                    *gradient += step * *weight;
                    *weight += step * hidden;
                }
            }
            let scale = 1.0 / text.rows.len() as f32;
            gradient.iter_mut().for_each(|value| *value *= scale);
        }
        total
    }

    /// Adds the gradients to the rows that this thread owns.
    fn update(&self, batch: &[u32], thread: usize) {
        let (dim, threads) = (self.weights.dim, self.barrier.threads);
        let owned = |piece: usize| piece % threads == thread;
        let mut pieces: Vec<_> =
            self.weights.pieces.iter().enumerate().map(|(n, piece)| owned(n).then(|| write(piece))).collect();
        for (&place, slot) in batch.iter().zip(&self.slots) {
            let slot = read(slot);
            for &row in &self.text(place).rows {
                let row = row as usize;
                if let Some(piece) = &mut pieces[row % PIECES] {
                    let values = &mut piece[row / PIECES * dim..][..dim];
                    values.iter_mut().zip(&slot.gradient).for_each(|(value, step)| *value += step);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn topics() -> (Vec<String>, Vec<usize>) {
        let words = [
            ["sun", "rain", "cloud", "wind"],
            ["loop", "stack", "heap", "queue"],
            ["oak", "fern", "moss", "elm"],
        ];
        let mut stream = Stream::new(1, "test", 0);
        let mut texts = Vec::new();
        let mut labels = Vec::new();
        for place in 0..300 {
            let topic = place % 3;
            let word = |stream: &mut Stream| match stream.below(3) {
                0 => ["the", "of", "and"][stream.below(3) as usize],
                _ => words[topic][stream.below(4) as usize],
            };
            texts.push((0..8).map(|_| word(&mut stream)).collect::<Vec<_>>().join(" "));
            labels.push(topic);
        }
        (texts, labels)
    }

    fn trained(settings: &TrainSettings, threads: usize) -> Model {
        let (texts, labels) = topics();
        let examples: Vec<_> =
            texts.iter().zip(labels).map(|(text, label)| Example { text, label }).collect();
        let names = ["weather", "code", "plants"].map(str::to_owned);
        train(&examples, &names, settings, threads, &|_, _| {}).unwrap()
    }

    fn settings() -> TrainSettings {
        let defaults: TrainSettings = smolt_run::recipe::defaults().unwrap();
        TrainSettings { dim: 8, bucket: 1000, epochs: 10, maxn: 3, minn: 2, ..defaults }
    }

    #[test]
    fn learns_topics_and_reads_back_what_it_wrote() {
        for loss in [TrainLoss::Softmax, TrainLoss::OneVsAll] {
            let model = trained(&TrainSettings { loss, ..settings() }, 2);
            for (text, label) in [("rain and wind", 0), ("the stack of heap", 1), ("moss fern", 2)] {
                assert_eq!(model.predict(text, 1, 0.0)[0].label, label, "{text}");
            }
            let bytes = model.to_bytes().unwrap();
            let again = Model::from_bytes(Path::new("again.bin"), &bytes).unwrap();
            assert_eq!(again.predict("rain loop new", 3, 0.0), model.predict("rain loop new", 3, 0.0));
            assert_eq!(again.to_bytes().unwrap(), bytes);
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_threads_but_on_the_seed() {
        let bytes = |settings: &TrainSettings, threads| trained(settings, threads).to_bytes().unwrap();
        let one = bytes(&settings(), 1);
        assert!(bytes(&settings(), 2) == one && bytes(&settings(), 5) == one);
        assert!(bytes(&TrainSettings { seed: 1, ..settings() }, 1) != one);
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let names = ["a".to_owned(), "b".to_owned()];
        let example = [Example { text: "x", label: 0 }];
        let refused = |settings: TrainSettings, names: &[String]| {
            train(&example, names, &settings, 1, &|_, _| {}).err().map(|error| error.to_string())
        };
        assert!(refused(settings(), &names[..1]).unwrap().contains("at least two"));
        assert!(refused(TrainSettings { lr: f64::NAN, ..settings() }, &names).unwrap().contains("lr"));
        assert!(refused(TrainSettings { bucket: 0, ..settings() }, &names).unwrap().contains("bucket"));
        assert!(refused(settings(), &["a b".to_owned(), "c".to_owned()]).unwrap().contains("a b"));
        assert!(
            refused(TrainSettings { lr: 1e300, ..settings() }, &names)
                .is_some_and(|e| e.contains("diverged"))
        );
    }
}
