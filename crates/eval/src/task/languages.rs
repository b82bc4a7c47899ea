//! The languages of the multilingual tasks (spec WRP-03): one code for all of them, and what each data set calls it.

use super::TaskError;

/// FLORES-200's code, ISO 639-1's (or what Global-MMLU has in its place), for every language that Global-MMLU or
/// MLMM-HellaSwag has.
const CODES: [(&str, &str); 59] = [
    ("amh_Ethi", "am"),
    ("arb_Arab", "ar"),
    ("ben_Beng", "bn"),
    ("cat_Latn", "ca"),
    ("ces_Latn", "cs"),
    ("dan_Latn", "da"),
    ("deu_Latn", "de"),
    ("ell_Grek", "el"),
    ("eng_Latn", "en"),
    ("spa_Latn", "es"),
    ("eus_Latn", "eu"),
    ("pes_Arab", "fa"),
    ("tgl_Latn", "fil"),
    ("fra_Latn", "fr"),
    ("guj_Gujr", "gu"),
    ("hau_Latn", "ha"),
    ("heb_Hebr", "he"),
    ("hin_Deva", "hi"),
    ("hrv_Latn", "hr"),
    ("hun_Latn", "hu"),
    ("hye_Armn", "hy"),
    ("ind_Latn", "id"),
    ("ibo_Latn", "ig"),
    ("isl_Latn", "is"),
    ("ita_Latn", "it"),
    ("jpn_Jpan", "ja"),
    ("kan_Knda", "kn"),
    ("kor_Hang", "ko"),
    ("kir_Cyrl", "ky"),
    ("lit_Latn", "lt"),
    ("plt_Latn", "mg"),
    ("mal_Mlym", "ml"),
    ("mar_Deva", "mr"),
    ("zsm_Latn", "ms"),
    ("nob_Latn", "nb"),
    ("npi_Deva", "ne"),
    ("nld_Latn", "nl"),
    ("nya_Latn", "ny"),
    ("pol_Latn", "pl"),
    ("por_Latn", "pt"),
    ("ron_Latn", "ro"),
    ("rus_Cyrl", "ru"),
    ("sin_Sinh", "si"),
    ("slk_Latn", "sk"),
    ("sna_Latn", "sn"),
    ("som_Latn", "so"),
    ("srp_Cyrl", "sr"),
    ("swe_Latn", "sv"),
    ("swh_Latn", "sw"),
    ("tam_Taml", "ta"),
    ("tel_Telu", "te"),
    ("tur_Latn", "tr"),
    ("ukr_Cyrl", "uk"),
    ("vie_Latn", "vi"),
    ("yor_Latn", "yo"),
    ("zho_Hans", "zh"),
    // Not in either of them, but known by these letters.
    ("est_Latn", "et"),
    ("fin_Latn", "fi"),
    ("tha_Thai", "th"),
];

/// What Global-MMLU is in.
const GLOBAL_MMLU: &str = "am ar bn cs de el en es fa fil fr ha he hi id ig it ja ko ky lt mg ms ne nl ny pl pt ro ru si sn so sr sv sw te tr uk vi \
     yo zh";

/// What MLMM-HellaSwag is in.
const MLMM_HELLASWAG: &str =
    "ar bn ca da de en es eu fr gu hi hr hu hy id is it kn ml mr nb ne nl pt ro ru sk sr sv ta te uk vi zh";

/// The language whose sentences FLORES-200 is translated from and to.
const PIVOT: &str = "eng_Latn";

/// A language by FLORES-200's code, whichever of its codes is given.
///
/// # Errors
/// A code that is neither.
pub fn language(code: &str) -> Result<String, TaskError> {
    if let Some((flores, _)) = CODES.iter().find(|(_, short)| *short == code) {
        return Ok((*flores).to_owned());
    }
    let like_flores = code.split_once('_').is_some_and(|(language, script)| {
        let lower = language.len() == 3 && language.bytes().all(|b| b.is_ascii_lowercase());
        let (first, rest) = script.split_at(script.len().min(1));
        lower
            && script.len() == 4
            && first.bytes().all(|b| b.is_ascii_uppercase())
            && rest.bytes().all(|b| b.is_ascii_lowercase())
    });
    match like_flores {
        true => Ok(code.to_owned()),
        false => Err(TaskError::Language(code.to_owned())),
    }
}

/// The configurations in which a multilingual task asks a language (FLORES-200's code): FLORES-200 in both directions. Empty where
/// it does not have it; None where the task is in no languages.
pub fn configurations(task: &str, language: &str) -> Option<Vec<String>> {
    let short = CODES.iter().find(|(flores, _)| *flores == language).map(|(_, short)| *short);
    let among = |list: &str| {
        let found = short.filter(|short| list.split(' ').any(|one| one == *short));
        found.map(str::to_owned).into_iter().collect()
    };
    Some(match task {
        "belebele" => vec![language.to_owned()],
        "global_mmlu" => among(GLOBAL_MMLU),
        "mlmm_hellaswag" => among(MLMM_HELLASWAG),
        "flores200" if language == PIVOT => Vec::new(),
        "flores200" => vec![format!("{PIVOT}-{language}"), format!("{language}-{PIVOT}")],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_every_language_of_the_data_sets_has_one() {
        let short: BTreeSet<&str> = CODES.iter().map(|(_, short)| *short).collect();
        let long: BTreeSet<&str> = CODES.iter().map(|(flores, _)| *flores).collect();
        assert_eq!((short.len(), long.len()), (CODES.len(), CODES.len()));
        for (list, count) in [(GLOBAL_MMLU, 42), (MLMM_HELLASWAG, 34)] {
            let all: Vec<&str> = list.split(' ').collect();
            assert_eq!(all.len(), count);
            assert!(all.iter().all(|code| short.contains(code)));
        }
        assert!(long.iter().all(|code| language(code).unwrap() == *code));
    }

    #[test]
    fn a_language_is_asked_by_the_name_that_each_data_set_has_for_it() {
        assert_eq!(language("fr").unwrap(), "fra_Latn");
        let of = |task: &str, code: &str| configurations(task, code).unwrap();
        assert_eq!(of("belebele", "fra_Latn"), ["fra_Latn"]);
        assert_eq!(
            (of("global_mmlu", "fra_Latn"), of("mlmm_hellaswag", "fra_Latn")),
            (vec!["fr".into()], vec!["fr".into()])
        );
        assert_eq!(of("flores200", "fra_Latn"), ["eng_Latn-fra_Latn", "fra_Latn-eng_Latn"]);
        assert_eq!(of("flores200", "eng_Latn"), [""; 0]);
        assert_eq!(of("global_mmlu", "tha_Thai"), [""; 0], "not in the data set");
        assert_eq!(configurations("arc_easy", "fra_Latn"), None);
        for wrong in ["french", "fra_latn", "fra", "FRA_Latn", "fra_", "é_Latn", ""] {
            let said = language(wrong).unwrap_err().to_string();
            assert!(said.contains("fra_Latn"), "{said}");
        }
    }
}
