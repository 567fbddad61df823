//! Every state of the stream on given tokens, with the names of TransformerLens.

use std::collections::BTreeMap;

use bupo_core::kernels::linear;
use bupo_core::{InternalPolicy, ResidualDecoder, SiteLogits};
use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::generate::{check_tokens, padded_tokens};
use crate::{Decoder, ModelError};

/// Runs whole sequences of equal length and returns every state and every site's entropy.
///
/// States are numbered from 0, as in TransformerLens (`blocks.0.hook_resid_pre`); entropies from 1, as in the method
/// (`entropy.layer.1`, in nats, `[batch, seq]`, no norm). `entropy.attn_in.{l}` and `entropy.ffn_in.{l}` are of the
/// post-norm inputs of layer l's halves (arXiv 2512.19673, section 3).
///
/// # Errors
/// If rows are missing, empty, of different lengths, or have ids outside the vocabulary.
pub fn trace<B: Backend>(decoder: &Decoder<B>, rows: &[Vec<u32>]) -> Result<BTreeMap<String, TensorData>, ModelError> {
    check_tokens(rows, decoder.vocab_size())?;
    let Some(seq) = rows.first().map(Vec::len) else {
        return Err(ModelError::Tokens("there are no rows of tokens".into()));
    };
    if let Some(other) = rows.iter().position(|row| row.len() != seq) {
        return Err(ModelError::Tokens(format!(
            "row {} has {} tokens and row 1 has {seq}; a trace needs rows of equal length",
            other + 1,
            rows[other].len()
        )));
    }
    let mut trace = Trace { unembedding: decoder.unembedding(), tensors: BTreeMap::new(), sites: Vec::new() };
    let mut context = decoder.prefill_context(seq);
    let tokens = padded_tokens(rows, &decoder.device());
    let mut stream = decoder.stream(tokens, &mut context);
    trace.state("hook_embed", &stream.state());
    trace.part("embed", &stream.state());
    for step in stream.by_ref() {
        let (layer, block) = (step.layer, step.layer - 1);
        trace.state(&format!("blocks.{block}.hook_resid_pre"), &step.resid_pre);
        trace.state(&format!("blocks.{block}.hook_attn_out"), &step.attn.output);
        trace.state(&format!("blocks.{block}.hook_resid_mid"), &step.resid_mid);
        trace.state(&format!("blocks.{block}.hook_mlp_out"), &step.ffn.output);
        trace.state(&format!("blocks.{block}.hook_resid_post"), &step.resid_post);
        trace.entropy(&format!("attn_in.{layer}"), &step.attn.input);
        trace.part(&format!("attn.{layer}"), &step.attn.output);
        trace.entropy(&format!("ffn_in.{layer}"), &step.ffn.input);
        trace.part(&format!("ffn.{layer}"), &step.ffn.output);
        trace.sites.push((format!("layer.{layer}"), SiteLogits::Sum));
    }
    let normalized = decoder.final_norm(stream.state());
    trace.state("ln_final.hook_normalized", &normalized);
    trace.entropy("full", &normalized);
    trace.logits(&normalized);
    Ok(trace.with_entropies([rows.len(), seq]))
}

struct Trace<B: Backend> {
    unembedding: Tensor<B, 2>,
    tensors: BTreeMap<String, TensorData>,
    sites: Vec<(String, SiteLogits<B>)>,
}

impl<B: Backend> Trace<B> {
    fn state(&mut self, name: &str, state: &Tensor<B, 3>) {
        self.tensors.insert(name.to_string(), state.to_data());
    }

    fn entropy(&mut self, name: &str, state: &Tensor<B, 3>) {
        let policy = self.policy(state);
        self.sites.push((name.to_string(), SiteLogits::Own(policy)));
    }

    /// The entropy of the embeddings or of a contribution, whose logits add up to those of the layers.
    fn part(&mut self, name: &str, state: &Tensor<B, 3>) {
        let policy = self.policy(state);
        self.sites.push((name.to_string(), SiteLogits::Part(policy)));
    }

    fn policy(&self, state: &Tensor<B, 3>) -> InternalPolicy<B> {
        InternalPolicy::new(state.clone().flatten(0, 1), self.unembedding.clone())
    }

    fn with_entropies(mut self, shape: [usize; 2]) -> BTreeMap<String, TensorData> {
        let (names, sites): (Vec<String>, Vec<SiteLogits<B>>) = self.sites.into_iter().unzip();
        for (name, entropy) in names.into_iter().zip(InternalPolicy::entropies(&sites)) {
            self.tensors.insert(format!("entropy.{name}"), TensorData::new(entropy, shape));
        }
        self.tensors
    }

    /// The full policy's logits `[batch, seq, vocab]`, held whole because they are a result.
    fn logits(&mut self, normalized: &Tensor<B, 3>) {
        let [batch, seq, hidden] = normalized.dims();
        let vocab = self.unembedding.dims()[0];
        let states = normalized.clone().reshape([batch * seq, hidden]);
        let logits = linear(states, self.unembedding.clone());
        self.tensors.insert("logits".into(), logits.reshape([batch, seq, vocab]).into_data());
    }
}
