//! The states of the layers on a probe's responses: how similar they are to those of the last layer, and to those before training.

use std::fs;
use std::path::Path;

use bupo_analysis::{Statistic, state_similarity};
use bupo_core::PolicySite;
use bupo_models::{Decoder, ScoredSequence, Sequence, layer_states, token_batches};
use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use safetensors::{SafeTensorError, SafeTensors};

use super::moments::write_tensors;
use super::probe::Means;
use crate::RlError;

/// The file of the states before training, in a run's folder: a tensor `layer:l` `[tokens, hidden]` per layer.
pub(crate) const FILE: &str = "probe_states.safetensors";
/// Limit of the numbers of all states, 128 MiB of f32: of longer responses the first tokens are compared.
const MAX_STATES: usize = 1 << 25;
/// Limit of the tokens of a batch, padding included.
const MAX_BATCH_TOKENS: usize = 2048;

/// States after each layer, `[layer] -> [tokens, hidden]` in f32, on the host.
#[derive(Debug)]
pub(crate) struct ProbeStates(Vec<TensorData>);

impl ProbeStates {
    /// Reads the states of the first response tokens; none of no responses.
    pub(crate) fn of<B: Backend>(decoder: &Decoder<B>, responses: &[ScoredSequence]) -> Result<Self, RlError> {
        let per_token = decoder.layers.len() * decoder.norm.weight.dims()[0];
        let sequences = beginnings(responses, (MAX_STATES / per_token.max(1)).max(1));
        if sequences.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let mut layers: Vec<Vec<Tensor<B, 2>>> = vec![Vec::new(); decoder.layers.len()];
        for batch in token_batches(&sequences, Sequence::len, MAX_BATCH_TOKENS) {
            for (layer, states) in layers.iter_mut().zip(layer_states(decoder, batch)?) {
                layer.push(states.cast(DType::F32));
            }
        }
        Ok(Self(layers.into_iter().map(|parts| Tensor::cat(parts, 0).into_data()).collect()))
    }

    /// The similarities by statistic and by layer. `before`: those before training, if they are known.
    pub(crate) fn similarities<B: Backend>(
        &self,
        before: Option<&Self>,
        device: &B::Device,
    ) -> Vec<(Statistic, Means)> {
        let tensor = |data: &TensorData| Tensor::<B, 2>::from_data(data.clone(), device);
        let statistics = |[cosine, cka]: [Statistic; 2], others: &dyn Fn(usize) -> Tensor<B, 2>| {
            let (mut cosines, mut ckas) = (Means::new(), Means::new());
            for (index, states) in self.0.iter().enumerate() {
                let (mean, value) = state_similarity(tensor(states), others(index));
                cosines.insert(name(index), mean);
                // Not defined for one token.
                ckas.extend(Some((name(index), value)).filter(|(_, value)| value.is_finite()));
            }
            [(cosine, cosines), (cka, ckas)]
        };
        let Some(last) = self.0.last() else { return Vec::new() };
        let mut all = statistics([Statistic::CosineToLast, Statistic::CkaToLast], &|_| tensor(last)).to_vec();
        if let Some(before) = before.filter(|before| before.is_alike(self)) {
            let to_base = [Statistic::CosineToBase, Statistic::CkaToBase];
            all.extend(statistics(to_base, &|index| tensor(&before.0[index])));
        }
        all
    }

    /// Whether the states are of as many layers, tokens and dimensions.
    fn is_alike(&self, other: &Self) -> bool {
        let shapes = |states: &Self| states.0.iter().map(|layer| layer.shape.clone()).collect::<Vec<_>>();
        shapes(self) == shapes(other)
    }

    /// Writes them into a run's folder.
    pub(crate) fn write(&self, run: &Path) -> Result<(), RlError> {
        let named = |(index, data): (usize, &TensorData)| (name(index), data.clone());
        write_tensors(&run.join(FILE), &self.0.iter().enumerate().map(named).collect::<Vec<_>>())
    }

    /// Reads them from a run's folder; `None` if it has none, as that of an earlier version.
    pub(crate) fn read(run: &Path) -> Result<Option<Self>, RlError> {
        let path = run.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).map_err(RlError::io("read", &path))?;
        let failed = |error: SafeTensorError| RlError::io("read", &path)(std::io::Error::other(error));
        let file = SafeTensors::deserialize(&bytes).map_err(failed)?;
        let layer = |index: usize| {
            let view = file.tensor(&name(index))?;
            let values: Vec<f32> =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            Ok(TensorData::new(values, view.shape().to_vec()))
        };
        Ok(Some(Self((0..file.len()).map(layer).collect::<Result<_, _>>().map_err(failed)?)))
    }
}

/// The name of a layer's tensor, from index 0.
fn name(index: usize) -> String {
    PolicySite::Layer(index + 1).to_string()
}

/// The responses' first `limit` tokens: whole responses, and the beginning of the next.
fn beginnings(responses: &[ScoredSequence], limit: usize) -> Vec<Sequence> {
    let mut left = limit;
    let beginning = |response: &ScoredSequence| {
        let Sequence { prompt, response } = &response.sequence;
        let kept = response.len().min(left);
        left -= kept;
        (kept > 0).then(|| Sequence { prompt: prompt.clone(), response: response[..kept].to_vec() })
    };
    responses.iter().filter_map(beginning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(length: u32) -> ScoredSequence {
        ScoredSequence { sequence: Sequence { prompt: vec![9], response: (0..length).collect() }, score: None }
    }

    #[test]
    fn the_first_tokens_of_the_responses_are_compared() {
        let lengths = |limit| -> Vec<usize> {
            let kept = beginnings(&[response(3), response(4), response(2)], limit);
            assert!(kept.iter().all(|kept| kept.prompt == [9] && kept.response[0] == 0));
            kept.iter().map(|kept| kept.response.len()).collect()
        };
        assert_eq!(lengths(100), [3, 4, 2]);
        assert_eq!(lengths(9), [3, 4, 2]);
        assert_eq!(lengths(6), [3, 3]);
        assert_eq!(lengths(1), [1]);
    }

    #[test]
    fn written_states_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ProbeStates::read(folder.path()).unwrap().is_none());
        let layer = |seed: f32| TensorData::new((0..6).map(|i| seed + i as f32 * 0.1).collect::<Vec<f32>>(), [3, 2]);
        // More than nine layers, whose names are not in the order of their numbers.
        let states = ProbeStates((0..11).map(|index| layer(index as f32)).collect());
        states.write(folder.path()).unwrap();
        assert_eq!(ProbeStates::read(folder.path()).unwrap().unwrap().0, states.0);
        fs::write(folder.path().join(FILE), "nonsense").unwrap();
        assert!(ProbeStates::read(folder.path()).is_err());
    }
}
