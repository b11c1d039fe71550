//! Fetching models from a server on this machine that has the hub's routes.

use import::hub::{DEFAULT_REVISION, Hub, HubError, Progress, is_model_id};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with the model `org/tiny` and, for those with a token, `org/gated`.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// What a server does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    CutShort,
    OddCommit,
}

impl Server {
    fn start(files: &[(&str, &[u8])], fault: Fault) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let files: HashMap<String, Vec<u8>> = files.iter().map(|(n, b)| (n.to_string(), b.to_vec())).collect();
        let requests = Arc::new(Mutex::new(vec![]));
        let (files, log) = (Arc::new(files), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, log) = (files.clone(), log.clone());
                thread::spawn(move || serve(stream, &files, &log, fault));
            }
        });
        Server { address, requests }
    }

    fn hub(&self, home: &Path, more: &[(&str, &str)]) -> Hub {
        let home = home.to_str().unwrap();
        Hub::from_env(|key| {
            let more = more.iter().find(|(k, _)| *k == key).map(|(_, v)| v.to_string());
            more.or_else(|| match key {
                "HF_ENDPOINT" => Some(format!("{}/", self.address)),
                "HF_HOME" => Some(home.to_owned()),
                _ => None,
            })
        })
    }

    /// How many files were asked for from their first byte to their last.
    fn downloads(&self) -> usize {
        self.requests.lock().unwrap().iter().filter(|r| r.ends_with("bytes=0-")).count()
    }
}

/// Answers requests on one connection until it closes.
fn serve(stream: TcpStream, files: &HashMap<String, Vec<u8>>, log: &Mutex<Vec<String>>, fault: Fault) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut out = stream;
    loop {
        let mut lines = vec![];
        while let Some(line) = reader.by_ref().lines().next().transpose().unwrap_or(None).filter(|l| !l.is_empty()) {
            lines.push(line);
        }
        let Some(path) = lines.first().and_then(|l| l.split(' ').nth(1)) else { return };
        let header = |name: &str| {
            lines.iter().find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v))
        };
        log.lock().unwrap().push(format!("{path} {}", header("range").unwrap_or("")));
        let answer = answer(path, header("range"), header("authorization"), files, fault);
        if out.write_all(&answer).is_err() || fault == Fault::CutShort && path.ends_with(".safetensors") {
            return;
        }
    }
}

fn answer(
    path: &str,
    range: Option<&str>,
    token: Option<&str>,
    files: &HashMap<String, Vec<u8>>,
    fault: Fault,
) -> Vec<u8> {
    if path.contains("org/gated") && token != Some("Bearer secret") {
        return b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".to_vec();
    }
    let path = path.replace("org/gated", "org/tiny");
    if path == "/api/models/org/tiny/revision/main" {
        let siblings: Vec<_> = files.keys().map(|f| serde_json::json!({"rfilename": f})).collect();
        let sha = if fault == Fault::OddCommit { "../../x" } else { COMMIT };
        return reply("200 OK", "", serde_json::json!({"sha": sha, "siblings": siblings}).to_string().as_bytes());
    }
    let file = path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/")).and_then(|f| Some((f, files.get(f)?)));
    let Some((name, bytes)) = file else { return reply("404 Not Found", "", b"") };
    let (first, last) = range.unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let last: usize = last.parse().unwrap_or(bytes.len() - 1);
    let headers = format!(
        "etag: \"e-{name}\"\r\nx-repo-commit: {COMMIT}\r\ncontent-range: bytes {first}-{last}/{}\r\n",
        bytes.len()
    );
    match fault {
        // Closes after half, without having promised a length.
        Fault::CutShort if last > first && name.ends_with(".safetensors") => {
            let mut cut = format!("HTTP/1.1 206 Partial Content\r\n{headers}connection: close\r\n\r\n").into_bytes();
            cut.extend(&bytes[first..last / 2]);
            cut
        }
        _ => reply("206 Partial Content", &headers, &bytes[first..=last]),
    }
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend(body);
    out
}

const INDEX: &[u8] = br#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;

const SHARDED: [(&str, &[u8]); 7] = [
    ("config.json", b"{}"),
    ("tokenizer.json", b"{\"t\": 1}"),
    ("model.safetensors.index.json", INDEX),
    ("m-1.safetensors", &[1; 5000]),
    ("m-2.safetensors", &[2; 300]),
    ("README.md", b"not wanted"),
    ("pytorch_model.bin", b"not wanted"),
];

#[derive(Default)]
struct Counts(HashMap<String, (u64, u64, bool)>, String);

impl Progress for Counts {
    fn start(&mut self, file: &str, bytes: u64) {
        self.1 = file.to_owned();
        assert!(self.0.insert(file.to_owned(), (bytes, 0, false)).is_none(), "{file} started twice");
    }

    fn advance(&mut self, bytes: u64) {
        self.0.get_mut(&self.1).unwrap().1 += bytes;
    }

