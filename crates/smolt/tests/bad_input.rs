//! Whatever is wrong with the input: one clear line, the right exit code, nothing lost. The messages are snapshots.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, checkpoints, copy, repository, smolt};
use insta::assert_snapshot;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A folder to work in, which messages call DIR; the repository is called REPO.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs `smolt LINE`, words split at spaces, `DIR` and `REPO` replaced.
    fn command(&self, line: &str) -> Command {
        let repo = repository("");
        let (dir, repo) = (self.0.path().to_str().unwrap(), repo.to_str().unwrap().trim_end_matches('/'));
        let mut command = smolt();
        command.args(line.split(' ').map(|w| w.replace("DIR", dir).replace("REPO", repo)));
        command
    }

    /// Exit code and messages of a run that fails.
    #[track_caller]
    fn fails(&self, line: &str) -> String {
        let ran = Ran::of(self.command(line));
        let repo = repository("");
        let text = ran.err.replace(self.0.path().to_str().unwrap(), "DIR");
        let text = text.replace(repo.to_str().unwrap().trim_end_matches('/'), "REPO");
        assert!(text.starts_with("error: "), "{text}");
        assert_eq!(ran.out, "", "nothing but the error");
        format!("exit {}\n{text}", ran.code.unwrap())
    }

    /// The kill-resume recipe with `sets`; it must fail.
    #[track_caller]
    fn train_fails(&self, sets: &[&str]) -> String {
        let sets: String = sets.iter().map(|s| format!(" --set {s}")).collect();
        self.fails(&format!("train REPO/recipes/tests/kill-resume.toml --out DIR/run{sets}"))
    }
}

const SMALL: &str = "--set train.train_steps=4 --set train.sequence_length=16 --set train.checkpoint_interval=2 \
                     --set schedule.warmup_steps=1 --set schedule.decay_steps=1";

/// A finished run of four steps.
fn trained() -> &'static Path {
    static RUN: OnceLock<Place> = OnceLock::new();
    let place = RUN.get_or_init(|| {
        let place = Place::new();
        let line = format!("train REPO/recipes/tests/kill-resume.toml --out DIR/run {SMALL}");
        Ran::of(place.command(&line)).success();
        place
    });
    // The other tests only read it.
    Box::leak(place.path("run").into_boxed_path())
}

#[test]
fn help() {
    let ran = Ran::of(Place::new().command("--help"));
    assert_snapshot!(ran.success());
}

#[test]
fn recipes() {
    let place = Place::new();
    place.write(
        "bad.toml",
        "[model]\nhiden_size = 64\nnum_hidden_layers = \"two\"\n\n[data]\ntokenizer = \"t\"\nsources = []\n\n[train]\ntrain_steps = 4\n",
    );
    assert_snapshot!("misspelt_key_and_wrong_type", place.fails("train DIR/bad.toml --out DIR/run"));
    place.write("syntax.toml", "[model\n");
    assert_snapshot!("not_toml", place.fails("train DIR/syntax.toml --out DIR/run"));
    assert_snapshot!("no_recipe", place.fails("train DIR/none.toml --out DIR/run"));
    assert_snapshot!("set_of_an_unknown_key", place.train_fails(&["optimizer.learning_rte=1"]));
    assert_snapshot!("set_without_a_value", place.train_fails(&["optimizer"]));
    assert!(!place.path("run").exists());
}

#[test]
fn shapes() {
    let place = Place::new();
    assert_snapshot!("heads_do_not_divide", place.train_fails(&["model.num_attention_heads=5"]));
    assert_snapshot!("kv_heads_do_not_divide", place.train_fails(&["model.num_key_value_heads=3"]));
    assert_snapshot!("no_heads", place.train_fails(&["model.num_attention_heads=0"]));
    assert_snapshot!("no_sequence", place.train_fails(&["train.sequence_length=0"]));
    assert_snapshot!("sequence_beyond_positions", place.train_fails(&["model.max_position_embeddings=64"]));
    assert_snapshot!("micro_batches_do_not_divide", place.train_fails(&["train.micro_batch_size=5"]));
    assert_snapshot!("vocabulary_below_the_tokenizer", place.train_fails(&["model.vocab_size=128"]));
    assert_snapshot!("warmup_longer_than_the_run", place.train_fails(&["schedule.warmup_steps=5000"]));
    // Refused recipes leave the folder free: a good one can use it without --resume.
    let line = format!("train REPO/recipes/tests/kill-resume.toml --out DIR/run --json {SMALL}");
    Ran::of(place.command(&line)).success();
}

