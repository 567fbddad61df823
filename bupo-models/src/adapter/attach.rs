//! Adapters in a decoder: attached, read back, taken away, and merged into the weights.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Param, ParamId};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Adapter, AdapterConfig, ModuleName};
use crate::decoder::{Linear, Lora, Products, parameter_lengths};
use crate::{Decoder, ModelConfig};

impl Adapter {
    /// A new adapter, which changes nothing: `A` uniform within 1 / sqrt(in), as in PEFT, and `B` 0.
    pub fn new(config: &AdapterConfig, model: &ModelConfig, seed: u64) -> Self {
        let mut matrices = BTreeMap::new();
        for layer in (1..=model.num_hidden_layers).filter(|layer| config.layers.contains(*layer)) {
            for module in config.targets.modules() {
                let ([output, input], rank) = (module.shape(model), config.rank);
                // A stream of its own, so that a matrix does not depend on which others there are.
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream((layer * ModuleName::ALL.len() + module as usize) as u64);
                let bound = (input as f32).powf(-0.5);
                let a: Vec<f32> = (0..rank * input).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0)).collect();
                let b = vec![0.0_f32; output * rank];
                let pair = [TensorData::new(a, [rank, input]), TensorData::new(b, [output, rank])];
                matrices.insert((layer, module), pair);
            }
        }
        Self { config: config.clone(), matrices }
    }

    /// The adapter of a decoder that was given one with these settings.
    pub fn of<B: Backend>(decoder: &Decoder<B>, config: &AdapterConfig) -> Self {
        let matrices = decoder.projections().filter_map(|(layer, module, linear)| {
            let lora = linear.lora.as_ref()?;
            Some(((layer, module), [&lora.a, &lora.b].map(|matrix| matrix.val().into_data())))
        });
        Self { matrices: matrices.collect(), config: config.clone() }
    }
}

impl<B: Backend> Decoder<B> {
    /// The same decoder with an adapter, in place of the one it has. Ids of parameters depend on the layer and the map alone.
    pub fn with_adapter(self, adapter: &Adapter) -> Self {
        let device = self.device();
        let decoder = self.without_adapter();
        let next_id = parameter_lengths(&decoder).keys().next_back().map_or(1, |last| last + 1);
        decoder.with_projections(|layer, name, linear| {
            let Ok(module) = name.parse::<ModuleName>() else { return linear };
            let Some([a, b]) = adapter.matrices.get(&(layer, module)) else { return linear };
            let first = next_id + 2 * ((layer - 1) * ModuleName::ALL.len() + module as usize) as u64;
            let param = |id: u64, data: &TensorData| {
                Param::initialized(ParamId::from(id), Tensor::from_data(data.clone(), &device))
            };
            let scale = adapter.config.scale(a.shape[0]);
            let lora = Lora::new(param(first, a), param(first + 1, b), scale, adapter.config.dropout);
            Linear { lora: Some(lora), ..linear }
        })
    }

    /// The same decoder without its adapter. Weights are shared, not copied.
    pub fn without_adapter(self) -> Self {
        self.with_projections(|_, _, linear| Linear { lora: None, ..linear })
    }

    /// The same decoder with its adapter's changes added to the weights.
    pub fn merged(self) -> Self {
        self.with_projections(|_, _, linear| Linear {
            weight: linear.merged_weight(),
            lora: None,
            products: Products::Rowwise,
            ..linear
        })
    }

    /// The same decoder for passes of an update that drop inputs of adapters by this seed; `None` for passes that drop none.
    pub fn with_dropout(self, seed: Option<u64>) -> Self {
        self.with_projections(|_, _, linear| Linear { lora: linear.lora.map(|lora| lora.with_seed(seed)), ..linear })
    }

    /// The same decoder for the pass of another micro-batch of its update, counted from 0, which drops other inputs.
    pub fn with_dropout_of(self, micro_batch: usize) -> Self {
        self.with_projections(|_, _, linear| {
            let lora = linear.lora.map(|lora| {
                let seed = lora.dropout_seed.map(|seed| seed.wrapping_add(micro_batch as u64));
                lora.with_seed(seed)
            });
            Linear { lora, ..linear }
        })
    }

    /// Whether the decoder has an adapter.
    pub fn has_adapter(&self) -> bool {
        self.projections().any(|(_, _, linear)| linear.lora.is_some())
    }

    /// The ids of the adapter's parameters.
    pub fn adapter_ids(&self) -> BTreeSet<u64> {
        let loras = self.projections().filter_map(|(_, _, linear)| linear.lora.as_ref());
        loras.flat_map(|lora| [lora.a.id.val(), lora.b.id.val()]).collect()
    }

    /// The linear maps of the layers with their layer, from 1, and name.
    fn projections(&self) -> impl Iterator<Item = (usize, ModuleName, &Linear<B>)> {
        self.layers.iter().enumerate().flat_map(|(index, layer)| {
            let (attention, mlp) = (&layer.self_attn, &layer.mlp);
            let maps = [
                &attention.q_proj,
                &attention.k_proj,
                &attention.v_proj,
                &attention.o_proj,
                &mlp.gate_proj,
                &mlp.up_proj,
                &mlp.down_proj,
            ];
            ModuleName::ALL.into_iter().zip(maps).map(move |(module, linear)| (index + 1, module, linear))
        })
    }
}
