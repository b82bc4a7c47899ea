//! Shapes that work but cost more than they need to (spec COR-05).

use crate::config::ModelConfig;

/// What matrix products like their sizes to be multiples of.
const WIDTH: usize = 64;
/// What the vocabulary should be a multiple of.
const VOCAB: usize = 128;

/// A sentence for each size that fits no tile of a matrix product, naming the field and the next size that does.
pub fn shape(config: &ModelConfig) -> Vec<String> {
    let c = config;
    let sizes = [
        ("vocab_size", c.vocab_size, VOCAB),
        ("hidden_size", c.hidden_size, WIDTH),
        ("intermediate_size", c.intermediate_size, WIDTH),
    ];
    let odd = sizes.into_iter().filter(|(_, size, multiple)| !size.is_multiple_of(*multiple));
    let mut found: Vec<String> = odd
        .map(|(field, size, multiple)| {
            let next = size.next_multiple_of(multiple);
            format!("{field} = {size} is not a multiple of {multiple}; {next} is")
        })
        .collect();
    let (heads, d) = (c.num_attention_heads * c.head_dim, c.hidden_size);
    if heads != d {
        let (h, d_h) = (c.num_attention_heads, c.head_dim);
        found.push(format!(
            "num_attention_heads = {h} of head_dim = {d_h} are {heads} wide, hidden_size is {d}"
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sizes_are_named_with_the_next_even_one() {
        let even = ModelConfig { vocab_size: 4096, ..ModelConfig::default() };
        assert_eq!(shape(&even), Vec::<String>::new());
        let odd = ModelConfig { vocab_size: 50_257, intermediate_size: 700, head_dim: 80, ..even };
        let found = shape(&odd);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("vocab_size = 50257 ") && found[0].contains("50304"), "{found:?}");
        assert!(found[1].starts_with("intermediate_size = 700 ") && found[1].contains("704"), "{found:?}");
        assert!(found[2].contains("head_dim = 80"), "{found:?}");
    }
}
