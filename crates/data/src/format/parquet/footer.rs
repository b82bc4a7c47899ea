//! The footer, before the library reads it: the library calls itself for every level of a schema, so a file of a few
//! kilobytes whose groups lie in each other could overflow its stack, which nothing catches.

use super::thrift::{I32, LIST, STRUCT, Thrift};
use crate::format::source::RandomAccess;

/// Groups within groups.
const MAX_DEPTH: usize = 256;

/// The largest footer, in bytes.
const MAX_FOOTER: u64 = 1 << 30;

/// Refuses files whose schema is nested too deep. What else may be wrong with a footer is the library's to say.
pub(super) fn check(file: &dyn RandomAccess) -> Result<(), String> {
    let read = |at: u64, length: u64| {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_at(at, &mut bytes).map(|()| bytes).map_err(|error| error.to_string())
    };
    let Some(end) = file.size().checked_sub(8) else { return Ok(()) };
    let tail = read(end, 8)?;
    let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    let Some(start) = end.checked_sub(length) else { return Ok(()) };
    if length > MAX_FOOTER {
        return Err("its footer is larger than 1 GiB".to_owned());
    }
    match depth(&read(start, length)?) {
        Some(depth) if depth > MAX_DEPTH => Err(format!("its columns are nested more than {MAX_DEPTH} deep")),
        Some(_) => Ok(()),
        None => Err("its footer cannot be read".to_owned()),
    }
}

/// How deep the groups of a schema lie in each other (`FileMetaData` of `parquet.thrift`).
fn depth(footer: &[u8]) -> Option<usize> {
    let mut thrift = Thrift::new(footer);
    let mut deepest = 0;
    loop {
        match thrift.field()? {
            (_, 0) => return Some(deepest),
            (2, LIST) => deepest = deepest.max(depth_of_schema(&mut thrift)?),
            (_, kind) => thrift.skip(kind)?,
        }
    }
}

/// Elements come in the order of a walk, each with the number of its children.
fn depth_of_schema(thrift: &mut Thrift<'_>) -> Option<usize> {
    let (elements, STRUCT) = thrift.list()? else { return None };
    let mut open: Vec<i32> = Vec::new();
    let mut deepest = 0;
    for _ in 0..elements {
        let children = thrift.structure(children)?;
        while open.pop_if(|left| *left == 0).is_some() {}
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            open.push(children);
            deepest = deepest.max(open.len());
        }
    }
    Some(deepest)
}

/// `SchemaElement.num_children`.
fn children(element: &mut Thrift<'_>) -> Option<i32> {
    let mut children = 0;
    loop {
        match element.field()? {
            (_, 0) => return Some(children),
            (5, I32) => children = element.i32()?,
            (_, kind) => element.skip(kind)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer of so many groups in each other, around one column.
    fn nested(groups: usize) -> Vec<u8> {
        let group = [0x35, 0x00, 0x18, 0x01, b'g', 0x15, 0x02, 0x00];
        let column = [0x15, 0x0C, 0x25, 0x00, 0x18, 0x01, b'c', 0x00];
        let mut footer = vec![0x15, 0x02, 0x19, 0xFC];
        let mut elements = groups + 1;
        while elements >= 128 {
            footer.push(elements as u8 | 128);
            elements >>= 7;
        }
        footer.push(elements as u8);
        (0..groups).for_each(|_| footer.extend(group));
        footer.extend(column);
        // Rows: 0, in no groups; then a field of any kind that follows.
        footer.extend([0x16, 0x00, 0x19, 0x0C, 0x28, 0x01, b'x', 0x00]);
        footer
    }

    #[test]
    fn a_schema_is_measured_before_it_is_read() {
        assert_eq!(depth(&nested(3)), Some(3));
        assert_eq!(depth(&nested(300_000)), Some(300_000));
        let footer = nested(3);
        (0..footer.len()).for_each(|cut| assert_eq!(depth(&footer[..cut]), None, "{cut}"));
        for (groups, problem) in [(1000, "nested more than 256 deep"), (100_000, "nested more than 256 deep")]
        {
            let footer = nested(groups);
            let length = (footer.len() as u32).to_le_bytes();
            let file = [b"PAR1", footer.as_slice(), &length, b"PAR1"].concat();
            let input = super::super::Input::bytes("in.parquet", file);
            let error = super::super::Rows::open_all(input, &Default::default()).map(drop).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
