//! Damaged and unusual WARC files.

use super::*;
use crate::format::OnDamage;

fn pages(bytes: &[u8], max_record: usize) -> Vec<Result<Document, Error>> {
    let options = ReadOptions { max_record, on_damage: OnDamage::Continue, ..ReadOptions::default() };
    let reader =
        crate::format::read(Input::bytes("in.warc", bytes.to_vec()), crate::format::Format::Warc, &options);
    reader.unwrap().collect()
}

fn outcome(items: &[Result<Document, Error>]) -> Vec<Result<&str, Option<Fault>>> {
    items.iter().map(|item| item.as_ref().map(|d| d.text.as_str()).map_err(Error::fault)).collect()
}

fn record(kind: &str, headers: &str, block: &[u8]) -> Vec<u8> {
    let length = block.len();
    let head = format!(
        "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: <http://a/>\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), block, b"\r\n\r\n"].concat()
}

fn response(headers: &str, body: &[u8]) -> Vec<u8> {
    record("response", "", &[format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(), body].concat())
}

#[test]
fn a_bad_record_is_passed_over() {
    let good = |text: &str| record("conversion", "", text.as_bytes());
    let bad_length = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: many\r\n\r\nblock\r\n\r\n";
    let no_length = b"WARC/1.0\r\nWARC-Type: response\r\n\r\nblock\r\n\r\n";
    let no_colon = b"WARC/1.0\r\nnonsense\r\nContent-Length: 3\r\n\r\nabc\r\n\r\n";
    let no_http = record("response", "", b"body only");
    let bytes = [
        &good("one")[..],
        bad_length,
        &good("two"),
        no_length,
        no_colon,
        &good("three"),
        b"garbage\nmore garbage\n",
        &good("four"),
        &no_http,
        &good("five"),
    ]
    .concat();
    let items = pages(&bytes, 1000);
    let bad = Err(Some(Fault::Header));
    assert_eq!(
        outcome(&items),
        [Ok("one"), bad, Ok("two"), bad, bad, Ok("three"), bad, Ok("four"), bad, Ok("five")]
    );
    let at = good("one").len();
    let message = items[1].as_ref().unwrap_err().to_string();
    assert!(message.contains(&format!("in.warc: record at byte {at}: its Content-Length")), "{message}");
    assert_eq!(items[0].as_ref().unwrap().url.as_deref(), Some("http://a/"));
}

#[test]
fn a_cut_file_is_final() {
    let whole = [record("conversion", "", b"one"), record("conversion", "", b"two more")].concat();
    for cut in record("conversion", "", b"one").len() + 1..whole.len() - 4 {
        let items = pages(&whole[..cut], 1000);
        let outcome = outcome(&items);
        assert_eq!((outcome[0], outcome.len()), (Ok("one"), 2), "cut at {cut}");
        // A version line or a header line that is cut cannot be told from a bad one; a block can.
        assert!(outcome[1].is_err(), "cut at {cut}");
    }
    let items = pages(&whole[..whole.len() - 6], 1000);
    assert!(items[1].as_ref().unwrap_err().to_string().contains("2 bytes before"), "{items:?}");
}

#[test]
fn bodies_as_servers_send_them() {
    let gz = |text: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text).unwrap();
        encoder.finish().unwrap()
    };
    let deflated = {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, b"deflated").unwrap();
        encoder.finish().unwrap()
    };
    let bytes = [
        response("", b"no type"),
        response("Content-Encoding: gzip\r\n", b"not packed after all"),
        response("Content-Encoding: gzip\r\n", &gz(b"packed")[..20]),
        response("Content-Encoding: deflate\r\n", &deflated),
        response("Content-Encoding: deflate\r\n", &deflated[2..deflated.len() - 4]),
        response("Content-Encoding: br\r\n", b"\x1B\xFF\xFE\x01"),
        response("Transfer-Encoding: chunked\r\n", b"not chunked after all"),
        response("Content-Type: application/pdf\r\n", b"%PDF"),
        response("Content-Encoding: gzip\r\n", &gz(&[b'x'; 5000])),
        record("response", "WARC-Identified-Payload-Type: image/gif\r\n", b"HTTP/1.1 200 OK\r\n\r\nGIF"),
        record("conversion", "", &[b'y'; 2000]),
        response("bad header line\r\n", b"end"),
    ]
    .concat();
    let too_long = Err(Some(Fault::TooLong));
    let encoding = Err(Some(Fault::Encoding));
    assert_eq!(
        outcome(&pages(&bytes, 1000)),
        [
            Ok("no type"),
            Ok("not packed after all"),
            encoding,
            Ok("deflated"),
            Ok("deflated"),
            encoding,
            Ok("not chunked after all"),
            too_long,
            too_long,
            Ok("end"),
        ]
    );
}
