use super::*;
use crate::document::Message;
use crate::shard::Packing;
use proptest::prelude::*;

const EOS: u32 = 300;
const PAD: u32 = 301;

/// Bytes as ids.
fn bytes(text: &str) -> Result<Vec<u32>, String> {
    if text.contains('\u{1}') { Err("refused".into()) } else { Ok(text.bytes().map(u32::from).collect()) }
}

/// Role length, then the content; assistants' content is learnt.
fn chat(chat: &Chat) -> Result<(Vec<u32>, Vec<bool>), String> {
    let (mut ids, mut trained) = (Vec::new(), Vec::new());
    for message in &chat.messages {
        ids.push(message.role.len() as u32);
        trained.push(false);
        ids.extend(message.content.bytes().map(u32::from));
        trained.extend(message.content.bytes().map(|_| message.role == "assistant"));
    }
    Ok((ids, trained))
}

fn encoder<'a, T: ?Sized, R>(encode: &'a (dyn Fn(&T) -> Result<R, String> + Sync)) -> Encoder<'a, T, R> {
    Encoder { tokenizer_hash: "bytes".into(), vocab_size: 302, encode }
}

fn documents(texts: &[String]) -> impl Iterator<Item = Result<Document, Error>> {
    texts.iter().map(|text| Ok(Document { text: text.clone(), ..Document::default() }))
}

fn options(seed: u64, threads: usize) -> DocumentOptions {
    DocumentOptions { eos_token_id: EOS, bos_token_id: None, seed, threads }
}

fn chats(pairs: &[(usize, usize)]) -> Vec<Chat> {
    let message = |role: &str, length| Message::new(role, "x".repeat(length));
    pairs
        .iter()
        .map(|&(user, assistant)| Chat {
            messages: vec![message("user", user), message("assistant", assistant)],
            ..Chat::default()
        })
        .collect()
}

fn chat_options(sequence_length: usize, overlong: Overlong) -> ChatOptions {
    ChatOptions { sequence_length, pad_token_id: PAD, eos_token_id: None, overlong, seed: 1, threads: 2 }
}

fn read(shard: &Shard) -> Vec<Vec<u32>> {
    (0..shard.n_documents())
        .map(|document| shard.document(document).map(|position| shard.token(position)).collect())
        .collect()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn the_same_bytes_for_any_number_of_threads_and_another_order_for_another_seed() {
    let texts: Vec<String> = (0..9000).map(|i| format!("document {i}")).collect();
    let run = |seed, threads| {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a.ds");
        tokenize_documents(documents(&texts), &encoder(&bytes), options(seed, threads), &out).unwrap();
        files(dir.path())
    };
    let one = run(1, 1);
    assert_eq!(one.keys().collect::<Vec<_>>(), ["a.ds", "a.ds.ids", "a.ds.index", "a.ds.smolt.json"]);
    assert_eq!(one, run(1, 3));
    assert_ne!(one["a.ds"], run(2, 1)["a.ds"]);
}

/// The shuffle undone: each document of the shard has the name it had in the input (spec `SPK-04`).
#[test]
fn documents_keep_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.ds");
    let named = |n: usize| Document {
        id: (!n.is_multiple_of(3)).then(|| format!("page \"{n}\"\n")),
        text: if n.is_multiple_of(7) { String::new() } else { format!("text {n}") },
        ..Document::default()
    };
    tokenize_documents((0..100).map(|n| Ok(named(n))), &encoder(&bytes), options(1, 2), &out).unwrap();
    let shard = Shard::open(&out).unwrap();
    let wanted = (0..shard.n_documents() + 5).collect();
    let names = shard.document_ids(&wanted).unwrap();
    assert_eq!(names.len() as u64, shard.n_documents());
    for (document, ids) in read(&shard).iter().enumerate() {
        let text: String = ids[..ids.len() - 1].iter().map(|&id| id as u8 as char).collect();
        let n = text.strip_prefix("text ").unwrap();
        let name =
            if n.parse::<usize>().unwrap() % 3 == 0 { format!("#{n}") } else { format!("page \"{n}\"\n") };
        assert_eq!(names[&(document as u64)], name);
    }
    // Chats, with padding in between.
    let chats = chats(&[(2, 2), (3, 3), (9, 9)]);
    let packed = dir.path().join("c.ds");
    tokenize_chats(chats.into_iter().map(Ok), &encoder(&chat), chat_options(21, Overlong::Reject), &packed)
        .unwrap();
    let shard = Shard::open(&packed).unwrap();
    let names = shard.document_ids(&(0..shard.n_documents()).collect()).unwrap();
    let padding = (0..shard.n_documents()).filter(|&d| shard.token(shard.document(d).start) == PAD).count();
    assert!(padding > 0 && names.len() == 3 && shard.n_documents() == 3 + padding as u64, "{names:?}");
    // A file of another shard is noticed.
    std::fs::copy(dir.path().join("a.ds.ids"), dir.path().join("c.ds.ids")).unwrap();
    let error = shard.document_ids(&[0].into()).unwrap_err().to_string();
    assert!(error.contains("c.ds.ids: not the one written with this shard"), "{error}");
}

