//! English words that are cut, or kept whole, against the rules: contractions, abbreviations, emoticons. The behaviour
//! is that of spaCy 3.8's English tokenizer.

use std::sync::LazyLock;

use super::words;

/// The longest special word, in bytes.
pub(super) const LONGEST: usize = 16;
const SLOTS: usize = 1 << 13;

/// How a special word is written as words.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Special {
    key: u128,
    len: u8,
    /// Where the words end, the last one's end left out; 0 ends the list.
    cuts: [u8; 2],
    /// Where the pieces end into which the general rules would cut it; 0 ends the list. Empty when they leave it whole.
    pub(super) pieces: [u8; LONGEST],
}

impl Special {
    /// Where its words end, in bytes from its start.
    pub(super) fn ends(&self) -> impl Iterator<Item = usize> + use<> {
        self.cuts.into_iter().filter(|&end| end > 0).chain([self.len]).map(usize::from)
    }
}

/// All special words.
pub(super) struct Specials {
    slots: Vec<Special>,
    /// By folded first and last byte: bit n says that some special word has n bytes.
    lengths: [u32; 1024],
    /// By folded first bytes of two neighbouring pieces: some special word begins with such pieces.
    neighbours: [u32; 32],
}

/// The table, made on first use.
pub(super) static SPECIALS: LazyLock<Specials> = LazyLock::new(Specials::new);

impl Specials {
    fn new() -> Self {
        let mut table =
            Self { slots: vec![Special::default(); SLOTS], lengths: [0; 1024], neighbours: [0; 32] };
        let mut all = Vec::new();
        list(&mut all);
        for (text, cuts) in &all {
            table.insert(text, cuts);
        }
        table
    }

    fn insert(&mut self, text: &str, cuts: &[usize]) {
        let Some(key) = key(text.as_bytes()) else { return };
        let mut special = Special { key, len: text.len() as u8, ..Special::default() };
        for (to, cut) in special.cuts.iter_mut().zip(cuts) {
            *to = *cut as u8;
        }
        let ends = words::pieces_of(text);
        if let [first, _, ..] = ends[..] {
            let pair = pair(text.as_bytes()[0], text.as_bytes()[first]);
            self.neighbours[pair.0] |= 1 << pair.1;
            for (to, end) in special.pieces.iter_mut().zip(&ends) {
                *to = *end as u8;
            }
        }
        self.lengths[ends_index(text.as_bytes())] |= 1 << text.len();
        let mut slot = slot(key);
        while self.slots[slot].len > 0 && (self.slots[slot].key, self.slots[slot].len) != (key, special.len) {
            slot = (slot + 1) % SLOTS;
        }
        self.slots[slot] = special;
    }

    /// The special word that these bytes are.
    #[inline]
    pub(super) fn get(&self, bytes: &[u8]) -> Option<&Special> {
        if !self.may_be(bytes) { None } else { self.find(bytes) }
    }

    /// Rules out most words at the price of one look into a small table.
    #[inline]
    fn may_be(&self, bytes: &[u8]) -> bool {
        (1..=LONGEST).contains(&bytes.len()) && self.lengths[ends_index(bytes)] >> bytes.len() & 1 == 1
    }

    fn find(&self, bytes: &[u8]) -> Option<&Special> {
        let key = key(bytes)?;
        let mut slot = slot(key);
        loop {
            let special = &self.slots[slot];
            match usize::from(special.len) {
                0 => return None,
                len if len == bytes.len() && special.key == key => return Some(special),
                _ => slot = (slot + 1) % SLOTS,
            }
        }
    }

    /// Whether a special word may begin with a piece that begins with `first` and one that begins with `second`.
    #[inline]
    pub(super) fn may_join(&self, first: u8, second: u8) -> bool {
        let pair = pair(first, second);
        self.neighbours[pair.0] >> pair.1 & 1 == 1
    }
}

fn ends_index(bytes: &[u8]) -> usize {
    let fold = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or_default() & 31);
    fold(bytes.first()) << 5 | fold(bytes.last())
}

fn pair(first: u8, second: u8) -> (usize, u32) {
    (usize::from(first & 31), u32::from(second & 31))
}

fn key(bytes: &[u8]) -> Option<u128> {
    let mut padded = [0; LONGEST];
    padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u128::from_le_bytes(padded))
}

