#![allow(clippy::unwrap_used)]

//! Downloads from a local server with the Hub's protocol.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use bupo_models::pretrained::hub::{FetchProgress, HubError, HubId, HubSettings, Wanted, fetch};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The files and the faults of the server.
#[derive(Default)]
struct Repository {
    files: BTreeMap<String, Vec<u8>>,
    /// Answers every request with this status.
    refuses: Option<u16>,
    /// Interrupts every file after so many bytes, so many times.
    breaks: Option<(usize, usize)>,
    /// Without this token it answers 401.
    token: Option<&'static str>,
    /// The ETag of every file, instead of a hash.
    etag: Option<&'static str>,
    /// Whether weights are redirected to another address, as large files of the Hub are.
    elsewhere: bool,
    /// The path and range of each request.
    log: Vec<(String, String)>,
}

struct Hub {
    state: Arc<Mutex<Repository>>,
    settings: HubSettings,
    folder: tempfile::TempDir,
}

impl Hub {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(Repository { files, ..Repository::default() }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().take(200) {
                // A client may close the connection.
                let _ = serve(&shared, stream.unwrap());
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let settings = HubSettings { cache: folder.path().join("hub"), endpoint, token: None, offline: false };
        Self { state, settings, folder }
    }

    fn set(&self, change: impl FnOnce(&mut Repository)) {
        change(&mut self.state.lock().unwrap());
    }

    fn fetch(&self, id: &str, wanted: Wanted) -> Result<std::path::PathBuf, HubError> {
        fetch(&id.parse()?, wanted, &self.settings, &mut Silent)
    }

    fn asked(&self) -> usize {
        self.state.lock().unwrap().log.len()
    }
}

struct Silent;

impl FetchProgress for Silent {
    fn file(&mut self, _: &str, _: u64) {}
    fn advance(&mut self, _: u64) {}
    fn done(&mut self) {}
}

fn serve(state: &Mutex<Repository>, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let header = |name: &str| {
        let value = |line: &String| line.to_lowercase().strip_prefix(name).map(|value| value.trim().to_owned());
        lines.iter().find_map(value).unwrap_or_default()
    };
    let (range, authorization) = (header("range:"), header("authorization:"));
    let mut repository = state.lock().unwrap();
    repository.log.push((path.clone(), range.clone()));
    answer(&mut repository, stream, &path, &range, &authorization)
}

fn answer(
    repository: &mut Repository,
    mut stream: TcpStream,
    path: &str,
    range: &str,
    authorization: &str,
) -> std::io::Result<()> {
    let status = repository.refuses.or_else(|| {
        let expected = repository.token.map(|token| format!("bearer {token}"));
        expected.is_some_and(|expected| expected != authorization).then_some(401)
    });
    if let Some(status) = status {
        return write!(stream, "HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    if path.starts_with("/api/models/org/model/revision/") {
        let names: Vec<_> = repository.files.keys().map(|name| format!("{{\"rfilename\": \"{name}\"}}")).collect();
        let body = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", names.join(", "));
        return write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    }
    if repository.elsewhere && path.ends_with(".safetensors") && path.starts_with("/org/") {
        let host = format!("http://{}", stream.local_addr()?);
        return write!(
            stream,
            "HTTP/1.1 302 Elsewhere\r\nlocation: {host}/elsewhere{path}\r\nx-linked-etag: \"linked\"\r\netag: \"not this\"\r\n\
             x-repo-commit: {COMMIT}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }
    let path = path.strip_prefix("/elsewhere").unwrap_or(path);
    let name = path.strip_prefix("/org/model/resolve/").and_then(|rest| rest.split_once('/')).map(|(_, name)| name);
    let Some((name, bytes)) = name.and_then(|name| repository.files.get_key_value(name)) else {
        return write!(stream, "HTTP/1.1 404 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    let (start, end) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let start: usize = start.parse().unwrap();
    let end = end.parse::<usize>().map_or(bytes.len(), |end| (end + 1).min(bytes.len()));
    if start >= bytes.len() && !bytes.is_empty() {
        return write!(stream, "HTTP/1.1 416 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let etag = repository.etag.map_or_else(|| format!("etag-of-{}", name.replace('/', "-")), str::to_owned);
    write!(
        stream,
        "HTTP/1.1 206 Part\r\ncontent-length: {}\r\ncontent-range: bytes {start}-{}/{}\r\netag: \"{etag}\"\r\n\
         x-repo-commit: {COMMIT}\r\nconnection: close\r\n\r\n",
        end - start,
        end.saturating_sub(1),
        bytes.len(),
    )?;
    let part = &bytes[start..end];
    match repository.breaks {
        Some((times, most)) if times > 0 && part.len() > most => {
            repository.breaks = Some((times - 1, most));
            stream.write_all(&part[..most])
        }
        _ => stream.write_all(part),
    }
}

fn whole() -> Vec<(&'static str, &'static [u8])> {
    vec![
        ("config.json", b"{}"),
        ("generation_config.json", b"{\"a\": 1}"),
        ("tokenizer.json", b"{\"tokenizer\": 1}"),
        ("tokenizer_config.json", b"{\"config\": 1}"),
        ("model.safetensors", b"weights"),
        ("pytorch_model.bin", b"pickle"),
        ("README.md", b"read me"),
        ("original/params.json", b"{}"),
    ]
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn needed_files_are_downloaded_once() {
    let hub = Hub::new(&whole());
    let folder = hub.fetch("org/model", Wanted::Model).unwrap();
    assert_eq!(folder, hub.settings.cache.join("models--org--model/snapshots").join(COMMIT));
    let all = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&folder), all);
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), b"weights");
    let asked = hub.asked();
    assert_eq!(hub.fetch("org/model", Wanted::Model).unwrap(), folder);
    assert_eq!(hub.asked(), asked, "a cached file was requested again");
    let reference = hub.settings.cache.join("models--org--model/refs/main");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
}

#[test]
fn shards_are_downloaded_and_cannot_leave_the_folder() {
    let index =
        br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let mut files = whole();
    files.retain(|(name, _)| *name != "model.safetensors");
    files.extend([
        ("model.safetensors.index.json", &index[..]),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
    ]);
    let hub = Hub::new(&files);
    let folder = hub.fetch("org/model", Wanted::Model).unwrap();
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), b"two");

    for shard in ["../../evil.safetensors", "/tmp/evil.safetensors", "a/b.safetensors", "evil.bin", "..", ""] {
        let index = format!("{{\"weight_map\": {{\"a\": \"{shard}\"}}}}");
        let hub = Hub::new(&files);
        hub.set(|repository| {
            repository.files.insert("model.safetensors.index.json".into(), index.into_bytes());
        });
        let error = hub.fetch("org/model", Wanted::Model).unwrap_err();
        assert!(error.to_string().contains("not the name of a safetensors file"), "{shard}: {error}");
        assert_eq!(names(hub.folder.path()), ["hub"], "{shard}");
    }
}

#[test]
fn pickled_weights_are_refused() {
    let mut files = whole();
    files.retain(|(name, _)| *name != "model.safetensors");
    let error = Hub::new(&files).fetch("org/model", Wanted::Model).unwrap_err();
    assert!(matches!(error, HubError::Weights { .. }), "{error:?}");
    assert!(error.to_string().contains("pytorch_model.bin but no safetensors"), "{error}");
}

#[test]
fn errors_say_what_to_do() {
    let hub = Hub::new(&whole());
    for (status, expected) in
        [(401, "set HF_TOKEN"), (403, "set HF_TOKEN"), (404, "there is no model org/model"), (500, "status 500")]
    {
        hub.set(|repository| repository.refuses = Some(status));
        let error = hub.fetch("org/model", Wanted::Model).unwrap_err().to_string();
        assert!(error.contains(expected), "{status}: {error}");
    }
    hub.set(|repository| repository.refuses = None);
    assert!(matches!(hub.fetch("org/another", Wanted::Model), Err(HubError::NotFound(_))));
}

#[test]
fn gated_models_are_downloaded_with_a_token() {
    let mut hub = Hub::new(&whole());
    hub.set(|repository| repository.token = Some("hf_secret"));
    assert!(matches!(hub.fetch("org/model", Wanted::Config), Err(HubError::Refused(_))));
    hub.settings.token = Some("hf_secret".into());
    assert!(hub.fetch("org/model", Wanted::Config).is_ok());
}

#[test]
fn a_revision_is_part_of_the_request() {
    let hub = Hub::new(&whole());
    hub.fetch("org/model@refs/pr/1", Wanted::Config).unwrap();
    let reference = hub.settings.cache.join("models--org--model/refs/refs/pr/1");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
    let log = hub.state.lock().unwrap();
    assert!(log.log.iter().any(|(path, _)| path == "/org/model/resolve/refs%2Fpr%2F1/config.json"), "{:?}", log.log);
}

#[test]
fn an_interrupted_download_is_resumed() {
    let weights: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let mut files = whole();
    files.retain(|(name, _)| *name != "model.safetensors");
    files.push(("model.safetensors", &weights));
    let hub = Hub::new(&files);

    // Interrupted more often than one call retries: the partial file remains, and the next call resumes it.
    hub.set(|repository| repository.breaks = Some((100, 50_000)));
    let error = hub.fetch("org/model", Wanted::Model).unwrap_err();
    assert!(error.to_string().contains("org/model"), "{error}");
    let part = hub.settings.cache.join("models--org--model/blobs/etag-of-model.part");
    let here = fs::metadata(&part).unwrap().len();
    assert!((50_000..300_000).contains(&here), "{here} bytes are kept");

    hub.set(|repository| {
        repository.breaks = None;
        repository.log.clear();
    });
    let folder = hub.fetch("org/model", Wanted::Model).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights);
    let log = hub.state.lock().unwrap();
    assert!(log.log.iter().any(|(_, range)| *range == format!("bytes={here}-")), "{:?}", log.log);
}

#[test]
fn redirects_of_large_files_are_followed() {
    let hub = Hub::new(&whole());
    hub.set(|repository| repository.elsewhere = true);
    let folder = hub.fetch("org/model", Wanted::Model).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), b"weights");
    assert!(hub.settings.cache.join("models--org--model/blobs/linked").is_file());
}

