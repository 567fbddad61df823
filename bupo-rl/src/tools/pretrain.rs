//! Supervised training from scratch, which made the embedded model.

use std::fs;
use std::path::Path;

use bupo_collective::Processes;
use bupo_core::{Norm, PolicySite, ResidualDecoder, TokenDerivatives};
use bupo_models::decoder::{Gradients, RandomInit};
use bupo_models::tokenizer::byte_tokenizer_json;
use bupo_models::{
    Decoder, ModelAssets, ModelConfig, ModelFiles, SaveDtype, SaveOptions, Sequence, TextTokenizer, save_checkpoint,
};
use burn::tensor::backend::Backend;
use serde_json::json;

use crate::RlError;
use crate::data::Task;
use crate::random::{Purpose, stream, stream_seed};
use crate::trainer::make_empty_folder;
use crate::update::{AdamWSettings, DecoderOptimizer, PolicySpec, accumulate};

/// Sequences per micro-batch.
const BLOCK: usize = 32;
/// The end-of-sequence token.
const END: &str = "<|endoftext|>";

/// Settings of supervised training.
#[derive(Debug, Clone, PartialEq)]
pub struct PretrainConfig {
    /// The seed of weights and problems.
    pub seed: u64,
    /// The number of updates.
    pub steps: usize,
    /// Problems per update, each with its worked solution.
    pub batch: usize,
    /// The highest learning rate: reached after a tenth of the steps, then cosine decay to a tenth of it.
    pub learning_rate: f64,
    /// Width of the residual stream. Heads have 32 dimensions; there are half as many key-value heads.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_layers: usize,
    /// The probability that a step of a worked solution is wrong, so that reinforcement learning has something to improve.
    pub slip_rate: f64,
    /// The dtype of the saved model.
    pub dtype: SaveDtype,
}

/// Trains a Qwen3-architecture model from scratch on a task's worked solutions and saves it as a Hugging Face folder.
/// `report` gets each step's number and loss in nats per token.
///
/// # Errors
/// If sizes do not fit together, the folder is not empty, or a file cannot be written.
pub fn pretrain<B: Backend>(
    config: &PretrainConfig,
    task: &dyn Task,
    folder: &Path,
    device: &B::Device,
    mut report: impl FnMut(usize, f64),
) -> Result<(), RlError> {
    let files = write_config_and_tokenizer(config, folder)?;
    let model_config = ModelConfig::from_json(&files.text("config.json")?)?;
    let tokenizer = TextTokenizer::load(&files)?;
    let end = *model_config.eos_token_ids.first().unwrap_or(&0);
    let mut source = RandomInit::new(stream_seed(config.seed, Purpose::Weights, 0), device.clone());
    let mut decoder = Decoder::<B>::build(&model_config, &mut source)?;
    let settings = AdamWSettings { beta2: 0.98, weight_decay: 0.1, ..AdamWSettings::default() };
    let mut optimizer = DecoderOptimizer::<B>::new(settings);
    let spec = PolicySpec { site: PolicySite::Full, norm: Norm::None, temperature: 1.0 };
    for step in 1..=config.steps {
        let mut rng = stream(config.seed, Purpose::Problems, step);
        let mut sequences: Vec<Sequence> = (0..config.batch)
            .map(|_| {
                let problem = task.training_problem(&mut rng);
                let mut response = tokenizer.encode(&task.solution(&problem, config.slip_rate, &mut rng))?;
                response.push(end);
                Ok(Sequence { prompt: tokenizer.encode(&problem.prompt)?, response })
            })
            .collect::<Result<_, RlError>>()?;
        // Micro-batches of similar lengths need little padding.
        sequences.sort_by_key(Sequence::len);
        let tokens = sequences.iter().map(|sequence| sequence.response.len()).sum::<usize>() as f64;
        let mut gradients = Gradients::<B>::new();
        let mut loss = 0.0;
        let packed = decoder.for_many_rows(decoder.num_layers());
        for part in sequences.chunks(BLOCK) {
            accumulate(&packed, &mut gradients, &decoder.batch(part.iter()), &spec, false, |stats| {
                loss -= stats.log_probs.iter().copied().map(f64::from).sum::<f64>() / tokens;
                TokenDerivatives { log_probs: vec![(-1.0 / tokens) as f32; stats.log_probs.len()], entropy: None }
            })?;
        }
        drop(packed);
        optimizer.set_learning_rate(learning_rate(config, step));
        optimizer.step(&mut decoder, gradients, &Processes::alone())?;
        report(step, loss);
    }
    let options = SaveOptions { dtype: Some(config.dtype), ..SaveOptions::default() };
    Ok(save_checkpoint(folder, &decoder, &ModelAssets::read(&files)?, options)?)
}

fn learning_rate(config: &PretrainConfig, step: usize) -> f64 {
    let rise = (config.steps / 10).max(1);
    if step <= rise {
        return config.learning_rate * step as f64 / rise as f64;
    }
    let done = (step - rise) as f64 / (config.steps - rise).max(1) as f64;
    config.learning_rate * (0.55 + 0.45 * (std::f64::consts::PI * done).cos())
}

/// Writes config, generation config and tokenizer in the format of transformers.
fn write_config_and_tokenizer(config: &PretrainConfig, folder: &Path) -> Result<ModelFiles, RlError> {
    const HEAD_DIM: usize = 32;
    let heads = config.hidden_size / HEAD_DIM;
    if heads == 0 || !config.hidden_size.is_multiple_of(2 * HEAD_DIM) || config.num_layers == 0 {
        return Err(RlError::Config(format!(
            "--hidden is {} and --layers {}; the first must be a multiple of {}, the second at least 1",
            config.hidden_size,
            config.num_layers,
            2 * HEAD_DIM
        )));
    }
    make_empty_folder(folder)?;
    let (tokenizer, vocab_size, end) = byte_tokenizer_json(END)?;
    let model = json!({
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": 3 * config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads / 2,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "attention_bias": false,
        "use_sliding_window": false,
        "tie_word_embeddings": true,
        "eos_token_id": end,
        "pad_token_id": end,
        "torch_dtype": "float32",
    });
    let generation = json!({"do_sample": true, "temperature": 1.0, "eos_token_id": end, "pad_token_id": end});
    let tokenizer_config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": END});
    for (name, text) in [
        ("config.json", format!("{model:#}\n")),
        ("generation_config.json", format!("{generation:#}\n")),
        ("tokenizer_config.json", format!("{tokenizer_config:#}\n")),
        ("tokenizer.json", tokenizer),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(RlError::io("write", &path))?;
    }
    Ok(ModelFiles::folder(folder)?)
}
