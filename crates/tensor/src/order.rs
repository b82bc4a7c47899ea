//! Every constant that orders a sum, in one place: changing one changes bits, so it changes results
//! between versions, never between thread counts.

/// Rows per block of a reduction over rows (weight gradients of norms, bias gradients of experts, statistics of routers);
/// blocks are added in order.
pub const REDUCE_ROWS: usize = 64;

/// Elements per block of a sum over a flat buffer (global norm, the denominator of a softmax), and tokens of a vocabulary
/// whose logits exist at one time where only log-probabilities are wanted.
pub const SUM_BLOCK: usize = 4096;

/// Rows of logits that exist at one time in the fused loss: as many as make four million logits, so that the output head
/// is packed, and its gradient read and written, a few times only.
pub const fn loss_rows(vocab: usize) -> usize {
    const LOGITS: usize = 4 << 20;
    let rows = LOGITS / if vocab == 0 { 1 } else { vocab };
    if rows < 512 { 512 } else { rows }
}

/// Queries and keys per tile of attention scores: the online softmax and the sums over keys advance by it.
pub const ATTENTION_TILE: usize = 64;

/// Tasks that attention's backward pass is cut into at least, if it can be: key–value heads of islands of documents first,
/// then strips of key tiles, whose shares of the queries' gradients are added in order.
pub const ATTENTION_STRIPS: usize = 24;

/// The most strips of one island: each costs memory of the size of the queries.
pub const MOST_STRIPS: usize = 8;

/// Inner dimension per pass of a matrix product with fp32 operands: each pass sums from zero in order of k,
/// and passes are added in order.
pub const GEMM_K_FP32: usize = 256;

/// The same for operands that are multiplied as pairs of bf16.
pub const GEMM_K_BF16: usize = 512;

/// The most rows whose products with a weight are dot products, summed in an order of their own. Among products of more
/// rows than these a row has the same bits, whatever the rows beside it.
pub const FEW_ROWS: usize = 16;
