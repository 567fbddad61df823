//! Stages, boundary layer and convergence of models that are constructed to have known ones.
#![allow(clippy::unwrap_used)] // A test that fails says where.

use bupo::analysis::{
    Analysis, AnalysisInfo, Boundary, Convergence, DEFAULT_TOLERANCE, LayerSimilarity, MeasureAccumulator, Slice,
    Statistic,
};
use bupo::core::{Norm, PolicySite};
use bupo::models::decoder::ParamSource;
use bupo::models::{Decoder, MeasureOptions, ModelConfig, ModelError, ScoredSequence, Sequence};
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Hidden size and vocabulary size. The unembedding is the identity.
const WIDTH: usize = 64;
const LAYERS: usize = 8;

/// The output of a layer's feed-forward for the normalized state x, which is a multiple of one token's unit vector.
#[derive(Clone, Copy)]
enum Output {
    /// 0: a uniform policy, so the entropy increases.
    Zero,
    /// x: the entropy does not change.
    Input,
    /// 100 x: the entropy decreases to 0.
    Amplified,
}
use Output::{Amplified, Input, Zero};

struct Constructed {
    layers: [Output; LAYERS],
    /// Scale of the embeddings.
    embedding: f32,
    /// Weight of the norm before the feed-forward. It sets the entropy at the feed-forward's input.
    norm: f32,
    /// Uniform noise of every weight, as a fraction of the largest weight of its matrix.
    noise: f32,
    rng: ChaCha8Rng,
}

impl Constructed {
    fn decoder(layers: [Output; LAYERS], embedding: f32, norm: f32, noise: f32, seed: u64) -> Decoder<Flex> {
        let config = format!(
            r#"{{"model_type": "llama", "vocab_size": {WIDTH}, "hidden_size": {WIDTH}, "intermediate_size": {WIDTH},
                "num_hidden_layers": {LAYERS}, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": {WIDTH},
                "tie_word_embeddings": false, "rms_norm_eps": 1e-9}}"#
        );
        let mut source = Self { layers, embedding, norm, noise, rng: ChaCha8Rng::seed_from_u64(seed) };
        Decoder::build(&ModelConfig::from_json(&config).unwrap(), &mut source).unwrap()
    }

    /// The factor of the identity matrix, or the value of all elements of a vector.
    fn scale(&self, name: &str) -> f32 {
        let layer =
            name.split('.').nth(2).and_then(|layer| layer.parse::<usize>().ok()).map(|layer| self.layers[layer]);
        // The normalized state x is 8 norm at its token and 0 elsewhere. With gate 4 and up 1 / (32 norm), silu(4 x) up x is x,
        // except for the difference between silu and the identity.
        match name.rsplit_once('.').map_or("", |(path, _)| path).rsplit('.').next().unwrap() {
            "embed_tokens" => self.embedding,
            "lm_head" | "input_layernorm" | "norm" => 1.0,
            "post_attention_layernorm" => self.norm,
            "gate_proj" => 4.0,
            "up_proj" => 1.0 / (32.0 * self.norm),
            "down_proj" => match layer.unwrap() {
                Zero => 0.0,
                Input => 1.0,
                Amplified => 100.0,
            },
            _ => 0.0,
        }
    }
}

impl ParamSource<Flex> for Constructed {
    fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Result<Tensor<Flex, D>, ModelError> {
        let scale = self.scale(name);
        let mut noisy = |value: f32| value + self.noise * scale * self.rng.random_range(-1.0..1.0_f32);
        let values: Vec<f32> = match shape[..] {
            [rows, columns] => {
                (0..rows * columns).map(|at| noisy(if at / columns == at % columns { scale } else { 0.0 })).collect()
            }
            _ => (0..shape.iter().product()).map(|_| noisy(scale)).collect(),
        };
        Ok(Tensor::from_data(TensorData::new(values, shape), &Default::default()))
    }
}

fn analyze(decoder: &Decoder<Flex>) -> Analysis {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let responses: Vec<ScoredSequence> = (0..12)
        .map(|_| {
            let mut tokens = |count: usize| (0..count).map(|_| rng.random_range(0..WIDTH as u32)).collect();
            ScoredSequence { sequence: Sequence { prompt: tokens(3), response: tokens(5) }, score: None }
        })
        .collect();
    let mut accumulator = MeasureAccumulator::default();
    accumulator.measure(decoder, &responses, MeasureOptions::default(), &|_| ()).unwrap();
    let info = AnalysisInfo {
        model: "constructed".into(),
        title: "constructed".into(),
        norm: Norm::None,
        num_layers: LAYERS,
        vocab_size: WIDTH,
        tolerance: DEFAULT_TOLERANCE,
        settings: Default::default(),
    };
    let mut analysis = Analysis::new(info, &accumulator).unwrap();
    analysis.add_similarity(&LayerSimilarity::measure(decoder, None, &responses, &|_| true).unwrap().unwrap());
    analysis
}

