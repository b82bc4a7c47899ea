//! Radix sort in place, most significant byte first ("American flag": McIlroy, Bostic, McIlroy, 1993): no second buffer,
//! so the whole budget is one run.

use rayon::prelude::*;

/// Below this a comparison sort is faster than counting 256 buckets.
const SMALL: usize = 192;

/// From here on buckets are worth a task each.
const PARALLEL: usize = 1 << 15;

/// Sorts by all bytes. The result is a pure function of the records, whatever the threads.
pub(super) fn sort<const N: usize>(records: &mut [[u8; N]]) {
    sort_from(records, 0);
}

fn sort_from<const N: usize>(records: &mut [[u8; N]], mut byte: usize) {
    let counts = loop {
        if byte == N {
            return;
        }
        if records.len() <= SMALL {
            records.sort_unstable();
            return;
        }
        let mut counts = [0usize; 256];
        for record in records.iter() {
            counts[usize::from(record[byte])] += 1;
        }
        if !counts.contains(&records.len()) {
            break counts;
        }
        byte += 1; // all records share this byte: document numbers have many such
    };
    distribute(records, byte, &counts);
    if records.len() >= PARALLEL {
        split(records, &counts).into_par_iter().for_each(|bucket| sort_from(bucket, byte + 1));
    } else {
        let mut rest = records;
        for count in counts {
            let (bucket, tail) = rest.split_at_mut(count);
            sort_from(bucket, byte + 1);
            rest = tail;
        }
    }
}

/// Swaps each record into the bucket of its `byte`.
fn distribute<const N: usize>(records: &mut [[u8; N]], byte: usize, counts: &[usize; 256]) {
    let mut next = [0usize; 256];
    let mut end = [0usize; 256];
    let mut sum = 0;
    for bucket in 0..256 {
        next[bucket] = sum;
        sum += counts[bucket];
        end[bucket] = sum;
    }
    for bucket in 0..256 {
        while next[bucket] < end[bucket] {
            let mut record = records[next[bucket]];
            loop {
                let home = usize::from(record[byte]);
                std::mem::swap(&mut record, &mut records[next[home]]);
                next[home] += 1;
                if home == bucket {
                    break;
                }
            }
        }
    }
}

fn split<'a, const N: usize>(records: &'a mut [[u8; N]], counts: &[usize; 256]) -> Vec<&'a mut [[u8; N]]> {
    let mut rest = records;
    let mut buckets = Vec::with_capacity(256);
    for &count in counts {
        let (bucket, tail) = rest.split_at_mut(count);
        buckets.push(bucket);
        rest = tail;
    }
    buckets
}
