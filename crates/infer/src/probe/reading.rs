//! One run of a model over packed documents.

use super::{Error, Subject};
use smolt_model::transformer::ProbePass;
use smolt_tensor::tape::{Run, Var};

/// Rows whose logits exist at one time.
const LOGIT_ROWS: usize = 32;

/// What a run left.
pub(super) struct Reading<'m> {
    pub(super) subject: Subject<'m>,
    pub(super) pass: ProbePass,
    /// Of all documents, one after another.
    pub(super) tokens: Vec<u32>,
    /// First row of each row's document.
    pub(super) segments: Vec<u32>,
}

/// What the model makes of a row that has a successor in its document.
pub(super) struct Prediction {
    pub(super) loss: f64,
    pub(super) log_z: f64,
}

impl<'m> Reading<'m> {
    /// Runs the model.
    pub(super) fn of(subject: Subject<'m>, documents: &[Vec<u32>]) -> Result<Reading<'m>, Error> {
        let config = subject.model.config();
        let (vocab_size, longest) = (config.vocab_size, config.longest_sequence());
        let (mut tokens, mut segments, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for document in documents {
            let needed = document.len();
            if needed > longest {
                return Err(Error::TooLong { needed, longest });
            }
            if let Some(&token) = document.iter().find(|&&token| token as usize >= vocab_size) {
                return Err(Error::UnknownToken { token, vocab_size });
            }
            let start = tokens.len() as u32;
            segments.extend(document.iter().map(|_| start));
            positions.extend(0..needed as u32);
            tokens.extend_from_slice(document);
        }
        let mut pass = subject.model.probe_pass(tokens.len());
        for (input, values) in
            [(pass.tokens, &tokens), (pass.segments, &segments), (pass.positions, &positions)]
        {
            pass.program.input_mut::<u32>(input).copy_from_slice(values);
        }
        let (cpu, layout, weights) = (subject.cpu, subject.model.layout(), subject.weights);
        pass.program.run(Run { cpu, layout, weights, grads: None, cache: None });
        let reading = Reading { subject, pass, tokens, segments };
        reading.check()?;
        Ok(reading)
    }

    /// A kept value of the last run.
    pub(super) fn values(&self, var: Var) -> &[f32] {
        self.pass.program.output(var)
    }

    /// Names the first place whose values are no numbers.
    fn check(&self) -> Result<(), Error> {
        let finite = |var: Var| self.values(var).iter().all(|x| x.is_finite());
        if !finite(self.pass.embedded) {
            return Err(Error::NotANumber { place: "the embedding".into() });
        }
        let fits = |block: &smolt_model::transformer::Block| finite(block.qkv) && finite(block.stream);
        match self.pass.blocks.iter().position(|block| !fits(block)) {
            Some(layer) => Err(Error::NotANumber { place: format!("layer {layer}") }),
            None => Ok(()),
        }
    }

    /// Loss and log Z of every row that has a successor in its document, in order.
    pub(super) fn predictions(&self) -> Result<Vec<Prediction>, Error> {
        let Subject { cpu, model, weights } = self.subject;
        let vocab = model.config().vocab_size;
        let has_next = |&row: &u32| self.segments.get(row as usize + 1) == Some(&self.segments[row as usize]);
        let rows: Vec<u32> = (0..self.tokens.len() as u32).filter(has_next).collect();
        let (mut predictions, mut logits) = (Vec::with_capacity(rows.len()), Vec::new());
        for rows in rows.chunks(LOGIT_ROWS) {
            logits.resize(rows.len() * vocab, 0.0);
            self.pass.logits(cpu, model, weights, rows, &mut logits);
            for (&row, logits) in rows.iter().zip(logits.chunks_exact(vocab)) {
                let log_z = log_sum_exp(logits);
                let label = self.tokens[row as usize + 1] as usize;
                predictions.push(Prediction { loss: log_z - f64::from(logits[label]), log_z });
            }
        }
        match predictions.iter().all(|row| row.log_z.is_finite()) {
            true => Ok(predictions),
            false => Err(Error::NotANumber { place: "the output head".into() }),
        }
    }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + logits.iter().map(|&l| (f64::from(l) - max).exp()).sum::<f64>().ln()
}