#[test]
fn diverged() {
    let place = Place::new();
    let line = format!("train REPO/recipes/tests/kill-resume.toml --out DIR/run --json {SMALL}");
    let text = place.fails(&format!("{line} --set optimizer.learning_rate=1e38"));
    assert!(
        text.starts_with("exit 1\nerror: step ") && text.contains("lower optimizer.learning_rate"),
        "{text}"
    );
}

#[test]
fn token_shards() {
    let place = Place::new();
    let data = repository("recipes/tests/kill-resume");
    // As datatrove writes it, without .smolt.json: two documents, one id beyond the tokenizer's 512.
    let mut tokens: Vec<u8> = (0..400u16).flat_map(|i| (i % 500).to_le_bytes()).collect();
    tokens[2 * 321..2 * 322].copy_from_slice(&600u16.to_le_bytes());
    place.write("foreign.ds", &tokens);
    place.write("foreign.ds.index", [200u64.to_le_bytes(), 400u64.to_le_bytes()].concat());
    let source = |path: &str| format!("data.sources=[{{name=\"a\",path=\"{path}\"}}]");
    let fails = |name: &str| place.train_fails(&[&source(place.path(name).to_str().unwrap())]);
    assert_snapshot!("token_beyond_the_vocabulary", fails("foreign.ds"));
    assert_snapshot!("no_shard", fails("none.ds"));
    for name in ["qa.ds", "qa.ds.index", "qa.ds.smolt.json"] {
        let mut bytes = std::fs::read(data.join(name)).unwrap();
        if name == "qa.ds" {
            bytes.truncate(bytes.len() / 2);
        }
        place.write(name, bytes);
    }
    assert_snapshot!("shard_cut_short", fails("qa.ds"));
    assert_snapshot!("no_sources", place.train_fails(&["data.sources=[]"]));
}

#[test]
fn documents() {
    let place = Place::new();
    place.write("empty.jsonl", "");
    place.write("blank.jsonl", "{\"text\": \"  \"}\n");
    place.write("latin1.jsonl", b"{\"text\": \"good\"}\n{\"text\": \"caf\xe9\"}\n");
    place.write("latin1.txt", b"caf\xe9");
    place.write("keys.jsonl", "{\"txt\": \"a\"}\n");
    place.write("json.jsonl", "{\"text\": \"a\"\n");
    let tokenize = "--tokenizer REPO/recipes/tests/kill-resume/tokenizer --out DIR/out.ds";
    for name in
        ["empty.jsonl", "blank.jsonl", "latin1.jsonl", "latin1.txt", "keys.jsonl", "json.jsonl", "none.jsonl"]
    {
        let text = place.fails(&format!("data tokenize DIR/{name} {tokenize}"));
        assert_snapshot!(format!("tokenize_{}", name.replace('.', "_")), text);
        assert!(!place.path("out.ds").exists(), "{name}");
    }
    assert_snapshot!(
        "train_tokenizer_on_nothing",
        place.fails("tokenizer train DIR/empty.jsonl --out DIR/tok")
    );
    assert_snapshot!(
        "train_tokenizer_on_latin1",
        place.fails("tokenizer train DIR/latin1.jsonl --out DIR/tok")
    );
    place.write("chats.jsonl", "{\"messages\": [{\"role\": \"user\"}]}\n");
    assert_snapshot!(
        "chat_without_content",
        place.fails(&format!("data tokenize --chats DIR/chats.jsonl {tokenize}"))
    );
}

