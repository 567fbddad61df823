//! The plan of a run: phases, updates, tokens, and estimated memory by part.

use bupo_core::kernels::{Bf16Unit, attention_tile, gpu_kernels_are_on};
use bupo_core::{logits_at_once, logits_saved};
use bupo_models::families::{layer_params, num_params};
use bupo_models::generate::PREFILL_TOKENS;
use bupo_models::{ComputeDtype, DtypeChoice, MOST_PLACES, ModelConfig};

use crate::RlError;
use crate::config::TrainConfig;
use crate::phases::Phase;

/// Bytes per parameter, gradient and logit.
const F32: u64 = 4;
/// Memory of the program itself, and of its tokenizer for each token of the vocabulary, as measured: the embedded model's `generate` takes
/// 46 MiB, that of a vocabulary of 49,152 tokens 97 MiB more than its weights.
const PROGRAM: u64 = 48 << 20;
const TOKENIZER_PER_TOKEN: u64 = 1 << 10;
/// Tensors the size of a chunk of logits held while its gradient is computed.
const LOGIT_CHUNKS: u64 = 4;

/// A phase of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PhasePlan {
    /// The phase.
    pub phase: Phase,
    /// Whether its site is `auto` and not resolved yet; planned as the last layer, the upper bound.
    pub auto: bool,
    /// Optimizer steps.
    pub updates: usize,
    /// Layers run for its loss.
    pub layers: usize,
    /// The first layer that its backward pass runs, from 1.
    pub lowest: usize,
    /// Parameters it trains.
    pub trained: u64,
}

/// The plan of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPlan {
    /// Its phases.
    pub phases: Vec<PhasePlan>,
    /// Parameters of the model.
    pub parameters: u64,
    /// Responses per step, before dynamic sampling draws more.
    pub responses_per_step: usize,
    /// Upper bound of prompt and response tokens per step: every prompt and response at its length limit.
    pub most_tokens_per_step: usize,
    /// Memory by part.
    pub memory: MemoryPlan,
}

/// Estimated memory in bytes at the longest sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The model, in f32, or with its layers' weights in bf16 where they are kept so.
    pub weights: u64,
    /// Gradients, of the phase that trains most parameters.
    pub gradients: u64,
    /// AdamW's two moments of every parameter trained in any phase, counted as if none were small.
    pub optimizer: u64,
    /// The frozen reference: a copy of every parameter trained in any phase.
    pub reference: u64,
    /// Activations saved for the backward pass of one micro-batch.
    pub activations: u64,
    /// Logits of a chunk and their gradient.
    pub logits: u64,
    /// Key-value cache of the responses generated at once.
    pub cache: u64,
    /// Activations of one layer during prefill.
    pub prefill: u64,
    /// The layers' copy in the compute dtype or with joined maps, held while responses are generated.
    pub lowered: u64,
    /// The trained layers' copy for products in bf16 on the CPU's unit, held during an update.
    pub packed: u64,
    /// On the CPU, the program and its tokenizer.
    pub program: u64,
    /// The critic: its head with gradient and moments, its states, and the layers that run for it alone; 0 without one.
    pub critic: u64,
}

impl MemoryPlan {
    /// Peak while generating.
    pub fn rollout(&self) -> u64 {
        let generated = self.lowered + self.cache + self.prefill.max(self.logits);
        self.program + self.weights + self.optimizer + self.reference + generated
    }

    /// Peak while updating.
    pub fn update(&self) -> u64 {
        let trained = self.gradients + self.optimizer + self.reference + self.critic;
        self.program + self.weights + trained + self.packed + self.activations + self.logits
    }

    /// The larger of the two.
    pub fn peak(&self) -> u64 {
        self.rollout().max(self.update())
    }
}

