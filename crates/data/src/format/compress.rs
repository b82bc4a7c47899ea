//! Archives, told by their first bytes and not by their name: gzip of any number of members, zstd of any number of
//! frames. They are decompressed as they are read, so a small archive of much text claims no memory.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

/// How much is read from the file at a time.
const CHUNK: usize = 1 << 17;

type Raw = Box<dyn Read + Send>;

/// What the bytes hold; anything else passes as it is. An archive that is cut or damaged fails while it is read.
pub(crate) fn decompress(name: &Path, mut raw: Raw) -> io::Result<Raw> {
    let mut head = Vec::with_capacity(6);
    raw.by_ref().take(6).read_to_end(&mut head)?;
    let empty = head.is_empty();
    let magic: [u8; 6] = std::array::from_fn(|at| head.get(at).copied().unwrap_or(0));
    let whole = io::Cursor::new(head).chain(raw);
    let invalid = |problem: &str| Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    let buffered = |whole| BufReader::with_capacity(CHUNK, whole);
    match magic {
        [0x1F, 0x8B, ..] => Ok(Box::new(Gunzip { decoder: Some(GzDecoder::new(buffered(whole))) })),
        // A frame of zstd, or one to be skipped before it.
        [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => {
            Ok(Box::new(zstd::Decoder::with_buffer(buffered(whole))?))
        }
        [b'B', b'Z', b'h', ..] => invalid("compressed by bzip2; compress it by gzip or zstd"),
        [0xFD, b'7', b'z', b'X', b'Z', ..] => invalid("compressed by xz; compress it by gzip or zstd"),
        [b'P', b'K', 3, 4, ..] => invalid("a zip archive; unpack it"),
        _ if empty && is_archive_name(name) => invalid("empty, but its name is that of an archive"),
        _ => Ok(Box::new(whole)),
    }
}

/// Whether a name says that the file is compressed.
fn is_archive_name(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == "gz" || extension == "zst")
}

/// Members of gzip one after another, as `cat a.gz b.gz` and every WARC file has them.
struct Gunzip<R> {
    decoder: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let read = decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.decoder = match self.decoder.take() {
                Some(decoder) => next_member(decoder.into_inner())?,
                None => None,
            };
        }
        Ok(0)
    }
}

/// The member after this one. Zeros after the last one are padding, as for the gzip program.
fn next_member<R: BufRead>(mut input: R) -> io::Result<Option<GzDecoder<R>>> {
    loop {
        let bytes = input.fill_buf()?;
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        match bytes.get(zeros) {
            Some(0x1F) => {
                input.consume(zeros);
                return Ok(Some(GzDecoder::new(input)));
            }
            Some(_) => {
                let problem = "bytes that are no gzip member follow the archive";
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            None if zeros == 0 => return Ok(None),
            None => input.consume(zeros),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    /// Hands out its bytes in the smallest pieces.
    struct Trickle(Vec<u8>, usize);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = buffer.len().min(1).min(self.0.len() - self.1);
            buffer[..n].copy_from_slice(&self.0[self.1..self.1 + n]);
            self.1 += n;
            Ok(n)
        }
    }

    fn gz(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(Path::new("in.gz"), Box::new(Trickle(bytes, 0)))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn members_frames_and_padding() {
        let joined = [gz(b"one "), gz(b""), gz(b"two"), vec![0; 1000]].concat();
        assert_eq!(read(joined).unwrap(), b"one two");
        let frame = |text: &[u8]| zstd::encode_all(text, 3).unwrap();
        let skippable = b"\x50\x2A\x4D\x18\x02\0\0\0ab".to_vec();
        assert_eq!(read([skippable, frame(b"one "), frame(b"two")].concat()).unwrap(), b"one two");
        assert_eq!(read(b"plain".to_vec()).unwrap(), b"plain");
        assert!(read(Vec::new()).is_err(), "a .gz of no bytes was cut");
    }

    #[test]
    fn damage_is_an_error() {
        let member = gz(b"text that is long enough to be cut");
        for cut in 1..member.len() {
            let first_ok = [gz(b"whole"), member[..cut].to_vec()].concat();
            assert!(read(first_ok).is_err(), "cut at {cut}");
        }
        let mut flipped = member.clone();
        let crc = flipped.len() - 6;
        flipped[crc] ^= 1;
        assert!(read(flipped).is_err(), "a wrong checksum");
        assert!(read([member, b"rest".to_vec()].concat()).unwrap_err().to_string().contains("follow"));
        let frame = zstd::encode_all(&b"text that is long enough"[..], 3).unwrap();
        assert!(read(frame[..frame.len() - 3].to_vec()).is_err());
        for other in [&b"BZh91AY"[..], b"\xFD7zXZ\0", b"PK\x03\x04.."] {
            assert_eq!(read(other.to_vec()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    proptest! {
        #[test]
        fn any_split_into_members_reads_the_same(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6)) {
            let joined: Vec<u8> = parts.iter().flat_map(|part| gz(part)).collect();
            prop_assert_eq!(read(joined).unwrap(), parts.concat());
        }
    }
}
