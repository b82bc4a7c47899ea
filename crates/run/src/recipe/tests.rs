use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::error::ExitKind;

crate::recipe! {
    /// Trains something.
    struct Train {
        /// Number of updates.
        steps: u64,
        /// Where it goes.
        out: Option<PathBuf>,
        optimizer: Optimizer,
        model: Model,
        source: Vec<Source> = Vec::new(),
        weights: BTreeMap<String, f64> = BTreeMap::new(),
        r#type: String = String::from("plain"),
    }

    /// How weights move.
    struct Optimizer {
        /// Peak learning
        /// rate.
        lr: f64 = 1e-3,
        precision: Precision = Precision::Fp32,
        betas: Vec<f64> = vec![0.9, 0.95],
        nesterov: bool = false,
    }

    /// The shape.
    struct Model {
        hidden_size: usize,
    }

    struct Source {
        name: String,
        weight: f64 = 1.0,
    }

    enum Precision {
        /// 32 bits.
        Fp32 = "fp32",
        Bf16 = "bf16",
    }
}

const GOOD: &str =
    "steps = 10\n[model]\nhidden_size = 64\n[[source]]\nname = \"a\"\n[[source]]\nname = \"b\"\n";

fn parse(text: &str) -> Document {
    Document::parse("r.toml", text.as_bytes()).unwrap()
}

