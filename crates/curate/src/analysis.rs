//! What several steps want to know of one text, found once: its words, its lines. One per thread, its memory reused.

/// The analysis of the document at hand.
#[derive(Default)]
pub struct Analysis {}

impl Analysis {
    /// Forgets what was found; called for each new document and by each step that changes the text.
    pub fn text_changed(&mut self) {}
}
