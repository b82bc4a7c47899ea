//! One file per skill: its wordings, its facts, its questions.

mod arithmetic;
mod attribute;
mod cause;
mod counting;
mod list;
mod location;
mod order;
mod possession;
mod program;
mod yes_no;

use super::Skill;
use super::scene::{Draw, Scene};

/// A scene of `skill` drawn from `draw`; all its facts belong to the split of `draw`.
pub(super) fn scene(skill: Skill, draw: &mut Draw) -> Scene {
    match skill {
        Skill::Possession => possession::scene(draw),
        Skill::Location => location::scene(draw),
        Skill::Counting => counting::scene(draw),
        Skill::Cause => cause::scene(draw),
        Skill::Order => order::scene(draw),
        Skill::Attribute => attribute::scene(draw),
        Skill::YesNo => yes_no::scene(draw),
        Skill::Arithmetic => arithmetic::scene(draw),
        Skill::Program => program::scene(draw),
        Skill::List => list::scene(draw),
    }
}