impl RunPlan {
    /// Plans a run on a model with this config. `on_cpu`: on the CPU backend, whose activations are in f32 whatever the dtype.
    ///
    /// # Errors
    /// If a site is outside the model, or there are no steps.
    pub fn new(config: &TrainConfig, model: &ModelConfig, on_cpu: bool) -> Result<Self, RlError> {
        config.check_trained_in(model)?;
        config.check_critic_in(model)?;
        let schedule = config.schedule(model.num_hidden_layers)?;
        let updates_per_step = config.rollout.prompts.div_ceil(config.update.mini_batch_prompts) * config.update.epochs;
        let phases = schedule
            .phases()
            .iter()
            .zip(schedule.auto())
            .filter(|(phase, _)| phase.steps > 0)
            .map(|(phase, auto)| {
                let layers = phase.site.depth(model.num_hidden_layers)?;
                let (trained, lowest) = config.trained_params(model, layers, phase.has_final_norm());
                Ok(PhasePlan {
                    phase: phase.clone(),
                    auto: *auto,
                    updates: phase.steps * updates_per_step,
                    layers,
                    lowest,
                    trained,
                })
            })
            .collect::<Result<Vec<_>, RlError>>()?;
        let responses_per_step = config.rollout.prompts * config.rollout.group_size;
        let longest = config.data.max_prompt_tokens + config.rollout.max_new_tokens;
        Ok(Self {
            parameters: num_params(model),
            responses_per_step,
            most_tokens_per_step: responses_per_step * longest,
            memory: memory(config, model, &phases, longest, on_cpu),
            phases,
        })
    }
}

