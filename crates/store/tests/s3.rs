//! Buckets, on a small S3-compatible server.
#![cfg(feature = "network")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use common::{
    Body, Fault, Faults, Object, Reply, Request, Server, address, hasty, impatient, noise, read, store,
};
use smolt_store::{Settings, Store, Why};

/// The content of one bucket and the uploads that are open.
#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, BTreeMap<usize, Vec<u8>>>,
    /// Names that a listing adds, whatever they are.
    planted: Vec<String>,
}

struct S3 {
    server: Server,
    bucket: Arc<Mutex<Bucket>>,
    faults: Faults,
    /// Faults of `GET` without a key, `POST` and `PUT`.
    slow: Faults,
}

const PAGE: usize = 3;

impl S3 {
    fn start() -> Self {
        let (bucket, faults, slow) =
            (Arc::new(Mutex::new(Bucket::default())), Faults::default(), Faults::default());
        let (inside, planted, slowed) = (Arc::clone(&bucket), faults.clone(), slow.clone());
        let server = Server::start(move |request| {
            let mut bucket = inside.lock().unwrap();
            let key = request.path.strip_prefix("/b/").or(request.path.strip_prefix("/b"));
            let Some(key) = key else { return refuse(404, "NoSuchBucket") };
            match (request.method.as_str(), key) {
                ("GET", "") => slowed.spoil(bucket.list(request)),
                ("GET" | "HEAD", key) => match bucket.objects.get(key) {
                    Some(object) => {
                        let answer = planted.spoil(object.answer(request));
                        if key == "changing" {
                            bucket.put(key, Object::new(vec![0; 3_000_000], "other"));
                        }
                        answer
                    }
                    None => planted.spoil(refuse(404, "NoSuchKey")),
                },
                (_, key) => match slowed.spoil(Reply::new(200, "")) {
                    Reply { status: 200, body: Body::Whole(_), .. } => bucket.write(key, request),
                    spoiled => spoiled,
                },
            }
        });
        Self { server, bucket, faults, slow }
    }

    fn store_with(&self, settings: Settings) -> Store {
        store(settings, &[("AWS_ENDPOINT_URL", &self.server.url), ("AWS_ALLOW_HTTP", "true")])
    }

    fn store(&self) -> Store {
        self.store_with(hasty())
    }

    fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.bucket.lock().unwrap().objects.insert(key.to_owned(), Object::new(bytes, "v1"));
    }

    fn listed(&self, text: &str) -> Vec<String> {
        let entries = self.store().list(&address(text)).unwrap();
        entries.iter().map(|entry| entry.address.to_string()).collect()
    }
}

fn refuse(status: u16, code: &str) -> Reply {
    Reply::new(
        status,
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no luck</Message></Error>"),
    )
}

impl Bucket {
    fn put(&mut self, key: &str, object: Object) {
        self.objects.insert(key.to_owned(), object);
    }

    fn list(&self, request: &Request) -> Reply {
        let prefix = request.query.get("prefix").map_or("", String::as_str);
        let after = request.query.get("continuation-token").map_or("", String::as_str);
        let mut names: Vec<_> =
            self.objects.keys().chain(&self.planted).filter(|key| key.starts_with(prefix)).collect();
        names.sort();
        let left: Vec<_> = names.into_iter().filter(|key| key.as_str() > after).collect();
        let page: String = left.iter().take(PAGE).map(|key| {
            let size = self.objects.get(*key).map_or(0, |object| object.bytes.len());
            format!("<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>\"v1\"</ETag><Size>{size}</Size></Contents>")
        }).collect();
        let more = match left.get(PAGE) {
            Some(_) => format!("<NextContinuationToken>{}</NextContinuationToken>", left[PAGE - 1]),
            None => String::new(),
        };
        Reply::new(
            200,
            format!(
                "<ListBucketResult><IsTruncated>{}</IsTruncated>{more}{page}</ListBucketResult>",
                !more.is_empty()
            ),
        )
    }