#[test]
fn errors_name_the_document_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.ds");
    let texts = ["good".to_owned(), "\u{1}".to_owned(), "\u{1}".to_owned()];
    let error = tokenize_documents(documents(&texts), &encoder(&bytes), options(1, 2), &out).unwrap_err();
    assert_eq!(error.to_string(), "document 1: refused");
    let error =
        tokenize_documents(documents(&[" ".into()]), &encoder(&bytes), options(1, 2), &out).unwrap_err();
    assert!(error.to_string().contains("1 empty"), "{error}");
    let big = |_: &str| Ok(vec![302]);
    let error = tokenize_documents(documents(&texts[..1]), &encoder(&big), options(1, 2), &out).unwrap_err();
    assert!(matches!(error, Error::TokenOutOfRange { id: 302, .. }), "{error}");
    assert!(files(dir.path()).is_empty());
}

#[test]
fn long_and_unteachable_chats_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.ds");
    let input = chats(&[(2, 2), (3, 20), (30, 2), (1, 0), (0, 0)]);
    let run = |overlong| {
        let input = input.clone().into_iter().map(Ok);
        tokenize_chats(input, &encoder(&chat), chat_options(9, overlong), &out).unwrap()
    };
    let report = run(Overlong::Reject);
    assert_eq!((report.documents, report.tokens, report.padding_tokens), (1, 10, 4));
    assert_eq!(report.rejected[TOO_LONG], 2);
    assert_eq!(report.rejected[EMPTY], 1);
    assert_eq!(report.rejected[NOTHING_TO_LEARN], 1);
    let report = run(Overlong::Truncate);
    assert_eq!((report.documents, report.truncated, report.tokens), (2, 2, 20));
    assert_eq!(report.rejected[NOTHING_TO_LEARN], 2);
    assert_eq!(report.padding_share, 0.2);
    let none = tokenize_chats(std::iter::empty(), &encoder(&chat), chat_options(9, Overlong::Reject), &out);
    assert!(none.unwrap_err().to_string().contains("the input is empty"));
    assert!(Shard::open(&out).is_ok(), "a failed run keeps the old shard");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Every document once, its tokens in order, ended by end-of-sequence.
    #[test]
    fn documents_are_kept_whole(texts in prop::collection::vec("[a-zé ]{0,12}", 0..40), bos: bool) {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a.ds");
        let options = DocumentOptions { bos_token_id: bos.then_some(PAD), ..options(5, 2) };
        let result = tokenize_documents(documents(&texts), &encoder(&bytes), options, &out);
        let kept: Vec<&String> = texts.iter().filter(|text| !text.trim().is_empty()).collect();
        if kept.is_empty() {
            let refused = matches!(result, Err(Error::NothingLeft { .. }));
            prop_assert!(refused);
            return Ok(());
        }
        let report = result.unwrap();
        let mut expected: Vec<Vec<u32>> = kept
            .iter()
            .map(|text| bos.then_some(PAD).into_iter().chain(bytes(text).unwrap()).chain([EOS]).collect())
            .collect();
        let shard = Shard::open(&out).unwrap();
        shard.verify().unwrap();
        let mut found = read(&shard);
        found.sort();
        expected.sort();
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(report.documents, kept.len() as u64);
        prop_assert_eq!(report.tokens, shard.n_tokens());
        let text_bytes = kept.iter().map(|text| text.len() as u64).sum::<u64>();
        prop_assert_eq!(shard.meta().text_bytes, Some(text_bytes));
        prop_assert_eq!(report.rejected.get(EMPTY).copied().unwrap_or(0), (texts.len() - kept.len()) as u64);
    }

    /// Every chat once and whole, inside a chunk, with its own loss values; the rest is padding that is not learnt.
    #[test]
    fn chats_are_packed_whole(pairs in prop::collection::vec((1usize..8, 1usize..8), 1..30), spare in 0usize..20) {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a.ds");
        let chunk = 16 + spare;
        let input = chats(&pairs);
        let options = chat_options(chunk - 1, Overlong::Reject);
        let report = tokenize_chats(input.iter().cloned().map(Ok), &encoder(&chat), options, &out).unwrap();
        let shard = Shard::open(&out).unwrap();
        shard.verify().unwrap();
        prop_assert_eq!(shard.meta().packing, Packing::Whole);
        prop_assert_eq!(shard.n_tokens() % chunk as u64, 0);
        let (mut found, mut padding) = (Vec::new(), 0);
        for document in 0..shard.n_documents() {
            let range = shard.document(document);
            prop_assert_eq!(range.start / chunk as u64, (range.end - 1) / chunk as u64);
            let ids: Vec<u32> = range.clone().map(|position| shard.token(position)).collect();
            let trained: Vec<bool> = range.map(|position| shard.is_trained(position)).collect();
            if ids[0] == PAD {
                padding += ids.len() as u64;
                prop_assert!(ids.iter().all(|&id| id == PAD) && trained.iter().all(|&trained| !trained));
            } else {
                found.push((ids, trained));
            }
        }
        let mut expected: Vec<_> = input.iter().map(|input| chat(input).unwrap()).collect();
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(report.padding_tokens, padding);
    }
}

