//! Packing whole: best-fit decreasing into chunks, so that no document straddles two and little is padding.

use std::collections::BTreeSet;

use super::{ChatOptions, Report, names::StoredNames, shuffle};
use crate::error::Error;
use crate::shard::{DocumentId, Shard, ShardWriter};

/// Writes the documents of `encoded` (none longer than `chunk`) into full chunks of `chunk` tokens.
pub(super) fn write_whole(
    encoded: &Shard,
    names: &StoredNames,
    mut writer: ShardWriter,
    chunk: usize,
    options: ChatOptions,
    report: &mut Report,
) -> Result<ShardWriter, Error> {
    let order = shuffle(encoded.n_documents(), options.seed);
    let documents: Vec<u64> = (0..encoded.n_documents()).map(|i| order.get(i)).collect();
    let length = |document: u64| {
        let range = encoded.document(document);
        (range.end - range.start) as usize
    };
    let lengths: Vec<usize> = documents.iter().map(|&document| length(document)).collect();
    let (mut ids, mut trained) = (Vec::new(), Vec::new());
    for bin in best_fit_decreasing(&lengths, chunk) {
        let mut used = 0;
        for member in bin {
            let range = encoded.document(documents[member]);
            ids.clear();
            ids.extend(range.clone().map(|position| encoded.token(position)));
            trained.clear();
            trained.extend(range.map(|position| encoded.is_trained(position)));
            names.copy(documents[member], &mut writer)?;
            writer.write_document(&ids, Some(&trained))?;
            used += ids.len();
        }
        let padding = chunk.saturating_sub(used);
        if padding > 0 {
            ids.clear();
            ids.resize(padding, options.pad_token_id);
            trained.clear();
            trained.resize(padding, false);
            writer.write_id(DocumentId::Padding)?;
            writer.write_document(&ids, Some(&trained))?;
            report.padding_tokens += padding as u64;
        }
    }
    Ok(writer)
}

/// The items of each bin, longest first; ties go to the earlier item and the earlier bin. Lengths are at most
/// `capacity`.
pub(crate) fn best_fit_decreasing(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut items: Vec<usize> = (0..lengths.len()).collect();
    items.sort_by_key(|&item| std::cmp::Reverse(lengths[item]));
    let mut bins: Vec<Vec<usize>> = Vec::new();
    let mut free: BTreeSet<(usize, usize)> = BTreeSet::new();
    for item in items {
        let length = lengths[item];
        match free.range((length, 0)..).next().copied() {
            Some((room, bin)) => {
                free.remove(&(room, bin));
                bins[bin].push(item);
                free.insert((room - length, bin));
            }
            None => {
                free.insert((capacity.saturating_sub(length), bins.len()));
                bins.push(vec![item]);
            }
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fills_the_tightest_bin() {
        assert_eq!(best_fit_decreasing(&[5, 7, 3, 4, 1], 10), [vec![1, 2], vec![0, 3, 4]]);
    }

    proptest! {
        #[test]
        fn every_item_once_and_no_bin_too_full(lengths in prop::collection::vec(1usize..=20, 0..100)) {
            let bins = best_fit_decreasing(&lengths, 20);
            let mut items: Vec<usize> = bins.concat();
            items.sort_unstable();
            prop_assert_eq!(items, (0..lengths.len()).collect::<Vec<_>>());
            let fills: Vec<usize> = bins.iter().map(|bin| bin.iter().map(|&item| lengths[item]).sum()).collect();
            prop_assert!(fills.iter().all(|&fill| fill <= 20));
            // No two bins would fit into one.
            let mut sorted = fills.clone();
            sorted.sort_unstable();
            prop_assert!(sorted.len() < 2 || sorted[0] + sorted[1] > 20);
        }
    }
}
