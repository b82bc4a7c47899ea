//! Every toy recipe learns, and a run of it that was killed and resumed ends as one that was not.

use crate::resume::{assert_same_end, metrics};
use crate::world::World;
use smolt_run::recipe;
use smolt_tensor::Cpu;
use smolt_train::recipe::Train;
use std::fs;
use std::path::{Path, PathBuf};

/// The recipes of recipes/toy that stand for an architecture.
fn toys() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/toy");
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let not_compared = ["base.toml", "data.toml", "README.md"];
    found.retain(|path| !not_compared.contains(&path.file_name().unwrap().to_str().unwrap()));
    found.sort();
    assert!(found.len() > 35, "{found:?}");
    found
}

/// The toy, smaller still, on the world's data and in its twelve steps.
fn shrunk(path: &Path, world: &World) -> Train {
    let mut toy: Train = recipe::load(path, &[]).unwrap();
    toy.check().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let small = world.recipe(&[]);
    let z_loss = toy.train.z_loss;
    (toy.data, toy.schedule, toy.train) = (small.data, small.schedule, small.train);
    (toy.train.z_loss, toy.train.micro_batch_size) = (z_loss, 2);
    (toy.model.hidden_size, toy.model.num_hidden_layers) = (48, 3);
    toy.model.intermediate_size = 64;
    if let Some(moe) = &mut toy.model.moe {
        // Where an expert is as wide as the MLP, the type has one field for both.
        moe.moe_intermediate_size = 64;
    }
    for window in [&mut toy.model.sliding_window, &mut toy.model.attention_chunk_size].into_iter().flatten() {
        *window = 7;
    }
    if let Some(scaling) = &mut toy.model.rope_scaling {
        scaling.original_max_position_embeddings = Some(16);
    }
    toy
}

#[test]
fn every_toy_learns_and_resumes_bit_by_bit() {
    let world = World::new();
    for path in toys() {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let _ = fs::remove_dir_all(world.path("whole"));
        let run = |out: &str, resume: bool, threads: usize| {
            let cpu = Cpu::new(threads).unwrap();
            world.run(shrunk(&path, &world), out, resume, cpu).0.unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        assert_eq!(run("whole", false, 1).step, 12, "{name}");
        let losses: Vec<f64> =
            metrics(&world.path("whole")).iter().map(|line| line["loss"].as_f64().unwrap()).collect();
        assert!(losses[11] < losses[0] - 0.05, "{name}: {losses:?}");
        world.killed("whole", 6, "again");
        run("again", true, 2);
        assert_same_end(&world, "again", &name);
    }
}
