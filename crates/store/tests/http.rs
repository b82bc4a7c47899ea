//! Plain URLs, from servers that behave and servers that do not.
#![cfg(feature = "network")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Body, Fault, Faults, Object, Reply, Server, address, hasty, impatient, noise, read, store};
use smolt_store::{Settings, Why};

/// A server of one file with planted faults.
fn serve(object: Object) -> (Server, Faults) {
    let faults = Faults::default();
    let planted = faults.clone();
    (Server::start(move |request| planted.spoil(object.answer(request))), faults)
}

#[test]
fn a_stream_survives_every_passing_fault() {
    let bytes = noise(5_000_000);
    let (server, faults) = serve(Object::new(bytes.clone(), "v1"));
    faults.plant([
        Fault::Status(503),
        Fault::StatusWith(429, "Retry-After", "0"),
        Fault::Cut(0),
        Fault::Cut(1_500_000),
        Fault::Status(500),
        Fault::Stall(2_000_000),
        Fault::Cut(70_000),
    ]);
    assert!(read(&store(impatient(), &[]), format!("{}/a.bin", server.url)).unwrap() == bytes);
    let requests = server.requests();
    let ranges: Vec<_> = requests.iter().map(|request| request.header("range")).collect();
    assert_eq!(
        ranges,
        [
            None,
            None,
            None,
            None,
            Some("bytes=1500000-"),
            Some("bytes=1500000-"),
            Some("bytes=3500000-"),
            Some("bytes=3570000-")
        ]
    );
    assert!(requests[4..].iter().all(|request| request.header("if-match") == Some("\"v1\"")));
}

#[test]
fn faults_that_stay_become_one_clear_error() {
    let (server, faults) = serve(Object::new(noise(1000), "v1"));
    let url = format!("{}/a.bin", server.url);
    let mut seen = 0;
    for (fault, expected) in [
        (Fault::Status(503), "the server answers 503"),
        (Fault::Cut(10), "the connection broke"),
        (Fault::Stall(10), "the server sent nothing for 1 s"),
    ] {
        faults.plant(std::iter::repeat_n(fault, 4));
        let error = read(&store(impatient(), &[]), &url).unwrap_err();
        assert!(error.starts_with(&url) && error.contains(expected), "{error}");
        assert!(error.contains("(tried 4 times); check the network"), "{error}");
        seen += 4;
        assert_eq!((server.requests().len(), faults.left()), (seen, 0));
    }
}

#[test]
fn a_few_bytes_per_connection_is_no_progress() {
    let (_server, faults) = serve(Object::new(noise(1000), "v1"));
    faults.plant(std::iter::repeat_n(Fault::Cut(1), 100));
    assert!(read(&store(hasty(), &[]), format!("{}/a", _server.url)).is_err());
    assert_eq!(faults.left(), 96);
}

#[test]
fn refusals_are_final_and_say_what_to_do() {
    let (server, faults) = serve(Object::new(noise(10), "v1"));
    let url = address(format!("{}/a?key=secret", server.url));
    for (fault, why, words) in [
        (Fault::Status(404), Why::NotFound, "check the path"),
        (Fault::Status(403), Why::Denied, "login"),
        (Fault::Status(401), Why::Denied, "login"),
        (Fault::Status(400), Why::Broken, "400"),
        (Fault::StatusWith(503, "Retry-After", "100000"), Why::Unreachable, "asks to wait 100000 s"),
    ] {
        let before = server.requests().len();
        faults.plant([fault]);
        let error = store(hasty(), &[]).open(&url).err().unwrap();
        assert_eq!(error.why(), Some(why));
        let line = error.to_string();
        assert!(line.contains(words) && !line.contains("secret") && !line.contains('\n'), "{line}");
        assert_eq!(server.requests().len(), before + 1);
    }
}

#[test]
fn nobody_at_home_is_an_error_too() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = read(&store(hasty(), &[]), format!("http://{unused}/a")).unwrap_err();
    assert!(error.contains("cannot connect") && error.contains("tried 4 times"), "{error}");
}

