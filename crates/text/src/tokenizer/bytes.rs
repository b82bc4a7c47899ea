//! The GPT-2 byte alphabet: each byte is written as one printable character in tokenizer.json.

/// The character that stands for `byte`.
pub(super) fn byte_to_char(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    // The 68 others take U+0100 onward in byte order.
    let rank = (0..byte).filter(|&b| !is_printable(b)).count() as u32;
    char::from_u32(0x100 + rank).unwrap_or('\u{100}')
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The alphabet in both directions.
pub(super) struct Alphabet {
    chars: [char; 256],
    bytes: [Option<u8>; 0x144],
}

impl Alphabet {
    pub(super) fn new() -> Self {
        let mut alphabet = Alphabet { chars: ['\0'; 256], bytes: [None; 0x144] };
        for byte in 0..=u8::MAX {
            let c = byte_to_char(byte);
            alphabet.chars[usize::from(byte)] = c;
            alphabet.bytes[c as usize] = Some(byte);
        }
        alphabet
    }

    /// `bytes` as tokenizer.json spells them.
    pub(super) fn spell(&self, bytes: &[u8]) -> String {
        bytes.iter().map(|&b| self.chars[usize::from(b)]).collect()
    }

    /// The bytes of a token; one with characters outside the alphabet stands for its own UTF-8.
    pub(super) fn read(&self, token: &str) -> Vec<u8> {
        let bytes: Option<Vec<u8>> =
            token.chars().map(|c| self.bytes.get(c as usize).copied().flatten()).collect();
        bytes.unwrap_or_else(|| token.as_bytes().to_vec())
    }

    /// The 256 characters, ascending by code point: the order of the first tokens of a trained vocabulary.
    pub(super) fn sorted(&self) -> Vec<char> {
        let mut chars = self.chars.to_vec();
        chars.sort_unstable();
        chars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_gpt2s_and_reversible() {
        let alphabet = Alphabet::new();
        assert_eq!(alphabet.spell(b" a\n\xAD\xFF"), "ĠaĊŃÿ");
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(alphabet.read(&alphabet.spell(&all)), all);
        assert_eq!(alphabet.read("日"), "日".as_bytes());
    }
}
