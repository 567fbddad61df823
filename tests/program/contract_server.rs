//! A server with the calls of vLLM and SGLang, behind which the project's own generation samples, and which fails when asked to.

#[path = "contract_fault.rs"]
mod contract_fault;
#[path = "contract_http.rs"]
mod contract_http;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bupo_core::{Norm, PolicySite, SamplingParams};
use bupo_models::adapter::{Adapter, read_adapter};
use bupo_models::pretrained::load_config;
use bupo_models::{Decoder, GenerateOptions, ModelFiles, Response, generate, load_model};
use burn::backend::Flex;
use contract_fault::spoil;
use contract_http::{answer_with, read_request};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

pub use contract_fault::Fault;

/// How the server treats weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    Works,
    /// It answers that they are loaded, under their name, but keeps the old ones.
    Pretends,
    /// It keeps the old ones under their old name.
    Forgets,
    /// It answers with an error.
    Fails,
}

pub struct ContractServer {
    pub url: String,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    model: PathBuf,
    loaded: Mutex<Loaded>,
    /// For the next requests, in order.
    faults: Mutex<VecDeque<Fault>>,
    /// For every request.
    always: Mutex<Option<Fault>>,
    loading: Mutex<Loading>,
    paused: AtomicBool,
    stopped: AtomicBool,
    requests: AtomicUsize,
    /// The names of the tensors in each folder that was loaded.
    folders: Mutex<Vec<Vec<String>>>,
    /// Gone until this is false.
    gone: AtomicBool,
    takes_adapters: AtomicBool,
}

struct Loaded {
    decoder: Decoder<Flex>,
    /// Adapters that were loaded and not unloaded, by name.
    adapters: BTreeMap<String, Adapter>,
    tensors: BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>,
    version: String,
}

impl Loaded {
    fn new(model: &Path) -> Self {
        let files = ModelFiles::folder(model).unwrap();
        let decoder = load_model::<Flex>(&files, &Default::default()).unwrap().decoder;
        Self { decoder, adapters: BTreeMap::new(), tensors: tensors(model), version: "default".into() }
    }
}

impl ContractServer {
    /// Serves a model's folder at a free port.
    pub fn start(model: &Path) -> Self {
        let shared = Arc::new(Shared {
            model: model.to_path_buf(),
            loaded: Mutex::new(Loaded::new(model)),
            faults: Mutex::default(),
            always: Mutex::default(),
            loading: Mutex::new(Loading::Works),
            paused: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            folders: Mutex::default(),
            gone: AtomicBool::new(false),
            takes_adapters: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for stream in listener.incoming() {
                    if shared.stopped.load(Ordering::SeqCst) {
                        break;
                    }
                    let (shared, stream) = (Arc::clone(&shared), stream.unwrap());
                    thread::spawn(move || shared.serve(&stream));
                }
            }
        });
        Self { url, shared, accepting: Some(accepting) }
    }

    /// The next requests for responses fail in these ways.
    pub fn fail_next(&self, faults: &[Fault]) {
        self.shared.faults.lock().unwrap().extend(faults);
    }

    /// Every request for responses fails in this way, or none does.
    pub fn fail_always(&self, fault: Option<Fault>) {
        *self.shared.always.lock().unwrap() = fault;
    }

    pub fn load(&self, loading: Loading) {
        *self.shared.loading.lock().unwrap() = loading;
    }

    /// From now on it loads adapters, as vLLM does if it was started so.
    pub fn take_adapters(&self) {
        self.shared.takes_adapters.store(true, Ordering::SeqCst);
    }

    /// The names of the adapters that are loaded.
    pub fn adapters(&self) -> Vec<String> {
        self.shared.loaded.lock().unwrap().adapters.keys().cloned().collect()
    }

    /// Requests for responses so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The names of the tensors in each folder that was loaded.
    pub fn folders(&self) -> Vec<Vec<String>> {
        self.shared.folders.lock().unwrap().clone()
    }
}

