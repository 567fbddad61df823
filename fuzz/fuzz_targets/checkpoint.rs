//! Weight files for a model of 252 parameters: whatever the bytes, the reader gives a model or an error.
#![no_main]

use std::fs;

use bupo_models::{ModelFiles, load_model};
use burn::backend::Flex;
use libfuzzer_sys::fuzz_target;

const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 5, "hidden_size": 4, "intermediate_size": 6,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 2}"#;

// The first byte says whether the rest is one weight file, or an index and a shard after it, or the config.
fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("a file");
    match kind % 3 {
        0 => {
            write("config.json", CONFIG.as_bytes());
            write("model.safetensors", rest);
        }
        1 => {
            let (index, shard) = rest.split_at(rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len()));
            write("config.json", CONFIG.as_bytes());
            write("model.safetensors.index.json", index);
            write("a.safetensors", shard.get(1..).unwrap_or_default());
        }
        _ => write("config.json", rest),
    }
    let files = ModelFiles::folder(folder.path()).expect("the folder");
    let _ = load_model::<Flex>(&files, &Default::default());
});
