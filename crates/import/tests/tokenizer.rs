//! Tokenizers from folders and from GGUF keys give the same ids.

use formats::gguf::Metadata;
use import::tokenizer::{Kind, TokenKind, Tokenizer, TokenizerError, pre, pre_tokenizer_name, utf8};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// GGUF keys for a tokenizer, as llama.cpp's converter writes them.
fn keys(tokenizer: &Tokenizer) -> Metadata {
    let v = tokenizer.vocabulary().unwrap();
    let mut keys = Metadata::default();
    keys.set("tokenizer.ggml.tokens", v.tokens.iter().map(|t| t.text.clone()).collect::<Vec<_>>());
    keys.set("tokenizer.ggml.token_type", v.tokens.iter().map(|t| t.kind as i32).collect::<Vec<_>>());
    match v.kind {
        Kind::ByteLevel => {
            keys.set("tokenizer.ggml.model", "gpt2");
            keys.set("tokenizer.ggml.pre", pre_tokenizer_name(tokenizer).unwrap());
            keys.set("tokenizer.ggml.merges", v.merges.iter().map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>());
        }
        Kind::SentencePiece => {
            keys.set("tokenizer.ggml.model", "llama");
            keys.set("tokenizer.ggml.scores", v.tokens.iter().map(|t| t.score).collect::<Vec<_>>());
            keys.set("tokenizer.ggml.add_space_prefix", v.add_space_prefix);
        }
    }
    for (key, id) in [("bos", tokenizer.bos()), ("eos", tokenizer.eos())] {
        if let Some(id) = id {
            keys.set(format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    keys.set("tokenizer.ggml.add_bos_token", tokenizer.add_bos());
    keys
}

fn gguf(keys: &Metadata) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_gguf(Path::new("m.gguf"), keys)
}

/// A byte-level tokenizer with this pre-tokenizer: bytes, a few merges, one special token.
fn byte_level(pre_tokenizer: Value, ignore_merges: bool) -> Tokenizer {
    let alphabet = (0u8..=255).map(|b| match b {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(b),
        0..=b' ' => char::from_u32(256 + u32::from(b)).unwrap(),
        0x7f..=0xa0 => char::from_u32(256 + 33 + u32::from(b) - 0x7f).unwrap(),
        0xad => char::from_u32(256 + 67).unwrap(),
    });
    let mut vocab: Vec<String> = alphabet.map(String::from).collect();
    let merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("1", "2"), ("12", "3"), ("'", "s"), ("Ġ", "Ġ")];
    vocab.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
    vocab.push("<|end|>".into());
    let end = vocab.len() - 1;
    let ids: serde_json::Map<_, _> = vocab.into_iter().enumerate().map(|(i, t)| (t, json!(i))).collect();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "pre_tokenizer": pre_tokenizer, "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "added_tokens": [{"id": end, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignore_merges, "vocab": ids, "merges": merges},
    });
    Tokenizer::from_json(Path::new("tokenizer.json"), json.to_string().into_bytes()).unwrap()
}

const TEXT: &str = "It's  the 12345 end,\r\n\n  the cat's naïve — 漢字かな 한글; IT'S x1/2 <|end|> the\tend  ";

fn plain(kind: &str, more: Value) -> Value {
    let mut step = json!({"type": kind, "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    step
}

#[test]
fn pre_tokenizers_are_named_by_what_they_do() {
    let name = |pre, whole| pre_tokenizer_name(&byte_level(pre, whole)).map_err(|e| e.to_string());
    let gpt2 = plain("ByteLevel", json!({}));
    assert_eq!(name(gpt2.clone(), false), Ok("gpt-2"));
    let digits = json!({"type": "Digits", "individual_digits": true});
    assert_eq!(name(json!({"type": "Sequence", "pretokenizers": [digits, gpt2]}), false), Ok("smollm"));
    let llama = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let split = |regex: &str| {
        let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, plain("ByteLevel", json!({"use_regex": false}))]})
    };
    assert_eq!(name(split(llama), true), Ok("llama-bpe"));
    assert_eq!(name(split(llama), false), Ok("dbrx"));
    assert_eq!(name(split(&llama.replace("{1,3}", "")), false), Ok("qwen2"));
    let unknown = name(split("[a-z]+"), false).unwrap_err();
    assert!(unknown.contains("[a-z]+") && unknown.contains("qwen2"), "{unknown}");
    assert!(name(plain("ByteLevel", json!({"add_prefix_space": true})), false).is_err());
    assert!(name(json!({"type": "Whitespace"}), false).is_err());
}

