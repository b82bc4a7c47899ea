//! Every toy recipe learns, and a run of it that was killed and resumed ends as one that was not.

use crate::common::{shrink, toy_recipes};
use crate::resume::{assert_same_end, metrics};
use crate::world::World;
use smolt_run::recipe;
use smolt_tensor::Cpu;
use smolt_train::recipe::Train;
use std::fs;
use std::path::Path;

/// The toy, smaller still, on the world's data and in its twelve steps.
fn shrunk(path: &Path, world: &World) -> Train {
    let mut toy: Train = recipe::load(path, &[]).unwrap();
    toy.check().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let small = world.recipe(&[]);
    let z_loss = toy.train.z_loss;
    (toy.data, toy.schedule, toy.train) = (small.data, small.schedule, small.train);
    (toy.train.z_loss, toy.train.micro_batch_size) = (z_loss, 2);
    shrink(&mut toy.model);
    toy
}

#[test]
fn every_toy_learns_and_resumes_bit_by_bit() {
    let world = World::new();
    for (name, path) in toy_recipes() {
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