    fn finish(&mut self) {
        self.0.get_mut(&self.1).unwrap().2 = true;
    }
}

#[test]
fn fetches_what_a_loader_needs_and_only_once() {
    let (server, home) = (Server::start(&SHARDED, Fault::None), tempfile::tempdir().unwrap());
    let hub = server.hub(home.path(), &[]);
    let mut counts = Counts::default();
    let folder = hub.fetch("org/tiny", DEFAULT_REVISION, &mut counts).unwrap();
    assert!(folder.starts_with(home.path().join("hub")));
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let wanted =
        ["config.json", "m-1.safetensors", "m-2.safetensors", "model.safetensors.index.json", "tokenizer.json"];
    assert_eq!(names, wanted);
    assert_eq!(fs::read(folder.join("m-1.safetensors")).unwrap(), [1; 5000]);
    assert_eq!(counts.0["m-1.safetensors"], (5000, 5000, true));
    assert_eq!(server.downloads(), 5);
    assert_eq!(hub.fetch("org/tiny", DEFAULT_REVISION, &mut ()).unwrap(), folder);
    assert_eq!(server.downloads(), 5, "what is in the cache is not fetched again");
    let offline = server.hub(home.path(), &[("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:1")]);
    assert_eq!(offline.fetch("org/tiny", DEFAULT_REVISION, &mut ()).unwrap(), folder);
    let absent = offline.fetch("org/other", DEFAULT_REVISION, &mut ()).unwrap_err();
    assert!(absent.to_string().contains("unset HF_HUB_OFFLINE"), "{absent}");
}

#[test]
fn failures_say_what_to_do() {
    let (server, home) = (Server::start(&SHARDED, Fault::None), tempfile::tempdir().unwrap());
    let fetch = |id: &str, more: &[(&str, &str)]| {
        server.hub(home.path(), more).fetch(id, DEFAULT_REVISION, &mut ()).map_err(|e| e.to_string())
    };
    let says = |id, more: &[(&str, &str)], what: &str| {
        let e = fetch(id, more).unwrap_err();
        assert!(e.contains(what), "{e}");
    };
    says("org/absent", &[], "check the spelling");
    says("org/gated", &[], "HF_TOKEN");
    says("org/gated", &[("HF_TOKEN", "wrong")], "HF_TOKEN");
    fetch("org/gated", &[("HF_TOKEN", "secret")]).unwrap();
    says("org/tiny", &[("HF_ENDPOINT", "http://127.0.0.1:1")], "check the network");
    says("../tiny", &[], "`../tiny` is not a model id");
    let e = server.hub(home.path(), &[]).fetch("org/tiny", "../x", &mut ()).unwrap_err();
    assert!(matches!(e, HubError::Revision { .. }));
}

#[test]
fn servers_are_not_trusted() {
    let fetch = |files: &[(&str, &[u8])], fault| {
        let home = tempfile::tempdir().unwrap();
        Server::start(files, fault).hub(home.path(), &[]).fetch("org/tiny", DEFAULT_REVISION, &mut ()).unwrap_err()
    };
    assert!(matches!(fetch(&SHARDED, Fault::OddCommit), HubError::Commit { .. }));
    assert!(matches!(fetch(&SHARDED[..2], Fault::None), HubError::NoFile { file: "model.safetensors", .. }));
    assert!(matches!(fetch(&SHARDED[1..], Fault::None), HubError::NoFile { file: "config.json", .. }));
    let evil = br#"{"weight_map": {"a": "../../evil.safetensors"}}"#;
    let index = [SHARDED[0], ("model.safetensors.index.json", evil.as_slice())];
    assert!(matches!(fetch(&index, Fault::None), HubError::Index(_)));
    let absent = [SHARDED[0], SHARDED[2]];
    assert!(matches!(fetch(&absent, Fault::None), HubError::NotFound { .. }));
}

#[test]
fn a_download_cut_short_is_not_kept() {
    let home = tempfile::tempdir().unwrap();
    let cut = Server::start(&SHARDED, Fault::CutShort);
    let e = cut.hub(home.path(), &[]).fetch("org/tiny", DEFAULT_REVISION, &mut ()).unwrap_err();
    assert!(matches!(e, HubError::Incomplete { expected: 5000, .. }), "{e:?}");
    let whole = Server::start(&SHARDED, Fault::None);
    let folder = whole.hub(home.path(), &[]).fetch("org/tiny", DEFAULT_REVISION, &mut ()).unwrap();
    assert_eq!(fs::read(folder.join("m-1.safetensors")).unwrap(), [1; 5000]);
}

#[test]
fn model_ids_are_told_from_paths() {
    assert!(is_model_id("Qwen/Qwen3-0.6B") && is_model_id("a/b"));
    for other in ["model", "./a/b", "a/b/c", "/a", "../a", "a/..", "a/.b", "a//b", "a/b c", ""] {
        assert!(!is_model_id(other), "{other}");
    }
}
