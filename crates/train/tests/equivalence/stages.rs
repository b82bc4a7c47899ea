//! A mixture that changes: killed before, at and after the switch, the run ends with the same bytes.

use crate::resume::assert_same_end;
use crate::world::World;
use smolt_data::batch::{Batch, Layout, Loader, Source};
use smolt_data::shard::Shard;
use smolt_run::error::Exit;
use smolt_tensor::Cpu;
use std::fs;

const SOURCES: &str = "data.sources=[{name=\"stories\",path=\"train.ds\"},{name=\"late\",path=\"late.ds\"}]";
const FIRST: &str = "{name=\"stable\",weights={stories=1}}";
/// After the checkpoint of step 6, and between those of 9 and 12.
const STAGES: [&str; 2] = [
    "{name=\"richer\",start_step=7,weights={stories=1,late=3}}",
    "{name=\"anneal\",start_step=11,mix=[{stage=\"stable\",share=0.4}],weights={late=1}}",
];

fn cpu() -> Cpu {
    Cpu::new(1).unwrap()
}

fn stages(later: &[&str]) -> String {
    format!("data.stages=[{FIRST},{}]", later.join(","))
}

fn world() -> World {
    let world = World::new();
    world.write_shard("late", 5, 40);
    let (summary, notes) = world.run(world.recipe(&[SOURCES, &stages(&STAGES)]), "whole", false, cpu());
    assert_eq!(summary.unwrap().step, 12);
    let begun: Vec<&String> = notes.iter().filter(|note| note.contains("begins")).collect();
    assert_eq!(begun, ["step 7: stage \"richer\" begins", "step 11: stage \"anneal\" begins"]);
    world
}

#[test]
fn killed_before_at_and_after_a_switch_it_ends_with_the_same_bytes() {
    let world = world();
    for step in [3, 6, 9] {
        world.killed("whole", step, "again");
        world.run(world.recipe(&[SOURCES, &stages(&STAGES)]), "again", true, cpu()).0.unwrap();
        assert_same_end(&world, "again", &format!("resumed from {step}"));
    }
    let events = fs::read_to_string(world.path("whole/events.jsonl")).unwrap();
    let last = events.lines().rfind(|line| line.contains(r#""event":"data""#)).unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    let consumed = &last["detail"]["consumed"];
    assert_eq!(consumed["stage"], "anneal");
    let tokens: u64 =
        consumed["sources"].as_array().unwrap().iter().map(|s| s["tokens"].as_u64().unwrap()).sum();
    assert_eq!(tokens, 12 * 4 * 32);
}

#[test]
fn stages_to_come_may_change_when_that_is_said_and_those_begun_may_not() {
    let world = world();
    let changed = stages(&["{name=\"richer\",start_step=8,weights={stories=1,late=1}}"]);
    let run = |step, stages: &str, change| {
        world.killed("whole", step, "changed");
        world.run_with(world.recipe(&[SOURCES, stages]), "changed", true, change, cpu()).0
    };
    let refused = |step, stages: &str, change, words: &str| {
        let failure = run(step, stages, change).unwrap_err();
        assert!(failure.exit == Exit::BadInput && failure.message.contains(words), "{failure}");
    };
    refused(6, &changed, false, "say --change-stages");
    run(6, &changed, true).unwrap();
    let events = fs::read_to_string(world.path("changed/events.jsonl")).unwrap();
    assert!(events.contains(r#""event":"stages""#) && events.contains(r#""start_step":11"#), "{events}");
    // From now on the new recipe is the run's.
    world.run(world.recipe(&[SOURCES, &changed]), "changed", true, cpu()).0.unwrap();

    refused(9, &changed, true, "the run was started with another recipe: data.stages");
    let without_first = stages(&STAGES).replace("weights={stories=1}", "weights={stories=1,late=1}");
    refused(3, &without_first, true, "the run was started with another recipe");
    // A stage that would have had to begin before the checkpoint.
    refused(6, &changed.replace("start_step=8", "start_step=6"), true, "another recipe");

    // Other text in a shard of a stage to come is a change too.
    world.write_shard("late", 6, 40);
    let same = stages(&STAGES);
    refused(6, &same, false, "the data changed since this run started");
    run(6, &same, true).unwrap();
    refused(9, &same, true, "the data changed since this run started");
}

#[test]
fn stages_changed_before_the_first_checkpoint_are_the_runs_from_then_on() {
    let world = world();
    let changed = stages(&["{name=\"richer\",start_step=8,weights={stories=1,late=1}}"]);
    world.killed("whole", 0, "early");
    world.run_with(world.recipe(&[SOURCES, &changed]), "early", true, true, cpu()).0.unwrap();
    world.run(world.recipe(&[SOURCES, &changed]), "early", true, cpu()).0.unwrap();
}

/// The first batches do not depend on how long the run will be, nor on stages to come (spec MYS-02).
#[test]
fn the_first_batches_are_the_same_for_any_length() {
    let world = world();
    let batches = |sets: &[&str]| {
        let recipe = world.recipe(sets);
        let source = |s: &smolt_train::recipe::Source| Source {
            name: s.name.clone(),
            weight: s.weight,
            shard: Shard::open(s.path.as_ref()).unwrap(),
        };
        let layout =
            Layout { sequence_length: 32, vocab_size: 384, document_masking: true, reset_positions: true };
        let sources = recipe.data.sources.iter().map(source).collect();
        let loader = Loader::staged(sources, recipe.stages().unwrap(), 7, layout).unwrap();
        let mut batch = Batch::new(24, 32);
        loader.fill(0, 24, batch.as_mut()).unwrap();
        batch
    };
    let first = batches(&[SOURCES, &stages(&STAGES)]);
    for steps in ["train.train_steps=1000", "train.train_steps=3200000"] {
        assert!(batches(&[SOURCES, &stages(&STAGES), steps]) == first, "{steps}");
        assert!(
            batches(&[
                SOURCES,
                "data.stages=[{name=\"all\",weights={stories=1}},{name=\"x\",start_step=7,weights={late=1}}]",
                steps
            ]) == first,
            "{steps}"
        );
    }
}
