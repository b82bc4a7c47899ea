//! The Hub, on a small server of it and a second one that stands for its storage.
#![cfg(feature = "network")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{
    Body, Fault, Faults, Object, Reply, Request, Server, address, hasty, impatient, noise, read, store,
};
use sha2::{Digest, Sha256};
use smolt_store::{Settings, Store, Why};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const PAGE: usize = 2;

/// The files of `datasets/o/n`; those whose names end in `.bin` are in large file storage.
#[derive(Default)]
struct Repo {
    files: BTreeMap<String, Vec<u8>>,
    /// What the hashes of large files are said to be, where that is not the truth.
    wrong: BTreeMap<String, String>,
    token: Option<String>,
    hostile: Vec<String>,
}

struct Hub {
    hub: Server,
    storage: Server,
    repo: Arc<Mutex<Repo>>,
    /// Of the storage, of `HEAD`, and of the rest of the Hub.
    faults: [Faults; 3],
    home: tempfile::TempDir,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Repo {
    fn hash(&self, path: &str) -> String {
        let bytes = &self.files[path];
        match self.wrong.get(path) {
            Some(hash) => hash.clone(),
            None if path.ends_with(".bin") => sha256(bytes),
            // The Hub has git's SHA-1 here; any word of that length does.
            None => sha256(bytes)[..40].to_owned(),
        }
    }

    fn answer(&self, request: &Request, storage: &str) -> Reply {
        let expected = self.token.as_ref().map(|token| format!("Bearer {token}"));
        if expected.is_some() && request.header("authorization").map(str::to_owned) != expected {
            return Reply::new(401, "").with("X-Error-Message", "Access to dataset o/n is restricted.");
        }
        if request.path == "/api/datasets/o/n/revision/main" {
            return Reply::new(200, format!("{{\"sha\": \"{COMMIT}\", \"private\": false}}"));
        }
        if let Some(folder) = request.path.strip_prefix(&format!("/api/datasets/o/n/tree/{COMMIT}")) {
            return self.tree(folder.trim_start_matches('/'), request);
        }
        let main = request.path.strip_prefix("/datasets/o/n/resolve/main/");
        let path = main.or(request.path.strip_prefix(&format!("/datasets/o/n/resolve/{COMMIT}/")));
        let Some((path, bytes)) = path.and_then(|path| Some((path, self.files.get(path)?))) else {
            return Reply::new(404, "").with("X-Error-Code", "EntryNotFound");
        };
        if !path.ends_with(".bin") {
            return Object::new(bytes.clone(), &self.hash(path))
                .answer(request)
                .with("X-Repo-Commit", COMMIT);
        }
        Reply::new(302, "")
            .with("X-Repo-Commit", COMMIT)
            .with("X-Linked-Etag", format!("\"{}\"", self.hash(path)))
            .with("X-Linked-Size", bytes.len().to_string())
            .with("Location", format!("{storage}/store/{path}?signature=s3cret"))
    }

    fn tree(&self, folder: &str, request: &Request) -> Reply {
        let start: usize = request.query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
        let beneath = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let deep = request.query.get("recursive").map(String::as_str) == Some("true");
        let mut nodes =
            vec![format!("{{\"type\": \"directory\", \"path\": \"{beneath}some\", \"oid\": \"x\"}}")];
        for path in self.files.keys().chain(&self.hostile).filter(|path| path.starts_with(&beneath)) {
            if deep || !path[beneath.len()..].contains('/') {
                let size = self.files.get(path).map_or(0, Vec::len);
                nodes.push(format!(
                    "{{\"type\": \"file\", \"path\": \"{path}\", \"size\": {size}, \"oid\": \"x\"}}"
                ));
            }
        }
        if nodes.len() == 1 {
            return Reply::new(404, "");
        }
        let page = nodes[start..nodes.len().min(start + PAGE)].join(",");
        let reply = Reply::new(200, format!("[{page}]"));
        let host = request.header("host").unwrap();
        match nodes.len() > start + PAGE {
            true => reply.with(
                "Link",
                format!(
                    "<http://{host}{}?recursive={deep}&cursor={}>; rel=\"next\"",
                    request.path,
                    start + PAGE
                ),
            ),
            false => reply,
        }
    }
}

impl Hub {
    fn start() -> Self {
        let repo = Arc::new(Mutex::new(Repo::default()));
        let faults = [Faults::default(), Faults::default(), Faults::default()];
        let (inside, spoil) = (Arc::clone(&repo), faults[0].clone());
        let storage = Server::start(move |request| {
            let path = request.path.strip_prefix("/store/").unwrap();
            spoil
                .spoil(Object::new(inside.lock().unwrap().files[path].clone(), "storage-tag").answer(request))
        });
        let (inside, url) = (Arc::clone(&repo), storage.url.clone());
        let (head, rest) = (faults[1].clone(), faults[2].clone());
        let hub = Server::start(move |request| {
            let spoil = if request.method == "HEAD" { &head } else { &rest };
            spoil.spoil(inside.lock().unwrap().answer(request, &url))
        });
        Self { hub, storage, repo, faults, home: tempfile::tempdir().unwrap() }
    }

    fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.repo.lock().unwrap().files.insert(path.to_owned(), bytes.into());
    }

    fn store_with(&self, more: &[(&str, &str)]) -> Store {
        self.patient(hasty(), more)
    }

    fn patient(&self, settings: Settings, more: &[(&str, &str)]) -> Store {
        let home = self.home.path().to_str().unwrap();
        store(settings, &[&[("HF_ENDPOINT", self.hub.url.as_str()), ("HF_HOME", home)], more].concat())
    }

    fn store(&self) -> Store {
        self.store_with(&[])
    }

    fn offline(&self) -> Store {
        self.store_with(&[("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:9")])
    }

    fn cache(&self) -> PathBuf {
        self.home.path().join("hub/datasets--o--n")
    }

    fn requests(&self) -> usize {
        self.hub.requests().len() + self.storage.requests().len()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_fetched_once_into_pythons_layout() {
    let hub = Hub::start();
    let bytes = noise(3_000_000);
    hub.put("data/train.bin", bytes.clone());
    hub.put("README.md", "read me");
    let large = sha256(&bytes);
    for _ in 0..2 {
        assert!(read(&hub.store(), "hf://datasets/o/n/data/train.bin").unwrap() == bytes);
        assert_eq!(read(&hub.store(), "hf://datasets/o/n@main/README.md").unwrap(), b"read me");
    }
    assert_eq!(hub.storage.requests().len(), 1, "the second time it comes from the cache");
    let cache = hub.cache();
    assert_eq!(fs::read_to_string(cache.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(names(&cache.join("blobs")), {
        let mut blobs = [sha256(b"read me")[..40].to_owned(), large.clone()];
        blobs.sort();
        blobs
    });
    let link = fs::read_link(cache.join(format!("snapshots/{COMMIT}/data/train.bin"))).unwrap();
    assert_eq!(link, Path::new(&format!("../../../blobs/{large}")));
    let before = hub.requests();
    assert!(read(&hub.offline(), "hf://datasets/o/n/data/train.bin").unwrap() == bytes);
    assert!(read(&hub.store(), format!("hf://datasets/o/n@{COMMIT}/README.md")).is_ok());
    assert_eq!(hub.requests(), before, "neither offline nor for a known commit is the network touched");
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let hub = Hub::start();
    hub.put("a.bin", noise(1000));
    hub.repo.lock().unwrap().token = Some("hf_secret".to_owned());
    let error = read(&hub.store(), "hf://datasets/o/n/a.bin").unwrap_err();
    assert!(error.contains("restricted") && error.contains("set HF_TOKEN"), "{error}");
    fs::write(hub.home.path().join("token"), "hf_secret\n").unwrap();
    assert_eq!(read(&hub.store(), "hf://datasets/o/n/a.bin").unwrap(), noise(1000));
    assert!(hub.storage.requests().iter().all(|request| request.header("authorization").is_none()));
    assert!(hub.hub.requests().iter().any(|request| request.header("authorization").is_some()));
}

#[test]
fn a_download_survives_every_passing_fault() {
    let hub = Hub::start();
    let bytes = noise(4_000_000);
    hub.put("a.bin", bytes.clone());
    hub.faults[1].plant([Fault::Status(500), Fault::StatusWith(429, "Retry-After", "0")]);
    hub.faults[2].plant([Fault::Status(502)]);
    hub.faults[0].plant([Fault::Status(500), Fault::Cut(1_000_000), Fault::Stall(1_500_000), Fault::Cut(0)]);
    assert!(read(&hub.patient(impatient(), &[]), "hf://datasets/o/n/a.bin").unwrap() == bytes);
    let ranges: Vec<_> =
        hub.storage.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect();
    assert_eq!(
        ranges[2..],
        ["bytes=1000000-", "bytes=2500000-", "bytes=2500000-"].map(|range| Some(range.to_owned()))
    );
}

#[test]
fn a_broken_off_download_goes_on_in_the_next_process() {
    let hub = Hub::start();
    let bytes = noise(4_000_000);
    hub.put("a.bin", bytes.clone());
    hub.faults[0]
        .plant([Fault::Cut(2_500_000)].into_iter().chain(std::iter::repeat_n(Fault::Status(500), 3)));
    let error = read(&hub.store(), "hf://datasets/o/n/a.bin").unwrap_err();
    assert!(error.contains("500") && error.contains("tried"), "{error}");
    let partial = hub.cache().join(format!("blobs/{}.incomplete", sha256(&bytes)));
    assert_eq!(fs::metadata(&partial).unwrap().len(), 2_500_000);
    assert!(read(&hub.store(), "hf://datasets/o/n/a.bin").unwrap() == bytes);
    assert_eq!(hub.storage.requests().last().unwrap().header("range"), Some("bytes=2500000-"));
    assert!(!partial.exists());
}

#[test]
fn a_partial_file_that_is_wrong_is_fetched_anew() {
    for wrong in [vec![0; 1000], vec![0; 4_000_000], vec![0; 5_000_000]] {
        let hub = Hub::start();
        let bytes = noise(4_000_000);
        hub.put("a.bin", bytes.clone());
        fs::create_dir_all(hub.cache().join("blobs")).unwrap();
        fs::write(hub.cache().join(format!("blobs/{}.incomplete", sha256(&bytes))), wrong).unwrap();
        assert!(read(&hub.store(), "hf://datasets/o/n/a.bin").unwrap() == bytes);
    }
}

#[test]
fn content_with_another_hash_or_length_never_reaches_the_cache() {
    let hub = Hub::start();
    hub.put("a.bin", noise(1000));
    hub.repo.lock().unwrap().wrong.insert("a.bin".to_owned(), "ab".repeat(32));
    let error = read(&hub.store(), "hf://datasets/o/n/a.bin").unwrap_err();
    assert!(error.contains("another SHA-256"), "{error}");
    assert_eq!(names(&hub.cache().join("blobs")), [""; 0]);

    let endless = Server::start(|request| match request.method.as_str() {
        "HEAD" => Reply::new(200, "12345").with("X-Repo-Commit", COMMIT).with("ETag", "\"abc\""),
        _ => Reply { status: 200, headers: Vec::new(), body: Body::Endless },
    });
    let error = read(&hub.store_with(&[("HF_ENDPOINT", &endless.url)]), "hf://o/n/f").unwrap_err();
    assert!(error.contains("more than the 5 bytes"), "{error}");
    let short = Server::start(|request| {
        let body = if request.method == "HEAD" { "12345" } else { "123" };
        Reply::new(200, body).with("X-Repo-Commit", COMMIT).with("ETag", "\"abc\"")
    });
    let error = read(&hub.store_with(&[("HF_ENDPOINT", &short.url)]), "hf://o/n/f").unwrap_err();
    assert!(error.contains("it sent 3 bytes instead of 5"), "{error}");
    assert_eq!(names(&hub.home.path().join("hub/models--o--n/blobs")), [""; 0]);
}

#[test]
fn hostile_headers_do_not_leave_the_cache() {
    let hub = Hub::start();
    for (commit, etag) in
        [("../../x", "\"abc\""), (COMMIT, "\"../../../x\""), (COMMIT, "\"\""), ("", "\"abc\"")]
    {
        let server =
            Server::start(move |_| Reply::new(200, "x").with("X-Repo-Commit", commit).with("ETag", etag));
        let error = read(&hub.store_with(&[("HF_ENDPOINT", &server.url)]), "hf://o/n/f").unwrap_err();
        assert!(error.contains("check that the endpoint"), "{error}");
    }
    let plain = Server::start(|_| Reply::new(200, "a web page"));
    let error = read(&hub.store_with(&[("HF_ENDPOINT", &plain.url)]), "hf://o/n/f").unwrap_err();
    assert!(error.contains("this is not a Hub"), "{error}");
    assert_eq!(names(hub.home.path()), [""; 0]);
    hub.put("fine", "x");
    for hostile in ["../../x", "/etc/passwd", "a/./b", "a\\\\b", "a//b"] {
        hub.repo.lock().unwrap().hostile = vec![hostile.to_owned()];
        let error = hub.store().list(&address("hf://datasets/o/n")).unwrap_err();
        assert!(error.why() == Some(Why::Broken) && error.to_string().contains("hostile"), "{error}");
    }
}

#[test]
fn listings_have_all_pages_sorted_and_pinned() {
    let hub = Hub::start();
    for path in [
        "data/b.parquet",
        "data/a.parquet",
        "data/x/c.parquet",
        "data/.keep",
        ".gitattributes",
        "README.md",
        "data2/no",
    ] {
        hub.put(path, path.as_bytes());
    }
    hub.faults[2].plant([Fault::None, Fault::Status(500), Fault::Cut(3)]);
    let listed = |store: Store, text: &str| -> Vec<String> {
        let entries = store.list(&address(text)).unwrap();
        assert!(entries.iter().all(|entry| store.size(&entry.address).unwrap() == entry.size));
        let short = |text: String| text.replace(&format!("hf://datasets/o/n@{COMMIT}/"), "");
        entries.iter().map(|entry| short(entry.address.to_string())).collect()
    };
    assert_eq!(
        listed(hub.store(), "hf://datasets/o/n/data"),
        ["data/a.parquet", "data/b.parquet", "data/x/c.parquet"]
    );
    assert_eq!(listed(hub.store(), "hf://datasets/o/n/data/*.parquet"), ["data/a.parquet", "data/b.parquet"]);
    assert_eq!(listed(hub.store(), "hf://datasets/o/n/**/?.parquet").len(), 3);
    assert_eq!(listed(hub.store(), "hf://datasets/o/n").len(), 5);
    assert_eq!(listed(hub.store(), "hf://datasets/o/n@main/README.md"), ["README.md"]);
    for nothing in ["hf://datasets/o/n/none", "hf://datasets/o/n/data/*.csv", "hf://datasets/o/gone"] {
        assert!(hub.store().list(&address(nothing)).unwrap_err().is_not_found());
    }
    assert_eq!(
        hub.store().pin(&address("hf://datasets/o/n/data")).unwrap(),
        address(format!("hf://datasets/o/n@{COMMIT}/data"))
    );

    read(&hub.store(), "hf://datasets/o/n/data/x/c.parquet").unwrap();
    read(&hub.store(), "hf://datasets/o/n/README.md").unwrap();
    let before = hub.requests();
    assert_eq!(listed(hub.offline(), "hf://datasets/o/n"), ["README.md", "data/x/c.parquet"]);
    assert_eq!(listed(hub.offline(), "hf://datasets/o/n/data/**/*.parquet"), ["data/x/c.parquet"]);
    assert_eq!(listed(hub.offline(), "hf://datasets/o/n/README.md"), ["README.md"]);
    assert_eq!(
        hub.offline().list(&address("hf://datasets/o/n/data2")).unwrap_err().why(),
        Some(Why::Offline)
    );
    assert_eq!(hub.requests(), before);
}

#[test]
fn a_huge_listing_comes_whole_and_one_in_a_circle_is_an_error() {
    let hub = Hub::start();
    for index in 0..2000 {
        hub.put(&format!("d/{index:05}"), "");
    }
    assert_eq!(hub.store().list(&address("hf://datasets/o/n/d/*")).unwrap().len(), 2000);
    let circle = Server::start(|request| match request.path.contains("/revision/") {
        true => Reply::new(200, format!("{{\"sha\": \"{COMMIT}\"}}")),
        false => Reply::new(200, "[]").with("Link", "<?cursor=1>; rel=\"next\""),
    });
    let error =
        hub.store_with(&[("HF_ENDPOINT", &circle.url)]).list(&address("hf://o/n")).unwrap_err().to_string();
    assert!(error.contains("in a circle"), "{error}");
    let endless = Server::start(|_| Reply { status: 200, headers: Vec::new(), body: Body::Endless });
    let error =
        hub.store_with(&[("HF_ENDPOINT", &endless.url)]).list(&address("hf://o/n")).unwrap_err().to_string();
    assert!(error.contains("larger than 32 MiB"), "{error}");
    let nonsense = Server::start(|_| Reply::new(200, "<html>"));
    let error =
        hub.store_with(&[("HF_ENDPOINT", &nonsense.url)]).list(&address("hf://o/n")).unwrap_err().to_string();
    assert!(error.contains("not the Hub's JSON"), "{error}");
}

#[test]
fn offline_and_missing_files_are_named() {
    let hub = Hub::start();
    let error = read(&hub.offline(), "hf://datasets/o/n/a").unwrap_err();
    assert!(error.contains("not in the cache") && error.contains("unset HF_HUB_OFFLINE"), "{error}");
    assert_eq!(hub.requests(), 0);
    let error = read(&hub.store(), "hf://datasets/o/n/a").unwrap_err();
    assert!(error.contains("404") && error.contains("check owner, name, revision and path"), "{error}");
    assert_eq!(hub.requests(), 1);
    assert!(read(&hub.store(), "hf://datasets/o/n").unwrap_err().contains("a whole repository"));
    let error = hub.store().create(&address("hf://datasets/o/n/a")).err().unwrap();
    assert_eq!(error.why(), Some(Why::Unsupported));
}

#[test]
fn many_readers_fetch_a_file_once() {
    let hub = Hub::start();
    let bytes = noise(2_000_000);
    hub.put("a.bin", bytes.clone());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            // A store each, as if they were processes.
            scope.spawn(|| assert!(read(&hub.store(), "hf://datasets/o/n/a.bin").unwrap() == bytes));
        }
    });
    assert_eq!(hub.storage.requests().len(), 1);
    assert_eq!(names(&hub.cache().join("blobs")).len(), 1);
}

#[test]
fn offsets_of_a_file_of_the_hub_are_those_of_the_cache() {
    let hub = Hub::start();
    hub.put("a.bin", noise(5000));
    let file = hub.store().open_at(&address("hf://datasets/o/n/a.bin")).unwrap();
    let mut out = [0; 100];
    file.read_at(4900, &mut out).unwrap();
    assert_eq!((file.size(), out.as_slice()), (5000, &noise(5000)[4900..]));
}
