"""Makes tests/golden/encoding.json: clean sentences, the same broken in known ways, and ftfy's repair of each.

    python tests/golden/encoding.py

Needs PyPI ftfy. The sentences are our own. ftfy runs with what it would do to punctuation and width switched off.
"""

import json
import pathlib

import ftfy

SENTENCES = """
The café opens at nine — “early”, she said, and it’s true… or is it?
Ça coûte 5 € à l’hôtel où l’été a été très chaud, n’est-ce pas ?
« Déjà vu », répondit l’élève ; les cœurs étaient légers.
Die Größe des Gebäudes überraschte uns alle – sogar die Müllers.
„Straßenbahn fährt heute nicht“, hieß es in der Früh.
El niño comió piñas mañana por la mañana, ¿verdad? ¡Qué lástima!
A avó não sabia que o avião já tinha chegado às três da manhã.
NÃO É POSSÍVEL QUE A AÇÃO SEJA TÃO LONGA.
La città è più bella perché c’è già la luna.
Žluťoučký kůň úpěl ďábelské ódy, příliš žluté.
PŘÍŠTÍ ZASTÁVKA JE NÁDRAŽÍ.
Zażółć gęślą jaźń, powiedział Łukasz w środę.
Az őszi esők után a fű újra kizöldült.
Åsa gick över ån på väg till Örebro, så är det.
VAD SKA VI GÖRA PÅ LÖRDAG?
Rødgrød med fløde på en blå tallerken.
Það er ekki hægt að ganga þangað á öskudögum.
İstanbul'da güneş doğuyor, çocuklar şarkı söylüyor.
Într-o zi, fata a văzut că țara e frumoasă și liniștită.
Η γρήγορη αλεπού πήδηξε πάνω από το τεμπέλικο σκυλί.
Съешь же ещё этих мягких французских булок, да выпей чаю.
Привет, как дела? Всё хорошо, спасибо.
Під цим небом живуть люди, які люблять свою землю.
我们明天去北京，他说天气会很好。
東京の天気は今日とても良いです。
한국어 문장은 띄어쓰기가 중요합니다.
إنّ الطقس جميل اليوم في المدينة.
השמש זורחת היום מעל העיר.
सूरज आज शहर के ऊपर चमक रहा है।
พระอาทิตย์ส่องแสงเหนือเมืองวันนี้
Trời hôm nay đẹp lắm, chúng ta đi dạo nhé.
Temperature rose to 20 °C ± 2, about £30 for 5 µm filters, © 2020 Acme®.
The price is ½ of ¥300, see § 4 and footnote ² for it.
Smile 😀 and party 🎉 with a check ✓ and an arrow → there.
naïve façade, Zoë’s jalapeño, Škoda and Œuvre.
Müller™ said “yes” — Brontë said ‘no’.
x² + y² ≤ r², therefore |x| ≤ r; α ≈ 0.05.
├── src │ └── main.rs
"""

CP1252 = {byte: bytes([byte]).decode("cp1252") for byte in range(256) if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}


def western(text):
    return "".join(CP1252.get(byte, chr(byte)) for byte in text.encode())


def latin(text):
    return text.encode().decode("latin-1")


def cyrillic(text):
    return "".join(bytes([b]).decode("cp1251") if b != 0x98 else "\x98" for b in text.encode())


def main():
    config = ftfy.TextFixerConfig(
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        normalization=None,
    )
    sentences = [line for line in SENTENCES.splitlines() if line]
    clean = sentences + [line.upper() for line in sentences] + [line.lower() for line in sentences]
    clean += [word for line in sentences for word in line.split() if not word.isascii()]
    clean += [line + "…" for line in sentences] + ["«\u00a0" + line + "\u00a0»" for line in sentences]
    clean = list(dict.fromkeys(clean))
    ways = {
        "windows-1252": western,
        "latin-1": latin,
        "windows-1252 twice": lambda text: western(western(text)),
        "latin-1 twice": lambda text: latin(latin(text)),
        "windows-1251": cyrillic,
    }
    broken = []
    for how, way in ways.items():
        for text in sentences + [word for line in sentences for word in line.split() if len(word) > 3]:
            made = way(text)
            if text.isascii() or made == text or (how == "windows-1251") != any("а" <= c <= "я" for c in text.lower()):
                continue
            broken.append([how, text, made, ftfy.fix_text(made, config)])
        for line in sentences[:20]:
            mixed = way(line) + " — " + line
            if how.startswith("windows-1252") and not line.isascii():
                broken.append([how + ", half", line + " — " + line, mixed, ftfy.fix_text(mixed, config)])
    # Clean strings that ftfy itself changes say nothing.
    harmed = [text for text in clean if ftfy.fix_text(text, config) != text]
    print(f"{len(clean)} clean, {len(broken)} broken; ftfy restores {sum(b[1] == b[3] for b in broken)}, harms {harmed}")
    path = pathlib.Path(__file__).parent / "encoding.json"
    with open(path, "w") as out:
        out.write('{"clean": [\n' + ",\n".join(json.dumps(text, ensure_ascii=False) for text in clean))
        out.write('\n], "broken": [\n' + ",\n".join(json.dumps(row, ensure_ascii=False) for row in broken) + "\n]}\n")


if __name__ == "__main__":
    main()
