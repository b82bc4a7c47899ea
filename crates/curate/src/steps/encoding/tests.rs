use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn all(settings: EncodingSettings) -> impl Fn(&str) -> String {
    let step = Encoding::new(&settings);
    move |text| step.repair(text).unwrap_or_else(|| text.to_owned())
}

fn fix(text: &str) -> String {
    all(smolt_run::recipe::defaults().unwrap())(text)
}

/// `tests/golden/encoding.py` says where these come from and what ftfy makes of them.
fn golden() -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/encoding.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn clean_text_is_left_alone() {
    let golden = golden();
    let clean = golden["clean"].as_array().unwrap();
    assert!(clean.len() > 300);
    for text in clean {
        let text = text.as_str().unwrap();
        assert_eq!(fix(text), text);
    }
}

/// Each case is `[how it was broken, clean, broken, ftfy's repair]`.
#[test]
fn repairs_what_ftfy_repairs() {
    let golden = golden();
    let cases = golden["broken"].as_array().unwrap();
    let (mut ours, mut theirs) = (0, 0);
    for case in cases {
        let [how, clean, broken, ftfy] = [0, 1, 2, 3].map(|n| case[n].as_str().unwrap());
        let found = fix(broken);
        if found != clean && ftfy == clean && std::env::var_os("SHOW").is_some() {
            eprintln!("{how}: {clean:?} became {found:?} from {broken:?}");
        }
        ours += usize::from(found == clean);
        theirs += usize::from(ftfy == clean);
    }
    eprintln!("{ours} repaired, ftfy {theirs}, of {}", cases.len());
    assert!(ours * 1000 >= theirs * 985, "{ours} repaired, ftfy {theirs}, of {}", cases.len());
}

#[test]
fn known_breakages() {
    assert_eq!(fix("cafÃ© voilÃ\u{A0} lâ€™Ã©tÃ©"), "café voilà l’été");
    assert_eq!(fix("ÃƒÂ©tÃƒÂ©"), "été");
    assert_eq!(fix("Â£5 and 20Â°C"), "£5 and 20°C");
    assert_eq!(fix("ðŸ˜€ ok"), "😀 ok");
    assert_eq!(fix("РџСЂРёРІРµС‚"), "Привет");
    assert_eq!(fix("\u{93}quoted\u{94}"), "“quoted”");
    assert_eq!(fix("one â€” broken\nPŘÍŠTÍ VÝŠKA"), "one — broken\nPŘÍŠTÍ VÝŠKA");
}

#[test]
fn natural_look_alikes_stay() {
    for text in [
        "CAFÉ\u{A0}!",
        "« être aimé…\u{A0}»",
        "VAD SKA VI GÖRA PÅ…",
        "AMANHÃ…",
        "você…»",
        "PŘÍŠTÍ",
        "VÝŠKA A NÍŽE",
        "Ã is a letter",
        "hâlâ” dedi",
        "MÜNCHEN™ GRÖSSE®",
        "ÂNGULO",
    ] {
        assert_eq!(fix(text), text);
    }
}

#[test]
fn controls_go_and_breaks_stay() {
    assert_eq!(fix("\u{FEFF}a\0b\tc\r\nd\x1B[1;31mred\x1B[0m\x07"), "ab\tc\r\ndred");
    assert_eq!(fix("\x1B[ not a code"), "[ not a code");
}

#[test]
fn what_was_asked_for_only() {
    let none = EncodingSettings {
        mojibake: false,
        controls: false,
        quotes: false,
        ligatures: false,
        line_breaks: false,
    };
    let broken = "Ã©\0\r\n“ﬁ”";
    assert_eq!(all(none.clone())(broken), broken);
    let quotes = EncodingSettings { quotes: true, ligatures: true, line_breaks: true, ..none };
    assert_eq!(all(quotes)(broken), "Ã©\0\n\"fi\"");
}

proptest! {
    #[test]
    fn any_text_does_not_panic_and_repair_ends(text in "[ -~\u{80}-\u{FF}€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸА-яЃ\u{0}\u{1B}\n]{0,60}") {
        fix(&text);
    }

    #[test]
    fn ascii_without_controls_is_left_alone(text in "[ -~\t\n\r]{0,80}") {
        let step = Encoding::new(&smolt_run::recipe::defaults().unwrap());
        prop_assert_eq!(step.repair(&text), None);
    }

    /// Broken once as Latin-1 and as Windows-1252, words of Greek and Chinese come back whole.
    #[test]
    fn words_come_back(words in prop::collection::vec("[α-ω]{3,8}|[一-龥]{3,6}", 1..6)) {
        let clean = words.join(" ");
        let latin: String = clean.bytes().map(char::from).collect();
        prop_assert_eq!(fix(&latin), clean);
    }
}