fn slot(key: u128) -> usize {
    let folded = key as u64 ^ ((key >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (folded.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 51) as usize
}

/// Words that are one word whatever the rules say; those with an apostrophe also with a curly one.
const WHOLE: &str = "\\t \\n — ' '' \\\") <space> C++ \
    a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. ä. ö. ü. \
    :) :-) :)) :-)) :))) :-))) (: (-: =) (= :] :-] [: [-: [= =] :o) (o: :} :-} 8) 8-) (-8 ;) ;-) (; (-; :( :-( \
    :(( :-(( :((( :-((( ): )-: =( >:( :') :'-) :'( :'-( :/ :-/ =/ =| :| :-| ]= =[ :1 :P :-P :p :-p :O :-O :o :-o \
    :0 :-0 :() >:o :* :-* :3 :-3 =3 :> :-> :X :-X :x :-x :D :-D ;D ;-D =D xD XD xDD XDD 8D 8-D ^_^ ^__^ ^___^ >.< \
    >.> <.< ._. ;_; -_- -__- v.v V.V v_v V_V o_o o_O O_o O_O 0_o o_0 0_0 o.O O.o O.O o.o 0.0 o.0 0.o @_@ <3 <33 \
    <333 </3 (^_^) (-_-) (._.) (>_<) (*_*) (¬_¬) ಠ_ಠ ಠ︵ಠ (ಠ_ಠ) ¯\\(ツ)/¯ ><(((*> \
    'em 'll 'nuff em ll nuff 'S 's ‘S ‘s 're 'd and/or w/o 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout \
    ma'am Ma'am o'clock O'clock \
    Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. Kan. \
    Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. Mt. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. \
    Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. \
    a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. \
    Mont. Mr. Mrs. Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s.";

/// Words cut at the bars; the first two with and without apostrophe in [`list`].
const CUT: &str = "y'|all y|all how|'d|'y How|'d|'y not|'ve not|ve Not|'ve Not|ve can|not Can|not gon|na Gon|na \
    got|ta Got|ta let|'s Let|'s c'm|on C'm|on °|c|. °|f|. °|k|. °|C|. °|F|. °|K|.";

/// Contractions that would read as other words.
const EXCLUDED: [&str; 16] = [
    "Ill", "ill", "Its", "its", "Hell", "hell", "Shell", "shell", "Shed", "shed", "were", "Were", "Well",
    "well", "Whore", "whore",
];

/// Who and what can be contracted, and with which endings; each also capitalised, each also without apostrophe.
const ENDINGS: [(&str, &str); 14] = [
    ("i", "'m 'm|a"),
    ("i you he she it we they", "'ll 'll|'ve 'd 'd|'ve"),
    ("i you we they", "'ve"),
    ("you we they", "'re"),
    ("he she it", "'s"),
    ("who what when where why how there that this these those", "'ll 'll|'ve 'd 'd|'ve"),
    ("who what when where why how there that this", "'s"),
    ("who what when where why how there these those", "'re 've"),
    ("ca could do does did had may might must need ought sha should wo would", "n't n't|'ve"),
    ("could might must should would", "'ve"),
    ("ai are is was were have has dare", "n't"),
    ("doin goin nothin nuthin ol somethin lovin havin", ""),
    ("1 2 3 4 5 6 7 8 9 10 11 12", "a.m. am p.m. pm"),
    ("", ""),
];

fn list(all: &mut Vec<(String, Vec<usize>)>) {
    for word in WHOLE.split_ascii_whitespace() {
        add(all, word);
    }
    for word in CUT.split_ascii_whitespace() {
        add(all, word);
    }
    for (stems, endings) in ENDINGS {
        for stem in stems.split_ascii_whitespace() {
            let capitalised = stem[..1].to_ascii_uppercase() + &stem[1..];
            for stem in [stem, &capitalised] {
                for ending in endings.split_ascii_whitespace() {
                    let word = format!("{stem}|{ending}");
                    add(all, &word);
                    add(all, &word.replace('\'', ""));
                }
                if endings.is_empty() {
                    add(all, stem);
                    add(all, &format!("{stem}'"));
                }
            }
        }
    }
}

/// Adds a word, its cuts written as bars, and the same with curly apostrophes.
fn add(all: &mut Vec<(String, Vec<usize>)>, word: &str) {
    for word in [word.to_owned(), word.replace('\'', "’")] {
        // An emoticon may hold a bar itself.
        if word.starts_with([':', '=']) {
            all.push((word, Vec::new()));
            continue;
        }
        let parts: Vec<&str> = word.split('|').collect();
        let whole = parts.concat();
        if EXCLUDED.contains(&whole.as_str()) {
            continue;
        }
        let cuts = parts[..parts.len() - 1].iter().scan(0, |end, part| {
            *end += part.len();
            Some(*end)
        });
        all.push((whole.clone(), cuts.collect()));
    }
}