    fn write(&mut self, key: &str, request: &Request) -> Reply {
        let upload = request.query.get("uploadId").cloned();
        match (request.method.as_str(), upload) {
            ("POST", None) => {
                let id = format!("upload-{}", self.uploads.len());
                self.uploads.insert(id.clone(), BTreeMap::new());
                Reply::new(
                    200,
                    format!(
                        "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                    ),
                )
            }
            ("PUT", Some(id)) => {
                let part: usize = request.query["partNumber"].parse().unwrap();
                self.uploads.get_mut(&id).unwrap().insert(part, request.body.clone());
                Reply::new(200, "").with("ETag", format!("\"part-{part}\""))
            }
            ("POST", Some(id)) => {
                let parts = self.uploads.remove(&id).unwrap();
                self.objects.insert(
                    key.to_owned(),
                    Object::new(parts.into_values().collect::<Vec<_>>().concat(), "v2"),
                );
                Reply::new(
                    200,
                    "<CompleteMultipartUploadResult><ETag>\"v2\"</ETag></CompleteMultipartUploadResult>",
                )
            }
            ("DELETE", Some(id)) => {
                self.uploads.remove(&id);
                Reply::new(204, "")
            }
            ("PUT", None) => {
                self.objects.insert(key.to_owned(), Object::new(request.body.clone(), "v3"));
                Reply::new(200, "").with("ETag", "\"v3\"")
            }
            _ => Reply::new(400, ""),
        }
    }
}

#[test]
fn an_object_is_read_through_every_passing_fault() {
    let s3 = S3::start();
    let bytes = noise(5_000_000);
    s3.put("data/a b+c%.bin", bytes.clone());
    s3.faults.plant([
        Fault::Status(503),
        Fault::Status(429),
        Fault::Cut(1_500_000),
        Fault::Stall(2_000_000),
        Fault::Cut(0),
    ]);
    assert!(read(&s3.store_with(impatient()), "s3://b/data/a b+c%.bin").unwrap() == bytes);
    let ranges: Vec<_> =
        s3.server.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect();
    assert_eq!(
        ranges[3..],
        [
            Some("bytes=1500000-".to_owned()),
            Some("bytes=3500000-".to_owned()),
            Some("bytes=3500000-".to_owned())
        ]
    );
    assert!(s3.server.requests()[3..].iter().all(|request| request.header("if-match") == Some("\"v1\"")));
    assert!(
        s3.server.requests().iter().all(|request| request.header("authorization").is_none()),
        "no keys, no signature"
    );
}

#[test]
fn keys_sign_requests() {
    let s3 = S3::start();
    s3.put("a", "content");
    let keyed = store(
        hasty(),
        &[
            ("AWS_ENDPOINT_URL_S3", s3.server.url.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "eu-x-1"),
            ("AWS_BUCKET", "elsewhere"),
        ],
    );
    assert_eq!(read(&keyed, "s3://b/a").unwrap(), b"content");
    let requests = s3.server.requests();
    let signature = requests[0].header("authorization").unwrap();
    assert!(signature.contains("AKID/") && signature.contains("/eu-x-1/s3/"), "{signature}");
}

#[test]
fn a_changed_object_is_an_error() {
    let s3 = S3::start();
    s3.put("changing", noise(3_000_000));
    s3.faults.plant([Fault::Cut(2_000_000)]);
    let mut reader = s3.store().open(&address("s3://b/changing")).unwrap();
    let error = std::io::copy(&mut reader, &mut std::io::sink()).unwrap_err().to_string();
    assert!(error.contains("s3://b/changing: it changed while it was read"), "{error}");
}

#[test]
fn errors_name_the_address_the_reason_and_the_fix() {
    let s3 = S3::start();
    s3.put("a", "x");
    for (text, fault, expected) in [
        (
            "s3://b/missing",
            Fault::None,
            "s3://b/missing: Server returned non-2xx status code: 404 Not Found: NoSuchKey: no luck; check the path",
        ),
        ("s3://c/a", Fault::None, "NoSuchBucket"),
        ("s3://b/a", Fault::Status(403), "check AWS_ACCESS_KEY_ID"),
        ("s3://b/a", Fault::Status(301), "another region than AWS_REGION says; check AWS"),
        ("s3://b", Fault::None, "a whole bucket"),
    ] {
        s3.faults.plant([fault]);
        let error = read(&s3.store(), text).unwrap_err();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        s3.faults.spoil(Reply::new(200, ""));
    }
    s3.faults.plant(std::iter::repeat_n(Fault::Status(500), 4));
    let error = read(&s3.store(), "s3://b/a").unwrap_err();
    assert!(error.contains("500") && error.contains("tried 4 times"), "{error}");
    s3.faults.plant(std::iter::repeat_n(Fault::Stall(0), 4));
    let error = read(&s3.store_with(impatient()), "s3://b/a").unwrap_err();
    assert!(error.contains("tried 4 times"), "{error}");
}

#[test]
fn reads_at_offsets_equal_the_object() {
    let s3 = S3::start();
    let bytes = noise(10_000_000);
    s3.put("a", bytes.clone());
    let file = s3.store().open_at(&address("s3://b/a")).unwrap();
    assert_eq!((file.size(), s3.store().size(&address("s3://b/a")).unwrap()), (10_000_000, 10_000_000));
    s3.faults.plant([Fault::Status(500), Fault::Cut(3)]);
    let mut out = vec![0; 9_000_000];
    file.read_at(999, &mut out).unwrap();
    assert!(out == bytes[999..9_000_999]);
    s3.bucket.lock().unwrap().objects.insert("a".to_owned(), Object::new(noise(10_000_000), "other"));
    assert_eq!(file.read_at(0, &mut [0]).unwrap_err().why(), Some(Why::Changed));
}

#[test]
fn listings_have_all_pages_sorted() {
    let s3 = S3::start();
    for key in [
        "data/b.jsonl",
        "data/a.jsonl",
        "data/x/c.jsonl",
        "data/x/d.parquet",
        "data/.hidden",
        "data2/no",
        "data/é",
        "top",
    ] {
        s3.put(key, "x");
    }
    s3.slow.plant([Fault::Status(500), Fault::Cut(10)]);
    let all = [
        "s3://b/data/a.jsonl",
        "s3://b/data/b.jsonl",
        "s3://b/data/x/c.jsonl",
        "s3://b/data/x/d.parquet",
        "s3://b/data/é",
    ];
    assert_eq!(s3.listed("s3://b/data"), all);
    assert_eq!(s3.listed("s3://b/data/"), all);
    assert_eq!(s3.listed("s3://b/data/*.jsonl"), all[..2]);
    assert_eq!(s3.listed("s3://b/data/**/*.jsonl"), all[..3]);
    assert_eq!(s3.listed("s3://b/*/x/?.parquet"), all[3..4]);
    assert_eq!(s3.listed("s3://b/top"), ["s3://b/top"]);
    assert_eq!(s3.listed("s3://b").len(), 7);
    let error = s3.store().list(&address("s3://b/nothing/*")).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn a_huge_listing_comes_whole() {
    let s3 = S3::start();
    for index in 0..3000 {
        s3.put(&format!("d/{index:05}"), "");
    }
    let listed = s3.listed("s3://b/d");
    assert_eq!((listed.len(), listed[2999].as_str()), (3000, "s3://b/d/02999"));
}

#[test]
fn hostile_names_in_a_listing_are_refused() {
    for name in ["d/../../x", "d/./x", "../../x"] {
        let s3 = S3::start();
        s3.put("d/fine", "");
        s3.bucket.lock().unwrap().planted.push(name.to_owned());
        let error = s3.store().list(&address("s3://b/**")).unwrap_err();
        assert_eq!(error.why(), Some(Why::Broken), "{error}");
    }
}

#[test]
fn small_and_large_objects_are_written() {
    let s3 = S3::start();
    for length in [0, 5, (8 << 20) - 1, 8 << 20, 20_000_000] {
        let bytes = noise(length);
        s3.slow.plant([Fault::Status(503), Fault::None, Fault::Status(500)]);
        let mut writer = s3.store().create(&address("s3://b/out/file")).unwrap();
        writer.write_all(&bytes).unwrap();
        writer.flush().unwrap();
        writer.finish().unwrap();
        s3.slow.spoil(Reply::new(200, ""));
        assert!(read(&s3.store(), "s3://b/out/file").unwrap() == bytes, "{length}");
        while s3.slow.left() > 0 {
            s3.slow.spoil(Reply::new(200, ""));
        }
    }
    assert!(s3.bucket.lock().unwrap().uploads.is_empty());
}

#[test]
fn an_unfinished_upload_leaves_nothing() {
    let s3 = S3::start();
    let mut writer = s3.store().create(&address("s3://b/file")).unwrap();
    writer.write_all(&noise(17_000_000)).unwrap();
    drop(writer);
    assert!(s3.server.lines().iter().any(|line| line == "DELETE /b/file"));
    let bucket = s3.bucket.lock().unwrap();
    assert!(bucket.objects.is_empty() && bucket.uploads.is_empty());
}

#[test]
fn an_upload_that_cannot_be_made_is_an_error_and_never_appears() {
    let s3 = S3::start();
    s3.slow.plant([Fault::None].into_iter().chain(std::iter::repeat_n(Fault::Status(500), 4)));
    let mut writer = s3.store().create(&address("s3://b/file")).unwrap();
    let error = writer.write_all(&noise(17_000_000)).unwrap_err().to_string();
    assert!(
        error.contains("s3://b/file") && error.contains("500") && error.contains("tried 4 times"),
        "{error}"
    );
    assert!(writer.finish().is_err());
    assert!(s3.bucket.lock().unwrap().objects.is_empty());
    s3.slow.plant([Fault::Status(403)]);
    let writer = s3.store().create(&address("s3://b/file")).unwrap();
    assert_eq!(writer.finish().unwrap_err().why(), Some(Why::Denied));
}

#[test]
fn google_storage_reads_and_writes_too() {
    let s3 = S3::start();
    let base = ("GOOGLE_BASE_URL", s3.server.url.as_str());
    let anonymous = store(hasty(), &[base]);
    let error = anonymous.create(&address("gs://b/d/a.txt")).err().unwrap().to_string();
    assert!(error.contains("writing needs an account; check GOOGLE_APPLICATION_CREDENTIALS"), "{error}");
    let gs = store(hasty(), &[base, ("GOOGLE_BEARER_TOKEN", "token")]);
    let mut writer = gs.create(&address("gs://b/d/a.txt")).unwrap();
    writer.write_all(b"hello").unwrap();
    writer.finish().unwrap();
    s3.faults.plant([Fault::Status(500), Fault::Cut(2)]);
    assert_eq!(read(&anonymous, "gs://b/d/a.txt").unwrap(), b"hello");
    assert!(
        s3.server
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_some() == (request.method == "PUT"))
    );
    let listed = gs.list(&address("gs://b/d/*.txt")).unwrap();
    assert_eq!(
        (listed.len(), listed[0].size, listed[0].address.to_string().as_str()),
        (1, 5, "gs://b/d/a.txt")
    );
}

#[test]
fn plain_http_is_refused_unless_allowed() {
    let s3 = S3::start();
    let strict = store(hasty(), &[("AWS_ENDPOINT_URL", &s3.server.url)]);
    assert!(read(&strict, "s3://b/a").is_err());
    assert!(s3.server.requests().is_empty());
}
