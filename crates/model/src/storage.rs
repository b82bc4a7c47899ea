//! Tensors that checkpoints keep in another order than the engine: turned when read, turned back when written.

use crate::Transformer;
use smolt_arch::parameters::{Parameter, Storage};
use smolt_tensor::tape::View;
use std::borrow::Cow;

/// Every tensor and where it lies.
pub(crate) fn tensors(model: &Transformer) -> impl Iterator<Item = (&Parameter, &View)> {
    model.groups().iter().flat_map(|group| &group.tensors).zip(model.layout().views())
}

/// From the checkpoint's order to the engine's, in place.
pub(crate) fn take_in(tensor: &Parameter, data: &mut [f32]) {
    if tensor.storage != Storage::Rows {
        let stored = data.to_vec();
        for (to, from) in places(tensor).enumerate() {
            data[to] = stored[from];
        }
    }
}

/// From the engine's order to the checkpoint's.
pub(crate) fn give_out<'a>(tensor: &Parameter, data: &'a [f32]) -> Cow<'a, [f32]> {
    if tensor.storage == Storage::Rows {
        return Cow::Borrowed(data);
    }
    let mut stored = vec![0.0; data.len()];
    for (from, to) in places(tensor).enumerate() {
        stored[to] = data[from];
    }
    Cow::Owned(stored)
}

/// Where the checkpoint has each element of the engine, in the engine's order.
fn places(tensor: &Parameter) -> impl Iterator<Item = usize> {
    let turns = tensor.storage == Storage::TransposedTurns;
    // A bias is a matrix with one row.
    let (matrices, from, out) = match tensor.shape[..] {
        [matrices, from, out] => (matrices, from, out),
        [matrices, out] => (matrices, 1, out),
        _ => (1, 1, tensor.len()),
    };
    let column = move |row: usize| match turns {
        true if row < out / 2 => 2 * row,
        true => 2 * (row - out / 2) + 1,
        false => row,
    };
    (0..matrices).flat_map(move |matrix| {
        (0..out).flat_map(move |row| (0..from).map(move |k| (matrix * from + k) * out + column(row)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolt_arch::parameters::Role;

    #[test]
    fn gates_and_ups_that_take_turns_are_parted_and_joined_again() {
        let tensor = Parameter {
            name: String::new(),
            shape: vec![1, 2, 4],
            role: Role::Linear,
            storage: Storage::TransposedTurns,
        };
        // Two inputs; outputs gate 0, up 0, gate 1, up 1.
        let stored = [0.0, 10.0, 1.0, 11.0, 100.0, 110.0, 101.0, 111.0];
        let mut data = stored.to_vec();
        take_in(&tensor, &mut data);
        assert_eq!(data, [0.0, 100.0, 1.0, 101.0, 10.0, 110.0, 11.0, 111.0]);
        assert_eq!(&give_out(&tensor, &data)[..], &stored);
        let bias = Parameter { shape: vec![1, 4], ..tensor };
        let mut data = vec![0.0, 10.0, 1.0, 11.0];
        take_in(&bias, &mut data);
        assert_eq!(data, [0.0, 1.0, 10.0, 11.0]);
    }
}
