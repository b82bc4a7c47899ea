use super::*;
use clap::Parser;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    asked: Asked,
}

fn asked(arguments: &str) -> Asked {
    Line::try_parse_from(format!("eval {arguments}").split(' ')).unwrap().asked
}

fn selected(arguments: &str) -> (Vec<(String, Vec<Formulation>)>, Vec<String>) {
    let (tasks, passed_over) = asked(arguments).select().unwrap();
    (tasks.into_iter().map(|(task, formulations)| (task.name, formulations)).collect(), passed_over)
}

#[test]
fn tasks_of_a_suite_are_asked_as_models_understand_them_first() {
    for suite in ["base", "early", "multilingual"] {
        for (name, formulations) in selected(&format!("--task {suite}")).0 {
            let written = ["triviaqa", "gsm8k", "flores200"].contains(&name.as_str());
            let wanted = if written { Formulation::Generation } else { Formulation::Cloze };
            assert_eq!(formulations, [wanted], "{name} of {suite}");
        }
    }
    let (tasks, _) = selected("--task base --task mmlu");
    let of = |name: &str| tasks.iter().find(|(task, _)| task == name).unwrap().1.len();
    assert_eq!((of("mmlu"), of("arc_easy")), (2, 1), "one that is named is asked in all");
}

#[test]
fn tasks_of_a_suite_without_the_wanted_formulation_are_passed_over() {
    let (tasks, passed_over) = selected("--task base --formulation cloze");
    assert_eq!((tasks.len(), passed_over), (10, vec!["triviaqa".to_owned(), "gsm8k".to_owned()]));
    let refused = |arguments: &str| asked(arguments).select().unwrap_err().message;
    assert!(refused("--task early --formulation generation").contains("none of hellaswag, arc_easy"));
    assert!(
        refused("--task early --task gsm8k --formulation cloze")
            .contains("`gsm8k` can be asked as generation")
    );
}