/// For every name that is written: keys to tokenizer to name, and the ids of another tokenizer made from its keys.
#[test]
fn every_name_comes_back() {
    let names = pre::names();
    assert!(names.len() > 10);
    let start = keys(&byte_level(plain("ByteLevel", json!({})), false));
    for name in names {
        let mut keys_of = start.clone();
        keys_of.set("tokenizer.ggml.pre", name);
        let tokenizer = gguf(&keys_of).unwrap();
        assert_eq!(pre_tokenizer_name(&tokenizer).unwrap(), name);
        let ids = tokenizer.encode(TEXT).unwrap();
        assert_eq!(gguf(&keys(&tokenizer)).unwrap().encode(TEXT).unwrap(), ids, "{name}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), TEXT.replace("<|end|>", ""), "{name}");
    }
}

#[test]
fn bad_keys_say_what_is_wrong() {
    let good = keys(&byte_level(plain("ByteLevel", json!({})), false));
    let with = |key: &str, value: formats::gguf::Value| {
        let mut keys = good.clone();
        keys.set(key, value);
        gguf(&keys).unwrap_err().to_string()
    };
    assert!(with("tokenizer.ggml.model", "bert".into()).contains("`bert`"));
    assert!(with("tokenizer.ggml.pre", "odd".into()).contains("`odd`"));
    assert!(with("tokenizer.ggml.bos_token_id", 99999u32.into()).contains("id 99999"));
    assert!(with("tokenizer.ggml.tokens", 1u32.into()).contains("expected an array of strings"));
    assert!(with("tokenizer.ggml.merges", vec!["absent absent".to_owned()].into()).contains("m.gguf"));
    assert!(gguf(&Metadata::default()).unwrap_err().to_string().contains("`tokenizer.ggml.model` is missing"));
}

#[test]
fn broken_files_are_errors() {
    let good = byte_level(plain("ByteLevel", json!({})), false);
    let json = good.json();
    let parse = |bytes: &[u8]| Tokenizer::from_json(Path::new("tokenizer.json"), bytes.to_vec());
    for n in (0..json.len()).step_by(97) {
        assert!(matches!(parse(&json[..n]), Err(TokenizerError::Invalid { .. })));
    }
    // A merge shorter than the prefix it should have.
    let text = str::from_utf8(json)
        .unwrap()
        .replace("\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"####\"");
    assert!(matches!(parse(text.as_bytes()), Err(TokenizerError::Invalid { .. })));
    assert!(matches!(Tokenizer::from_folder(Path::new("/nowhere")), Err(TokenizerError::Missing { .. })));
    assert!(utf8(Path::new("t.txt"), b"ab\xff").unwrap_err().to_string().contains("t.txt: byte 2"));
}

/// A folder with this tokenizer and these config files.
fn folder(tokenizer: &Tokenizer, files: &[(&str, Value)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), tokenizer.json()).unwrap();
    for (name, json) in files {
        fs::write(dir.path().join(name), json.to_string()).unwrap();
    }
    dir
}

#[test]
fn special_tokens_come_from_the_configs() {
    let base = byte_level(plain("ByteLevel", json!({})), false);
    let end = base.vocab_size() as u32 - 1;
    let dir = folder(
        &base,
        &[
            (
                "tokenizer_config.json",
                json!({"bos_token": {"content": "<|end|>"}, "add_bos_token": true,
              "chat_template": [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}]}),
            ),
            ("config.json", json!({"eos_token_id": [end], "bos_token_id": 3})),
            ("generation_config.json", json!({"eos_token_id": [end, 5]})),
        ],
    );
    let t = Tokenizer::from_folder(dir.path()).unwrap();
    assert_eq!((t.bos(), t.eos(), t.add_bos(), t.add_eos()), (Some(end), Some(end), true, false));
    assert_eq!((t.stop_ids(), t.chat_template()), ([5, end].as_slice(), Some("D")));
    assert_eq!(t.encode_with_special("a").unwrap(), [end, u32::from(b'a')]);
    fs::write(dir.path().join("tokenizer_config.json"), r#"{"bos_token": "<nope>"}"#).unwrap();
    let e = Tokenizer::from_folder(dir.path()).unwrap_err().to_string();
    assert!(e.contains("`bos_token` is `<nope>`"), "{e}");
}

/// The start of a text of the data folder, on a character boundary.
fn sample(data: &Path, name: &str, len: usize) -> String {
    let mut text = fs::read_to_string(data.join("text").join(name)).unwrap();
    text.truncate((0..=len).rev().find(|n| text.is_char_boundary(*n)).unwrap());
    text
}

#[test]
fn real_tokenizers_survive_gguf() {
    let Some(data) = testkit::data_dir() else { return };
    for (model, name, bos) in [("novels-7m", Some("gpt-2"), false), ("stories260K", None, true)] {
        let original = Tokenizer::from_folder(&data.join(model)).unwrap();
        assert_eq!(original.add_bos(), bos, "{model}");
        assert_eq!(name, name.and_then(|_| pre_tokenizer_name(&original).ok()));
        let again = gguf(&keys(&original)).unwrap();
        for text in ["novels_valid.txt", "tinystories_eval.txt", "wikitext2_valid.txt", "calibration_datav3.txt"] {
            let text = sample(&data, text, 200_000);
            let ids = original.encode(&text).unwrap();
            assert!(ids == again.encode(&text).unwrap(), "{model}: the ids differ");
            assert_eq!(again.decode(&ids).unwrap(), original.decode(&ids).unwrap());
        }
        assert_eq!((again.bos(), again.eos(), again.add_bos()), (original.bos(), original.eos(), bos));
        assert!(again.vocabulary().unwrap().tokens == original.vocabulary().unwrap().tokens, "{model}");
    }
}

#[test]
fn sentence_piece_tokens_have_their_kinds() {
    let Some(data) = testkit::data_dir() else { return };
    let v = Tokenizer::from_folder(&data.join("stories260K")).unwrap().vocabulary().unwrap();
    let kind = |id: usize| v.tokens[id].kind;
    assert_eq!(
        (kind(0), kind(1), kind(3), kind(400)),
        (TokenKind::Unknown, TokenKind::Control, TokenKind::Byte, TokenKind::Normal)
    );
    assert!(v.add_space_prefix && v.kind == Kind::SentencePiece);
}
