//! bupo looks inside a language model's policy and trains it from the bottom up.
//!
//! A decoder layer adds two contributions (attention, feed-forward) to a residual stream, and any state of that
//! stream, multiplied by the unembedding matrix, is a policy that can be sampled, measured and trained
//! (arXiv 2512.19673).
//!
//! - [`core`]: the stream, policy sites, and policies with their log-probs, entropies and gradients;
//! - [`models`]: Qwen3, Qwen2 and Llama checkpoints as streams;
//! - [`analysis`]: what internal policies come to over many responses, with intervals, stages and the boundary layer;
//! - [`report`]: the pages and pictures of that, and of training runs;
//! - [`data`]: problems from Parquet and JSON lines, chat templates;
//! - [`grade`]: rules that say what an answer is worth;
//! - [`eval`]: prompts, sampled and graded responses, Avg@K, Pass@K and maj@K;
//! - [`rl`]: GRPO, internal-policy GRPO and the phase schedule that makes Bottom-up Policy Optimization.
//!
//! What the policy of layer 2 would say after each token, and how sure it is:
//!
//! ```
//! use bupo::core::{InternalPolicy, Norm, PolicySite, ResidualDecoder};
//! use bupo::models::generate::padded_tokens;
//! use bupo::models::{ModelFiles, load_model};
//! use burn::backend::Flex;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Default::default();
//! let files = ModelFiles::folder("tests/reference/qwen3-tied".as_ref())?;
//! let decoder = load_model::<Flex>(&files, &device)?.decoder;
//!
//! let tokens = padded_tokens(&[vec![5, 17, 80]], &device);
//! let mut context = decoder.prefill_context(3);
//! // Layers above the second are not run.
//! let states = decoder.site_state(tokens, PolicySite::Layer(2), Norm::None, &mut context)?;
//! let policy = InternalPolicy::new(states.squeeze_dim(0), decoder.unembedding());
//!
//! for (entropy, best) in policy.entropy().iter().zip(policy.top_tokens(1)?) {
//!     assert!((0.0..=151_f32.ln()).contains(entropy));
//!     println!("entropy {entropy:.2} nats, most probable token {}", best[0].token);
//! }
//! # Ok(())
//! # }
//! ```

pub use bupo_analysis as analysis;
pub use bupo_core as core;
pub use bupo_data as data;
pub use bupo_eval as eval;
pub use bupo_grade as grade;
pub use bupo_models as models;
pub use bupo_report as report;
pub use bupo_rl as rl;