#[test]
fn model_folders() {
    let place = Place::new();
    let good = trained().join("checkpoints/step-4");
    let broken = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let dir = place.path("model");
        let _ = std::fs::remove_dir_all(&dir);
        copy(&good, &dir);
        let mut bytes = std::fs::read(dir.join(file)).unwrap();
        change(&mut bytes);
        std::fs::write(dir.join(file), bytes).unwrap();
        place.fails("generate --prompt Tom --model DIR/model")
    };
    let weights = "model.safetensors";
    let text = broken(weights, &|bytes| bytes[..8].copy_from_slice(&(1u64 << 60).to_le_bytes()));
    assert_snapshot!("header_of_2_to_the_60", text);
    assert_snapshot!("weights_cut_short", broken(weights, &|bytes| bytes.truncate(bytes.len() - 100)));
    assert_snapshot!("weights_empty", broken(weights, &Vec::clear));
    assert_snapshot!("config_not_json", broken("config.json", &|bytes| bytes.truncate(40)));
    let larger = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5").into_bytes();
    };
    let text = broken("config.json", &larger);
    assert!(text.starts_with("exit 2\nerror: "), "{text}");
    assert_snapshot!("tokenizer_cut_short", broken("tokenizer.json", &|bytes| bytes.truncate(500)));
    assert_snapshot!("no_model", place.fails("generate --prompt Tom --model DIR/none"));
    place.write("full/file", "");
    assert_snapshot!(
        "export_into_a_full_folder",
        place.fails(&format!("export {} --out DIR/full", good.display()))
    );
    let model = good.display();
    assert_snapshot!(
        "empty_prompt",
        place.fails_with(&["generate", "--prompt", "", "--model", &model.to_string()])
    );
    assert_snapshot!(
        "no_items",
        place.fails(&format!("eval {model} --task tinytown --set dataset.path=DIR/none"))
    );
    assert_snapshot!(
        "too_many_tokens",
        place.fails(&format!("generate --model {model} --prompt Tom --max-tokens 4294967295"))
    );
    place.write("items/skill.jsonl", "{}\n");
    assert_snapshot!(
        "items_of_another_kind",
        place.fails(&format!("eval {model} --task tinytown --set dataset.path=DIR/items"))
    );
}

impl Place {
    /// As [`Place::fails`], for arguments that hold spaces or nothing.
    fn fails_with(&self, args: &[&str]) -> String {
        let mut command = smolt();
        command.args(args);
        let ran = Ran::of(command);
        format!("exit {}\n{}", ran.code.unwrap(), ran.err)
    }
}

#[test]
fn run_folders() {
    let place = Place::new();
    copy(trained(), &place.path("run"));
    let recipe = format!("train REPO/recipes/tests/kill-resume.toml --out DIR/run {SMALL}");
    assert_snapshot!("folder_not_empty", place.fails(&recipe));
    let other = format!("{recipe} --resume --set optimizer.learning_rate=0.5 --set seed=12");
    assert_snapshot!("resume_of_another_recipe", place.fails(&other));
    let lock = std::fs::File::create(place.path("run/.lock")).unwrap();
    lock.lock().unwrap();
    assert_snapshot!("folder_of_another_run", place.fails(&format!("{recipe} --resume")));
    drop(lock);
    Ran::of(place.command(&format!("{recipe} --resume"))).success();
    place.write("file", "");
    assert_snapshot!(
        "out_is_a_file",
        place.fails("train REPO/recipes/tests/kill-resume.toml --out DIR/file")
    );
    assert_snapshot!("no_checkpoints", place.fails("checkpoint list DIR/none"));
    let mut command =
        place.command(&format!("train REPO/recipes/tests/kill-resume.toml --out DIR/other {SMALL}"));
    command.env("SMOLT_CPU", "sse9");
    let ran = Ran::of(command);
    assert!(
        ran.code == Some(2) && ran.err.contains("SMOLT_CPU=sse9: this CPU offers portable"),
        "{}",
        ran.err
    );
}

/// The data of a run may lie elsewhere when it goes on, but not say something else.
#[test]
fn moved_and_changed_data() {
    let place = Place::new();
    let recipe = std::fs::read_to_string(repository("recipes/tests/kill-resume.toml")).unwrap();
    for folder in ["here", "there"] {
        place.write(&format!("{folder}/recipe.toml"), &recipe);
        copy(&repository("recipes/tests/kill-resume"), &place.path(&format!("{folder}/kill-resume")));
    }
    let train = |folder: &str| format!("train DIR/{folder}/recipe.toml --out DIR/run --resume {SMALL}");
    Ran::of(place.command(&train("here"))).success();
    Ran::of(place.command(&train("there"))).success();
    let stories = place.path("there/kill-resume/stories.ds");
    let line =
        "data tokenize DIR/there/text.txt --tokenizer DIR/there/kill-resume/tokenizer --out DIR/there/new.ds";
    place.write("there/text.txt", "Tom has a red ball. ".repeat(50));
    Ran::of(place.command(line)).success();
    for end in ["", ".index", ".smolt.json"] {
        let from = place.path(&format!("there/new.ds{end}"));
        std::fs::rename(from, format!("{}{end}", stories.display())).unwrap();
    }
    let text = place.fails(&format!("{} --json", train("there")));
    assert!(text.starts_with("exit 2\nerror: the data changed since this run started"), "{text}");
}

