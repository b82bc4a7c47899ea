//! A curation whose inputs lie on a Hub and in a bucket, both of them on loopback.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../store/tests/common/mod.rs"]
mod servers;

use common::{Ran, smolt};
use serde_json::Value;
use servers::{Object, Reply, Request, Server};
use std::fs;
use std::path::Path;
use std::process::Command;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// So many documents, each unlike the others.
fn lines(name: &str, count: usize) -> Vec<u8> {
    let document =
        |i: usize| format!("{{\"id\": \"{name}-{i}\", \"text\": \"document {i} of the {name}\"}}\n");
    (0..count).map(document).collect::<String>().into_bytes()
}

/// `datasets/o/n` with one file.
fn hub(request: &Request) -> Reply {
    let tree = format!("/api/datasets/o/n/tree/{COMMIT}");
    match request.path.as_str() {
        "/api/datasets/o/n/revision/main" => Reply::new(200, format!("{{\"sha\": \"{COMMIT}\"}}")),
        path if path.starts_with(&tree) => {
            let size = lines("hub", 30).len();
            let file = format!(
                "{{\"type\": \"file\", \"path\": \"data/a.jsonl\", \"size\": {size}, \"oid\": \"x\"}}"
            );
            Reply::new(200, format!("[{file}]"))
        }
        path if path.ends_with("/data/a.jsonl") => {
            let tag = "0123456789012345678901234567890123456789";
            Object::new(lines("hub", 30), tag).answer(request).with("X-Repo-Commit", COMMIT)
        }
        _ => Reply::new(404, ""),
    }
}

/// A bucket with one archive, which is cut short when `damaged`.
fn bucket(request: &Request, damaged: bool) -> Reply {
    let mut packed = zstd::encode_all(&lines("bucket", 20_000)[..], 1).unwrap();
    if damaged {
        packed.truncate(packed.len() - 1000);
    }
    if request.query.contains_key("list-type") {
        let size = packed.len();
        return Reply::new(
            200,
            format!(
                "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>in/b.jsonl.zst</Key>\
                 <LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>\"e\"</ETag><Size>{size}</Size>\
                 </Contents></ListBucketResult>"
            ),
        );
    }
    Object::new(packed, "e").answer(request)
}

fn curate(dir: &Path, out: &str, hub: &str, bucket: &str) -> Command {
    let mut command = smolt();
    command.args(["data", "curate"]).arg(dir.join("web.toml")).arg("--out").arg(dir.join(out)).arg("--json");
    command.env("HF_ENDPOINT", hub).env("HF_HOME", dir.join("home")).env("HF_HUB_OFFLINE", "0");
    command.env("AWS_ENDPOINT_URL", bucket).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "eu-1");
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command
}

const RECIPE: &str = r#"
    name = "test"
    [[source]]
    name = "hub"
    inputs = ["hf://datasets/o/n/data/*.jsonl"]
    [[source]]
    name = "bucket"
    inputs = ["s3://words/in/*.zst"]
    [[step]]
    kind = "exact_dedup"
    [output]
"#;

#[test]
fn documents_come_from_a_hub_and_a_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("web.toml"), RECIPE).unwrap();
    let (hub, store) = (Server::start(hub), Server::start(|request| bucket(request, false)));
    let out = Ran::of(curate(dir, "out", &hub.url, &store.url)).success();
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["sources"]["hub"]["kept"]["documents"], 30);
    assert_eq!(report["sources"]["bucket"]["kept"]["documents"], 20_000);
}

/// An archive that ends too early is damage, and `skip` keeps what came before it; a store that cannot be reached is not.
#[test]
fn damage_can_be_skipped_but_not_an_outage() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("web.toml"), RECIPE).unwrap();
    let (hub, store) = (Server::start(hub), Server::start(|request| bucket(request, true)));
    let ran = Ran::of(curate(dir, "out", &hub.url, &store.url));
    assert!(ran.code == Some(2) && ran.err.contains("b.jsonl.zst"), "{:?}: {}", ran.code, ran.err);

    let skip = RECIPE.replace("inputs = [\"s3:", "damaged_files = \"skip\"\n    inputs = [\"s3:");
    fs::write(dir.join("web.toml"), skip).unwrap();
    let report: Value =
        serde_json::from_str(&Ran::of(curate(dir, "skip", &hub.url, &store.url)).success()).unwrap();
    let bucket = &report["sources"]["bucket"];
    assert_eq!(bucket["unreadable"]["damaged_file"], 1);
    let kept = bucket["kept"]["documents"].as_u64().unwrap();
    assert!((1..20_000).contains(&kept), "{kept}");

    let refusing = Server::start(|request| match request.query.contains_key("list-type") {
        true => self::bucket(request, false),
        false => Reply::new(403, "<Error><Code>AccessDenied</Code></Error>"),
    });
    let ran = Ran::of(curate(dir, "out-of-reach", &hub.url, &refusing.url));
    assert!(
        ran.code != Some(0) && ran.err.contains("s3://words/in/b.jsonl.zst"),
        "{:?}: {}",
        ran.code,
        ran.err
    );
    assert!(!dir.join("out-of-reach/curation.json").exists());
}
