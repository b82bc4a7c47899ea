//! As much of Thrift's compact protocol as it takes to look at a file before its decoder does.

/// Types of fields.
pub(super) const I32: u8 = 5;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// Values within values.
const MAX_DEPTH: usize = 32;

/// Reads the fields of a structure, and of those within it one after another. `None` is damage.
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    /// The field that was read last; ids are written as differences.
    field: i16,
}

impl<'a> Thrift<'a> {
    /// At the fields of a structure.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, field: 0 }
    }

    /// Reads a structure within this one: its fields come next.
    pub(super) fn structure<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let outer = std::mem::replace(&mut self.field, 0);
        let value = read(self);
        self.field = outer;
        value
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte & 128 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    /// A whole number.
    pub(super) fn i32(&mut self) -> Option<i32> {
        let value = u32::try_from(self.varint()?).ok()?;
        Some((value >> 1) as i32 ^ -((value & 1) as i32))
    }

    /// Id and type of the next field; type 0 at the end of the structure.
    pub(super) fn field(&mut self) -> Option<(i16, u8)> {
        let byte = self.byte()?;
        let (difference, kind) = (byte >> 4, byte & 15);
        self.field = match (difference, kind) {
            (_, 0) => self.field,
            (0, _) => i16::try_from(self.i32()?).ok()?,
            _ => self.field.checked_add(difference.into())?,
        };
        Some((self.field, kind))
    }

    /// Length of a list, and the type of its items.
    pub(super) fn list(&mut self) -> Option<(usize, u8)> {
        let byte = self.byte()?;
        let length = if byte >> 4 == 15 { self.length()? } else { usize::from(byte >> 4) };
        Some((length, byte & 15))
    }

    /// Passes over the value of a field.
    pub(super) fn skip(&mut self, kind: u8) -> Option<()> {
        // A field's truth is in its type.
        if matches!(kind, 1 | 2) { Some(()) } else { self.skip_item(kind, 0) }
    }

    fn skip_item(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match kind {
            1..=3 => drop(self.byte()?),
            4..=6 => drop(self.varint()?),
            7 => drop(self.take(8)?),
            8 => {
                let length = self.length()?;
                self.take(length)?;
            }
            LIST | 10 => {
                let (length, kind) = self.list()?;
                (0..length).try_for_each(|_| self.skip_item(kind, depth + 1))?;
            }
            11 => {
                let length = self.length()?;
                let kinds = if length > 0 { self.byte()? } else { 0 };
                (0..length).try_for_each(|_| {
                    self.skip_item(kinds >> 4, depth + 1)?;
                    self.skip_item(kinds & 15, depth + 1)
                })?;
            }
            STRUCT => self.structure(|fields| {
                loop {
                    match fields.field()? {
                        (_, 0) => return Some(()),
                        (_, 1 | 2) => {}
                        (_, kind) => fields.skip_item(kind, depth + 1)?,
                    }
                }
            })?,
            _ => return None,
        }
        Some(())
    }
}