#[test]
fn pipelines() {
    let place = Place::new();
    let pipeline = |steps: &str| {
        place.write("p.toml", format!("name = \"p\"\n{steps}"));
        place.fails("run DIR/p.toml --out DIR/out")
    };
    assert_snapshot!("unknown_kind", pipeline("[[step]]\nname = \"a\"\nkind = \"tokeniser\"\n"));
    assert_snapshot!(
        "unknown_key_of_a_step",
        pipeline("[[step]]\nname = \"a\"\nkind = \"tinytown\"\nstorys = 3\n")
    );
    let export = |from: &str| format!("[[step]]\nname = \"a\"\nkind = \"export\"\nmodel = \"{from}\"\n");
    assert_snapshot!("unknown_step", pipeline(&export("@b")));
    assert_snapshot!("a_step_that_needs_itself", pipeline(&export("@a")));
    let named = place.write("q.toml", "name = \"../q\"\n[[step]]\nname = \"a\"\nkind = \"corpus\"\n");
    let error = place.fails(&format!("run {}", named.display()));
    assert!(error.contains("name \"../q\": use letters"), "{error}");
    let version = pipeline("format_version = 2\n[[step]]\nname = \"a\"\nkind = \"corpus\"\n");
    assert!(version.contains("`format_version` must be 1"), "{version}");
    let shard = "[[step]]\nname = \"a\"\nkind = \"tokenize\"\ntokenizer = \"t\"\n[[step.documents]]\n\
                 name = \"../b\"\ninputs = [\"c\"]\n";
    let error = pipeline(shard);
    assert!(error.contains("name \"../b\": use letters"), "{error}");
    assert_snapshot!("two_steps_of_one_name", pipeline(&format!("{0}{0}", export("m"))));
    assert_snapshot!("a_step_outside_the_folder", pipeline("[[step]]\nname = \"../a\"\nkind = \"corpus\"\n"));
    let line = "run REPO/recipes/first-light/pipeline.toml --out DIR/out";
    assert_snapshot!(
        "set_of_an_unknown_step",
        place.fails(&format!("{line} --set pretran.train.train_steps=3"))
    );
    assert_snapshot!(
        "set_of_an_unknown_setting",
        place.fails(&format!("{line} --set pretrain.train.train_stps=3"))
    );
    assert!(!place.path("out").exists(), "nothing was begun");
}

/// A limit on the size of files stands in for a full disk: both fail in the middle of a write.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing() {
    let place = Place::new();
    copy(trained(), &place.path("run"));
    // The run has two more steps to go, from the checkpoint at step 2.
    std::fs::remove_dir_all(place.path("run/checkpoints/step-4")).unwrap();
    let line = format!("train REPO/recipes/tests/kill-resume.toml --out DIR/run --resume --json {SMALL}");
    let smolt = place.command(&line);
    // 64 KiB: the logs fit, the weights do not. Without the signal that the limit raises, writes report an error.
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "bash"]).arg(smolt.get_program());
    limited.args(smolt.get_args());
    let ran = Ran::of(limited);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.starts_with("error: cannot write ") && ran.err.contains("safetensors"), "{}", ran.err);
    assert_eq!(checkpoints(&place.path("run")), [2]);
    let left: Vec<_> = std::fs::read_dir(place.path("run/checkpoints")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing half written is left");
    Ran::of(place.command("checkpoint verify DIR/run")).success();

    Ran::of(place.command(&line)).success();
    let last = "checkpoints/step-4";
    assert!(common::files(&place.path("run").join(last)) == common::files(&trained().join(last)));
}