fn errors(text: &str) -> Vec<String> {
    let error = parse(text).read::<Train>().unwrap_err();
    assert_eq!(error.exit().code(), 2);
    error.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn defaults_fill_what_is_left_out() {
    let train: Train = parse(GOOD).read().unwrap();
    assert_eq!(train.optimizer.betas, [0.9, 0.95]);
    assert_eq!((train.steps, train.out, train.source.len()), (10, None, 2));
    assert_eq!(train.r#type, "plain");
    assert!(defaults::<Optimizer>().is_ok());
    assert!(defaults::<Model>().is_err());
}

#[test]
fn every_problem_is_told_with_place_and_fix() {
    let text = "stepz = 1\ntypo = 2\n\n[optimizer]\nlr = \"fast\"\nprecision = \"bf17\"\n  nestorov = true\n[model]\n\
                hidden_size = 1.5\n";
    assert_eq!(
        errors(text),
        [
            "r.toml:1:1: the recipe lacks the required key `steps`: add `steps = …`, a whole number of at least 0",
            "r.toml:1:1: unknown key `stepz`: did you mean `steps`?",
            "r.toml:2:1: unknown key `typo`: did you mean `type`?",
            "r.toml:5:6: `optimizer.lr` must be a finite number, found the string \"fast\"",
            "r.toml:6:13: `optimizer.precision` must be one of \"fp32\", \"bf16\", found the string \"bf17\": did you \
             mean \"bf16\"?",
            "r.toml:7:3: unknown key `optimizer.nestorov`: did you mean `nesterov`?",
            "r.toml:9:15: `model.hidden_size` must be a whole number of at least 0, found the number 1.5: write it \
             without a decimal point or exponent",
        ]
    );
}

#[test]
fn arrays_missing_tables_and_non_finite_numbers_are_told() {
    assert_eq!(
        errors("steps = -1\n[[source]]\nname = 3\n[optimizer]\nlr = nan\n"),
        [
            "r.toml:1:1: the recipe lacks the required key `model`: add [model]",
            "r.toml:1:9: `steps` must be a whole number of at least 0, found the number -1",
            "r.toml:3:8: `source[0].name` must be a string, found the number 3",
            "r.toml:5:6: `optimizer.lr` must be a finite number, found the number NaN",
        ]
    );
    assert!(errors("zzzzzzzz = 1")[2].contains("known here: steps, out, optimizer"));
}

#[test]
fn files_that_are_not_recipes_are_refused() {
    let message = |bytes: &[u8]| Document::parse("r.toml", bytes).unwrap_err().to_string();
    assert!(message(b"a = 1\nb = \xff").starts_with("r.toml:2:5: not UTF-8"));
    assert!(
        message(b"a = 1\nb = = 2").starts_with("r.toml:2:5: not valid TOML"),
        "{}",
        message(b"a = 1\nb = = 2")
    );
    assert!(message(&vec![b'#'; 2 << 20]).contains("1 MiB"));
    assert!(message(b"a = 99999999999999999999").contains("64 bits"));
    assert!(message("a=".repeat(200_000).as_bytes()).contains("not valid TOML"));
    assert!(message(format!("a = {}", "[".repeat(100_000)).as_bytes()).contains("not valid TOML"));
    assert!(message(format!("a{} = 1", ".a".repeat(100_000)).as_bytes()).contains("not valid TOML"));
    let missing = Document::load(std::path::Path::new("no/such.toml")).unwrap_err().to_string();
    assert!(missing.starts_with("no/such.toml: cannot read"), "{missing}");
}

#[test]
fn set_overrides_and_its_mistakes_say_set() {
    let mut doc = parse(GOOD);
    for argument in [
        "optimizer.lr=2",
        "optimizer.precision=bf16",
        "out=runs/a b",
        "source.b.weight=0.5",
        "weights.web=1",
        "optimizer.betas=[0.5]",
        "type=2024",
    ] {
        doc.set(argument).unwrap();
    }
    doc.set_in("source", "a.weight=3").unwrap();
    let train: Train = doc.read().unwrap();
    assert_eq!((train.optimizer.lr, train.optimizer.precision), (2.0, Precision::Bf16));
    assert_eq!((train.source[0].weight, train.source[1].weight), (3.0, 0.5));
    assert_eq!((train.out, train.r#type), (Some(PathBuf::from("runs/a b")), "2024".to_owned()));
    assert_eq!((train.weights["web"], train.optimizer.betas), (1.0, vec![0.5]));

    let fail = |argument: &str| {
        let mut doc = parse(GOOD);
        doc.set(argument).and_then(|()| doc.read::<Train>()).unwrap_err().to_string()
    };
    assert_eq!(
        fail("optimizer.lrr=1"),
        "--set optimizer.lrr=1: unknown key `optimizer.lrr`: did you mean `lr`?"
    );
    assert!(
        fail("model.hidden_size=big").starts_with("--set model.hidden_size=big: `model.hidden_size` must be")
    );
    assert!(fail("steps.x=1").contains("`steps` is the number 10, not a table"));
    // A number in a structure is not the whole argument's text.
    assert!(fail("source=[{name=2024,weight=1.0}]").contains("must be a string"));
    assert!(fail("source.c.weight=1").contains("no element of `source` is named \"c\""));
    assert!(fail("steps").contains("no `=`"));
    assert!(fail(".=1").contains("empty key"));
    assert!(fail(&format!("{}a=1", "a.".repeat(100_000))).contains("deeper"));
}

#[test]
fn resolved_recipes_read_back_as_the_same() {
    let train: Train = parse(GOOD).read().unwrap();
    let text = to_toml(&train);
    assert!(
        text.contains("lr = 0.001") && text.contains("precision = \"fp32\"") && text.contains("weight = 1.0")
    );
    assert_eq!(parse(&text).read::<Train>().unwrap(), train);
    assert_eq!(to_json(&train)["optimizer"]["lr"], 0.001);
}

#[test]
fn the_schema_comes_from_the_same_declaration() {
    let schema = json_schema::<Train>();
    assert_eq!(schema["required"], serde_json::json!(["steps", "model"]));
    assert_eq!(schema["additionalProperties"], false);
    let lr = &schema["properties"]["optimizer"]["properties"]["lr"];
    assert_eq!(lr["default"], 0.001);
    assert_eq!(lr["description"], "Peak learning\nrate.");
    assert_eq!(
        schema["properties"]["source"]["items"]["properties"]["name"],
        serde_json::json!({"type": "string"})
    );
    assert!(schema["properties"].get("type").is_some());
}

#[test]
fn steps_of_different_kinds_are_read_piece_by_piece() {
    crate::recipe! {
        struct Pipeline { step: Vec<Document> }
    }
    let text = "[[step]]\nname = \"fit\"\nkind = \"train\"\nlr = 1\nprecison = \"bf16\"\n";
    let mut pipeline: Pipeline = parse(text).read().unwrap();
    let step = &mut pipeline.step[0];
    assert_eq!(step.take::<String>("name").unwrap(), "fit");
    assert_eq!(step.take::<String>("kind").unwrap(), "train");
    assert_eq!(step.take::<Option<f64>>("inputs").unwrap(), None);
    let error = step.read::<Optimizer>().unwrap_err().to_string();
    assert_eq!(error, "r.toml:5:1: unknown key `step[0].precison`: did you mean `precision`?");
    let error = step.error("lr", "must be below 1: lower it").to_string();
    assert_eq!(error, "r.toml:4:1: `step[0].lr`: must be below 1: lower it");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_recipe(&bytes);
    }

    #[test]
    fn toml_like_text_is_read_without_panic(text in "([a-z\\[\\]{}=.\"' \n#0-9-]|text|list|step|map|inner|rest){0,60}") {
        fuzz_recipe(text.as_bytes());
    }

    #[test]
    fn any_value_survives_writing(lr in proptest::num::f64::NORMAL | proptest::num::f64::ZERO, text: String, steps in 0..=i64::MAX as u64) {
        let mut train: Train = parse(GOOD).read().unwrap();
        (train.optimizer.lr, train.r#type, train.steps) = (lr, text.clone(), steps);
        train.weights.insert(text, lr);
        prop_assert_eq!(parse(&to_toml(&train)).read::<Train>().unwrap(), train);
    }
}

#[test]
fn a_file_laid_over_another_says_where_each_mistake_is() {
    crate::recipe! {
        /// A shape.
        struct Shape {
            size: Size,
            list: Vec<u64> = Vec::new(),
        }

        /// Its size.
        struct Size {
            width: u64,
            height: u64 = 1,
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let read = |name: &str| load::<Shape>(&dir.path().join(name), &["size.height=9".to_owned()]);
    write("base.toml", "list = [1, 2]\n[size]\nwidth = 3\nheight = 4\n");
    write("tall.toml", "extends = \"base.toml\"\nlist = [5]\n[size]\nwidth = 7\n");
    write("taller.toml", "extends = \"tall.toml\"\n");
    for name in ["tall.toml", "taller.toml"] {
        let shape = read(name).unwrap();
        assert_eq!((shape.size.width, shape.size.height, &shape.list[..]), (7, 9, &[5][..]));
    }
    write("base.toml", "[size]\nwidht = 3\n");
    let error = read("taller.toml").unwrap_err().to_string();
    assert!(error.contains("base.toml:2:1: unknown key `size.widht`"), "{error}");
    write("base.toml", "extends = \"tall.toml\"\n");
    let error = read("taller.toml").unwrap_err().to_string();
    assert!(error.contains("extend one another"), "{error}");
    for wrong in ["3", "\"../base.toml\"", "\"missing.toml\""] {
        write("tall.toml", &format!("extends = {wrong}\n"));
        let error = read("tall.toml").unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::BadInput);
        assert!(
            error.to_string().contains("extends") || error.to_string().contains("missing.toml"),
            "{error}"
        );
    }
}