/// A changed object is an error and never a mixture, whether or not the server honours `If-Match`.
#[test]
fn a_changed_object_is_an_error() {
    for honest in [true, false] {
        let calls = AtomicUsize::new(0);
        let (old, new) = (Object::new(noise(3_000_000), "old"), Object::new(vec![7; 3_000_000], "new"));
        let first = old.bytes.clone();
        let server = Server::start(move |request| {
            let mut request = request.clone();
            if !honest {
                request.headers.remove("if-match");
            }
            match calls.fetch_add(1, Ordering::SeqCst) {
                0 => Reply {
                    body: Body::Cut(3_000_000, old.bytes[..2_000_000].to_vec()),
                    ..old.answer(&request)
                },
                _ => new.answer(&request),
            }
        });
        let mut reader = store(hasty(), &[]).open(&address(format!("{}/a", server.url))).unwrap();
        let mut bytes = Vec::new();
        let error = reader.read_to_end(&mut bytes).unwrap_err().to_string();
        assert!(error.contains("it changed while it was read"), "{error}");
        assert!(first.starts_with(&bytes));
        assert!(reader.read(&mut [0; 10]).is_err(), "an error is not an end");
    }
}

#[test]
fn without_a_version_a_lost_connection_cannot_be_mended() {
    let (server, faults) = serve(Object { bytes: noise(1000), etag: String::new() });
    let url = format!("{}/a", server.url);
    faults.plant([Fault::Cut(500)]);
    let error = read(&store(hasty(), &[]), &url).unwrap_err();
    assert!(error.contains("no ETag, no Last-Modified"), "{error}");
    assert_eq!(read(&store(hasty(), &[]), &url).unwrap(), noise(1000), "but whole it is readable");
}

#[test]
fn a_server_without_ranges_starts_again_and_what_was_read_is_passed_over() {
    let faults = Faults::default();
    let (planted, object) = (faults.clone(), Object::new(noise(2_000_000), "v1"));
    let server = Server::start(move |request| {
        let mut request = request.clone();
        request.headers.remove("range");
        planted.spoil(object.answer(&request))
    });
    let url = format!("{}/a", server.url);
    faults.plant([Fault::Cut(1_200_000), Fault::Cut(700_000), Fault::Cut(1_900_000)]);
    assert!(read(&store(hasty(), &[]), &url).unwrap() == noise(2_000_000));
    let file = store(hasty(), &[]).open_at(&address(&url)).unwrap();
    let error = file.read_at(5, &mut [0; 5]).unwrap_err().to_string();
    assert!(error.contains("does not serve parts"), "{error}");
}

#[test]
fn answers_that_contradict_themselves_are_errors() {
    for range in ["bytes 9-4/10", "bytes 0-18446744073709551615/10", "items 1-2/3", ""] {
        let server = Server::start(move |_| Reply::new(206, "abc").with("Content-Range", range));
        let error = read(&store(hasty(), &[]), format!("{}/a", server.url)).unwrap_err();
        assert!(error.contains("it sends a part but names it"), "{range}: {error}");
    }
    let server = Server::start(|_| Reply::new(206, "abc").with("Content-Range", "bytes 5-7/100"));
    assert!(
        read(&store(hasty(), &[]), format!("{}/a", server.url)).unwrap_err().contains("it sends from byte 5")
    );
    let server = Server::start(|_| Reply::new(206, "abcdef").with("Content-Range", "bytes 0-2/3"));
    assert!(
        read(&store(hasty(), &[]), format!("{}/a", server.url))
            .unwrap_err()
            .contains("more than the 3 bytes")
    );
}