fn memory(config: &TrainConfig, model: &ModelConfig, phases: &[PhasePlan], longest: usize, on_cpu: bool) -> MemoryPlan {
    let most_trained = phases.iter().map(|phase| phase.trained).max().unwrap_or(0);
    let most_layers = phases.iter().map(|phase| phase.layers).max().unwrap_or(0) as u64;
    let spared = F32 - config.optimizer.weights.bytes();
    let all_layers = model.num_hidden_layers as u64;
    // The layers that save activations.
    let saving = |phase: &PhasePlan| (phase.layers + 1).saturating_sub(phase.lowest);
    let most_saving = phases.iter().map(saving).max().unwrap_or(0) as u64;
    let keys = (2 * model.num_key_value_heads * model.head_dim * model.num_hidden_layers) as u64;
    let rows = config.rollout.batch.min(config.rollout.prompts * config.rollout.group_size) as u64;
    let sequences = (config.update.mini_batch_prompts * config.rollout.group_size) as u64;
    let gpu_kernels = !on_cpu && gpu_kernels_are_on();
    let tile = attention_tile(gpu_kernels) as u64;
    // On CPUs a prompt is computed once for its group. A sequence longer than a micro-batch is run alone.
    let responses = sequences * config.rollout.max_new_tokens as u64;
    let prompts = if on_cpu { config.update.mini_batch_prompts as u64 } else { sequences };
    let of_mini_batch = responses + prompts * config.data.max_prompt_tokens as u64;
    let tokens = (config.update.max_tokens_per_batch.max(longest) as u64).min(of_mini_batch);
    let places = if on_cpu { (MOST_PLACES as u64 * tokens).min(sequences * longest as u64) } else { 0 };
    // `auto` is planned as f32, the larger.
    let (number, lowered) = match config.dtype {
        DtypeChoice::Bf16 => {
            let number = ComputeDtype::Bf16.bytes();
            let lowered = number * all_layers * layer_params(model);
            (if on_cpu { F32 } else { number }, lowered)
        }
        // The kernels of GPUs generate with joined weights; in bf16 these take the place of the lowered ones.
        DtypeChoice::F32 | DtypeChoice::Auto => (F32, if gpu_kernels { F32 * joined_params(model) } else { 0 }),
    };
    // Frozen matrices in bf16 are multiplied as they are, but in f32 on other devices than the CPU.
    let lowered = match (config.lora.is_on() && model.is_bf16, on_cpu || number < F32) {
        (true, true) => 0,
        (true, false) => F32 * all_layers * layer_params(model),
        (false, _) => lowered,
    };
    let packs = on_cpu && config.dtype == DtypeChoice::Bf16 && Bf16Unit::chosen().is_some();
    // Layers' weights that are kept in bf16 are generated with as they are, unless they are packed.
    let lowered = if packs || spared == 0 { lowered } else { 0 };
    let packed = if packs { ComputeDtype::Bf16.bytes() * most_layers * layer_params(model) } else { 0 };
    // Gates of saved layers are then saved in bf16.
    let saved_layers = if config.update.recompute { 0 } else { most_saving };
    let halved = if packs { F32 * saved_layers * tokens * model.intermediate_size as u64 } else { 0 };
    let all_logits = tokens * model.vocab_size as u64;
    let logits = (logits_at_once(gpu_kernels) as u64).min(all_logits);
    // Of each policy of a loss.
    let policies = |phase: &PhasePlan| 1 + phase.phase.sites.iter().filter(|site| site.weight != 0.0).count() as u64;
    let saved_logits = (logits_saved(model.vocab_size, model.hidden_size) as u64).min(all_logits)
        * phases.iter().map(policies).max().unwrap_or(1);
    // On GPUs in bf16 the unembedding is multiplied in bf16.
    let is_lowered = !on_cpu && number < F32;
    let lowered_unembedding = if is_lowered { number * (model.vocab_size * model.hidden_size) as u64 } else { 0 };
    // Servers have what generation takes.
    let generates = u64::from(!config.rollout.has_servers());
    let longest_sampled = (config.data.max_prompt_tokens + config.longest_response()) as u64;
    let prefill_rows = (PREFILL_TOKENS as u64 / (config.data.max_prompt_tokens as u64).max(1)).clamp(1, rows);
    MemoryPlan {
        weights: config.weight_bytes(model) - spared * all_layers * layer_params(model),
        gradients: F32 * most_trained,
        optimizer: 2 * config.optimizer.moments.bytes(most_trained),
        // Of a model with an adapter the one without it is at hand.
        reference: if config.objective.needs_reference() && !config.lora.is_on() {
            F32 * most_trained - spared * most_trained.min(most_layers * layer_params(model))
        } else {
            0
        },
        activations: number
            * (activations(model, tokens, tile.min(longest as u64), most_saving, config.update.recompute)
                + attention_places(model, places))
            - halved,
        logits: F32 * (LOGIT_CHUNKS * logits).max(saved_logits + logits) + lowered_unembedding,
        cache: generates * number * rows * longest_sampled * keys,
        prefill: generates * number * prefill_rows * prefill(model, config.data.max_prompt_tokens as u64, tile),
        lowered: generates * lowered,
        packed,
        program: if on_cpu { PROGRAM + TOKENIZER_PER_TOKEN * model.vocab_size as u64 } else { 0 },
        critic: if config.has_critic() { critic(config, model, phases, [tokens, tile], number) } else { 0 },
    }
}

/// Bytes of the critic in an update of micro-batches of `tokens` tokens whose attention takes `tile` queries at a time, with activations
/// of `number` bytes.
fn critic(
    config: &TrainConfig,
    model: &ModelConfig,
    phases: &[PhasePlan],
    [tokens, tile]: [u64; 2],
    number: u64,
) -> u64 {
    let hidden = model.hidden_size as u64;
    let depth = config.critic.site.depth(model.num_hidden_layers).unwrap_or(model.num_hidden_layers);
    let runs_alone = config.critic.warmup_steps > 0 || phases.iter().any(|phase| phase.layers < depth);
    let pass = if runs_alone { number * activations(model, tokens, tile.min(tokens), 0, true) } else { 0 };
    // Parameters, gradient and moments; all states normed, those of response tokens, and their gradient.
    F32 * (4 * (hidden + 1) + 3 * tokens * hidden) + pass
}

/// The weights of queries, keys and values, and of gate and up, of all layers.
fn joined_params(model: &ModelConfig) -> u64 {
    let [hidden, inner, heads, head_dim] = widths(model);
    let keys = model.num_key_value_heads as u64 * head_dim;
    model.num_hidden_layers as u64 * hidden * (heads * head_dim + 2 * keys + 2 * inner)
}

