//! Replays the fuzz corpus of the recipe reader: no input may panic.

#[test]
fn recipe_corpus() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/recipe");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10);
    for file in files {
        smolt_run::recipe::fuzz_recipe(&std::fs::read(&file).unwrap());
    }
}
