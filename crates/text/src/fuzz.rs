//! Entry points of the fuzz targets; the tests replay `corpus/` through them.

use crate::template::{ChatTemplate, Message};
use crate::tokenizer::Tokenizer;
use serde_json::Map;
use std::path::Path;

/// Loads bytes as tokenizer.json and uses whatever comes out.
#[doc(hidden)]
pub fn fuzz_tokenizer(bytes: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_json(bytes, Path::new("fuzz")) else { return };
    for text in
        ["", "Hello, <|im_end|> 123\r\n", "日本 é \u{1F9D1}\u{200D}\u{1F680}", "aaaaaaaaaaaaaaaaaaaaaaaa!"]
    {
        let ids = tokenizer.encode(text, true);
        let _ = tokenizer.decode(&ids, true);
        let mut stream = tokenizer.stream_decoder();
        ids.iter().for_each(|&id| drop(stream.push(id)));
        let _ = stream.finish();
        assert!(!tokenizer.encode_ordinary(text).iter().any(|&id| tokenizer.is_control(id)));
    }
}

/// Parses bytes as a chat template and renders a conversation with it.
#[doc(hidden)]
pub fn fuzz_template(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let Ok(template) = ChatTemplate::new(source) else { return };
    let messages = [Message::new("user", "{% raw %} \u{100000}"), Message::new("assistant", "b\u{100001}")];
    if let Ok(rendered) = template.render(&messages, true, &Map::new()) {
        for span in rendered.generation_spans {
            assert!(rendered.text.get(span).is_some());
        }
    }
}
