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
            let written = ["triviaqa", "gsm8k", "flores200"].contains(&name.split('@').next().unwrap());
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

#[test]
fn languages_and_directions_are_named() {
    let names = |arguments: &str| selected(arguments).0.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(
        names("--task multilingual"),
        ["belebele@eng_Latn", "global_mmlu@en", "mlmm_hellaswag@fr", "flores200@eng_Latn-fra_Latn"]
    );
    assert_eq!(
        names("--task multilingual --languages fra_Latn,th"),
        [
            "belebele@fra_Latn",
            "belebele@tha_Thai",
            "global_mmlu@fr",
            "mlmm_hellaswag@fr",
            "flores200@eng_Latn-fra_Latn",
            "flores200@fra_Latn-eng_Latn",
            "flores200@eng_Latn-tha_Thai",
            "flores200@tha_Thai-eng_Latn",
        ]
    );
    assert_eq!(names("--task belebele --task arc_easy --languages de"), ["belebele@deu_Latn", "arc_easy"]);
    assert_eq!(names("--task belebele@fra_Latn --languages de"), ["belebele@fra_Latn"], "named as it is");
    let refused = |arguments: &str| asked(arguments).select().unwrap_err().message;
    assert!(refused("--task multilingual --languages french").contains("`french`"));
    assert!(refused("--task global_mmlu --languages th").contains("global_mmlu is not in th"));
}