/// Numbers saved by `layers` layers for the backward pass of `tokens` tokens, plus the temporaries of one layer.
fn activations(model: &ModelConfig, tokens: u64, tile: u64, layers: u64, recompute: bool) -> u64 {
    let [hidden, inner, heads, head_dim] = widths(model);
    let keys = model.num_key_value_heads as u64 * head_dim;
    let inside = tokens * (hidden + 2 * inner + 2 * heads * head_dim + 2 * keys);
    let kept = if recompute { layers * tokens * hidden + inside } else { layers * (tokens * hidden + inside) };
    // Attention scores, weights and their gradients of a tile of queries; then the gradients of a layer's activations.
    kept + 3 * heads * tokens * tile + tokens * (4 * hidden + 3 * inner)
}

/// Temporaries of one layer's attention on the places of packed rows, in numbers: queries, keys, values and the result, as they are and
/// rotated, with the gradients of these.
fn attention_places(model: &ModelConfig, places: u64) -> u64 {
    let [_, _, heads, head_dim] = widths(model);
    places * 6 * head_dim * (heads + model.num_key_value_heads as u64)
}

/// Temporaries of one layer during prefill of one prompt, in numbers.
fn prefill(model: &ModelConfig, prompt: u64, tile: u64) -> u64 {
    let [hidden, inner, heads, head_dim] = widths(model);
    prompt * (4 * hidden + 3 * inner + 3 * heads * head_dim + 2 * heads * prompt.min(tile))
}