/// With a trained tokenizer and ChatML: what is learnt is what the assistant says and its end token, and a spelt-out
/// end-of-sequence in a document stays text.
#[test]
fn text_to_batches_with_a_real_tokenizer() {
    use crate::batch::{Batch, IGNORE_LABEL, Layout, Loader, Source};
    use smolt_text::template::{CHATML, ChatTemplate};
    use smolt_text::tokenizer::{TrainSettings, train};

    let text = "the cat sat on the mat and the dog sat on the cat. ".repeat(20);
    let settings = TrainSettings { vocab_size: 384, ..TrainSettings::default() };
    let tokenizer = train(std::iter::once(text), &settings).unwrap().tokenizer;
    let id = |token: &str| tokenizer.token_to_id(token).unwrap();
    let (eos, end, pad) = (id("<|endoftext|>"), id("<|im_end|>"), id("<|pad|>"));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a.ds");

    let texts = ["the cat<|endoftext|> sat".to_owned(), "the dog".to_owned()];
    let options = DocumentOptions { eos_token_id: eos, bos_token_id: None, seed: 1, threads: 2 };
    let encode = |text: &str| Ok(tokenizer.encode_ordinary(text));
    let encoder =
        TextEncoder { tokenizer_hash: tokenizer.hash().to_owned(), vocab_size: 384, encode: &encode };
    tokenize_documents(documents(&texts), &encoder, options, &out).unwrap();
    let shard = Shard::open(&out).unwrap();
    let mut found: Vec<String> = read(&shard).iter().map(|ids| tokenizer.decode(ids, false)).collect();
    found.sort();
    assert_eq!(found, ["the cat<|endoftext|> sat<|endoftext|>", "the dog<|endoftext|>"]);
    assert_eq!((0..shard.n_tokens()).filter(|&position| shard.token(position) == eos).count(), 2);
    assert_eq!(shard.meta().tokenizer_hash.as_deref(), Some(tokenizer.hash()));

    let turns =
        [("user", "the mat?"), ("assistant", "the cat sat"), ("user", "and?"), ("assistant", "the dog")];
    let messages = turns.map(|(role, text)| Message::new(role, text)).to_vec();
    let chat = Chat { messages, ..Chat::default() };
    let template = ChatTemplate::new(CHATML).unwrap();
    let options =
        ChatOptions { pad_token_id: pad, eos_token_id: Some(end), ..chat_options(255, Overlong::Reject) };
    let encode = |chat: &Chat| {
        let encoded =
            template.encode(&tokenizer, &chat.messages, false).map_err(|error| error.to_string())?;
        Ok((encoded.ids, encoded.assistant_mask))
    };
    let encoder =
        ChatEncoder { tokenizer_hash: tokenizer.hash().to_owned(), vocab_size: 384, encode: &encode };
    let report = tokenize_chats([Ok(chat)].into_iter(), &encoder, options, &out).unwrap();
    let layout =
        Layout { sequence_length: 255, vocab_size: 384, document_masking: true, reset_positions: true };
    let source = Source { name: "chat".into(), weight: 1.0, shard: Shard::open(&out).unwrap() };
    let loader = Loader::new(vec![source], 1, layout).unwrap();
    let mut batch = Batch::new(1, 255);
    loader.fill(0, 1, batch.as_mut()).unwrap();
    let labels: Vec<u32> = batch.labels.iter().copied().filter(|&label| label != IGNORE_LABEL).collect();
    assert_eq!(tokenizer.decode(&labels, false), "the cat sat<|im_end|>the dog<|im_end|>");
    assert_eq!(report.trained_tokens, labels.len() as u64);
    assert_eq!(loader.label_tokens(0, 1), labels.len() as u64);
}