#[test]
fn offline_uses_the_cache_only() {
    let mut hub = Hub::new(&whole());
    hub.settings.offline = true;
    let error = hub.fetch("org/model", Wanted::Model).unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error:?}");
    assert_eq!(hub.asked(), 0);
    hub.settings.offline = false;
    let folder = hub.fetch("org/model", Wanted::Model).unwrap();
    hub.settings.offline = true;
    let asked = hub.asked();
    assert_eq!(hub.fetch("org/model", Wanted::Model).unwrap(), folder);
    assert_eq!(hub.fetch(&format!("org/model@{COMMIT}"), Wanted::Model).unwrap(), folder);
    assert_eq!(hub.asked(), asked);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    assert!(matches!(hub.fetch("org/model", Wanted::Model), Err(HubError::Offline { .. })));
}

#[test]
fn an_unreachable_server_is_an_error_unless_files_are_cached() {
    let mut hub = Hub::new(&whole());
    let folder = hub.fetch("org/model", Wanted::Model).unwrap();
    hub.settings.endpoint = "http://127.0.0.1:1".into();
    assert_eq!(hub.fetch("org/model", Wanted::Model).unwrap(), folder, "a cached model needs no server");
    let error = hub.fetch("org/other", Wanted::Model).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error:?}");
}

#[test]
fn names_from_the_server_cannot_leave_the_cache() {
    let hub = Hub::new(&whole());
    hub.set(|repository| repository.etag = Some("../../../../evil"));
    let error = hub.fetch("org/model", Wanted::Model).unwrap_err();
    assert!(error.to_string().contains("cannot be kept"), "{error}");
    assert!(!hub.folder.path().join("evil").exists());
}

#[test]
fn ids_are_checked() {
    for id in ["org/name", "org/na.me-1_b@main", "org/name@refs/pr/1"] {
        assert_eq!(id.parse::<HubId>().unwrap().to_string(), id);
    }
    for id in ["", "name", "a/b/c", "../b", "a/..", "a/b@", "a/b@../c", "a/b@x//y", "a/b c", "a/b?x", "/b", "a/"] {
        assert!(matches!(id.parse::<HubId>(), Err(HubError::Id(_))), "{id}");
    }
}