/// Stages as (name, first, last), the boundary layer, and the convergence.
type Expected<'a> = (&'a [(&'a str, usize, usize)], Option<usize>, Convergence);

/// Checks a construction without noise and with noise in every weight.
fn check(layers: [Output; LAYERS], embedding: f32, norm: f32, expected: Expected<'_>) {
    for (noise, seeds) in [(0.0, 0..1), (0.003, 1..6)] {
        for seed in seeds {
            let analysis = analyze(&Constructed::decoder(layers, embedding, norm, noise, seed));
            let Boundary { layer, stages, changes, .. } = analysis.boundary.clone().unwrap();
            let found: Expected<'_> = (&stages.named(), layer, analysis.convergence.unwrap());
            let entropies = analysis.stream_entropies();
            assert_eq!(found, expected, "noise {noise}, seed {seed}: {changes:.3?} {entropies:.3?}");
        }
    }
}

#[test]
fn convergence_at_layer_3() {
    let layers = [Zero, Zero, Amplified, Input, Input, Input, Input, Input];
    let stages = [("exploration", 1, 2), ("convergence", 3, 8)];
    check(layers, 0.1, 0.5, (&stages, Some(2), Convergence::Abrupt { from: 3, to: 3 }));
}

#[test]
fn convergence_at_the_last_layer() {
    let layers = [Zero, Zero, Zero, Zero, Zero, Zero, Zero, Amplified];
    let stages = [("exploration", 1, 7), ("convergence", 8, 8)];
    check(layers, 0.1, 0.5, (&stages, Some(7), Convergence::Abrupt { from: 8, to: 8 }));
}

#[test]
fn three_stages() {
    let layers = [Zero, Zero, Input, Input, Input, Input, Amplified, Amplified];
    let analysis = analyze(&Constructed::decoder(layers, 0.1, 0.5, 0.0, 0));
    let stages = analysis.boundary.unwrap().stages.named();
    assert_eq!(stages, [("exploration", 1, 2), ("integration", 3, 6), ("convergence", 7, 8)]);
}

#[test]
fn constant_entropy() {
    check([Input; LAYERS], 400.0, 0.5, (&[("integration", 1, 8)], None, Convergence::None));
}

#[test]
fn progressive_convergence() {
    let analysis = analyze(&Constructed::decoder([Input; LAYERS], 0.1, 0.125, 0.0, 0));
    let convergence = analysis.convergence.unwrap();
    assert!(
        matches!(convergence, Convergence::Progressive { .. }),
        "{convergence:?} {:?}",
        analysis.stream_entropies()
    );
}

#[test]
fn every_mean_is_in_its_interval_and_in_its_bounds() {
    let layers = [Zero, Input, Amplified, Input, Zero, Amplified, Input, Input];
    let analysis = analyze(&Constructed::decoder(layers, 0.1, 0.3, 0.05, 4));
    let most = (WIDTH as f64).ln() + 1e-5;
    for row in &analysis.rows {
        let mean = row.estimate.mean;
        let (low, high) = row.estimate.interval.unwrap();
        assert!(low <= mean + 1e-9 && mean <= high + 1e-9, "{row:?}");
        let bounds = match row.statistic {
            Statistic::Entropy | Statistic::InputEntropy => 0.0..=most,
            Statistic::EntropyChange => -most..=most,
            Statistic::Js => 0.0..=std::f64::consts::LN_2 + 1e-6,
            Statistic::Agreement | Statistic::Probability => 0.0..=1.0,
            Statistic::Cosine | Statistic::CosineToLast | Statistic::CosineToBase => -1.0..=1.0,
            Statistic::CkaToLast | Statistic::CkaToBase => 0.0..=1.0 + 1e-9,
            Statistic::Rank => 1.0..=WIDTH as f64,
            Statistic::LogProb => f64::NEG_INFINITY..=0.0,
            Statistic::Attribution | Statistic::InputAttribution => f64::NEG_INFINITY..=f64::INFINITY,
            Statistic::Kl | Statistic::ReverseKl | Statistic::Norm | Statistic::Participation => 0.0..=f64::INFINITY,
        };
        assert!(bounds.contains(&mean), "{row:?}");
    }
    let positions = |slice: &Slice| matches!(slice, Slice::Positions { .. });
    assert_eq!(analysis.slices().iter().filter(|slice| positions(slice)).count(), 3, "positions 1, 2-3, 4-7");
    let by_position = |slice: Slice| analysis.row(PolicySite::Layer(2), Statistic::Entropy, slice).unwrap();
    let parts: Vec<_> = analysis.slices().into_iter().filter(positions).map(by_position).collect();
    let whole = by_position(Slice::All);
    assert_eq!(parts.iter().map(|row| row.tokens).sum::<usize>(), whole.tokens);
    let weighted: f64 =
        parts.iter().map(|row| row.estimate.mean * row.tokens as f64).sum::<f64>() / whole.tokens as f64;
    assert!((weighted - whole.estimate.mean).abs() < 1e-9);
}