impl Drop for ContractServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    /// One request per connection.
    fn serve(&self, stream: &TcpStream) {
        let Some((path, body)) = read_request(stream) else { return };
        if self.gone.load(Ordering::SeqCst) {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let path = path.split('?').next().unwrap_or_default();
        match path {
            "/v1/completions" | "/generate" => self.sample(stream, path, &body),
            _ => {
                let (status, answer) = self.call(path, &body);
                answer_with(stream, status, &answer.to_string());
            }
        }
    }

    fn call(&self, path: &str, body: &Value) -> (u16, Value) {
        match path {
            "/health" | "/pause" => {
                self.paused.store(path == "/pause", Ordering::SeqCst);
                (200, json!({}))
            }
            "/resume" => {
                self.paused.store(false, Ordering::SeqCst);
                (200, json!({}))
            }
            "/is_paused" => (200, json!({"is_paused": self.paused.load(Ordering::SeqCst)})),
            "/v1/models" => {
                let model = json!({"id": "the-model", "root": self.model, "max_model_len": 512});
                let adapters: Vec<String> = self.loaded.lock().unwrap().adapters.keys().cloned().collect();
                let adapters = adapters.iter().map(|name| json!({"id": name, "parent": "the-model"}));
                let models: Vec<Value> = [model].into_iter().chain(adapters).collect();
                (200, json!({"data": models}))
            }
            "/openapi.json" if self.takes_adapters.load(Ordering::SeqCst) => {
                (200, json!({"paths": {"/v1/load_lora_adapter": {"post": {}}}}))
            }
            "/v1/load_lora_adapter" => {
                let folder = Path::new(body["lora_path"].as_str().unwrap());
                let adapter = read_adapter(folder, &load_config(&ModelFiles::folder(&self.model).unwrap()).unwrap());
                let name = body["lora_name"].as_str().unwrap().to_string();
                assert!(self.loaded.lock().unwrap().adapters.insert(name, adapter.unwrap()).is_none());
                (200, json!("Success: LoRA adapter added successfully."))
            }
            "/v1/unload_lora_adapter" => {
                assert!(self.loaded.lock().unwrap().adapters.remove(body["lora_name"].as_str().unwrap()).is_some());
                (200, json!("Success: LoRA adapter removed successfully."))
            }
            "/weight_info" => (200, json!({"weight_version": self.loaded.lock().unwrap().version})),
            "/update_weight_version" => {
                if *self.loading.lock().unwrap() != Loading::Forgets {
                    self.loaded.lock().unwrap().version = body["new_version"].as_str().unwrap().into();
                }
                (200, json!({"success": true}))
            }
            "/collective_rpc" => {
                assert!(self.paused.load(Ordering::SeqCst), "weights are loaded while requests run");
                assert_eq!(body["method"], "reload_weights");
                match self.reload(Path::new(body["kwargs"]["weights_path"].as_str().unwrap())) {
                    Ok(()) => (200, json!({"results": [null]})),
                    Err(reason) => (500, json!({"error": {"message": reason}})),
                }
            }
            "/update_weights_from_disk" => {
                assert_eq!(body["flush_cache"], true);
                let loaded = self.reload(Path::new(body["model_path"].as_str().unwrap()));
                if loaded.is_ok() && *self.loading.lock().unwrap() != Loading::Forgets {
                    self.loaded.lock().unwrap().version = body["weight_version"].as_str().unwrap().into();
                }
                (200, json!({"success": loaded.is_ok(), "message": loaded.err()}))
            }
            _ => (404, json!({"detail": "Not Found"})),
        }
    }

    fn reload(&self, folder: &Path) -> Result<(), String> {
        match *self.loading.lock().unwrap() {
            Loading::Fails => return Err("no room left".into()),
            Loading::Pretends | Loading::Forgets => return Ok(()),
            Loading::Works => {}
        }
        let new = tensors(folder);
        self.folders.lock().unwrap().push(new.keys().cloned().collect());
        let mut loaded = self.loaded.lock().unwrap();
        loaded.tensors.extend(new);
        // The tensors that the folder does not have stay as they were.
        let whole = tempfile::tempdir().unwrap();
        for name in ["config.json", "tokenizer.json", "generation_config.json"] {
            fs::copy(self.model.join(name), whole.path().join(name)).unwrap();
        }
        let views = loaded.tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        safetensors::serialize_to_file(views, None, &whole.path().join("model.safetensors")).unwrap();
        loaded.decoder =
            load_model::<Flex>(&ModelFiles::folder(whole.path()).unwrap(), &Default::default()).unwrap().decoder;
        Ok(())
    }

    fn sample(&self, stream: &TcpStream, path: &str, body: &Value) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let fault = self.faults.lock().unwrap().pop_front().or(*self.always.lock().unwrap());
        match fault {
            Some(Fault::Status(status)) => {
                return answer_with(stream, status, r#"{"error": {"message": "the engine is upset"}}"#);
            }
            Some(Fault::Drop) => {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            Some(Fault::Slow(milliseconds)) => thread::sleep(Duration::from_millis(milliseconds)),
            Some(Fault::NotJson) => return answer_with(stream, 200, "<html>"),
            Some(Fault::Restart(milliseconds)) => {
                let _ = stream.shutdown(Shutdown::Both);
                self.gone.store(true, Ordering::SeqCst);
                *self.loaded.lock().unwrap() = Loaded::new(&self.model);
                thread::sleep(Duration::from_millis(milliseconds));
                self.gone.store(false, Ordering::SeqCst);
                return;
            }
            _ => {}
        }
        let params = if path == "/generate" { &body["sampling_params"] } else { body };
        let prompt: Vec<u32> =
            serde_json::from_value(body[if path == "/generate" { "input_ids" } else { "prompt" }].clone()).unwrap();
        let count = params["n"].as_u64().unwrap() as usize;
        let limit = params[if path == "/generate" { "max_new_tokens" } else { "max_tokens" }].as_u64().unwrap();
        let temperature = params["temperature"].as_f64().unwrap();
        assert!(temperature > 0.0 || count == 1, "greedy decoding of several responses");
        let options = GenerateOptions {
            site: PolicySite::Full,
            norm: Norm::None,
            temperature,
            sampling: SamplingParams::default(),
            max_new_tokens: limit as usize,
            eos_token_ids: serde_json::from_value(params["stop_token_ids"].clone()).unwrap(),
            seed: body["seed"].as_u64().unwrap_or(self.requests.load(Ordering::SeqCst) as u64),
            first_row: 0,
            batch: count,
        };
        let loaded = self.loaded.lock().unwrap();
        let named = body["model"].as_str().filter(|name| *name != "the-model");
        let decoder = match named.map(|name| loaded.adapters.get(name)) {
            None => loaded.decoder.clone(),
            Some(Some(adapter)) => loaded.decoder.clone().with_adapter(adapter),
            Some(None) => return answer_with(stream, 404, r#"{"error": {"message": "The model does not exist."}}"#),
        };
        let mut responses = generate(&decoder, &vec![prompt; count], &options).unwrap();
        let version = loaded.version.clone();
        drop(loaded);
        spoil(&mut responses, fault);
        let reason = |response: &Response| match fault {
            Some(Fault::Abort) => "abort",
            Some(Fault::Context) => "length",
            Some(Fault::OtherEnd) => "stop",
            _ if response.finished => "stop",
            _ => "length",
        };
        let answer = if path == "/generate" {
            let response = |response: &Response| {
                let log_probs: Vec<Value> = response
                    .tokens
                    .iter()
                    .zip(&response.log_probs)
                    .map(|(token, log_prob)| json!([log_prob, token, null]))
                    .collect();
                json!({"text": "", "output_ids": response.tokens, "meta_info": {
                    "finish_reason": {"type": reason(response)}, "output_token_logprobs": log_probs,
                    "weight_version": version,
                }})
            };
            let responses: Vec<Value> = responses.iter().map(response).collect();
            if count == 1 && responses.len() == 1 { responses[0].clone() } else { Value::Array(responses) }
        } else {
            // In any order, as vLLM may.
            let choices: Vec<Value> = responses
                .iter()
                .enumerate()
                .rev()
                .map(|(index, response)| {
                    json!({"index": index, "token_ids": response.tokens, "text": "",
                        "logprobs": {"token_logprobs": response.log_probs}, "finish_reason": reason(response)})
                })
                .collect();
            json!({"model": body["model"], "choices": choices})
        };
        let text = answer.to_string();
        if fault == Some(Fault::Cut) {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
            let _ = (&*stream).write_all(format!("{head}{}", &text[..text.len() / 2]).as_bytes());
            return;
        }
        answer_with(stream, 200, &text);
    }
}

fn tensors(folder: &Path) -> BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor =
        |(name, view): (String, TensorView<'_>)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
    file.tensors().into_iter().map(tensor).collect()
}