#[test]
fn redirects_are_followed_but_not_for_ever_nor_anywhere() {
    let (last, _) = serve(Object::new("here", "v1"));
    let url = last.url.clone();
    let server = Server::start(move |request| match request.path.as_str() {
        "/loop" => Reply::new(302, "").with("Location", "/loop"),
        "/file" => Reply::new(302, "").with("Location", "file:///etc/passwd"),
        "/nowhere" => Reply::new(302, "").with("Location", "http://["),
        "/relative" => Reply::new(307, "").with("Location", "away"),
        _ => Reply::new(301, "").with("Location", format!("{url}/x")),
    });
    let ask = |path: &str| read(&store(hasty(), &[]), format!("{}{path}", server.url));
    assert_eq!(ask("/relative").unwrap(), b"here");
    let before = server.requests().len();
    assert!(ask("/loop").unwrap_err().contains("redirects more than 10 times"));
    assert_eq!(server.requests().len(), before + 11);
    assert!(ask("/file").unwrap_err().contains("to file, which is refused"));
    assert!(ask("/nowhere").unwrap_err().contains("redirects to nowhere"));
}

#[test]
fn an_endless_body_is_read_as_far_as_one_wants() {
    let server = Server::start(|_| Reply { status: 200, headers: Vec::new(), body: Body::Endless });
    let reader = store(hasty(), &[]).open(&address(format!("{}/a", server.url))).unwrap();
    let mut bytes = Vec::new();
    reader.take(20_000_000).read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() == 20_000_000 && bytes.iter().all(|byte| *byte == b'x'));
}

#[test]
fn reads_at_offsets_equal_the_file() {
    let bytes = noise(20_000_000);
    let (server, faults) = serve(Object::new(bytes.clone(), "v1"));
    let store = store(hasty(), &[]);
    let url = address(format!("{}/a.parquet", server.url));
    assert_eq!(store.size(&url).unwrap(), 20_000_000);
    let file = store.open_at(&url).unwrap();
    assert_eq!(file.size(), 20_000_000);
    faults.plant([Fault::Status(502), Fault::Cut(100), Fault::None]);
    for (offset, length) in [(19_999_992, 8), (0, 4), (123, 17_000_000), (20_000_000, 0)] {
        let mut out = vec![0; length];
        file.read_at(offset as u64, &mut out).unwrap();
        assert!(out == bytes[offset..offset + length], "{offset} + {length}");
    }
    assert!(file.read_at(19_999_999, &mut [0; 2]).is_err());
    assert!(file.read_at(u64::MAX, &mut [0; 2]).is_err());
}

#[test]
fn offsets_of_a_changed_file_are_an_error() {
    let calls = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let version = if calls.fetch_add(1, Ordering::SeqCst) < 2 { "v1" } else { "v2" };
        Object::new(noise(100), version).answer(request)
    });
    let file = store(hasty(), &[]).open_at(&address(format!("{}/a", server.url))).unwrap();
    file.read_at(3, &mut [0; 3]).unwrap();
    assert!(file.read_at(3, &mut [0; 3]).unwrap_err().to_string().contains("changed"));
}

#[test]
fn size_and_listing_do_without_head() {
    let object = Object::new(noise(1234), "v1");
    let server = Server::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::new(405, ""),
        _ => object.answer(request),
    });
    let url = address(format!("{}/a", server.url));
    let listed = store(hasty(), &[]).list(&url).unwrap();
    assert_eq!((listed.len(), listed[0].size, &listed[0].address), (1, 1234, &url));
}

#[test]
fn urls_cannot_be_written() {
    let error = store(hasty(), &[]).create(&address("https://h/a")).err().unwrap();
    assert_eq!(error.why(), Some(Why::Unsupported));
}

#[test]
fn a_dropped_reader_lets_go_of_its_connection() {
    let (server, faults) = serve(Object::new(noise(50_000_000), "v1"));
    faults.plant([Fault::Stall(3_000_000)]);
    let settings = Settings { read_timeout: Duration::from_secs(3600), ..hasty() };
    let mut reader = store(settings, &[]).open(&address(format!("{}/a", server.url))).unwrap();
    reader.read_exact(&mut vec![0; 1_000_000]).unwrap();
    drop(reader);
    assert_eq!(server.requests().len(), 1);
}