fn widths(model: &ModelConfig) -> [u64; 4] {
    [model.hidden_size, model.intermediate_size, model.num_attention_heads, model.head_dim].map(|n| n as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::shrink_to_memory;

    /// The published sizes of Qwen3-4B.
    fn qwen3_4b() -> Result<ModelConfig, Box<dyn std::error::Error>> {
        Ok(ModelConfig::from_json(
            r#"{"model_type": "qwen3", "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728,
                "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
                "tie_word_embeddings": true}"#,
        )?)
    }

    #[test]
    fn a_published_model_has_its_published_number_of_parameters() -> Result<(), Box<dyn std::error::Error>> {
        assert_eq!(num_params(&qwen3_4b()?), 4_022_468_096);
        Ok(())
    }

    #[test]
    fn a_phase_on_a_layer_trains_and_runs_what_is_below_it() -> Result<(), Box<dyn std::error::Error>> {
        let pairs = ["phases.0.site=layer:6", "phases.0.steps=2", "phases.1.steps=3"].map(String::from);
        let plan = RunPlan::new(&TrainConfig::load(None, &pairs)?, &qwen3_4b()?, false)?;
        let [internal, full] = &plan.phases[..] else { return Err("two phases".into()) };
        assert_eq!((internal.layers, internal.trained), (6, 151_936 * 2560 + 6 * 100_930_816));
        assert_eq!((full.layers, full.trained), (36, plan.parameters));
        assert_eq!((internal.updates, full.updates), (4, 6));
        Ok(())
    }

    #[test]
    fn memory_depends_on_the_trained_parameters() -> Result<(), Box<dyn std::error::Error>> {
        let model = qwen3_4b()?;
        let of = |pairs: &[&str]| -> Result<MemoryPlan, RlError> {
            let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
            Ok(RunPlan::new(&TrainConfig::load(None, &pairs)?, &model, false)?.memory)
        };
        let whole = of(&[])?;
        assert_eq!(
            (whole.weights, whole.gradients, whole.optimizer),
            (4 * 4_022_468_096, whole.weights, 2 * whole.weights)
        );
        assert_eq!(whole.reference, 0);
        let layer = of(&["phases.1.steps=0", "objective.kl_coefficient=0.1"])?;
        assert_eq!((layer.reference, layer.weights), (layer.gradients, whole.weights));
        assert!(layer.gradients < whole.gradients / 5, "{layer:?}");
        let halved = of(&["dtype=bf16"])?;
        assert_eq!((halved.weights, halved.optimizer), (whole.weights, whole.optimizer));
        assert_eq!((2 * halved.cache, 2 * halved.activations), (whole.cache, whole.activations));
        assert_eq!(halved.lowered, 2 * 36 * 100_930_816);
        // A layer less its norms and the maps of its two outputs.
        assert_eq!(joined_params(&model), 36 * (100_930_816 - 2 * 2560 - 2 * 128 - 2560 * (32 * 128) - 2560 * 9728));
        let bits = of(&["dtype=bf16", "optimizer.moments=8bit", "optimizer.weights=stochastic"])?;
        assert_eq!(bits.optimizer, 2 * (4_022_468_096 + 4 * 4_022_468_096_u64.div_ceil(256)));
        assert_eq!((bits.weights, bits.lowered), (whole.weights - halved.lowered, 0));
        assert_eq!(of(&["optimizer.moments=bf16"])?.optimizer, whole.optimizer / 2);
        let config = TrainConfig::load(None, &["dtype=bf16".to_string()])?;
        let on_cpu = RunPlan::new(&config, &model, true)?.memory;
        assert_eq!((on_cpu.cache, on_cpu.lowered), (whole.cache, halved.lowered));
        // The vocabulary has 151,936 tokens.
        assert_eq!((on_cpu.program, whole.program), ((48 << 20) + 151_936 * 1024, 0));
        // Keys and values: 2 x 8 heads x 128 x 36 layers, 4 bytes each, for 256 responses of 1,024 + 32 tokens.
        assert_eq!(whole.cache, 2 * 8 * 128 * 36 * 4 * 256 * 1056);
        Ok(())
    }

    fn long_responses(tokens: usize) -> TrainConfig {
        let mut config = TrainConfig::default();
        config.rollout.max_new_tokens = tokens;
        config.update.max_tokens_per_batch = 16384;
        config
    }

    const GIB: u64 = 1 << 30;

    #[test]
    fn batches_are_reduced_to_fit_and_nothing_else_changes() -> Result<(), Box<dyn std::error::Error>> {
        // Qwen3-0.6B.
        let model = ModelConfig {
            hidden_size: 1024,
            num_hidden_layers: 28,
            num_attention_heads: 16,
            intermediate_size: 3072,
            ..qwen3_4b()?
        };
        let small = long_responses(1024);
        let mut config = small.clone();
        assert_eq!(shrink_to_memory(&mut config, &model, false, 1000 * GIB)?, Vec::<String>::new());
        assert_eq!(config, small);
        // A laptop's GPU.
        let cuts = shrink_to_memory(&mut config, &model, false, 16 * GIB)?;
        assert!(!cuts.is_empty() && RunPlan::new(&config, &model, false)?.memory.peak() <= 16 * GIB, "{cuts:?}");
        for cut in &cuts {
            assert!(cut.starts_with("rollout.batch") || cut.starts_with("update."), "{cut}");
        }
        let back = TrainConfig {
            rollout: crate::config::RolloutConfig { batch: small.rollout.batch, ..config.rollout.clone() },
            update: small.update.clone(),
            ..config
        };
        assert_eq!(back, small);
        let error = shrink_to_memory(&mut small.clone(), &model, false, 9 * GIB)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(error.contains("9.00 GiB are allowed") && error.contains("another --device"), "{error}");
        Ok(())
    }

    #[test]
    fn four_billion_parameters_fit_a_large_card_at_four_thousand_tokens() -> Result<(), Box<dyn std::error::Error>> {
        let mut config = long_responses(4096);
        (config.rollout.prompts, config.rollout.group_size, config.update.mini_batch_prompts) = (1, 8, 1);
        shrink_to_memory(&mut config, &qwen3_4b()?, false, 141_000_000_000)?;
        assert!(RunPlan::new(&config, &qwen3_4b()?, false)?.memory.peak() <= 141_000_000_000);
        Ok(())
    }
}
